package imagebuild

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
)

// flights lets callers that want the same layer share one build. Unlike
// singleflight it tells every caller of the progress, and the build outlives
// the caller that began it.
type flights struct {
	mu sync.Mutex
	by map[string]*flight
}

type flight struct {
	done     chan struct{}
	err      error
	cancel   context.CancelFunc
	watchers map[int]Progress // of the callers that still wait
	next     int
}

func (f *flights) do(ctx context.Context, key string, progress Progress, work func(context.Context, Progress) error) error {
	f.mu.Lock()
	fl, running := f.by[key]
	if !running {
		workCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		fl = &flight{done: make(chan struct{}), cancel: cancel, watchers: map[int]Progress{}}
		if f.by == nil {
			f.by = map[string]*flight{}
		}
		f.by[key] = fl
		go f.run(workCtx, key, fl, work)
	}
	me := fl.next
	fl.next++
	fl.watchers[me] = progress
	f.mu.Unlock()

	select {
	case <-fl.done:
		return fl.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	delete(fl.watchers, me)
	last := len(fl.watchers) == 0
	if last && f.by[key] == fl {
		delete(f.by, key) // who comes now begins anew
	}
	f.mu.Unlock()
	if last {
		fl.cancel()
		<-fl.done // nothing runs on after the last caller has its answer
	}
	return context.Cause(ctx)
}

func (f *flights) run(ctx context.Context, key string, fl *flight, work func(context.Context, Progress) error) {
	defer fl.cancel()
	high := 0.0 // dpkg counts anew when triggers run; people should not see that
	err := work(ctx, func(step string, fraction float64) {
		f.mu.Lock()
		high = max(high, fraction)
		fraction = high
		watchers := make([]Progress, 0, len(fl.watchers))
		for _, w := range fl.watchers {
			watchers = append(watchers, w)
		}
		f.mu.Unlock()
		for _, w := range watchers {
			w(step, fraction)
		}
	})
	f.mu.Lock()
	fl.err = err
	if f.by[key] == fl {
		delete(f.by, key)
	}
	f.mu.Unlock()
	close(fl.done)
}

// tryLock takes a lock among processes (and among opens within one) if it is free.
func tryLock(path string) (unlock func(), ok bool, err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, false, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, false, file.Close()
	}
	if err != nil {
		return nil, false, errors.Join(err, file.Close())
	}
	return func() { file.Close() }, true, nil // closing releases it, as does our death
}

// lock waits for the lock until ctx ends. waiting is called once if it must.
func lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	told := false
	for {
		unlock, ok, err := tryLock(path)
		if err != nil || ok {
			return unlock, err
		}
		if !told {
			waiting()
			told = true
		}
		// flock cannot be waited for together with a context.
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
