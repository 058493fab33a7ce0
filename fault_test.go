package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/services/servicetest"
)

// The promise of design: kill -9 of anything, during anything; the operation
// goes on or is undone and says which, the site serves again by itself, no
// instance is orphaned, nothing is lost. NUTSHELL_CHAOS=1 (make chaos) tries
// all combinations, plain tests a few. NUTSHELL_SEED repeats a run's moments.

const (
	servesAgain = 10 * time.Second
	detection   = 10 * time.Second // a silent agent is lost after that long
	bootAllowed = 5 * time.Second  // and then its replacement starts
)

// victim is what is killed.
type victim struct {
	name string
	// entry says that the only entry of the site may go with it, so that its
	// loss must first be noticed.
	entry bool
	kill  func(s *stage, r *rand.Rand) error
}

func victims() []victim {
	one := func(pattern string) func(*stage, *rand.Rand) error {
		return func(s *stage, r *rand.Rand) error {
			pids := s.processes(pattern)
			if len(pids) == 0 {
				return errors.New("nothing runs that matches " + pattern)
			}
			pid := pids[r.IntN(len(pids))]
			s.Logf("killing %d: %s", pid, cmdline(pid))
			return kill([]int{pid})
		}
	}
	whole := func(pattern string) func(*stage, *rand.Rand) error {
		return func(s *stage, r *rand.Rand) error {
			pids := s.processes("--role init.*" + pattern)
			if len(pids) == 0 {
				return errors.New("no instance matches " + pattern)
			}
			pid := pids[r.IntN(len(pids))]
			s.Logf("killing all of %s", instanceOf(pid))
			return kill(family(pid))
		}
	}
	return []victim{
		{"director", false, func(s *stage, _ *rand.Rand) error { s.crash(); return nil }},
		{"manager", false, one(`--role join.*/a\d+-s0-`)},
		{"manager-instance", false, whole(`/a\d+-s0-`)},
		{"agent", false, one(`--role join.*/a\d+-s1-`)},
		{"agent-instance", true, whole(`/a\d+-s1-`)},
		{"php-fpm", false, one(`^php-fpm: master`)},
		{"nginx", false, one(`^nginx: master`)},
		{"everything", true, func(s *stage, _ *rand.Rand) error {
			err := kill(s.processes(""))
			s.crash()
			return err
		}},
	}
}

// deed is what is under way meanwhile. It returns the operation, if it is one.
type deed struct {
	name string
	do   func(s *stage, w *want) api.Operation
}

// want is how the service should be, as far as the test knows.
type want struct {
	parts   map[string]int
	version string
	other   string // the version to change to
	// after is what it becomes if the deed is done.
	after func()
	// upload is told how an upload ended.
	upload chan error
	// takes is how long the deeds take here when nobody disturbs them.
	takes map[string]time.Duration
}

// newWant measures the deeds on a fresh stage.
func newWant(s *stage, parts map[string]int) *want {
	w := &want{parts: parts, takes: map[string]time.Duration{}}
	for id := range s.versions {
		w.version = id
	}
	w.other = s.upload("second")
	for _, d := range deeds() {
		began := time.Now()
		o := d.do(s, w)
		if w.upload != nil {
			if err := <-w.upload; err != nil {
				s.Fatal(err)
			}
		} else if o = s.ended(o); o.State != api.OperationDone {
			s.Fatalf("%s: %v", o.Title, o.Error)
		}
		w.takes[d.name] = time.Since(began)
		w.after()
		w.after, w.upload = func() {}, nil
	}
	s.Logf("undisturbed: %v", w.takes)
	return w
}

func (w *want) scaled(by int) map[string]int {
	return map[string]int{"proxy": 1, "web": 1, "backend": w.parts["backend"] + by}
}

func deeds() []deed {
	return []deed{
		{"upload", func(s *stage, w *want) api.Operation {
			w.after, w.upload = func() {}, make(chan error, 1)
			name := "upload" + strconv.FormatInt(time.Now().UnixNano(), 36)
			go func() {
				_, err := s.send(name, slow(page(name, 1<<20)))
				w.upload <- err
			}()
			return api.Operation{}
		}},
		{"activate", func(s *stage, w *want) api.Operation {
			w.after = func() { w.version, w.other = w.other, w.version }
			return s.ask(site+"/activate", api.Activate{Version: w.other})
		}},
		{"scale", func(s *stage, w *want) api.Operation {
			by := 1
			if w.parts["backend"] > 2 {
				by = -1
			}
			parts := w.scaled(by)
			w.after = func() { w.parts = parts }
			return s.ask(site+"/scale", api.Scale{Add: map[string]int{"backend": by}})
		}},
	}
}

// slow is a client behind a thin line: an upload takes about a second.
func slow(b []byte) io.Reader {
	r, w := io.Pipe()
	go func() {
		const pieces = 20
		for i := range pieces {
			if _, err := w.Write(b[len(b)*i/pieces : len(b)*(i+1)/pieces]); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		_ = w.Close()
	}()
	return r
}

func TestFaults(t *testing.T) {
	quick := map[string]bool{"director/scale": true, "manager/activate": true, "agent/scale": true, "manager-instance/activate": true, "php-fpm/activate": true, "nginx/upload": true}
	chaos := os.Getenv("NUTSHELL_CHAOS") != ""
	if testing.Short() {
		t.Skip("kills daemons for a minute")
	}
	seed := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("NUTSHELL_SEED"), 10, 64); err == nil {
		seed = v
	}
	t.Logf("NUTSHELL_SEED=%d", seed)
	var gaps []string
	var s *stage
	var w *want
	home := t
	for n, v := range victims() {
		t.Run(v.name, func(t *testing.T) {
			for m, d := range deeds() {
				t.Run(d.name, func(t *testing.T) {
					if !chaos && !quick[v.name+"/"+d.name] {
						t.Skip("make chaos tries it")
					}
					if s == nil { // at the start, and where the last one spoilt it
						base := map[string]int{"proxy": 1, "web": 1, "backend": 2}
						s = newStage(t, home, base)
						w = newWant(s, base)
					}
					r := rand.New(rand.NewPCG(seed, uint64(10*n+m))) // moments, not secrets
					s.T = t
					defer func() {
						if t.Failed() {
							s = nil
						}
					}()
					gap := fault(s, w, v, d, r)
					gaps = append(gaps, fmt.Sprintf("%s/%s %s", v.name, d.name, gap.Round(10*time.Millisecond)))
				})
			}
		})
	}
	t.Logf("longest gaps: %s", strings.Join(gaps, ", "))
}

// fault does a deed, kills the victim at a moment within it, and sees what
// becomes of it.
func fault(s *stage, w *want, v victim, d deed, r *rand.Rand) (gap time.Duration) {
	s.settled(w.parts, w.version)
	w.after, w.upload = func() {}, nil
	known := len(s.versions)
	visitor := newVisitor(s, 1)
	moment := time.Duration(r.Int64N(int64(w.takes[d.name])))
	began := time.Now()
	o := d.do(s, w)
	<-time.After(time.Until(began.Add(moment)))
	s.Logf("at %s", moment.Round(time.Millisecond))
	if err := v.kill(s, r); err != nil {
		s.Fatal(err)
	}
	if w.upload != nil {
		switch err := <-w.upload; {
		case err == nil:
			known++
		case v.name == "director" || v.name == "everything":
			s.Logf("the upload ended with the director: %v", err)
		default:
			s.Errorf("upload: %v", err)
		}
	} else if o = s.ended(o); o.State == api.OperationDone {
		w.after()
	} else {
		s.Logf("%s: %v; undone: %s", o.State, o.Error, o.Undone)
	}
	s.settled(w.parts, w.version)
	s.Logf("as wanted %s after the kill", time.Since(began.Add(moment)).Round(10*time.Millisecond))
	limit := servesAgain
	if v.entry {
		limit = detection + bootAllowed
	}
	limit = time.Duration(float64(limit) * max(visitor.busy, servicetest.Busy())) // promised on a machine that has time for it
	gap = visitor.leave()
	if gap > limit {
		s.Errorf("the site did not serve for %s", gap)
	}
	var list []api.CodeVersion
	s.must(http.MethodGet, site+"/versions", nil, &list)
	if len(list) != known+1 { // and code-default
		s.Errorf("%d versions are listed, not %d", len(list), known+1)
	}

	// And it can be worked with.
	by := 1
	if w.parts["backend"] > 2 {
		by = -1
	}
	parts := w.scaled(by)
	s.operate(site+"/scale", api.Scale{Set: parts})
	w.parts = parts
	s.settled(w.parts, w.version)
	return gap
}

// visitor asks for the site's page again and again, as people do: those whose
// address fails look up where the site is now.
type visitor struct {
	s      *stage
	busy   float64 // how often the machine's time is asked for
	stop   context.CancelFunc
	wait   sync.WaitGroup
	mu     sync.Mutex
	last   time.Time
	gap    time.Duration
	good   int
	failed []string
}

func newVisitor(s *stage, many int) *visitor {
	ctx, stop := context.WithCancel(s.Context())
	v := &visitor{s: s, busy: servicetest.Busy(), stop: stop, last: time.Now()}
	url := v.where()
	for range many {
		v.wait.Go(func() { v.visit(ctx, url) })
	}
	return v
}

func (v *visitor) where() string {
	if now, err := v.s.service(); err == nil && len(now.URLs) > 0 {
		return now.URLs[0]
	}
	return ""
}

func (v *visitor) visit(ctx context.Context, url string) {
	client := &http.Client{Timeout: time.Duration(v.busy * float64(5*time.Second)), Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		err := look(ctx, client, url)
		if ctx.Err() != nil {
			return
		}
		v.mu.Lock()
		if now := time.Now(); err == nil {
			v.good++
			v.gap = max(v.gap, now.Sub(v.last))
			v.last = now
		} else {
			v.failed = append(v.failed, fmt.Sprintf("%s %v", now.Format("15:04:05.000"), err))
		}
		v.mu.Unlock()
		if err != nil {
			if now := v.where(); now != "" {
				url = now
			}
		}
	}
}

func look(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || !bytes.HasPrefix(b, []byte("page "))) {
		err = fmt.Errorf("status %d: %.80s", resp.StatusCode, b)
	}
	return err
}

// leave ends the visits and tells the longest time without a page.
func (v *visitor) leave() time.Duration {
	v.stop()
	v.wait.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gap = max(v.gap, time.Since(v.last))
	v.s.Logf("%d pages, %d failures, longest gap %s", v.good, len(v.failed), v.gap.Round(10*time.Millisecond))
	if len(v.failed) > 0 {
		v.s.Logf("first failure: %s", v.failed[0])
	}
	return v.gap
}
