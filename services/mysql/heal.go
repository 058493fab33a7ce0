package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// headlessFor is how long no node may have quorum before the manager gives it
// to one: groups that were parted and meet again have it back sooner.
const headlessFor = 2 * time.Second

// raise brings up a cluster where no node has quorum: the first one of a
// service, one that was stopped, or one whose nodes all crashed.
func (m *manager) raise(ctx context.Context, c cluster) error {
	for _, i := range c.nodes { // each looks at its volume; none can begin by itself
		o, err := m.ask(ctx, i.ID)
		if err == nil && o.Set {
			continue
		}
		if err := m.tell(ctx, c, i, false, nil); err != nil {
			return err
		}
	}
	if len(c.nodes) == 1 && len(c.leaving) == 0 { // it begins by itself where it has data
		if err := m.tell(ctx, c, c.nodes[0], false, nil); err != nil {
			return err
		}
	}
	all := m.look(ctx, c.all())
	if primary(all) {
		return nil
	}
	problem, err := m.begin(ctx, c, all)
	if err != nil {
		return err
	}
	if problem == "" {
		return m.waitPrimary(ctx, c)
	}
	if primary(m.look(ctx, c.all())) {
		return nil
	}
	return &api.Error{Code: api.CodeConflict, Op: "begin", Object: "the database cluster", Message: problem}
}

func (m *manager) waitPrimary(ctx context.Context, c cluster) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute) // InnoDB may have much to repair
	defer cancel()
	for {
		if primary(m.look(ctx, c.all())) {
			return nil
		}
		select {
		case <-ctx.Done():
			return &api.Error{Code: api.CodeDeadline, Op: "begin", Object: "the database cluster", Message: "the first node does not answer", Hint: "see mysql.log of its instance"}
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// heal gives quorum to a node when none has had it for a while.
func (m *manager) heal(ctx context.Context, c cluster, all []seen) error {
	m.mu.Lock()
	wait := m.resting || primary(all)
	if wait {
		m.headless = time.Time{}
	} else if m.headless.IsZero() {
		m.headless = time.Now()
	}
	limit := headlessFor
	if len(all) == 1 && all[0].State.Solo { // it begins by itself; this is for one that cannot
		limit = 20 * time.Second
	}
	wait = wait || time.Since(m.headless) < limit
	m.mu.Unlock()
	if wait {
		return nil
	}
	if !slices.ContainsFunc(all, func(s seen) bool { return s.Error == "" && !s.State.Fresh }) {
		return nil // Converge makes the first data
	}
	problem, err := m.begin(ctx, c, all)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.headless = time.Time{}
	m.mu.Unlock()
	if problem != "" {
		return &api.Error{Code: api.CodeConflict, Op: "begin", Object: "the database cluster", Message: problem}
	}
	if err := m.waitPrimary(ctx, c); err != nil {
		return err
	}
	return m.each(c.nodes, func(i api.Instance) error { return m.tell(ctx, c, i, true, nil) })
}

// begin chooses who begins, or says why nobody may. When it returns neither, a
// node is beginning.
func (m *manager) begin(ctx context.Context, c cluster, all []seen) (problem string, err error) {
	m.mu.Lock()
	force := m.force
	m.mu.Unlock()
	var volumes []string
	d := m.host.Service()
	for _, v := range d.Volumes {
		// Volumes of a first start that failed hold nothing that anybody wrote.
		if d.Served && v.Part == database && v.State != api.VolumeLeaving {
			volumes = append(volumes, v.ID)
		}
	}
	if problem = mayBegin(all, volumes, force); problem != "" {
		return problem, nil
	}
	m.host.Step("find the node whose data is newest")
	at, err := m.positions(ctx, all)
	if err != nil {
		return "", err
	}
	first, problem := mostAdvanced(all, at, force)
	if problem != "" {
		return problem, nil
	}
	m.host.Log().Info("a node begins the cluster", "node", first.ID, "live", first.Live, "fresh", first.Fresh, "history", at[first.ID].History, "number", at[first.ID].Number)
	// The others must not have a say: those that wait for data are members of
	// the group, too, and none of them can give it quorum.
	err = m.each(c.all(), func(i api.Instance) error {
		if i.ID == first.ID {
			return nil
		}
		return m.host.Call(ctx, i.ID, "leave", nil, nil)
	})
	if err != nil {
		return "", err
	}
	if first.Live {
		if m.promote(ctx, c, first.ID) {
			return "", nil
		}
		if err := m.host.Call(ctx, first.ID, "leave", nil, nil); err != nil {
			return "", err
		}
	}
	m.host.Step("begin the cluster on " + first.ID)
	if err := m.host.Call(ctx, first.ID, "begin", beginArgs{Fresh: first.Fresh}, nil); err != nil {
		return "", err
	}
	m.mu.Lock()
	m.force = false
	m.mu.Unlock()
	return "", nil
}

// promote gives quorum to a node that runs, if it can be. Galera drops or
// refuses the order while the node just forms another group, so it is repeated.
func (m *manager) promote(ctx context.Context, c cluster, id string) bool {
	const tries, patience = 3, 2 * time.Second
	for range tries {
		if err := m.host.Call(ctx, id, "promote", nil, nil); err != nil {
			m.host.Log().Warn("a node was not given quorum", "node", id, "error", err)
		}
		for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) { // a poll, bounded by both
			if primary(m.look(ctx, c.all())) {
				return true
			}
		}
	}
	return false
}

// positions asks how far the data of each node is: those that run know, others
// find out.
func (m *manager) positions(ctx context.Context, all []seen) (map[string]position, error) {
	at := map[string]position{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	errs := make([]error, len(all))
	for n, s := range all {
		wait.Go(func() {
			p := s.State.At
			if s.State.Fresh {
				p = position{Number: -1}
			} else if !s.State.Answers {
				errs[n] = m.host.Call(ctx, s.ID, "recover", nil, &p)
			}
			mu.Lock()
			defer mu.Unlock()
			at[s.ID] = p
		})
	}
	wait.Wait()
	return at, errors.Join(errs...)
}

// each does f for all at once and names those that fail.
func (m *manager) each(list []api.Instance, f func(api.Instance) error) error {
	errs := make([]error, len(list))
	var wait sync.WaitGroup
	for n, i := range list {
		wait.Go(func() {
			if err := f(i); err != nil {
				errs[n] = fmt.Errorf("instance %s: %w", i.ID, err)
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// Drain implements services.Manager. Nodes leave one after another, the writer
// last; those that stay go on with quorum, because they are told of each.
func (m *manager) Drain(ctx context.Context, leaving []api.Instance) error {
	m.busy.Lock()
	defer m.busy.Unlock()
	all := m.host.Instances()
	stay := slices.DeleteFunc(holding(all, database), func(i api.Instance) bool { return slices.Contains(ids(leaving), i.ID) })
	going := holding(leaving, database)
	if len(going) == 0 {
		return nil
	}
	last := len(stay) == 0 // the service stops
	now := m.look(ctx, append(slices.Clone(stay), going...))
	writer := m.chosen(now, nil)
	for _, s := range inOrder(now, writer) {
		if !slices.Contains(ids(going), s.ID) {
			continue
		}
		if !last {
			if err := m.othersFit(ctx, stay); err != nil {
				return err
			}
		}
		m.host.Step("node " + s.ID + " leaves")
		if !last {
			m.waitClients(ctx, s.ID)
			m.part(ctx, s.ID)
		}
		if err := m.host.Call(ctx, s.ID, "leave", nil, nil); err != nil && !last {
			return err
		}
	}
	if last {
		return nil
	}
	after := m.look(ctx, stay)
	return m.remember(ctx, after, m.chosen(after, nil))
}

// othersFit refuses to take a node away while nobody else has all data.
func (m *manager) othersFit(ctx context.Context, stay []api.Instance) error {
	for {
		fit := slices.ContainsFunc(m.look(ctx, stay), seen.synced)
		if fit {
			return nil
		}
		select {
		case <-ctx.Done():
			return &api.Error{Code: api.CodeConflict, Op: "take away", Object: "database nodes", Message: "no node that stays has all data", Hint: "wait until one has joined"}
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// tidy makes so what was not yet when Converge ended: nodes that have left, and
// nodes that have come back.
func (m *manager) tidy(ctx context.Context, c cluster, all []seen) error {
	if !slices.ContainsFunc(all, seen.synced) {
		return nil
	}
	writer := m.chosen(all, nil)
	if slices.ContainsFunc(all, func(s seen) bool { return !s.synced() }) {
		return nil // it may come back, or is about to be replaced
	}
	solo := len(c.nodes) == 1
	for _, s := range all {
		if s.State.Solo != solo {
			if err := m.tell(ctx, c, find(c.nodes, s.ID), true, m.donors(all, s.ID, writer)); err != nil {
				return err
			}
		}
	}
	return m.remember(ctx, all, writer)
}

var _ services.Manager = (*manager)(nil)
