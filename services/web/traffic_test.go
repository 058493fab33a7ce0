package web

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"nutshell/roles/api"
)

func TestNginxRequest(t *testing.T) {
	for _, c := range []struct {
		name, line string
		want       Request
		ok         bool
	}{
		{"page", `127.0.0.1 - - [22/Nov/2026:09:36:31 +0000] "GET / HTTP/1.1" 200 612 "-" "curl/7" 0.012 127.0.0.2:9000 0.011`, Request{200, 612, 12*time.Millisecond + half}, true},
		{"two-upstreams", `127.0.0.1 - - [x] "GET / HTTP/1.1" 502 0 "-" "-" 1.500 127.0.0.2:9000, 127.0.0.3:9000 0.011, 1.4`, Request{502, 0, 1500*time.Millisecond + half}, true},
		{"quotes-of-a-visitor", `127.0.0.1 - bob\x22 [x] "GET /\x22 200 1 \x22 HTTP/1.1" 404 153 "\x22" "\x22" 0.000 - -`, Request{404, 153, half}, true},
		{"no-request", `127.0.0.1 - - [x] "" 400 0 "-" "-" 0.000 - -`, Request{400, 0, half}, true},
		{"cut-off", `127.0.0.1 - - [x] "GET / HTTP/1.1" 200 612 "-" "cur`, Request{}, false},
		{"empty", ``, Request{}, false},
		{"noise", "\x00\xff\"\"\"\"", Request{}, false},
		{"no-number", `a "b" c d "e" "f" g`, Request{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := NginxRequest([]byte(c.line))
			if ok != c.ok || ok && got != c.want {
				t.Errorf("got %+v %v, want %+v %v", got, ok, c.want, c.ok)
			}
		})
	}
}

func FuzzNginxRequest(f *testing.F) {
	f.Add([]byte(`127.0.0.1 - - [22/Nov/2026:09:36:31 +0000] "GET / HTTP/1.1" 200 612 "-" "curl/7" 0.012 127.0.0.2:9000 0.011`))
	f.Fuzz(func(t *testing.T, line []byte) {
		q, _ := NginxRequest(line)
		if q.Bytes < 0 {
			t.Errorf("%q: bytes below zero", line)
		}
	})
}

func value(t *testing.T, list []api.Sample, name string, labels ...string) float64 {
	t.Helper()
	for _, s := range list {
		same := s.Name == name
		for i := 0; i < len(labels); i += 2 {
			same = same && s.Labels[labels[i]] == labels[i+1]
		}
		if same {
			return s.Value
		}
	}
	t.Fatalf("there is no %s %v", name, labels)
	return 0
}

func lines(n, status, ms int) []byte {
	var b bytes.Buffer
	for range n {
		fmt.Fprintf(&b, "127.0.0.1 - - [22/Nov/2026:09:36:31 +0000] \"GET /index.php?some=query HTTP/1.1\" %d 612 \"-\" \"Mozilla/5.0 (X11; Linux x86_64)\" %d.%03d 127.0.0.2:9000 0.011\n", status, ms/1000, ms%1000)
	}
	return b.Bytes()
}

// Lines are counted once: those of before the start are not, half lines wait
// for their end, and those that a rotation moved away are found.
func TestAccessLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	grow := func(b []byte) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	grow(lines(5, 200, 1))
	l := NewAccessLog(Proxy, path, NginxRequest)
	check := func(what string, ok, bad float64) {
		t.Helper()
		list, err := l.Samples()
		if err != nil {
			t.Fatal(err)
		}
		if a, b := value(t, list, "nutshell_http_requests_total", "class", "2xx"), value(t, list, "nutshell_http_requests_total", "class", "5xx"); a != ok || b != bad {
			t.Errorf("%s: %v good and %v bad, want %v and %v", what, a, b, ok, bad)
		}
		if n := value(t, list, "nutshell_http_seconds_count"); n != ok+bad {
			t.Errorf("%s: %v times, want %v", what, n, ok+bad)
		}
	}
	check("begins at the end", 0, 0)
	grow(lines(3, 200, 10))
	grow(lines(2, 503, 3000))
	check("reads what is new", 3, 2)
	whole := lines(1, 200, 10)
	grow(whole[:70])
	check("waits for the end of a line", 3, 2)
	grow(whole[70:])
	check("has the end of the line", 4, 2)
	grow(lines(1000, 200, 10))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".1", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	grow(lines(1, 500, 10))
	check("follows a rotation", 1004, 3)
	if err := os.Truncate(path, 0); err != nil { // its rotated part was lost, and it has grown beyond where it was
		t.Fatal(err)
	}
	grow(lines(3000, 200, 11))
	check("sees that it was truncated", 4004, 3)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	grow(lines(4, 500, 10))
	check("follows another file of that name", 4004, 7)
}

// A percentile taken from the buckets is within a tenth of the truth.
func TestBuckets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	l := NewAccessLog(Proxy, path, NginxRequest)
	var all []byte
	for ms := 10; ms < 2010; ms++ { // every time once
		all = append(all, lines(1, 200, ms)...)
	}
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := l.Samples()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []float64{0.5, 0.95, 0.99} {
		want := (10 + 2000*p) / 1000
		if got := quantileOf(t, list, p); math.Abs(got-want) > 0.1*want {
			t.Errorf("p%v is %v, want %v", 100*p, got, want)
		}
	}
}

// quantileOf interpolates as Prometheus does.
func quantileOf(t *testing.T, list []api.Sample, p float64) float64 {
	t.Helper()
	rank := p * value(t, list, "nutshell_http_seconds_count")
	var before, low float64
	for _, s := range list {
		if s.Name != "nutshell_http_seconds_bucket" || s.Labels["le"] == "+Inf" {
			continue
		}
		le, err := strconv.ParseFloat(s.Labels["le"], 64)
		if err != nil {
			t.Fatal(err)
		}
		if s.Value >= rank {
			return low + (le-low)*(rank-before)/(s.Value-before)
		}
		before, low = s.Value, le
	}
	return math.Inf(1)
}

// At 6,000 requests a second, counting costs less than 3 % of a core.
func TestAccessLogCost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	l := NewAccessLog(Proxy, path, NginxRequest)
	const rate, seconds = 6000, 15
	if err := os.WriteFile(path, lines(rate*seconds, 200, 12), 0o600); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadTime(t)
	list, err := l.Samples()
	used := threadTime(t) - before
	if err != nil {
		t.Fatal(err)
	}
	if n := value(t, list, "nutshell_http_seconds_count"); n != rate*seconds {
		t.Errorf("%v requests counted, want %v", n, rate*seconds)
	}
	share := 100 * used.Seconds() / seconds
	t.Logf("%d lines took %v: %.2f %% of a core", rate*seconds, used, share)
	if share > 3 {
		t.Errorf("counting %d requests a second takes %.2f %% of a core, want less than 3", rate, share)
	}
}

func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(1, &u); err != nil { // RUSAGE_THREAD
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
