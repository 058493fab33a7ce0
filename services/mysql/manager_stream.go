package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"nutshell/roles/api"
	"nutshell/services"
)

// Stream implements services.Streamer.
func (m *manager) Stream(ctx context.Context, name string, args map[string]string) (services.StreamPlan, error) {
	nodes := holding(m.host.Instances(), database)
	all := m.look(ctx, nodes)
	writer := m.chosen(all, nil)
	switch name {
	case actionLoad:
		if writer == "" {
			return services.StreamPlan{}, unfit(name)
		}
		return services.StreamPlan{Instance: writer}, nil
	case actionDump, services.StreamBackup, services.StreamVerify:
		return besideWriter(name, all, writer)
	case services.StreamLog:
		return logKeeper(all, args["after"])
	case services.StreamRestore, services.StreamReplay:
		m.busy.Lock() // the loop rests, but healing must have ended
		defer m.busy.Unlock()
		return m.planRestore(ctx, name, args["then"], all, writer)
	}
	return services.StreamPlan{}, api.NotFoundf("mysql has no stream %s", api.Shorten(name))
}

func unfit(op string) error {
	return &api.Error{Code: api.CodeUnavailable, Op: op, Message: "no database node is fit", Hint: "wait until the service is RUNNING"}
}

// besideWriter spares the node that takes writes, where there is another.
func besideWriter(op string, all []seen, writer string) (services.StreamPlan, error) {
	best := ""
	for _, s := range all {
		if s.synced() && (best == "" || best == writer) {
			best = s.ID
		}
	}
	if best == "" {
		return services.StreamPlan{}, unfit(op)
	}
	return services.StreamPlan{Instance: best}, nil
}

// logKeeper is the node on whose volume a position is.
func logKeeper(all []seen, after string) (services.StreamPlan, error) {
	p, err := parsePlace(after)
	if err != nil {
		return services.StreamPlan{}, err
	}
	i := slices.IndexFunc(all, func(s seen) bool { return s.State.Volume == p.Volume })
	silent := slices.ContainsFunc(all, func(s seen) bool { return s.Error != "" })
	switch {
	case i >= 0 && all[i].synced():
		return services.StreamPlan{Instance: all[i].ID}, nil
	case i >= 0 || silent || len(all) == 0: // it may be back in a moment
		return services.StreamPlan{}, unfit(services.StreamLog)
	}
	return services.StreamPlan{}, noLog(after, "the node that had it is gone")
}

// planRestore needs all nodes: one that is away could come back with data that
// was to be replaced.
func (m *manager) planRestore(ctx context.Context, name, then string, all []seen, writer string) (services.StreamPlan, error) {
	for _, s := range all {
		if s.Error != "" {
			return services.StreamPlan{}, &api.Error{Code: api.CodeUnavailable, Op: "restore", Object: "instance " + s.ID, Message: s.Error, Hint: "all database nodes must answer: wait, or take that one away"}
		}
	}
	if len(all) == 0 {
		return services.StreamPlan{}, unfit(name)
	}
	switch then {
	case "keep":
		return services.StreamPlan{Instance: all[0].ID}, m.onAll(ctx, all, "keep")
	case "back":
		return services.StreamPlan{Instance: all[0].ID, Alone: true}, m.onAll(ctx, all, "back")
	}
	if name == services.StreamReplay {
		for _, s := range all {
			var st restState
			if err := m.host.Call(ctx, s.ID, "restore", restArgs{Do: "state"}, &st); err != nil {
				return services.StreamPlan{}, err
			}
			if st.Staged {
				return services.StreamPlan{Instance: s.ID, Alone: true}, nil
			}
		}
		return services.StreamPlan{}, &api.Error{Code: api.CodeConflict, Op: "restore", Message: "no node has a restored backup", Hint: "restore again"}
	}
	if writer == "" {
		return services.StreamPlan{}, unfit(name)
	}
	return services.StreamPlan{Instance: writer, Alone: true}, nil
}

// onAll has all nodes do their part, at once.
func (m *manager) onAll(ctx context.Context, all []seen, do string) error {
	errs := make([]error, len(all))
	var wait sync.WaitGroup
	for n, s := range all {
		wait.Go(func() { errs[n] = m.host.Call(ctx, s.ID, "restore", restArgs{Do: do}, nil) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// Streamed implements services.Streamer: it puts complete restored data in
// place, on one node, and takes the data of the others away, which get the new
// from that one.
func (m *manager) Streamed(ctx context.Context, _ string, plan services.StreamPlan, failed error) error {
	m.busy.Lock()
	defer m.busy.Unlock()
	nodes := holding(m.host.Instances(), database)
	all := m.look(ctx, nodes)
	if failed != nil {
		return m.onAll(ctx, all, "clear")
	}
	var st restState
	if err := m.host.Call(ctx, plan.Instance, "restore", restArgs{Do: "state"}, &st); err != nil {
		return err
	}
	if !st.Complete {
		return nil // changes are still to be repeated, or there was nothing to do
	}
	m.host.Step("put the restored data in place")
	err := m.onAll(ctx, all, "stop")
	if err == nil {
		err = m.host.Call(ctx, plan.Instance, "restore", restArgs{Do: "switch"}, nil)
	}
	if err == nil {
		others := slices.DeleteFunc(slices.Clone(all), func(s seen) bool { return s.ID == plan.Instance })
		err = m.onAll(ctx, others, "aside")
	}
	if err != nil {
		return fmt.Errorf("put the restored data in place: %w", errors.Join(err, m.onAll(ctx, all, "back")))
	}
	return nil
}

var (
	_ services.Streamer    = (*manager)(nil)
	_ services.StreamAgent = (*agent)(nil)
)
