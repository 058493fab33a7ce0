package manager

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"

	"nutshell/roles/api"
)

// host is what a kind's manager half may ask of us. It implements
// services.Host.
type host struct{ s *service }

func (h host) Service() api.DesiredService { return h.s.wanted() }

func (h host) Instances() []api.Instance {
	have, silent := h.s.crew.sort(h.s.m.c.Now())
	// During an operation nobody but the kind's half may have asked for a while.
	// Who does not answer is told by Status.
	return append(have, silent...)
}

func (h host) Apply(ctx context.Context, instance string, parts []string, code []api.CodeVersion, config any) error {
	i, err := h.s.crew.get(instance)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return fmt.Errorf("configure %s: %w", instance, err)
	}
	d := h.s.wanted()
	if code == nil {
		code = []api.CodeVersion{}
	}
	volumes, err := h.s.volumesOf(ctx, d, instance, parts)
	if err != nil {
		return fmt.Errorf("configure %s: %w", instance, err)
	}
	bound := h.s.boundTo()
	i.Parts = parts
	err = h.s.m.agent(i).Do(ctx, http.MethodPut, "/v1/config", api.AgentConfig{Kind: d.Service.Kind, Instance: i, Code: code, Script: d.Script,
		Environment: h.s.m.variables(d.Environment, bound), Bindings: bound, Volumes: volumes, Config: raw}, nil)
	if err != nil {
		return fmt.Errorf("configure %s: %w", instance, err)
	}
	h.s.crew.heardFrom(instance)
	h.s.crew.setParts(instance, parts)
	h.s.told(instance, volumes)
	return nil
}

func (h host) Status(ctx context.Context, instance string) (api.AgentStatus, error) {
	var status api.AgentStatus
	i, err := h.s.crew.get(instance)
	if err != nil {
		return status, err
	}
	if err = h.s.m.agent(i).Do(ctx, http.MethodGet, "/v1/status", nil, &status); err == nil {
		h.s.crew.heardFrom(instance)
	}
	return status, err
}

func (h host) Call(ctx context.Context, instance, method string, args, result any) error {
	i, err := h.s.crew.get(instance)
	if err != nil {
		return err
	}
	if err := h.s.m.agent(i).Do(ctx, http.MethodPost, "/v1/call/"+method, args, result); err != nil {
		return fmt.Errorf("%s on %s: %w", method, instance, err)
	}
	return nil
}

func (h host) Step(name string) { h.s.step(name) }

func (h host) Port(instance string, port int) int {
	i, err := h.s.crew.get(instance)
	if err != nil {
		return port
	}
	return api.RealPort(i.Address, port)
}

func (h host) Log() *slog.Logger { return h.s.log }
