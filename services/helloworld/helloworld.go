// Package helloworld is the smallest service kind: each instance answers one
// greeting. It is the template for new kinds and a smoke test of everything
// below them: copy the folder, rename, register it in main.
package helloworld

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"nutshell/roles/api"
	"nutshell/services"
)

// settings are what users may change; see services.Kind.Describe for the tags.
type settings struct {
	Greeting string `json:"greeting" title:"Greeting" help:"what each instance answers" max:"200"`
}

// Kind describes the service; API, command line and forms derive from it.
func Kind() services.Kind {
	return services.Kind{
		Name: "helloworld", Title: "Hello World", Summary: "Answers one greeting per instance; a template for new services and a smoke test.",
		Parts:    []services.Part{{Name: "helloworld", Title: "Hello World", Summary: "answers the greeting", Default: 1, Min: 1, Max: 64}},
		Settings: &settings{Greeting: "hello world"},
		Actions:  []api.Action{{Name: "get_helloworld", Title: "Get greetings", Summary: "Asks every instance for its greeting.", Reads: true}},
		Manager:  func(h services.Host) services.Manager { return &manager{host: h} },
		Agent:    func(m services.Machine) services.Agent { return &agent{log: m.Log()} },
	}
}

type manager struct{ host services.Host }

// Plan keeps the oldest instances and starts what is missing.
func (m *manager) Plan(have []api.Instance, want map[string]int, prefer []string) (services.Layout, error) {
	n := want["helloworld"]
	if n < 1 {
		return services.Layout{}, api.Invalidf("helloworld needs at least one instance, not %d", n)
	}
	var l services.Layout
	l.Have, l.Leave = services.Keep(have, n, prefer)
	for i := range l.Have {
		l.Have[i].Parts = []string{"helloworld"}
	}
	for range n - len(l.Have) {
		l.Launch = append(l.Launch, []string{"helloworld"})
	}
	return l, nil
}

// Converge gives every instance the settings.
func (m *manager) Converge(ctx context.Context, l services.Layout) error {
	m.host.Step("greet the instances")
	for _, i := range l.Have {
		if err := m.host.Apply(ctx, i.ID, i.Parts, nil, m.host.Service().Service.Settings); err != nil {
			return fmt.Errorf("configure instance %s: %w", i.ID, err)
		}
	}
	return nil
}

// Drain has nothing to move.
func (m *manager) Drain(context.Context, []api.Instance) error { return nil }

// Observe asks every instance.
func (m *manager) Observe(ctx context.Context) (services.Health, error) {
	for _, i := range m.host.Instances() {
		s, err := m.host.Status(ctx, i.ID)
		if err != nil {
			return services.Health{}, fmt.Errorf("ask instance %s: %w", i.ID, err)
		}
		if !s.Ready {
			return services.Health{Problem: fmt.Sprintf("instance %s: %s", i.ID, s.Problem)}, nil
		}
	}
	return services.Health{Ready: true}, nil
}

// Act answers get_helloworld with one line per instance.
func (m *manager) Act(ctx context.Context, action string, _ map[string]string) (api.ActResult, error) {
	if action != "get_helloworld" {
		return api.ActResult{}, api.Invalidf("helloworld has no action %s", api.Shorten(action))
	}
	var lines []string
	for _, i := range m.host.Instances() {
		var greeting string
		if err := m.host.Call(ctx, i.ID, "get_helloworld", nil, &greeting); err != nil {
			return api.ActResult{}, fmt.Errorf("ask instance %s: %w", i.ID, err)
		}
		lines = append(lines, fmt.Sprintf("Received %s from %s", greeting, i.ID))
	}
	result, err := json.Marshal(map[string][]string{"helloworld": lines})
	return api.ActResult{Text: strings.Join(lines, "\n"), Result: result}, err
}

type agent struct {
	log *slog.Logger
	mu  sync.Mutex // calls come while a configuration is applied
	now *settings  // nil until told
}

// Apply takes the settings; there is no daemon to run.
func (a *agent) Apply(_ context.Context, c api.AgentConfig) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var told settings
	if err := json.Unmarshal(c.Config, &told); err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	a.now = &told
	a.log.Info("greeting set", "greeting", a.now.Greeting)
	return nil
}

// Observe shows what is answered.
func (a *agent) Observe(context.Context) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now, nil
}

// Call answers the greeting.
func (a *agent) Call(_ context.Context, method string, _ json.RawMessage) (any, error) {
	if method != "get_helloworld" {
		return nil, api.NotFoundf("helloworld has no method %s", api.Shorten(method))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now == nil {
		return nil, &api.Error{Code: api.CodeUnavailable, Object: "greeting", Message: "this instance has not been told yet what to answer", Hint: "try again in a moment"}
	}
	return a.now.Greeting, nil
}

// Close has nothing to end.
func (a *agent) Close(context.Context) error { return nil }
