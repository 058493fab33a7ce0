package php

import (
	"context"
	"errors"
	"os"
	"time"
)

// end is the end of a PHP-FPM under way.
type end struct {
	done   chan struct{}
	spared bool // it is wanted again
	begun  bool // it is too late for that
}

// spare keeps a PHP-FPM from its end, or waits until it is over: settings may
// come back before what served by them has gone.
func (f *fpm) spare(ctx context.Context, name string) error {
	f.mu.Lock()
	e := f.retiring[name]
	late := e != nil && e.begun
	if e != nil {
		e.spared = true
	}
	f.mu.Unlock()
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

// retire ends a former PHP-FPM when it has no requests left, or when each of
// them has had its time.
func (f *fpm) retire(name string, patience time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.retiring[name]; e != nil && !e.spared {
		return
	}
	e := &end{done: make(chan struct{})}
	f.retiring[name] = e
	go func() {
		defer close(e.done)
		ctx, cancel := context.WithTimeout(context.Background(), patience+10*time.Second)
		defer cancel()
		f.idle(ctx, name, time.Now().Add(patience))
		f.mu.Lock()
		if e.spared {
			f.forget(name, e)
			f.mu.Unlock()
			return
		}
		e.begun = true
		f.mu.Unlock()
		if err := f.end(ctx, name); err != nil {
			f.m.Log().Warn("former php-fpm not ended", "process", name, "error", err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.forget(name, e)
	}()
}

// forget takes an end off the list, unless another one has begun to wait since.
func (f *fpm) forget(name string, e *end) {
	if f.retiring[name] == e {
		delete(f.retiring, name)
	}
}

// idle waits until a PHP-FPM has no requests. It looks three times, because one
// may be between being accepted and being counted.
func (f *fpm) idle(ctx context.Context, name string, until time.Time) {
	for looks := 0; looks < 3 && time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		s, err := f.status(ctx, name)
		if err == nil && s.Active > 0 {
			looks = 0
			continue
		}
		looks++
	}
}

func (f *fpm) end(ctx context.Context, name string) error {
	err := f.m.Supervisor().Stop(ctx, name)
	for _, path := range []string{f.file(name), f.socket(name), f.statusSocket(name)} {
		if e := os.Remove(path); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, os.RemoveAll(f.scanDir(name)))
}
