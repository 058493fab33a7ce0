package generic

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"nutshell/roles/api"
)

// order is what the manager half sends along with its calls.
type order struct {
	Token  string   `json:"token"`
	Script string   `json:"script"`
	Args   []string `json:"args"`
	Kill   bool     `json:"kill"`
}

// Call implements services.Agent. A script is run on all agents or on none:
// each is reserved first, and executes only for who has reserved it.
func (a *agent) Call(_ context.Context, method string, args json.RawMessage) (any, error) {
	var o order
	if len(args) > 0 {
		if err := json.Unmarshal(args, &o); err != nil {
			return nil, api.Invalidf("%s: %v", api.Shorten(method), err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch method {
	case "reserve":
		return nil, a.reserve(o.Token)
	case "release":
		a.release(o.Token)
		return nil, nil
	case "execute":
		if a.reserved != o.Token || !slices.Contains([]string{runScript, cleanupScript}, o.Script) {
			return nil, api.Conflictf("the agent was not reserved for %s", api.Shorten(o.Script))
		}
		err := a.begin(o.Script, o.Args)
		a.release(o.Token)
		return nil, err
	case "interrupt":
		return nil, a.interrupt(o)
	}
	return nil, api.NotFoundf("generic agents have no method %s", api.Shorten(method))
}

func (a *agent) reserve(token string) error {
	if busy := a.busy(); len(busy) > 0 {
		return api.Conflictf("%s still runs", strings.Join(busy, " and "))
	}
	if a.s.Version == "" || token == "" {
		return api.Conflictf("no code version is set up yet")
	}
	if a.reserved != "" && a.reserved != token && time.Now().Before(a.until) {
		return api.Conflictf("another script is about to run")
	}
	a.reserved, a.until = token, time.Now().Add(reservation)
	return nil
}

func (a *agent) release(token string) {
	if a.reserved == token {
		a.reserved, a.until = "", time.Time{}
		go a.pump()
	}
}

// interrupt calls interrupt.sh and ends what of now still runs then, or ends
// everything at once. What is begun later is not meant. The lock is held.
func (a *agent) interrupt(o order) error {
	ids := a.runs()
	if len(ids) == 0 {
		return nil
	}
	if !o.Kill && !a.s.Runs[interruptScript].Running {
		if err := a.begin(interruptScript, o.Args); err != nil {
			return err
		}
	}
	go func() {
		if !o.Kill {
			if err := a.settled(a.life, interruptScript); err != nil {
				return
			}
		}
		if err := a.kill(a.life, ids); err != nil && a.life.Err() == nil {
			a.m.Log().Error("scripts not ended", "error", err)
		}
	}()
	return nil
}

// runs are the calls of scripts that go on. The lock is held.
func (a *agent) runs() []string {
	var ids []string
	for _, name := range a.running() {
		ids = append(ids, a.s.Runs[name].ID)
	}
	return ids
}

// kill ends those calls that go on, and all that they started.
func (a *agent) kill(ctx context.Context, ids []string) error {
	a.mu.Lock()
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !slices.Contains(a.runs(), id) })
	err := a.change(func() {
		for name, r := range a.s.Runs {
			r.Killed = r.Killed || slices.Contains(ids, r.ID)
			a.s.Runs[name] = r
		}
	})
	a.mu.Unlock()
	if err != nil {
		return err
	}
	return a.runner.kill(ctx, ids, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return !slices.ContainsFunc(a.runs(), func(id string) bool { return slices.Contains(ids, id) })
	})
}

// Observe implements services.Agent.
func (a *agent) Observe(context.Context) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := observation{Version: a.s.Version, Role: a.s.Role, Members: a.s.Members, Scripts: map[string]string{}, Times: map[string]times{}, Busy: a.busy()}
	for _, s := range scripts {
		r, called := a.s.Runs[s]
		if called {
			o.Times[s] = times{Started: r.Started, Ended: r.Ended}
		}
		switch {
		case !called:
			o.Scripts[s] = "NEVER STARTED"
		case r.Running:
			o.Scripts[s] = "RUNNING"
		default:
			o.Scripts[s] = fmt.Sprintf("STOPPED (return code %d)", r.Code)
		}
	}
	return o, a.problem
}

// Close implements services.Agent: scripts end with their instance.
func (a *agent) Close(ctx context.Context) error {
	a.mu.Lock()
	ids := a.runs()
	a.mu.Unlock()
	err := a.kill(ctx, ids)
	a.end()
	return err
}
