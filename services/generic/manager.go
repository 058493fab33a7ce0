package generic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anmitsu/go-shlex"

	"nutshell/roles/api"
	"nutshell/services"
)

type manager struct {
	host services.Host
	busy sync.Mutex // one change of instances, or one decision to run, at a time

	leaving []string // by the last Converge; others are told when all of them have gone
}

// patience is how long a change waits for notify.sh, which nobody asked for.
const patience = 10 * time.Second

// Plan implements services.Manager.
func (m *manager) Plan(have []api.Instance, want map[string]int, prefer []string) (services.Layout, error) {
	return plan(have, want, prefer)
}

// Converge implements services.Manager. New agents are set up before the
// others are told of them. Those that leave stay on the list until they are
// gone; Observe then tells.
func (m *manager) Converge(ctx context.Context, l services.Layout) error {
	m.busy.Lock()
	defer m.busy.Unlock()
	d := m.host.Service()
	if d.Code == nil {
		return &api.Error{Code: api.CodeConflict, Op: "start", Object: "service " + d.Service.Name, Message: "it has no code version", Hint: "upload code and activate it"}
	}
	seen := map[string]observation{}
	for _, i := range l.Have {
		o, err := m.idle(ctx, i.ID, d.Code.ID)
		if err != nil {
			return err // before any agent has changed
		}
		seen[i.ID] = o
	}
	m.leaving = nil
	for _, i := range l.Leave {
		m.leaving = append(m.leaving, i.ID)
	}
	list := members(append(slices.Clone(l.Have), l.Leave...))
	isNew := func(i api.Instance) bool { return seen[i.ID].Version != d.Code.ID }
	m.host.Step("set up agents with init.sh")
	if err := each(l.Have, func(i api.Instance) error {
		if !isNew(i) {
			return nil
		}
		return m.host.Apply(ctx, i.ID, i.Parts, []api.CodeVersion{*d.Code}, config{Members: list})
	}); err != nil {
		return err
	}
	m.host.Step("tell the other agents")
	return each(l.Have, func(i api.Instance) error {
		if isNew(i) {
			return nil
		}
		return m.host.Apply(ctx, i.ID, i.Parts, []api.CodeVersion{*d.Code}, config{Members: list})
	})
}

func members(list []api.Instance) []member {
	var all []member
	for _, i := range list {
		if len(i.Parts) > 0 {
			all = append(all, member{ID: i.ID, IP: i.Address, Role: i.Parts[0]})
		}
	}
	slices.SortFunc(all, func(a, b member) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// each does f for all at once and names those that fail.
func each(list []api.Instance, f func(api.Instance) error) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for n, i := range list {
		wg.Go(func() {
			if err := f(i); err != nil {
				errs[n] = fmt.Errorf("instance %s: %w", i.ID, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// idle asks an agent, and refuses while scripts of another version run on it.
func (m *manager) idle(ctx context.Context, instance, version string) (observation, error) {
	for end := time.Now().Add(patience); ; {
		o, _, err := m.ask(ctx, instance)
		if err != nil || o.Version == "" || o.Version == version || len(o.Busy) == 0 {
			return o, err
		}
		if !slices.Equal(o.Busy, []string{notifyScript}) || time.Now().After(end) {
			return o, &api.Error{Code: api.CodeConflict, Op: "enable code", Object: "version " + version, Message: fmt.Sprintf("%s still runs on %s", strings.Join(o.Busy, " and "), instance),
				Hint: "wait until it ends, or interrupt it first"}
		}
		select {
		case <-ctx.Done():
			return o, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (m *manager) ask(ctx context.Context, instance string) (observation, api.AgentStatus, error) {
	var o observation
	s, err := m.host.Status(ctx, instance)
	if err != nil {
		return o, s, fmt.Errorf("ask instance %s: %w", instance, err)
	}
	if len(s.Kind) > 0 {
		if err := json.Unmarshal(s.Kind, &o); err != nil {
			return o, s, fmt.Errorf("instance %s: observation: %w", instance, err)
		}
	}
	return o, s, nil
}

// Drain implements services.Manager; there is nothing to move.
func (m *manager) Drain(context.Context, []api.Instance) error { return nil }

// Observe implements services.Manager. When an instance has gone, the others
// are told here, because only now it is true.
func (m *manager) Observe(ctx context.Context) (services.Health, error) {
	var up []api.Instance
	versions := map[string]bool{}
	seen := map[string]observation{}
	problem := ""
	for _, i := range m.host.Instances() {
		o, s, err := m.ask(ctx, i.ID)
		if err != nil {
			return services.Health{}, err
		}
		if o.Version == "" {
			continue // not set up yet
		}
		if !s.Ready {
			problem = fmt.Sprintf("instance %s: %s", i.ID, s.Problem)
		}
		i.Parts = []string{o.Role}
		seen[i.ID] = o
		versions[o.Version] = true
		up = append(up, i)
	}
	h := services.Health{Ready: len(versions) == 1 && problem == "", Problem: problem}
	switch len(versions) {
	case 0:
		h.Problem = "no agent is set up yet"
	case 1:
		for v := range versions {
			h.Serving = v
		}
	default:
		h.Problem = "agents have different code versions"
	}
	if !h.Ready || !m.busy.TryLock() {
		return h, nil
	}
	defer m.busy.Unlock()
	d := m.host.Service()
	if d.Code == nil || d.Code.ID != h.Serving || slices.ContainsFunc(up, func(i api.Instance) bool { return slices.Contains(m.leaving, i.ID) }) {
		return h, nil // about to change, and Converge tells then; or not all have gone yet
	}
	list := members(up)
	err := each(up, func(i api.Instance) error {
		if slices.Equal(seen[i.ID].Members, list) || len(seen[i.ID].Members) < len(list) { // new ones are announced by Converge
			return nil
		}
		return m.host.Apply(ctx, i.ID, i.Parts, []api.CodeVersion{*d.Code}, config{Members: list})
	})
	if err != nil {
		h.Ready, h.Problem = false, "agents have not all been told who has left: "+err.Error()
	}
	return h, nil
}

// Act implements services.Manager.
func (m *manager) Act(ctx context.Context, action string, args map[string]string) (api.ActResult, error) {
	words, err := shlex.Split(args["parameters"], true)
	if err != nil {
		return api.ActResult{}, &api.Error{Code: api.CodeInvalid, Op: action, Object: "parameters", Message: err.Error(), Hint: "close every quote", Fields: []string{"parameters"}}
	}
	switch action {
	case "run":
		return m.execute(ctx, action, runScript, words)
	case "cleanup":
		return m.execute(ctx, action, cleanupScript, words)
	case "interrupt":
		return m.interrupt(ctx, words)
	case "get_script_status":
		return m.status(ctx)
	}
	return api.ActResult{}, api.Invalidf("generic has no action %s", api.Shorten(action))
}

// execute runs a script everywhere or nowhere.
func (m *manager) execute(ctx context.Context, action, script string, args []string) (api.ActResult, error) {
	if !m.busy.TryLock() {
		return api.ActResult{}, &api.Error{Code: api.CodeConflict, Op: action, Message: "the service is being changed", Hint: "wait until the change is done"}
	}
	defer m.busy.Unlock()
	if err := changing(m.host.Service().Volumes, action); err != nil {
		return api.ActResult{}, err
	}
	list := m.host.Instances()
	o := order{Token: api.NewID(12), Script: script, Args: args}
	release := func() {
		_ = each(list, func(i api.Instance) error { // a reservation that is not released ends by itself
			return m.host.Call(context.WithoutCancel(ctx), i.ID, "release", o, nil)
		})
	}
	if err := each(list, func(i api.Instance) error { return m.host.Call(ctx, i.ID, "reserve", o, nil) }); err != nil {
		release()
		return api.ActResult{}, &api.Error{Code: api.CodeOf(err), Op: action, Message: err.Error(), Hint: "wait until the scripts have ended, or interrupt them"}
	}
	if err := each(list, func(i api.Instance) error { return m.host.Call(ctx, i.ID, "execute", o, nil) }); err != nil {
		release()
		undo := order{Kill: true}
		_ = each(list, func(i api.Instance) error {
			return m.host.Call(context.WithoutCancel(ctx), i.ID, "interrupt", undo, nil)
		}) // those that do not answer run nothing
		return api.ActResult{}, &api.Error{Code: api.CodeOf(err), Op: action, Message: err.Error() + "; it was ended where it had begun"}
	}
	return api.ActResult{Text: fmt.Sprintf("%s started on %d instance(s)", script, len(list))}, nil
}

// interrupt ends scripts politely, and by force when interrupt.sh itself runs.
func (m *manager) interrupt(ctx context.Context, args []string) (api.ActResult, error) {
	var busy []api.Instance
	o := order{Args: args}
	for _, i := range m.host.Instances() {
		s, _, err := m.ask(ctx, i.ID)
		if err != nil {
			return api.ActResult{}, err
		}
		for name, status := range s.Scripts {
			if status == "RUNNING" {
				o.Kill = o.Kill || name == interruptScript
				if !slices.ContainsFunc(busy, func(b api.Instance) bool { return b.ID == i.ID }) {
					busy = append(busy, i)
				}
			}
		}
	}
	if len(busy) == 0 {
		return api.ActResult{}, &api.Error{Code: api.CodeConflict, Op: "interrupt", Message: "no script is running, so there is nothing to interrupt"}
	}
	if err := each(busy, func(i api.Instance) error { return m.host.Call(ctx, i.ID, "interrupt", o, nil) }); err != nil {
		return api.ActResult{}, err
	}
	text := fmt.Sprintf("interrupt.sh started on %d instance(s)", len(busy))
	if o.Kill {
		text = fmt.Sprintf("all scripts killed on %d instance(s)", len(busy))
	}
	return api.ActResult{Text: text}, nil
}

func (m *manager) status(ctx context.Context) (api.ActResult, error) {
	agents, when := map[string]map[string]string{}, map[string]map[string]times{}
	var b strings.Builder
	for _, i := range m.host.Instances() {
		o, _, err := m.ask(ctx, i.ID)
		if err != nil {
			return api.ActResult{}, err
		}
		agents[i.ID], when[i.ID] = o.Scripts, o.Times
		fmt.Fprintf(&b, "%s (%s):\n", i.ID, o.Role)
		for _, s := range scripts {
			fmt.Fprintf(&b, "  %-14s%s\n", s, o.Scripts[s])
		}
	}
	result, err := json.Marshal(map[string]any{"agents": agents, "times": when})
	return api.ActResult{Text: strings.TrimRight(b.String(), "\n"), Result: result}, err
}
