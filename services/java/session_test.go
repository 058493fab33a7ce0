package java_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nutshell/services/servicetest"
)

// cookies sends back the last cookie of each name; one site is all that is asked.
type cookies struct {
	mu  sync.Mutex
	all []*http.Cookie
}

func (c *cookies) SetCookies(_ *url.URL, set []*http.Cookie) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range set {
		c.all = append(slices.DeleteFunc(c.all, func(o *http.Cookie) bool { return o.Name == s.Name }), s)
	}
}

func (c *cookies) Cookies(*url.URL) []*http.Cookie {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all)
}

// crowd are visitors with a session each, until its end.
type crowd struct {
	stop                   context.CancelFunc
	wg                     sync.WaitGroup
	requests, errors, lost atomic.Int64
	mu                     sync.Mutex
	problem                string
}

func startCrowd(ctx context.Context, url string, n int) *crowd {
	ctx, stop := context.WithCancel(ctx)
	c := &crowd{stop: stop}
	for range n {
		c.wg.Go(func() {
			visitor := client()
			visitor.Jar = &cookies{}
			for last := 0; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) { // people read
				status, body, err := fetch(ctx, visitor, http.MethodGet, url, "")
				if ctx.Err() != nil {
					return
				}
				c.requests.Add(1)
				now := 0
				if err != nil || status != http.StatusOK {
					c.errors.Add(1)
					c.mu.Lock()
					c.problem = fmt.Sprintf("status %d: %.100s: %v", status, body, err)
					c.mu.Unlock()
					continue // it may have been counted
				}
				if _, err := fmt.Sscanf(body, "visit %d", &now); err != nil || now <= last {
					c.lost.Add(1)
					c.mu.Lock()
					c.problem = fmt.Sprintf("after visit %d: %.100q", last, body)
					c.mu.Unlock()
				}
				last = now
			}
		})
	}
	return c
}

func (c *crowd) end() {
	c.stop()
	c.wg.Wait()
}

// backends are the instances that run Tomcat.
func backends(w *servicetest.World) []string {
	var list []string
	for _, i := range w.Instances() {
		if slices.Contains(i.Parts, "backend") {
			list = append(list, i.ID)
		}
	}
	return list
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

// No session is lost while Tomcats, stores and instances come, go and die,
// nor by a new version.
func TestSessionsAreKept(t *testing.T) {
	w, base := start(t, `{}`)
	w.Files["code-next11"] = version("next")
	c := startCrowd(t.Context(), base+"visit.jsp", 4)
	defer c.end()
	step := func(what string, f func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		before, errorsBefore, lostBefore := c.requests.Load(), c.errors.Load(), c.lost.Load()
		if err := f(ctx); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for seen := c.requests.Load(); c.requests.Load() < seen+50; time.Sleep(5 * time.Millisecond) { // visitors see what it has led to
			if ctx.Err() != nil {
				t.Fatalf("%s: visitors get no answers any more", what)
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		t.Logf("%s: %d requests, %d errors, %d sessions lost", what, c.requests.Load()-before, c.errors.Load()-errorsBefore, c.lost.Load()-lostBefore)
		if c.lost.Load() > lostBefore {
			t.Errorf("%s: %d sessions are lost: %s", what, c.lost.Load()-lostBefore, c.problem)
		}
	}
	scale := func(n int) func(context.Context) error {
		return func(ctx context.Context) error { return w.Scale(ctx, map[string]int{"backend": n}) }
	}
	step("one backend", func(context.Context) error { return nil })
	step("new version", func(ctx context.Context) error { return w.Activate(ctx, "code-next11") })
	step("its tomcat killed", func(ctx context.Context) error {
		kill(t, w, backends(w)[0], "tomcat")
		return w.WaitReady(ctx)
	})
	step("3 backends", scale(3))
	step("one tomcat killed", func(ctx context.Context) error {
		kill(t, w, backends(w)[1], "tomcat")
		return w.WaitReady(ctx)
	})
	step("an instance lost", func(ctx context.Context) error {
		victim := backends(w)[0]
		for _, p := range w.Processes(victim) {
			_ = syscall.Kill(-p.PID, syscall.SIGKILL) // it may have ended with another
		}
		w.Lose(ctx, victim)
		return w.Settle(ctx)
	})
	step("back to 1 backend", scale(1))
	c.end()
	t.Logf("%d requests, %d errors (%s), %d sessions lost", c.requests.Load(), c.errors.Load(), c.problem, c.lost.Load())

	visitor := client()
	visitor.Jar = &cookies{}
	for _, r := range []struct{ page, want string }{{"visit.jsp", "visit 1"}, {"visit.jsp", "visit 2"}, {"logout.jsp", "bye"}, {"visit.jsp", "visit 1"}} {
		if status, body, err := fetch(t.Context(), visitor, http.MethodGet, base+r.page, ""); err != nil || status != 200 || !strings.Contains(body, r.want) {
			t.Errorf("%s: got %d %.100q %v, want %q", r.page, status, body, err, r.want)
		}
	}
	if log := w.ReadLog(backends(w)[0], "catalina.log"); !strings.Contains(log, "Session attribute thread of class") {
		t.Error("the log does not tell which attribute cannot be kept")
	}
}
