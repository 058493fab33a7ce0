package director

import (
	"context"
	"sync"
	"time"

	"nutshell/roles/api"
)

// live is what the director knows and does not write down: when managers were
// last heard, and what instances use. Heartbeats of an idle installation must
// not wear out a card.
type live struct {
	mu      sync.Mutex
	seen    map[string]time.Time // manager instances
	figures map[string]api.Figures
	notes   map[string]note // by operation
	heard   chan struct{}   // closed and replaced at each heartbeat
}

// note is what the director does inside a step of a manager's operation.
type note struct {
	text     string
	fraction float64
}

func newLive() *live {
	return &live{seen: map[string]time.Time{}, figures: map[string]api.Figures{}, notes: map[string]note{}, heard: make(chan struct{})}
}

func (l *live) hear(instance string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[instance] = now
	close(l.heard)
	l.heard = make(chan struct{})
}

func (l *live) last(instance string) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.seen[instance]
	return t, ok
}

// wait returns when an instance was heard after a moment, or ctx ends.
func (l *live) wait(ctx context.Context, instance string, after time.Time) error {
	for {
		l.mu.Lock()
		heard := l.heard
		t := l.seen[instance]
		l.mu.Unlock()
		if t.After(after) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-heard:
		}
	}
}

func (l *live) measure(instance string, f *api.Figures) {
	if f == nil || f.At.IsZero() { // an agent that has not measured yet
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.figures[instance] = *f
}

// fill adds the latest figures to instances.
func (l *live) fill(list []api.Instance) []api.Instance {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range list {
		if f, ok := l.figures[list[i].ID]; ok {
			list[i].Figures = &f
		}
	}
	return list
}

func (l *live) forget(instance string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.seen, instance)
	delete(l.figures, instance)
}

func (l *live) annotate(operation, text string, fraction float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if text == "" {
		delete(l.notes, operation)
		return
	}
	l.notes[operation] = note{text, fraction}
}

func (l *live) note(operation string) (note, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok := l.notes[operation]
	return n, ok
}
