package mysql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// manager is the manager half.
type manager struct {
	host services.Host
	busy sync.Mutex // one change of the cluster at a time

	mu       sync.Mutex
	writer   string // node that takes writes, as told last
	offers   map[string]string
	headless time.Time // since when no node has quorum; zero: one has
	force    bool      // a user gives up what is not there
	draining []string  // nodes that leave
	warned   string
	resting  bool // a stream has the service for itself
}

func newManager(h services.Host) *manager { return &manager{host: h} }

// Plan implements services.Manager.
func (m *manager) Plan(have []api.Instance, want map[string]int, prefer []string) (services.Layout, error) {
	return plan(have, want, prefer)
}

func holding(list []api.Instance, part string) []api.Instance {
	return slices.DeleteFunc(slices.Clone(list), func(i api.Instance) bool { return !slices.Contains(i.Parts, part) })
}

func ids(list []api.Instance) []string {
	all := make([]string, len(list))
	for n, i := range list {
		all[n] = i.ID
	}
	return all
}

// look asks the agents of all nodes at once.
func (m *manager) look(ctx context.Context, nodes []api.Instance) []seen {
	all := make([]seen, len(nodes))
	var wait sync.WaitGroup
	for n, i := range nodes {
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
			defer cancel()
			all[n] = seen{ID: i.ID, Address: i.Address, State: nodeState{Fresh: true, At: position{Number: -1}}}
			o, err := m.ask(ctx, i.ID)
			switch {
			case err != nil:
				all[n].Error = err.Error()
			case o.Node != nil:
				all[n].State = *o.Node
			}
		})
	}
	wait.Wait()
	slices.SortStableFunc(all, func(a, b seen) int {
		return services.Older(find(nodes, a.ID), find(nodes, b.ID))
	})
	return all
}

func find(list []api.Instance, id string) api.Instance {
	for _, i := range list {
		if i.ID == id {
			return i
		}
	}
	return api.Instance{ID: id}
}

func (m *manager) ask(ctx context.Context, instance string) (observation, error) {
	var o observation
	s, err := m.host.Status(ctx, instance)
	if err != nil {
		return o, fmt.Errorf("ask instance %s: %w", instance, err)
	}
	if len(s.Kind) > 0 {
		if err := json.Unmarshal(s.Kind, &o); err != nil {
			return o, fmt.Errorf("instance %s: observation: %w", instance, err)
		}
	}
	return o, nil
}

// cluster is what one change works on.
type cluster struct {
	s       settings
	nodes   []api.Instance // that stay
	leaving []api.Instance // nodes that still run
	glbs    []api.Instance
	slots   map[string]int // of nodes, for balancers
}

func (m *manager) cluster(l services.Layout) (cluster, error) {
	s, err := parseSettings(m.host.Service().Service.Settings)
	return cluster{s: s, nodes: holding(l.Have, database), leaving: holding(l.Leave, database), glbs: holding(l.Have, balancer)}, err
}

func (c cluster) all() []api.Instance { return append(slices.Clone(c.nodes), c.leaving...) }

// config is what instance i is told.
func (m *manager) config(c cluster, i api.Instance, join bool, donors []string) config {
	d := m.host.Service()
	all := config{Service: fmt.Sprintf("nutshell-%d", d.Service.ID), Settings: c.s, Secrets: d.Secrets}
	for _, n := range c.all() {
		all.Members = append(all.Members, member{n.ID, n.Address})
	}
	sortMembers(all.Members)
	if slices.Contains(i.Parts, database) {
		all.Node = &nodeConfig{Join: join, Solo: len(c.nodes) == 1 && len(c.leaving) == 0, Donors: donors}
		for _, g := range c.glbs {
			all.Node.Entries = append(all.Node.Entries, g.Address)
		}
		slices.Sort(all.Node.Entries)
		return all
	}
	b := &balancerConfig{Arbiter: len(c.nodes)%2 == 0 && c.glbs[0].ID == i.ID, Drain: ids(c.leaving), Slots: c.slots}
	for _, g := range c.glbs {
		b.Peers = append(b.Peers, member{g.ID, g.Address})
	}
	sortMembers(b.Peers)
	all.Balancer = b
	all.Secrets = map[string]string{secretCA: d.Secrets[secretCA]}
	return all
}

func (m *manager) tell(ctx context.Context, c cluster, i api.Instance, join bool, donors []string) error {
	part := database
	if slices.Contains(i.Parts, balancer) {
		part = balancer
	}
	return m.host.Apply(ctx, i.ID, []string{part}, nil, m.config(c, i, join, donors))
}

// Converge implements services.Manager: nodes one after another, each until it
// has all data, the writer last; then accounts, then balancers.
func (m *manager) Converge(ctx context.Context, l services.Layout) error {
	m.busy.Lock()
	defer m.busy.Unlock()
	c, err := m.cluster(l)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.draining = ids(c.leaving)
	m.mu.Unlock()
	all := m.look(ctx, c.all())
	if !primary(all) {
		if err := m.raise(ctx, c); err != nil {
			return err
		}
		all = m.look(ctx, c.all())
	}
	writer := m.chosen(all, ids(c.leaving))
	ready := false
	for _, s := range inOrder(all, writer) {
		if slices.Contains(ids(c.leaving), s.ID) {
			continue
		}
		if !s.State.Primary && writer != "" && !ready { // who joins gets its data by an account that must be there
			if err := m.host.Call(ctx, writer, "settle", nil, nil); err != nil {
				return err
			}
			ready = true
		}
		if err := m.take(ctx, c, s, writer); err != nil {
			return err
		}
	}
	return m.finish(ctx, c)
}

// take configures one node, and waits until it has all data.
func (m *manager) take(ctx context.Context, c cluster, s seen, writer string) error {
	now := m.look(ctx, c.all())
	if err := m.tell(ctx, c, find(c.nodes, s.ID), primary(now), m.donors(now, s.ID, writer)); err != nil {
		return err
	}
	return m.waitSynced(ctx, c, s.ID)
}

// donors are whom a node asks for a copy first: those that are fit, but not
// the writer, which a copy would slow down.
func (m *manager) donors(all []seen, self, writer string) []string {
	list := []string{}
	for _, s := range all {
		if s.synced() && s.ID != self && s.ID != writer {
			list = append(list, s.Address)
		}
	}
	return list
}

// finish makes so what needs the cluster as a whole.
func (m *manager) finish(ctx context.Context, c cluster) error {
	all := m.look(ctx, c.nodes)
	writer := m.chosen(all, nil)
	if writer == "" {
		return &api.Error{Code: api.CodeUnavailable, Op: "configure", Object: "service " + m.host.Service().Service.Name, Message: "no node is fit", Hint: "see mysql.log of its instances"}
	}
	if err := m.host.Call(ctx, writer, "settle", nil, nil); err != nil {
		return err
	}
	if err := m.remember(ctx, all, writer); err != nil {
		return err
	}
	if c.slots = m.slots(ctx, c); c.slots == nil && len(c.glbs) > 0 {
		return &api.Error{Code: api.CodeUnavailable, Op: "configure", Object: "balancers", Message: "none of them answers"}
	}
	var failed error
	for _, g := range c.glbs {
		failed = errors.Join(failed, m.tell(ctx, c, g, true, nil))
	}
	m.offer(c, writer)
	return failed
}

// remember writes on all volumes who holds the data, if it is not there yet.
func (m *manager) remember(ctx context.Context, all []seen, writer string) error {
	was := latest(all)
	now := membership{Generation: was.Generation + 1, Writer: writer}
	known := true
	for _, s := range all {
		if s.synced() {
			now.Holders = append(now.Holders, s.State.Volume)
		}
	}
	slices.Sort(now.Holders)
	for _, s := range all {
		if s.synced() && (s.State.Membership.Generation != was.Generation || !slices.Equal(s.State.Membership.Holders, now.Holders) || s.State.Membership.Writer != writer) {
			known = false
		}
	}
	if known || len(now.Holders) == 0 {
		return nil
	}
	var failed error
	for _, s := range all {
		if s.synced() {
			failed = errors.Join(failed, m.host.Call(ctx, s.ID, "remember", now, nil))
		}
	}
	return failed
}

// chosen is the writer now.
func (m *manager) chosen(all []seen, leaving []string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.writer == "" {
		m.writer = latest(all).Writer // by the manager before us
	}
	if w := chooseWriter(all, m.writer, leaving); w != "" {
		m.writer = w
		return w
	}
	return ""
}

// stuckAfter is how long a node that joins may show no change.
const stuckAfter = 10 * time.Minute

// waitSynced waits until a node has all data, and says how far it is.
func (m *manager) waitSynced(ctx context.Context, c cluster, id string) error {
	var told, silent time.Time
	moved, copied, state := time.Now(), int64(-1), ""
	restarts := -1
	for {
		all := m.look(ctx, c.all())
		s := all[slices.IndexFunc(all, func(s seen) bool { return s.ID == id })]
		switch {
		case s.synced():
			return nil
		case s.Error != "":
			if silent.IsZero() {
				silent = time.Now()
			}
			if time.Since(silent) > 10*time.Second {
				return &api.Error{Code: api.CodeUnavailable, Op: "wait for", Object: "instance " + id, Message: s.Error}
			}
		default:
			silent = time.Time{}
			if restarts < 0 {
				restarts = s.State.Restarts
			}
			if s.State.Restarts-restarts > 4 {
				return &api.Error{Code: api.CodeUnavailable, Op: "start", Object: "the database on " + id, Message: "it ends again and again: " + s.State.Problem, Hint: "see mysql.log of the instance"}
			}
			if s.State.Copied != copied || s.State.State != state || !primary(all) {
				moved, copied, state = time.Now(), s.State.Copied, s.State.State
			}
			if time.Since(moved) > stuckAfter {
				return &api.Error{Code: api.CodeUnavailable, Op: "wait for", Object: "the database on " + id, Message: fmt.Sprintf("nothing has moved for %v while it was %s", stuckAfter, strings.ToLower(state)), Hint: "see mysql.log of the instance"}
			}
			if err := m.heal(ctx, c, all); err != nil {
				return err
			}
		}
		if s.State.Copied > 0 && time.Since(told) > 5*time.Second && primary(all) {
			told = time.Now()
			m.host.Step(fmt.Sprintf("node %s gets the data: %s so far", id, mebibytes(s.State.Copied)))
		}
		select {
		case <-ctx.Done():
			return &api.Error{Code: api.CodeDeadline, Op: "wait for", Object: "the database on " + id, Message: "it has not got all data in time; it is " + strings.ToLower(s.State.State), Hint: "see mysql.log of the instance"}
		case <-time.After(100 * time.Millisecond):
		}
	}
}
