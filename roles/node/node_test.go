package node

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
)

func TestWhichClockIsWrong(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	epoch := time.Unix(60, 0)
	for _, c := range []struct {
		name            string
		local, director time.Time
		trusted, want   bool
	}{
		{"right", now, now, true, false},
		{"a-little-behind", now.Add(-10 * time.Second), now, true, false},
		{"an-hour-behind", now.Add(-time.Hour), now, true, true},
		{"an-hour-behind-says-anybody", now.Add(-time.Hour), now, false, false},
		{"1970-says-anybody", epoch, now, false, true},
		{"two-hours-ahead", now.Add(2 * time.Hour), now, true, true},
		{"two-hours-ahead-says-anybody", now.Add(2 * time.Hour), now, false, false},
		{"a-little-ahead", now.Add(10 * time.Second), now, true, false},
		{"both-in-1970", epoch, epoch.Add(time.Hour), true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := wrong(c.local, c.director, c.trusted); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestClockOf1970IsSetOnce(t *testing.T) {
	now, set := time.Unix(60, 0), 0
	n := &node{c: Config{Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler), SetClock: func(to time.Time) error { now, set = to, set+1; return nil }}}
	director := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	n.tellTime(director, false, nothingRuns)
	n.tellTime(director.Add(time.Second), false, nothingRuns)
	if set != 1 || !now.Equal(director) {
		t.Errorf("set %d times, to %v", set, now)
	}
	now, n.c.SetClock = time.Unix(60, 0), func(time.Time) error { return errors.New("not permitted") }
	n.tellTime(director, false, nothingRuns)
	if n.c.SetClock != nil {
		t.Error("it is tried again and again")
	}
}

// TestClockGoesBackWhileNothingRuns, and not under the feet of instances.
func TestClockGoesBackWhileNothingRuns(t *testing.T) {
	director := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	now, asked := director.Add(2*time.Hour), 0
	n := &node{c: Config{Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler), SetClock: func(to time.Time) error { now = to; return nil }}}
	running := true
	idle := func() bool { asked++; return !running }
	n.tellTime(director, true, idle)
	if !now.Equal(director.Add(2 * time.Hour)) {
		t.Errorf("set to %v while something runs", now)
	}
	running = false
	n.tellTime(director, true, idle)
	if !now.Equal(director) || asked != 2 {
		t.Errorf("the clock says %v, asked %d times whether something runs", now, asked)
	}
	now = director.Add(-2 * time.Hour)
	n.tellTime(director, true, idle)
	if !now.Equal(director) || asked != 2 {
		t.Errorf("a clock that is behind says %v; asked %d times", now, asked)
	}
}

func TestCertificateOutOfDateSaysWhatToDo(t *testing.T) {
	end := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	cert := &x509.Certificate{NotBefore: end.Add(-24 * time.Hour), NotAfter: end}
	err := inTime(&api.Error{Code: api.CodeUnavailable, Err: x509.CertificateInvalidError{Cert: cert, Reason: x509.Expired}}, end.Add(48*time.Hour))
	if text := err.Error(); !strings.Contains(text, "2026-11-22 12:00:00") || !strings.Contains(text, "2026-11-24 12:00:00") || !strings.Contains(text, "set the clock") {
		t.Errorf("got %v", err)
	}
	if other := errors.New("x"); !errors.Is(inTime(other, end), other) || inTime(nil, end) != nil {
		t.Error("other errors are changed")
	}
}

func TestHostPort(t *testing.T) {
	for given, want := range map[string]string{"172.16.0.1": "172.16.0.1:5555 172.16.0.1:443", "backend:7000": "backend:7000", "https://backend/": "backend:5555 backend:443", "https://10.0.0.1:99": "10.0.0.1:99",
		"[fd00::1]": "[fd00::1]:5555 [fd00::1]:443", "http://backend": "", "https://a/b": "", "": "", "a b": "", "a:99999": "", "https://u@a": ""} {
		got, err := hostPorts(given)
		if (want == "") != (err != nil) || err == nil && strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, %v, want %q", given, got, err, want)
		}
	}
	if got := addresses([]string{"a", "a:443", "b:1"}); strings.Join(got, " ") != "a:5555 a:443 b:1" {
		t.Errorf("got %q", got)
	}
}

func TestAnswers(t *testing.T) {
	good := api.DirectorAnswer{Nutshell: "director", Port: 5555, CASHA256: strings.Repeat("a", 64), Nonce: "n"}
	text := func(change func(*api.DirectorAnswer)) []byte {
		a := good
		change(&a)
		b, _ := json.Marshal(a)
		return b
	}
	if f, ok := answerOf(text(func(*api.DirectorAnswer) {}), "n", "172.16.0.1:5555"); !ok || f.address != "172.16.0.1:5555" || f.ca != good.CASHA256 {
		t.Errorf("got %+v, %v", f, ok)
	}
	for name, b := range map[string][]byte{"noise": []byte("x"), "another-question": text(func(a *api.DirectorAnswer) { a.Nonce = "m" }), "no-port": text(func(a *api.DirectorAnswer) { a.Port = 0 }),
		"wrong-port": text(func(a *api.DirectorAnswer) { a.Port = 70000 }), "no-ca": text(func(a *api.DirectorAnswer) { a.CASHA256 = "" }), "a-node": text(func(a *api.DirectorAnswer) { a.Nutshell = "node" })} {
		if f, ok := answerOf(b, "n", "172.16.0.1:5555"); ok {
			t.Errorf("%s: took %+v", name, f)
		}
	}
}

func TestFactsAreRead(t *testing.T) {
	if total, free := parseMemory("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   500 kB\n"); total != 1000<<10 || free != 500<<10 {
		t.Errorf("got %d, %d", total, free)
	}
	if got := broadcast(netip.MustParsePrefix("172.16.1.7/23")); got.String() != "172.16.1.255" {
		t.Errorf("broadcast address %v", got)
	}
	if got := spaced("abcdefghij"); got != "abcd efgh ij" {
		t.Errorf("got %q", got)
	}
}

// TestKeyIsMadeOnce begins to look for a director, is ended, and begins again.
func TestKeyIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0") // somebody who is no director
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	begin := func() Status {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, Config{Dir: dir, Disk: dir, Directors: []string{l.Addr().String()}, Listen: "127.0.0.1:0", Find: "none", Now: time.Now, Log: slog.New(slog.DiscardHandler), Say: io.Discard,
				Driver: func(string) (cloud.Driver, error) { return nil, errors.New("it has not joined") }})
		}()
		var s Status
		for end := time.Now().Add(time.Minute); s.Problem == "" && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			b, _ := os.ReadFile(filepath.Join(dir, statusFile))
			_ = json.Unmarshal(b, &s)
		}
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("ended by %v", err)
		}
		return s
	}
	first := begin()
	_ = os.Remove(filepath.Join(dir, statusFile))
	second := begin()
	if first.State != looking || first.Problem == "" || len(first.Fingerprint) != 64 || first.Fingerprint != second.Fingerprint {
		t.Errorf("first %+v, then %+v", first, second)
	}
	if info, err := os.Stat(filepath.Join(dir, keyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode: %v, %v", info.Mode(), err)
	}
}
