package php_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nutshell/services/php"
	"nutshell/services/servicetest"
)

const countingPage = `<?php session_start(); $_SESSION["n"] = ($_SESSION["n"] ?? 0) + 1; echo $_SESSION["n"], " ", $_SERVER["SERVER_ADDR"];`

// visitor counts the visits that its session counts.
type visitor struct {
	c    *http.Client
	last int
	cut  int // answers whose session was not written: its store was killed in between
}

func newVisitor() *visitor {
	c := client()
	c.Jar = &cookies{}
	return &visitor{c: c}
}

// visit makes one request. A session that is older than the last one seen was
// lost. An answer that did not come may have been counted.
func (v *visitor) visit(ctx context.Context, url string) (lost bool, err error) {
	status, body, err := fetch(ctx, v.c, http.MethodGet, url, "")
	if err != nil || status != http.StatusOK {
		return false, fmt.Errorf("status %d: %.200s: %w", status, body, err)
	}
	count, _, _ := strings.Cut(body, " ")
	n, err := strconv.Atoi(count)
	if err != nil {
		return false, fmt.Errorf("not a count: %.200q", body)
	}
	lost = n < v.last
	if n == v.last {
		v.cut++
	}
	v.last = n
	return lost, nil
}

// crowd is many visitors at once until its end.
type crowd struct {
	stop                        context.CancelFunc
	wg                          sync.WaitGroup
	requests, errors, lost, cut atomic.Int64
	mu                          sync.Mutex
	problem                     string
}

func startCrowd(ctx context.Context, url string, n int) *crowd {
	ctx, stop := context.WithCancel(ctx)
	c := &crowd{stop: stop}
	for range n {
		c.wg.Go(func() {
			for v := newVisitor(); ctx.Err() == nil; {
				lost, err := v.visit(ctx, url)
				if ctx.Err() != nil {
					return
				}
				c.requests.Add(1)
				if lost {
					c.lost.Add(1)
				}
				c.cut.Add(int64(v.cut))
				v.cut = 0
				if err != nil {
					c.errors.Add(1)
					c.mu.Lock()
					c.problem = err.Error()
					c.mu.Unlock()
				}
				time.Sleep(5 * time.Millisecond) // people read
			}
		})
	}
	return c
}

func (c *crowd) end() {
	c.stop()
	c.wg.Wait()
}

func sessionWorld(t *testing.T, settings string) (*servicetest.World, string) {
	t.Helper()
	needPrograms(t)
	k := php.Kind()
	k.DefaultCode = map[string]string{"index.php": countingPage}
	w := servicetest.New(t, k)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := w.Configure(ctx, settings); err != nil {
		t.Fatal(err)
	}
	all, err := urls(ctx, w)
	if err != nil {
		t.Fatal(err)
	}
	return w, all[0]
}

func kill(t *testing.T, w *servicetest.World, instance, process string) {
	t.Helper()
	for _, p := range w.Processes(instance) {
		if strings.HasPrefix(p.Name, process) && p.PID > 0 {
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("%s has no process %s: %v", instance, process, w.Processes(instance))
}

// backends are the instances that make pages.
func backends(w *servicetest.World) []string {
	var list []string
	for _, i := range w.Instances() {
		if slices.Contains(i.Parts, "backend") {
			list = append(list, i.ID)
		}
	}
	return list
}

// No session is lost while backends come, go, die and lose their stores.
func TestSessionsAreShared(t *testing.T) {
	w, url := sessionWorld(t, `{}`)
	c := startCrowd(t.Context(), url, 8)
	defer c.end()
	// mayFail is how many requests may: those that a killed process had begun.
	step := func(what string, mayFail int64, f func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		before, errorsBefore := c.requests.Load(), c.errors.Load()
		if err := f(ctx); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for c.requests.Load() < before+100 { // visitors see what it has led to
			if ctx.Err() != nil {
				t.Fatalf("%s: visitors get no answers any more", what)
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Logf("%s: %d requests, %d errors, %d writes cut off, %d sessions lost", what, c.requests.Load()-before, c.errors.Load()-errorsBefore, c.cut.Load(), c.lost.Load())
		if n := c.lost.Load(); n > 0 {
			t.Fatalf("%s: %d sessions are lost", what, n)
		}
		if n := c.errors.Load() - errorsBefore; n > mayFail {
			t.Errorf("%s: %d requests failed, the last one: %s", what, n, c.problem)
		}
	}
	scale := func(n int) func(context.Context) error {
		return func(ctx context.Context) error { return w.Scale(ctx, map[string]int{"backend": n}) }
	}
	killEach := func(process string) func(context.Context) error {
		return func(ctx context.Context) error {
			for _, b := range backends(w) {
				kill(t, w, b, process)
				if err := w.WaitReady(ctx); err != nil {
					return err
				}
			}
			return nil
		}
	}
	step("one backend", 0, func(context.Context) error { return nil })
	step("its store killed", 8, killEach("session-store"))
	step("its php-fpm killed", 8, killEach("php-fpm"))
	step("packed to 3 backends", 0, scale(3))
	step("each store killed", 24, killEach("session-store"))
	lose := func(ctx context.Context) error {
		victim := backends(w)[1]
		for _, p := range w.Processes(victim) {
			_ = syscall.Kill(-p.PID, syscall.SIGKILL) // it may have ended with another
		}
		w.Lose(ctx, victim)
		return w.Settle(ctx)
	}
	step("an instance lost", 8, lose)
	step("another instance lost", 8, lose)
	step("agents and manager killed", 0, func(ctx context.Context) error {
		w.RestartManager()
		for _, i := range w.Instances() {
			if err := w.RestartAgent(ctx, i.ID); err != nil {
				return err
			}
		}
		return w.Settle(ctx)
	})
	step("3 backends to 1", 0, scale(1))
	step("1 backend to 5", 0, scale(5))
	step("5 backends to 2", 0, scale(2))
	c.end()
	t.Logf("%d requests, %d errors (%s), %d sessions lost", c.requests.Load(), c.errors.Load(), c.problem, c.lost.Load())
}

// A backend whose PHP cannot reach its sessions gets no requests: its pages
// would sign visitors out.
func TestBackendWithoutSessionsIsNotAsked(t *testing.T) {
	w, url := sessionWorld(t, `{}`)
	if err := w.Scale(t.Context(), map[string]int{"backend": 2}); err != nil {
		t.Fatal(err)
	}
	v := newVisitor()
	served := func() string {
		t.Helper()
		if _, body, err := fetch(t.Context(), v.c, http.MethodGet, url, ""); err == nil {
			_, address, _ := strings.Cut(body, " ")
			return address
		}
		return ""
	}
	sick := backends(w)[0]
	var address string
	for _, i := range w.Instances() {
		if i.ID == sick {
			address = i.Address
		}
	}
	for range 10 {
		if lost, err := v.visit(t.Context(), url); lost || err != nil {
			t.Fatal(lost, err)
		}
	}
	if err := os.Remove(filepath.Join(w.Dir(sick, "run"), "session.sock")); err != nil {
		t.Fatal(err)
	}
	kill(t, w, sick, "session-store") // with the connections that are kept to it
	time.Sleep(50 * time.Millisecond) // the kernel closes them
	for range 20 {
		if lost, err := v.visit(t.Context(), url); lost || err != nil {
			t.Errorf("after its store has gone: lost %v, %v", lost, err)
		}
	}
	well := 0
	for end := time.Now().Add(time.Minute); well < 30; {
		if time.Now().After(end) {
			t.Fatalf("%s is still asked", address)
		}
		if at := served(); at != "" && at != address {
			well++
		} else {
			well = 0
			time.Sleep(50 * time.Millisecond)
		}
	}
}
