package servicetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// Options say how a kind is tried.
type Options struct {
	Counts   []map[string]int                          // scaled to one after another
	Versions map[string]map[string]string              // code versions, activated in the order of their names
	Probe    func(ctx context.Context, w *World) error // one use of the service by its users, asked all the time
}

const patience = 3 * time.Minute

// promised is within what a daemon that was killed is back, by the guarantees
// page, on a machine that has time for it.
const promised = 10 * time.Second

// Run is the suite: description, plans, and a life of start, grow, shrink,
// code change, settings change, crashes and the end, with users all the time.
func Run(t *testing.T, k services.Kind, o Options) {
	t.Run("description", func(t *testing.T) { Description(t, k) })
	t.Run("plan", func(t *testing.T) { Plan(t, k) })
	t.Run("life", func(t *testing.T) { life(t, k, o) })
}

// Description checks what users, forms and the command line are told.
func Description(t *testing.T, k services.Kind) {
	t.Helper()
	if k.Name == "" || k.Title == "" || k.Summary == "" || len(k.Parts) == 0 {
		t.Errorf("kind %q needs name, title, summary and parts", k.Name)
	}
	for _, p := range k.Parts {
		if p.Name == "" || p.Title == "" || p.Summary == "" || p.Default < p.Min || p.Default > p.Max || p.Max < 1 {
			t.Errorf("part %+v: name, title, summary and Min ≤ Default ≤ Max are needed", p)
		}
		for _, to := range p.To {
			if !slices.ContainsFunc(k.Parts, func(o services.Part) bool { return o.Name == to && to != p.Name }) {
				t.Errorf("part %s passes requests to %q: it must name another part", p.Name, to)
			}
		}
	}
	d := k.Describe()
	for _, s := range d.Settings {
		if s.Name == "" || s.Title == "" || s.Help == "" {
			t.Errorf("setting %+v: name, title and help are needed", s)
		}
	}
	for _, a := range d.Actions {
		if a.Name == "" || a.Title == "" || a.Summary == "" {
			t.Errorf("action %+v: name, title and summary are needed", a)
		}
	}
	if merged, err := k.MergeSettings(k.DefaultSettings(), json.RawMessage("{}")); err != nil || string(merged) != string(k.DefaultSettings()) {
		t.Errorf("the default settings do not pass their own limits: %s, %v", merged, err)
	}
	if k.Code.Accepts != (len(k.DefaultCode) > 0) {
		t.Error("a kind that keeps code versions needs default code, and no other")
	}
}

func life(t *testing.T, k services.Kind, o Options) {
	w := New(t, k)
	maps.Copy(w.Files, o.Versions)
	ctx := t.Context()
	within := func(what string, f func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		began := time.Now()
		if err := f(ctx); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%s %s: %v", began.Format("05.000"), what, time.Since(began).Round(time.Millisecond))
	}
	within("start", w.Settle)
	users := startUsers(ctx, w, o.Probe)
	for _, c := range o.Counts {
		within(fmt.Sprintf("scale to %v", c), func(ctx context.Context) error { return w.Scale(ctx, c) })
	}
	for n, c := range o.Counts { // the manager is killed in the middle, ever later, and the next one goes on
		short, cancel := context.WithTimeout(ctx, time.Duration(20+60*n)*time.Millisecond)
		err := w.Scale(short, c)
		cancel()
		t.Logf("interrupted: %v", err)
		w.RestartManager()
		within(fmt.Sprintf("go on to %v", c), w.Settle)
	}
	for _, v := range sortedKeys(o.Versions) {
		within("activate "+v, func(ctx context.Context) error { return w.Activate(ctx, v) })
		h, err := w.Manager.Observe(ctx)
		if err != nil || h.Serving != v {
			t.Fatalf("after activating %s: serving %q, %v", v, h.Serving, err)
		}
	}
	for _, i := range w.Instances() {
		within("new agent on "+i.ID, func(ctx context.Context) error { return w.RestartAgent(ctx, i.ID) })
	}
	within("settle again", w.Settle)
	if n, failed := users.stop(); failed != nil {
		t.Errorf("users met failures while the service changed (%d uses were fine): %v", n, failed)
	} else if o.Probe != nil {
		t.Logf("%d uses, none failed", n)
	}
	crash(t, w, o, within)
}

// crash kills each daemon once; the service must serve again by itself.
func crash(t *testing.T, w *World, o Options, within func(string, func(context.Context) error)) {
	for _, i := range w.Instances() {
		for _, p := range w.Processes(i.ID) {
			within("kill -9 "+p.Name+" of "+i.ID, func(ctx context.Context) error {
				began, before := time.Now(), Busy()
				if err := syscall.Kill(p.PID, syscall.SIGKILL); errors.Is(err, syscall.ESRCH) {
					return nil // a former one that has ended by itself
				} else if err != nil {
					return err
				}
				err := retry(ctx, func(ctx context.Context) error {
					for _, now := range w.Processes(i.ID) {
						if now.Name == p.Name && (now.PID == p.PID || now.State != "running") {
							return fmt.Errorf("%s was not started again", p.Name)
						}
					}
					if err := w.WaitReady(ctx); err != nil || o.Probe == nil {
						return err
					}
					return o.Probe(ctx, w)
				})
				took, most := time.Since(began), time.Duration(float64(promised)*max(before, Busy()))
				if err == nil && took > most {
					err = fmt.Errorf("it took %v, want at most %v", took, most)
				}
				return err
			})
		}
	}
}

func retry(ctx context.Context, f func(context.Context) error) error {
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// users use the service all the time, two at once.
type users struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	uses   int
	failed []error
}

func startUsers(ctx context.Context, w *World, probe func(context.Context, *World) error) *users {
	ctx, cancel := context.WithCancel(ctx)
	u := &users{cancel: cancel}
	if probe == nil {
		return u
	}
	for range 2 {
		u.wg.Go(func() {
			for ctx.Err() == nil {
				err := probe(ctx, w)
				if ctx.Err() != nil {
					return
				}
				u.mu.Lock()
				u.uses++
				if err != nil {
					u.failed = append(u.failed, fmt.Errorf("%s: %w", time.Now().Format("05.000"), err))
				}
				u.mu.Unlock()
			}
		})
	}
	return u
}

func (u *users) stop() (int, error) {
	u.cancel()
	u.wg.Wait()
	if len(u.failed) > 5 {
		u.failed = append(u.failed[:5], fmt.Errorf("and %d more", len(u.failed)-5))
	}
	return u.uses, errors.Join(u.failed...)
}

// Code tells whether err has the code, for tests of refusals.
func Code(t *testing.T, err error, want api.Code) {
	t.Helper()
	if got := api.CodeOf(err); got != want {
		t.Errorf("got error %v (%q), want code %q", err, got, want)
	}
}
