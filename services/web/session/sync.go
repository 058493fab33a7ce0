package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	pageSize  = 500
	bulkBytes = 4 << 20 // of entries in one call
	pingEvery = 500 * time.Millisecond
	passEvery = 2 * time.Minute // even when nothing seems to have changed
	passAgain = 500 * time.Millisecond
)

// run keeps the stores alike until ctx ends: it looks who answers, and sends
// each store what it shall have and has not.
func (c *cluster) run(ctx context.Context) {
	ping, pass := time.NewTicker(pingEvery), time.NewTicker(passEvery)
	defer ping.Stop()
	defer pass.Stop()
	var again <-chan time.Time
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-ping.C:
			c.forget()
			if turn%(1+c.others()/8) == 0 { // many stores find out together
				c.ping(ctx)
			}
			c.locks.expire(c.now())
			c.disk.expire(c.millis())
			continue
		case <-pass.C:
		case <-c.kick:
			c.ping(ctx)
		case <-again:
		}
		again = nil
		if err := c.pass(ctx); err != nil && ctx.Err() == nil {
			again = time.After(passAgain)
		}
	}
}

// ping says hello to all and finds out who answers.
func (c *cluster) ping(ctx context.Context) {
	c.mu.Lock()
	self := c.self
	var list []*remote
	for _, r := range c.remotes {
		list = append(list, r)
	}
	c.mu.Unlock()
	var wg sync.WaitGroup
	for _, r := range list {
		wg.Go(func() {
			known, err := r.hello(ctx, self, c.boot) // members that leave, which we were not told of
			if was := r.suspect.Swap(err != nil); !was && err != nil && ctx.Err() == nil {
				c.log.Info("a store does not answer", "instance", r.Instance, "error", err)
			}
			if err == nil {
				c.answeredNow(r)
				c.meet(known)
			}
		})
	}
	wg.Wait()
	// One that is back gets what it missed; what one that is away kept gets
	// another copy.
	if now := c.answering(); c.seenAnswering.Swap(int64(now)) != int64(now) {
		c.wake()
	}
}

func (c *cluster) answeredNow(r *remote) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.answered = c.now()
}

// pass goes through all entries once and gives each owner what it lacks. With
// no error all of them have it, and what is not ours can go.
func (c *cluster) pass(ctx context.Context) error {
	for keys := range slices.Chunk(c.disk.keys(), pageSize) {
		page, err := c.disk.all(keys)
		if err != nil {
			return err
		}
		if err := c.passPage(ctx, page); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) passPage(ctx context.Context, page []entry) error {
	now := c.millis()
	share := map[*remote][]entry{}
	var foreign []entry
	for _, e := range page {
		if e.Expires <= now {
			continue
		}
		v := c.of(e.Key)
		for _, r := range v.owners {
			share[r] = append(share[r], e)
		}
		if !v.own {
			foreign = append(foreign, e)
		}
	}
	var errs []error
	for r, list := range share {
		errs = append(errs, r.offer(ctx, list))
	}
	if err := errors.Join(errs...); err != nil || !c.mayDrop() {
		return err
	}
	for _, e := range foreign {
		c.disk.drop(e)
	}
	return nil
}

// mayDrop reports whether what is not ours may go: all members answer, and
// those that knew other members have had time to learn.
func (c *cluster) mayDrop() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.members {
		if r := c.remotes[p.Instance]; p.Instance != c.self.Instance && (r == nil || r.suspect.Load()) {
			return false
		}
	}
	return len(c.members) > 0 && c.now().After(c.dropAt)
}

func (c *cluster) others() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.remotes)
}

// answering counts the members beside this store that answer.
func (c *cluster) answering() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.remotes {
		if r.until.IsZero() && !r.suspect.Load() {
			n++
		}
	}
	return n
}

// offer names entries and sends those that the other store asks for.
func (r *remote) offer(ctx context.Context, list []entry) error {
	names := make([]entry, len(list))
	byKey := make(map[string]entry, len(list))
	for i, e := range list {
		byKey[e.Key] = e
		e.Value = nil
		names[i] = e
	}
	b, err := r.call(ctx, bulkTime, "/want", encode(names...))
	if err != nil {
		return err
	}
	wanted, err := decode(b)
	if err != nil {
		return err
	}
	var bulk []byte
	for i, w := range wanted {
		bulk = append(bulk, encode(byKey[w.Key])...)
		if len(bulk) >= bulkBytes || i == len(wanted)-1 {
			if _, err := r.call(ctx, bulkTime, "/put", bulk); err != nil {
				return err
			}
			bulk = bulk[:0]
		}
	}
	return nil
}

// handOver gives everything to the members, of which this store is none any
// more. It tries until ctx ends.
func (c *cluster) handOver(ctx context.Context, members []Peer) error {
	c.mu.Lock()
	self := c.self
	c.mu.Unlock()
	c.setMembers(self, members)
	for {
		c.ping(ctx)
		err := errors.New("no member answers")
		if c.answering() > 0 {
			err = c.pass(ctx)
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("sessions not handed over: %w", err)
		case <-time.After(passAgain):
		}
	}
}
