package session

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// locks keep two requests of one visitor apart: the second waits until the
// first has written its session. They live in memory, on each owner of the
// session, and end by themselves.
type locks struct {
	mu   sync.Mutex
	held map[string]lock
}

type lock struct {
	token string // with the instance that asked in front, see token
	until time.Time
}

const lockSuffix = "_LOCK"

func isLock(key string) bool { return strings.HasSuffix(key, lockSuffix) }

// grant is a lock that PHP was given, with what else was learnt then.
type grant struct {
	lock
	known    map[string]entry // what other stores have of the session, by instance
	at       time.Time        // when they told so
	released map[string]bool  // stores whose lock went with the write
}

// token names who asks for a lock: a request of an instance.
func token(instance, request string) string { return instance + "\x00" + request }

// releaseOf releases what requests of an instance hold, which has gone.
func (l *locks) releaseOf(instance string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, h := range l.held {
		if strings.HasPrefix(h.token, token(instance, "")) {
			delete(l.held, k)
		}
	}
}

// take gets the lock, or finds it held by the same token.
func (l *locks) take(key, token string, now, until time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h, ok := l.held[key]; ok && h.token != token && h.until.After(now) {
		return false
	}
	if l.held == nil {
		l.held = map[string]lock{}
	}
	l.held[key] = lock{token, until}
	return true
}

func (l *locks) release(key, token string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h, ok := l.held[key]; !ok || h.token != token {
		return false
	}
	delete(l.held, key)
	return true
}

// expire forgets what nobody released.
func (l *locks) expire(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, h := range l.held {
		if !h.until.After(now) {
			delete(l.held, k)
		}
	}
}

// lock takes the lock of a session on all its owners: on the first alone, so
// that two requests cannot hold each other up, then on the others. They tell
// what they have of the session with it, because PHP will ask for that next.
func (c *cluster) lock(ctx context.Context, key, request string, until time.Time) (known map[string]entry, ok bool) {
	token := token(c.me().Instance, request)
	e := entry{Key: key, Value: []byte(token), Expires: until.UnixMilli()}
	var mu sync.Mutex
	known = map[string]entry{}
	take := func(r *remote) error {
		if r != nil {
			found, told, err := r.lock(ctx, e)
			if told {
				mu.Lock()
				known[r.Instance] = found
				mu.Unlock()
			}
			return err
		}
		if !c.locks.take(key, token, c.now(), until) {
			return errHeld
		}
		return nil
	}
	rest := c.inOrder(key)
	for len(rest) > 0 {
		first := rest[0]
		rest = rest[1:]
		err := take(first)
		if errors.Is(err, errHeld) {
			return nil, false
		}
		if err == nil {
			break
		}
	}
	held := make([]bool, len(rest))
	var wg sync.WaitGroup
	for i, r := range rest {
		wg.Go(func() { held[i] = errors.Is(take(r), errHeld) })
	}
	wg.Wait()
	if slices.Contains(held, true) { // by a request that began when the ring was another
		c.unlock(ctx, key, request, nil)
		return nil, false
	}
	return known, true
}

// release is what goes with a write, so that the stores that take it give the
// lock back.
func (c *cluster) release(key, request string) entry {
	return entry{Key: key, Value: []byte(token(c.me().Instance, request))}
}

// unlock gives a lock back, but to those who have it already.
func (c *cluster) unlock(ctx context.Context, key, request string, released map[string]bool) {
	token := token(c.me().Instance, request)
	var wg sync.WaitGroup
	for _, r := range append(c.inOrder(key), nil) {
		if r != nil && released[r.Instance] {
			continue
		}
		wg.Go(func() {
			if r == nil {
				c.locks.release(key, token)
				return
			}
			_ = r.send(ctx, "/unlock", entry{Key: key, Value: []byte(token)}) // a lock ends by itself, too
		})
	}
	wg.Wait()
}

// inOrder are the owners that answer, in the order of the ring, and then those
// that are about to leave; nil is this store. With nobody else it is alone.
func (c *cluster) inOrder(key string) []*remote {
	key = strings.TrimSuffix(key, lockSuffix) // where the session is, its lock is
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*remote
	for _, p := range ring(c.members, key) {
		if r := c.remotes[p.Instance]; len(list) < copies && (p.Instance == c.self.Instance || r != nil && !r.suspect.Load()) {
			list = append(list, r)
		}
	}
	if len(list) == 0 {
		list = append(list, nil)
	}
	for _, r := range c.remotes { // requests that they serve may still come for the session
		if !r.until.IsZero() && !r.suspect.Load() {
			list = append(list, r)
		}
	}
	return list
}
