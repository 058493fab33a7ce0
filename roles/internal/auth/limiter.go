package auth

import (
	"container/list"
	"sync"
	"time"
)

// Limiter holds back whoever tries too often. Each key (an address, a user
// name) has a bucket of Burst tries that fills again by one every Every.
type Limiter struct {
	c LimiterConfig

	mu      sync.Mutex
	buckets map[string]*list.Element
	recent  *list.List // of *bucket, last used first
}

// LimiterConfig says how often is too often.
type LimiterConfig struct {
	Burst int              // tries at once; default 10
	Every time.Duration    // one more try; default 6 s
	Keys  int              // remembered at most, least recently used forgotten first; default 10,000
	Now   func() time.Time // default time.Now
}

type bucket struct {
	key   string
	level float64
	at    time.Time
}

// NewLimiter makes a Limiter.
func NewLimiter(c LimiterConfig) *Limiter {
	if c.Burst <= 0 {
		c.Burst = 10
	}
	if c.Every <= 0 {
		c.Every = 6 * time.Second
	}
	if c.Keys <= 0 {
		c.Keys = 10_000
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Limiter{c: c, buckets: map[string]*list.Element{}, recent: list.New()}
}

// Allow takes one try for key. When there is none left it says how long to wait.
func (l *Limiter) Allow(key string) (ok bool, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket(key)
	if b.level >= 1 {
		b.level--
		return true, 0
	}
	return false, time.Duration((1 - b.level) * float64(l.c.Every))
}

// Forget gives key all its tries back, after it signed in.
func (l *Limiter) Forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.buckets[key]; ok {
		l.recent.Remove(e)
		delete(l.buckets, key)
	}
}

func (l *Limiter) bucket(key string) *bucket {
	now := l.c.Now()
	if e, ok := l.buckets[key]; ok {
		l.recent.MoveToFront(e)
		b := e.Value.(*bucket)
		if passed := now.Sub(b.at); passed > 0 {
			b.level = min(float64(l.c.Burst), b.level+float64(passed)/float64(l.c.Every))
		}
		b.at = now // also when the clock was put back: nobody waits for years
		return b
	}
	for len(l.buckets) >= l.c.Keys {
		oldest := l.recent.Back()
		l.recent.Remove(oldest)
		delete(l.buckets, oldest.Value.(*bucket).key)
	}
	b := &bucket{key: key, level: float64(l.c.Burst), at: now}
	l.buckets[key] = l.recent.PushFront(b)
	return b
}
