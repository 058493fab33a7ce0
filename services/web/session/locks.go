package session

import (
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
