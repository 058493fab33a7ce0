package web

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Retirement ends processes that others have taken the place of: each when it
// has no requests left, or when those have had their time. So nothing is cut.
type Retirement struct {
	Busy  func(ctx context.Context, name string) (bool, error) // has it requests?
	End   func(ctx context.Context, name string) error         // stop it and remove what it had
	Grace time.Duration                                        // how long End may take
	Log   *slog.Logger

	mu   sync.Mutex
	ends map[string]*end // by name
}

// end is the end of a process under way.
type end struct {
	done   chan struct{}
	spared bool // it is wanted again
	begun  bool // it is too late for that
}

// A process may be between accepting a request and counting it, so that one
// look that finds none is not enough.
const (
	idleLooks = 3
	idleEvery = 50 * time.Millisecond
)

// Spare keeps a process from its end, or waits until that is over: settings
// may come back before what served by them has gone.
func (r *Retirement) Spare(ctx context.Context, name string) error {
	r.mu.Lock()
	e := r.ends[name]
	late := e != nil && e.begun
	if e != nil {
		e.spared = true
	}
	r.mu.Unlock()
	if !late {
		return nil
	}
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Retire begins the end of a process and returns a channel that is closed
// when it is over. Its requests have that much patience.
func (r *Retirement) Retire(name string, patience time.Duration) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.ends[name]; e != nil && (e.begun || !e.spared) {
		return e.done
	}
	e := &end{done: make(chan struct{})}
	if r.ends == nil {
		r.ends = map[string]*end{}
	}
	r.ends[name] = e
	go r.end(name, e, patience)
	return e.done
}

func (r *Retirement) end(name string, e *end, patience time.Duration) {
	defer close(e.done)
	// Whoever asked for it does not wait for it.
	ctx, cancel := context.WithTimeout(context.Background(), patience+r.Grace)
	defer cancel()
	r.idle(ctx, name, time.Now().Add(patience))
	r.mu.Lock()
	e.begun = !e.spared
	if !e.begun {
		r.forget(name, e)
	}
	r.mu.Unlock()
	if !e.begun {
		return
	}
	if err := r.End(ctx, name); err != nil {
		r.Log.Warn("former process not ended", "process", name, "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(name, e)
}

// idle waits until a process has no requests.
func (r *Retirement) idle(ctx context.Context, name string, until time.Time) {
	for looks := 0; looks < idleLooks && time.Now().Before(until); time.Sleep(idleEvery) {
		looks++
		if busy, err := r.Busy(ctx, name); err == nil && busy {
			looks = 0
		}
	}
}

// forget takes an end off the list, unless another one has begun since.
func (r *Retirement) forget(name string, e *end) {
	if r.ends[name] == e {
		delete(r.ends, name)
	}
}
