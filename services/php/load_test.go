package php_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/services/php"
	"nutshell/services/servicetest"
)

// wrkLoad is wrk asking for pages, files and routes in turn until it is told
// to stop.
type wrkLoad struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	out  bytes.Buffer
}

func startWrk(t *testing.T, name, base, script string) *wrkLoad {
	t.Helper()
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("wrk is needed")
		}
		t.Skip("install wrk to run this test")
	}
	file := filepath.Join(t.TempDir(), "load.lua")
	if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	l := &wrkLoad{t: t, name: name, cmd: exec.CommandContext(context.WithoutCancel(t.Context()), wrk, "-t1", "-c8", "-d3600", "--timeout", "2m", "-s", file, base)}
	l.cmd.Stdout, l.cmd.Stderr = &l.out, &l.out
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.cmd.Process.Kill() })
	return l
}

var (
	wrkRequests = regexp.MustCompile(`([0-9]+) requests in`)
	wrkRefused  = regexp.MustCompile(`Non-2xx or 3xx responses: ([0-9]+)`)
	wrkErrors   = regexp.MustCompile(`Socket errors: .*`)
)

// stop returns how many requests were made; failures fail the test.
func (l *wrkLoad) stop() int {
	l.t.Helper()
	if err := l.cmd.Process.Signal(os.Interrupt); err != nil {
		l.t.Fatal(err)
	}
	if err := l.cmd.Wait(); err != nil {
		l.t.Fatalf("wrk: %v\n%s", err, l.out.Bytes())
	}
	m := wrkRequests.FindSubmatch(l.out.Bytes())
	if m == nil {
		l.t.Fatalf("wrk says\n%s", l.out.Bytes())
	}
	n, _ := strconv.Atoi(string(m[1])) // digits, by the pattern
	refused, broken := "0", "none"
	if m := wrkRefused.FindSubmatch(l.out.Bytes()); m != nil {
		refused = string(m[1])
	}
	if m := wrkErrors.Find(l.out.Bytes()); m != nil {
		broken = string(m)
	}
	l.t.Logf("%s: %d requests, %s of them not 2xx or 3xx, socket errors: %s", l.name, n, refused, broken)
	if n == 0 || refused != "0" || broken != "none" {
		l.t.Errorf("%s: not all requests were answered well", l.name)
	}
	return n
}

const reads = `
local paths = { "/", "/style.css", "/some/route?x=1", "/sub/other.php", "/docs/" }
local n = 0
request = function() n = n + 1 return wrk.format("GET", paths[n % #paths + 1]) end`

const writes = `
request = function() return wrk.format("POST", "/some/route", { ["Content-Type"] = "text/plain" }, "hello") end`

// TestNoRequestFails: activations, scalings of all parts and a backend that is
// killed cost no request, not even a connection. What writes is watched too,
// but for the kill: what a dead backend had begun cannot be sent again.
func TestNoRequestFails(t *testing.T) {
	needPrograms(t)
	activations, scalings, least := 4, 3, 0
	if os.Getenv("NUTSHELL_CHAOS") != "" {
		activations, scalings, least = 20, 10, 100_000
	}
	k := php.Kind()
	k.DefaultCode = version("zero")
	w := servicetest.New(t, k)
	w.Files["code-one111"], w.Files["code-two222"] = version("one"), version("two")
	ctx := t.Context()
	step := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err, api.AsError(err))
		}
	}
	step(w.Settle(ctx))
	all, err := urls(ctx, w)
	step(err)
	began := time.Now()
	reading, writing := startWrk(t, "reads", all[0], reads), startWrk(t, "writes", all[0], writes)
	versions := []string{"code-one111", "code-two222"}
	sizes := []map[string]int{{"backend": 2}, {"backend": 3, "web": 2}, {"backend": 4, "proxy": 2}}
	activated := 0
	for n := range scalings {
		step(w.Scale(ctx, sizes[n%len(sizes)]))
		for ; activated*scalings < (n+1)*activations; activated++ {
			step(w.Activate(ctx, versions[activated%2]))
		}
		step(w.Scale(ctx, map[string]int{"proxy": 1, "web": 1, "backend": 1 + n%2}))
	}
	posts := writing.stop()
	step(w.Scale(ctx, map[string]int{"backend": 3}))
	killed := killBackend(t, w)
	step(w.WaitReady(ctx))
	for ctx.Err() == nil && least > 0 && time.Since(began) < 10*time.Minute && served(t, w) < least {
		time.Sleep(time.Second)
	}
	n := reading.stop()
	if t.Failed() {
		for _, line := range strings.Split(w.ReadLog("i1", "nginx-proxy-access.log"), "\n") {
			if f := strings.Fields(line); len(f) > 8 && f[8] > "399" {
				t.Log(line)
			}
		}
		t.Log(w.ReadLog("i1", "nginx-proxy-error.log"))
	}
	t.Logf("%d requests, %d activations, %d scale-ups, %d scale-downs, backend %s killed: %v", n+posts, activated, scalings+1, scalings, killed, time.Since(began).Round(time.Second))
	if n+posts < least {
		t.Errorf("%d requests are fewer than %d", n+posts, least)
	}
}

// served counts the lines of the first proxy's access log.
func served(t *testing.T, w *servicetest.World) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.Dir("i1", "log"), "nginx-proxy-access.log"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte("\n"))
}

// killBackend kills all daemons of a backend that holds nothing else.
func killBackend(t *testing.T, w *servicetest.World) string {
	t.Helper()
	for _, i := range w.Instances() {
		if len(i.Parts) != 1 || i.Parts[0] != "backend" {
			continue
		}
		for _, p := range w.Processes(i.ID) {
			if err := syscall.Kill(-p.PID, syscall.SIGKILL); err != nil {
				t.Fatalf("kill %s: %v", p.Name, err)
			}
		}
		return i.ID
	}
	t.Fatal("there is no backend to kill")
	return ""
}

// TestWeights: requests are shared by weight, and a change of weights takes
// effect at once.
func TestWeights(t *testing.T) {
	needPrograms(t)
	k := php.Kind()
	k.DefaultCode = map[string]string{"index.php": `<?php echo $_SERVER["SERVER_ADDR"];`}
	w := servicetest.New(t, k)
	if err := w.Scale(t.Context(), map[string]int{"backend": 3}); err != nil {
		t.Fatal(err)
	}
	all, err := urls(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		weights []int
	}{{"alike", []int{0, 0, 0}}, {"one-to-two-to-five", []int{100, 200, 500}}, {"extremes", []int{1, 1, 1000}}} {
		t.Run(tt.name, func(t *testing.T) {
			var backends []api.Instance
			sum := 0
			for _, i := range w.Instances() {
				if len(i.Parts) == 1 {
					backends = append(backends, i)
				}
			}
			for n, i := range backends {
				w.Weigh(i.ID, map[string]int{"backend": tt.weights[n]})
				sum += max(tt.weights[n], 1)
			}
			if err := w.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			const requests = 800
			got := map[string]int{}
			c := client()
			for range requests {
				status, body, err := fetch(t.Context(), c, "GET", all[0], "")
				if err != nil || status != 200 {
					t.Fatal(status, err)
				}
				got[body]++
			}
			for n, i := range backends {
				want := requests * max(tt.weights[n], 1) / sum
				if d := got[i.Address] - want; d < -requests/40-2 || d > requests/40+2 {
					t.Errorf("weights %v: backend %d got %d of %d requests, want about %d", tt.weights, n, got[i.Address], requests, want)
				}
			}
		})
	}
}

// TestDeadBackend: a backend that does not answer gets no request, and gets
// some again when it is back.
func TestDeadBackend(t *testing.T) {
	needPrograms(t)
	k := php.Kind()
	k.DefaultCode = map[string]string{"index.php": `<?php echo $_SERVER["SERVER_ADDR"];`}
	w := servicetest.New(t, k)
	if err := w.Scale(t.Context(), map[string]int{"backend": 2}); err != nil {
		t.Fatal(err)
	}
	all, err := urls(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	var victim api.Instance
	for _, i := range w.Instances() {
		if len(i.Parts) == 1 {
			victim = i
		}
	}
	signal := func(s syscall.Signal) {
		t.Helper()
		for _, p := range w.Processes(victim.ID) {
			if strings.HasPrefix(p.Name, "nginx") || strings.HasPrefix(p.Name, "php-fpm") {
				if err := syscall.Kill(-p.PID, s); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	asked := func() (mine, slow int) {
		t.Helper()
		for range 20 {
			began := time.Now()
			status, body, err := fetch(t.Context(), client(), "GET", all[0], "")
			if err != nil || status != 200 {
				t.Fatalf("beside a dead backend: %d %v", status, err)
			}
			if body == victim.Address {
				mine++
			}
			if time.Since(began) > 15*time.Second { // whoever is asked and says nothing is waited for longer
				slow++
			}
		}
		return mine, slow
	}
	signal(syscall.SIGSTOP) // worse than dead: it is connected to and says nothing
	defer signal(syscall.SIGCONT)
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(downAt(t, w), "backends:"+victim.ID) {
		if time.Now().After(deadline) {
			t.Fatalf("the proxy does not know that %s is dead: %q", victim.ID, downAt(t, w))
		}
		time.Sleep(50 * time.Millisecond)
	}
	if mine, slow := asked(); mine > 0 || slow > 0 {
		t.Errorf("a dead backend was asked: %d answers of it, %d requests waited", mine, slow)
	}
	signal(syscall.SIGCONT)
	for {
		if mine, _ := asked(); mine > 0 {
			return
		}
		if time.Now().After(deadline.Add(time.Minute)) {
			t.Fatal("the backend that is back gets no requests")
		}
	}
}

// downAt is what the first instance's proxy says of dead nodes.
func downAt(t *testing.T, w *servicetest.World) string {
	t.Helper()
	s, err := w.Status(t.Context(), "i1")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(s.Kind), `"down":"`)
	down, _, _ := strings.Cut(after, `"`)
	return fmt.Sprint(down)
}
