package manager

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"nutshell/roles/api"
)

const (
	lostAfter = 10 * time.Second // of silence
	lookTime  = 2 * time.Second
	goneFor   = 15 * time.Second // the director's word may be this far behind ours
)

// crew is the instances of one service as this manager knows them: those the
// director told of and those we launched, less those we terminated, because
// the director's word is a moment behind.
type crew struct {
	m *Manager

	mu       sync.Mutex
	members  map[string]*member
	patience map[string]time.Duration // of slow clouds, by name
	launches map[string]bool          // launched by us, not yet told by the director
	gone     map[string]time.Time     // terminated by us, still told by the director
}

type member struct {
	i      api.Instance
	heard  time.Time // last answer, or when we first knew of it
	ready  bool      // it answered at least once
	status api.AgentStatus
}

func newCrew(m *Manager) *crew {
	return &crew{m: m, members: map[string]*member{}, patience: map[string]time.Duration{}, launches: map[string]bool{}, gone: map[string]time.Time{}}
}

// want takes the director's list.
func (c *crew) want(instances []api.Instance, patience map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bePatient(patience)
	told := map[string]bool{}
	for _, i := range instances {
		told[i.ID] = true
		delete(c.launches, i.ID)
		if c.isGone(i.ID) || i.State == api.InstanceAsked || i.State == api.InstanceLeaving {
			continue
		}
		if m := c.members[i.ID]; m == nil {
			c.members[i.ID] = &member{i: i, heard: c.m.c.Now()}
		} else {
			m.i.Address, m.i.State, m.i.Weights = i.Address, i.State, i.Weights // parts are what we told it ourselves
		}
	}
	for id := range c.gone {
		if !told[id] {
			delete(c.gone, id)
		}
	}
	for id := range c.members {
		if !told[id] && !c.launches[id] {
			delete(c.members, id)
		}
	}
}

// isGone reports whether we terminated the instance. What the director goes on
// telling of long afterwards is there again, and must be counted.
func (c *crew) isGone(id string) bool {
	at, ok := c.gone[id]
	return ok && c.m.c.Now().Sub(at) < goneFor
}

func (c *crew) bePatient(seconds map[string]int) {
	for cloud, s := range seconds {
		c.patience[cloud] = time.Duration(s) * time.Second
	}
}

// bootTime is how long these may stay silent after their launch.
func (c *crew) bootTime(instances []api.Instance) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	longest := bootTime
	for _, i := range instances {
		longest = max(longest, c.patience[i.Cloud])
	}
	return longest
}

func (c *crew) launched(instances []api.Instance, patience map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bePatient(patience)
	for _, i := range instances {
		if c.members[i.ID] == nil {
			c.members[i.ID] = &member{i: i, heard: c.m.c.Now()}
			c.launches[i.ID] = true
		}
	}
}

func (c *crew) terminated(instances []api.Instance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range instances {
		if !c.launches[i.ID] {
			c.gone[i.ID] = c.m.c.Now()
		}
		delete(c.members, i.ID)
		delete(c.launches, i.ID)
		go c.m.forgetAgent(i)
	}
}

// look asks all agents at once what they observe.
func (c *crew) look(ctx context.Context) {
	var wait sync.WaitGroup
	for _, i := range c.all() {
		wait.Go(func() { c.lookAt(ctx, i) })
	}
	wait.Wait()
}

func (c *crew) lookAt(ctx context.Context, i api.Instance) bool {
	if i.Address == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var status api.AgentStatus
	if err := c.m.agent(i).Do(ctx, http.MethodGet, "/v1/status", nil, &status); err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.members[i.ID]; m != nil {
		m.status, m.heard, m.ready = status, c.m.c.Now(), true
	}
	return true
}

// heardFrom takes note of an answer that somebody else got: an operation may
// talk to instances for longer than they may be silent.
func (c *crew) heardFrom(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.members[id]; m != nil {
		m.heard = c.m.c.Now()
	}
}

// sort tells which instances can be counted on, oldest first, and which are
// lost, that is, silent for too long. What the director calls lost may be
// starting again this moment, so its word alone takes none away.
func (c *crew) sort(now time.Time) (have, lost []api.Instance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		silent := now.Sub(m.heard)
		limit := lostAfter
		if !m.ready && m.i.State == api.InstanceBooting { // for the first time, or again after a stop
			limit = max(bootTime, c.patience[m.i.Cloud])
		}
		if silent > limit {
			lost = append(lost, m.i)
		} else {
			have = append(have, m.i)
		}
	}
	byAge := func(a, b api.Instance) int {
		if n := a.Created.Compare(b.Created); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	}
	slices.SortFunc(have, byAge)
	slices.SortFunc(lost, byAge)
	return have, lost
}

func (c *crew) all() []api.Instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]api.Instance, 0, len(c.members))
	for _, m := range c.members {
		list = append(list, m.i)
	}
	slices.SortFunc(list, func(a, b api.Instance) int { return strings.Compare(a.ID, b.ID) })
	return list
}

func (c *crew) get(id string) (api.Instance, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.members[id]; m != nil {
		return m.i, nil
	}
	return api.Instance{}, api.NotFoundf("the service has no instance %s", api.Shorten(id))
}

func (c *crew) setParts(id string, parts []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.members[id]; m != nil {
		m.i.Parts = parts
	}
}

// waitAnswer returns those that did not answer before ctx ended.
func (c *crew) waitAnswer(ctx context.Context, instances []api.Instance) (silent []api.Instance) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, i := range instances {
		wait.Go(func() {
			for !c.lookAt(ctx, i) {
				select {
				case <-ctx.Done():
					mu.Lock()
					silent = append(silent, i)
					mu.Unlock()
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	wait.Wait()
	return silent
}

func (c *crew) reports() []api.InstanceReport {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]api.InstanceReport, 0, len(c.members))
	for _, m := range c.members {
		r := api.InstanceReport{ID: m.i.ID, State: api.InstanceBooting, Parts: m.i.Parts}
		switch {
		case m.ready && c.m.c.Now().Sub(m.heard) <= lostAfter:
			r.State, r.Reason = api.InstanceReady, m.status.Problem
			figures := m.status.Figures
			r.Figures = &figures
		case m.ready:
			r.State, r.Reason = api.InstanceLost, "its agent does not answer"
		}
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b api.InstanceReport) int { return strings.Compare(a.ID, b.ID) })
	return list
}
