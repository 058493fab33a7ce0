package servicetest

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"

	"nutshell/roles/api"
)

// Service implements services.Host.
func (w *World) Service() api.DesiredService {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.desired
	d.Service.Parts, d.Secrets, d.Volumes = maps.Clone(d.Service.Parts), maps.Clone(d.Secrets), w.volumeList()
	return d
}

// Instances implements services.Host.
func (w *World) Instances() []api.Instance {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := slices.Clone(w.list)
	for i := range list {
		list[i].Parts = slices.Clone(list[i].Parts)
	}
	return list
}

// Apply implements services.Host.
func (w *World) Apply(ctx context.Context, instance string, parts []string, code []api.CodeVersion, config any) error {
	b, err := json.Marshal(config)
	if err != nil {
		return err
	}
	c := api.AgentConfig{Kind: w.Kind.Name, Instance: api.Instance{ID: instance, Parts: parts}, Code: code, Config: b, Environment: w.Service().Environment, Bindings: w.Bindings}
	w.mu.Lock()
	m := w.machine[instance]
	if m != nil { // a part that an instance gets while it runs brings its volume with it
		err = w.hold(instance, m, parts)
		c.Volumes = w.mounted(instance, m)
	}
	for i := range w.list {
		if w.list[i].ID == instance {
			w.list[i].Parts = slices.Clone(parts)
			c.Instance = w.list[i]
		}
	}
	w.mu.Unlock()
	if m == nil {
		return unreachable(instance)
	}
	if err != nil {
		return err
	}
	if w.Refuse != nil {
		if err := w.Refuse(c); err != nil {
			return err
		}
	}
	return m.apply(ctx, c, w.Files)
}

func unreachable(instance string) error {
	return &api.Error{Code: api.CodeUnavailable, Object: "instance " + instance, Message: "it does not answer"}
}

// Status implements services.Host.
func (w *World) Status(ctx context.Context, instance string) (api.AgentStatus, error) {
	w.mu.Lock()
	m := w.machine[instance]
	w.mu.Unlock()
	if m == nil {
		return api.AgentStatus{}, unreachable(instance)
	}
	return m.status(ctx, instance), nil
}

// Call implements services.Host, with JSON in between as on the wire.
func (w *World) Call(ctx context.Context, instance, method string, args, result any) error {
	b, err := json.Marshal(args)
	if err != nil {
		return err
	}
	answer, err := w.at(instance).half().Call(ctx, method, b)
	if err != nil || result == nil {
		return err
	}
	if b, err = json.Marshal(answer); err != nil {
		return err
	}
	return json.Unmarshal(b, result)
}

// Step implements services.Host.
func (w *World) Step(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps = append(w.steps, name)
}

// Port implements services.Host.
func (w *World) Port(instance string, port int) int {
	for _, i := range w.Instances() {
		if i.ID == instance {
			return api.RealPort(i.Address, port)
		}
	}
	return port
}

// Log implements services.Host.
func (w *World) Log() *slog.Logger { return w.log }

// gone is the agent of an instance that is not there.
type gone struct{}

func (gone) Apply(context.Context, api.AgentConfig) error               { return unreachable("") }
func (gone) Observe(context.Context) (any, error)                       { return nil, unreachable("") }
func (gone) Call(context.Context, string, json.RawMessage) (any, error) { return nil, unreachable("") }
func (gone) Close(context.Context) error                                { return nil }
