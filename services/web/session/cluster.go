package session

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// formerTime is how long those that were members are still asked: requests
// that they serve end, and they hand over what they have.
const formerTime = 2 * time.Minute

// goneTime is how long one must be silent until its requests are thought to
// have ended with it.
const goneTime = 3 * time.Second

// cluster is one store among the others of its service. What PHP asks of it
// goes to the owners of the session; a session is on several stores, so each
// of them may go at any moment.
type cluster struct {
	disk  *disk
	locks locks
	tls   *tls.Config
	log   *slog.Logger
	now   func() time.Time
	kick  chan struct{} // others may miss something

	seenAnswering atomic.Int64

	mu      sync.Mutex
	boot    int64 // tells this process from the one before it
	self    Peer
	members []Peer // may be without self, which then hands over
	remotes map[string]*remote
	latest  uint64 // version given or seen last
	dropAt  time.Time
}

func newCluster(d *disk, conf *tls.Config, log *slog.Logger, now func() time.Time) *cluster {
	return &cluster{disk: d, tls: conf, log: log, now: now, boot: now().UnixNano(), kick: make(chan struct{}, 1), remotes: map[string]*remote{}}
}

func (c *cluster) millis() int64 { return c.now().UnixMilli() }

// setMembers says who shares the sessions.
func (c *cluster) setMembers(self Peer, members []Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.self != self {
		for id, r := range c.remotes { // their connections come from the former address
			r.close()
			delete(c.remotes, id)
		}
	}
	if !slices.Equal(c.members, members) {
		c.dropAt = c.now().Add(formerTime)
	}
	c.self, c.members = self, members
	for id, r := range c.remotes {
		switch i := slices.IndexFunc(members, func(p Peer) bool { return p.Instance == id }); {
		case i < 0 && r.until.IsZero():
			r.until = c.now().Add(formerTime)
		case i >= 0 && members[i] != r.Peer:
			r.close()
			delete(c.remotes, id)
		case i >= 0:
			r.until = time.Time{}
		}
	}
	for _, p := range members {
		if p.Instance != self.Instance && c.remotes[p.Instance] == nil {
			c.remotes[p.Instance] = newRemote(p, c.tls, self.Address)
			c.remotes[p.Instance].answered = c.now()
		}
	}
	c.wake()
}

// meet adds those that others know and we do not: they are about to leave.
func (c *cluster) meet(known []Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range known {
		if p.Instance != "" && p.Instance != c.self.Instance && c.remotes[p.Instance] == nil {
			r := newRemote(p, c.tls, c.self.Address)
			r.until, r.answered = c.now().Add(formerTime), c.now()
			c.remotes[p.Instance] = r
		}
	}
}

// known are all that take part, self among them.
func (c *cluster) known() []Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := []Peer{c.self}
	for _, r := range c.remotes {
		list = append(list, r.Peer)
	}
	return list
}

// forget drops former members whose time is over.
func (c *cluster) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, r := range c.remotes {
		if r.suspect.Load() && c.now().Sub(r.answered) > goneTime {
			c.locks.releaseOf(id)
		}
		if !r.until.IsZero() && c.now().After(r.until) {
			r.close()
			delete(c.remotes, id)
		}
	}
}

func (c *cluster) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// view is who matters for a key at this moment.
type view struct {
	own    bool      // this store is one of the owners that answer
	owners []*remote // the others of them
	former []*remote
	rest   []*remote // members that are no owners
}

// of finds the first stores of the key's ring that answer.
func (c *cluster) of(key string) view {
	c.mu.Lock()
	defer c.mu.Unlock()
	var v view
	n := 0
	for _, p := range ring(c.members, key) {
		r := c.remotes[p.Instance]
		switch {
		case p.Instance == c.self.Instance && n < copies:
			v.own = true
			n++
		case r == nil || r.suspect.Load():
		case n < copies:
			v.owners = append(v.owners, r)
			n++
		default:
			v.rest = append(v.rest, r)
		}
	}
	for _, r := range c.remotes {
		if !r.until.IsZero() && !r.suspect.Load() {
			v.former = append(v.former, r)
		}
	}
	return v
}

// version gives the next version: later than all that was seen, so that a
// clock that is behind does not lose what it writes.
func (c *cluster) version() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latest = max(c.latest+1, uint64(c.now().UnixNano()))
	return c.latest
}

func (c *cluster) seen(e entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latest = max(c.latest, e.Version)
}

// read finds the newest of what the stores have, tombstones included. known is
// what some have just told, by instance, who are not asked again.
func (c *cluster) read(ctx context.Context, key string, known map[string]entry) (entry, error) {
	v := c.of(key)
	best, err := c.disk.get(key)
	if err != nil {
		return best, err
	}
	asked := append(slices.Clone(v.owners), v.former...)
	got := c.ask(ctx, key, asked, known)
	for _, g := range got {
		if g.after(best) {
			best = g
		}
	}
	if best.Version == 0 && len(v.rest) > 0 { // the ring has just changed, or it is a new session
		for _, g := range c.ask(ctx, key, v.rest, known) {
			if g.after(best) {
				best = g
			}
		}
	}
	c.seen(best)
	if best.Version > 0 {
		c.repair(ctx, v, best, got)
	}
	return best, nil
}

// ask asks several stores at once; what failed is empty.
func (c *cluster) ask(ctx context.Context, key string, list []*remote, known map[string]entry) []entry {
	got := make([]entry, len(list))
	var wg sync.WaitGroup
	for i, r := range list {
		if e, ok := known[r.Instance]; ok {
			got[i] = e
			continue
		}
		wg.Go(func() {
			if e, err := r.get(ctx, key); err == nil && e.Key == key {
				got[i] = e
			}
		})
	}
	wg.Wait()
	return got
}

// repair gives the newest to owners that have an older one, which were away.
func (c *cluster) repair(ctx context.Context, v view, best entry, got []entry) {
	ctx = context.WithoutCancel(ctx)
	for i, r := range v.owners {
		if best.Version > got[i].Version && !r.suspect.Load() {
			go func() { _ = r.send(ctx, "/put", best) }() // the next pass does it if not now
		}
	}
	if have, err := c.disk.get(best.Key); v.own && err == nil && best.Version > have.Version {
		if err := c.disk.put(best); err != nil {
			c.log.Warn("session not repaired", "error", err)
		}
	}
}

// write puts an entry on all owners that answer. One is enough to succeed,
// but those that do not answer are replaced by the next of the ring first.
// Locks that are given back with it are told with the write; done says by whom.
func (c *cluster) write(ctx context.Context, e entry, locks ...entry) (done map[string]bool, err error) {
	return c.spread(ctx, "/put", e, c.disk.put, locks)
}

func (c *cluster) spread(ctx context.Context, what string, e entry, here func(...entry) error, locks []entry) (done map[string]bool, err error) {
	done = map[string]bool{}
	all := append([]entry{e}, locks...)
	for {
		v := c.of(e.Key)
		errs := make([]error, len(v.owners))
		var wg sync.WaitGroup
		for i, r := range v.owners {
			if !done[r.Instance] {
				wg.Go(func() { errs[i] = r.send(ctx, what, all...) })
			}
		}
		var local error
		if self := ""; !done[self] && (v.own || len(v.owners) == 0) {
			local = here(e)
			done[self] = local == nil
		}
		wg.Wait()
		failed := false
		for i, r := range v.owners {
			done[r.Instance] = done[r.Instance] || errs[i] == nil
			failed = failed || errs[i] != nil
		}
		switch {
		case ctx.Err() != nil:
			return done, ctx.Err()
		case failed: // they are suspect now: others take their place
			c.wake()
		case local != nil && len(v.owners) == 0:
			return done, local
		default:
			return done, nil
		}
	}
}

// save writes a session.
func (c *cluster) save(ctx context.Context, key string, value []byte, expires int64, locks ...entry) (done map[string]bool, err error) {
	return c.write(ctx, entry{Key: key, Value: value, Version: c.version(), Expires: expires}, locks...)
}

// remove ends a session. The tombstone stays as long as a store that is away
// could bring the session back.
func (c *cluster) remove(ctx context.Context, key string) (bool, error) {
	e, err := c.read(ctx, key, nil)
	if err != nil || !e.live(c.millis()) {
		return false, err
	}
	_, err = c.write(ctx, entry{Key: key, Deleted: true, Version: c.version(), Expires: max(e.Expires, c.now().Add(10*time.Minute).UnixMilli())})
	return true, err
}

// touch makes a session last longer without writing it, so that it cannot
// undo what another request writes.
func (c *cluster) touch(ctx context.Context, key string, expires int64, locks ...entry) (done map[string]bool, err error) {
	return c.spread(ctx, "/touch", entry{Key: key, Expires: expires}, func(list ...entry) error { return c.disk.touch(list[0].Key, list[0].Expires) }, locks)
}

func (c *cluster) me() Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.self
}

// greeted takes note of a store that says hello. One that was started again
// holds no locks any more.
func (c *cluster) greeted(g greeting) {
	c.meet([]Peer{g.Peer})
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.remotes[g.Instance]
	if r == nil {
		return
	}
	if r.boot != 0 && r.boot != g.Boot {
		c.locks.releaseOf(g.Instance)
	}
	r.boot = g.Boot
	if g.Fresh || r.suspect.Load() {
		c.wake()
	}
}
