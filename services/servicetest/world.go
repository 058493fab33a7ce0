// Package servicetest is the suite that every service kind passes. It runs
// both halves of a kind on real processes: a World plays manager and agents in
// one process, with a directory and a loopback address for each instance. It
// tests kinds, not the manager or the agent around them.
package servicetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// World is one service and its instances. It implements services.Host.
type World struct {
	T       testing.TB
	Kind    services.Kind
	Manager services.Manager
	Files   map[string]map[string]string // code versions by id; code-default is there
	Refuse  func(api.AgentConfig) error  // may fail what agents are told; nil: nothing
	// Bindings are told to agents; what a real manager makes of them, variables,
	// a test sets by Setenv.
	Bindings []api.Binding

	dir     string
	short   string // of short name, for sockets
	log     *slog.Logger
	mu      sync.Mutex
	desired api.DesiredService
	list    []api.Instance
	machine map[string]*machine
	made    int
	volumes []*volume
	steps   []string
}

// New makes a world with no instances. Everything in it ends with the test.
func New(t testing.TB, k services.Kind) *World {
	t.Helper()
	w := &World{T: t, Kind: k, dir: t.TempDir(), short: shortDir(t), machine: map[string]*machine{}, Files: map[string]map[string]string{"code-default": k.DefaultCode}}
	for d := w.dir; d != filepath.Clean(os.TempDir()) && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // the unprivileged account must get in
			t.Fatal(err)
		}
	}
	logs := io.Discard
	if testing.Verbose() {
		logs = t.Output()
	}
	w.log = slog.New(slog.NewTextHandler(logs, nil))
	w.desired.Service = api.Service{ID: 1, Kind: k.Name, Name: k.Name, Settings: k.DefaultSettings(), Parts: map[string]int{}}
	for _, p := range k.Parts {
		w.desired.Service.Parts[p.Name] = p.Default
	}
	if k.Code.Accepts {
		w.desired.Service.Version = "code-default"
		w.desired.Code = &api.CodeVersion{ID: "code-default"}
	}
	w.desired.Secrets = secretsOf(k)
	w.Manager = k.Manager(w)
	if len(k.Tools) > 0 {
		if err := writeIdentity(filepath.Join(w.dir, "tool.pem")); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(w.close)
	return w
}

func (w *World) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for id := range w.machine {
		w.terminate(ctx, id)
	}
}

// Settle brings the service to what is desired, as the manager's loop does:
// plan, launch, converge, drain, terminate, and observe until it is ready.
func (w *World) Settle(ctx context.Context) error {
	l, err := w.Manager.Plan(w.Instances(), w.Service().Service.Parts, w.Service().Remove)
	if err != nil {
		return err
	}
	for _, parts := range l.Launch {
		i, err := w.launch(parts)
		if err != nil {
			return err
		}
		l.Have = append(l.Have, i)
	}
	l.Launch = nil
	if err := w.Manager.Converge(ctx, l); err != nil {
		return err
	}
	if err := w.Manager.Drain(ctx, l.Leave); err != nil {
		return err
	}
	for _, i := range l.Leave {
		w.terminate(ctx, i.ID)
	}
	return w.WaitReady(ctx)
}

// WaitReady observes until the service is ready.
func (w *World) WaitReady(ctx context.Context) error {
	for {
		h, err := w.Manager.Observe(ctx)
		if err == nil && h.Ready {
			w.change(func(d *api.DesiredService) { d.Served = true })
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %s %w", h.Problem, errors.Join(err, ctx.Err()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Scale sets counts of parts and settles.
func (w *World) Scale(ctx context.Context, parts map[string]int) error {
	w.change(func(d *api.DesiredService) {
		for p, n := range parts {
			d.Service.Parts[p] = n
		}
	})
	return w.Settle(ctx)
}

// Activate makes a version of Files the wanted one and settles. After an
// error the old version is wanted again, as the director does it.
func (w *World) Activate(ctx context.Context, version string) error {
	before := w.Service()
	w.change(func(d *api.DesiredService) {
		if d.Service.Version != version {
			d.Previous = d.Code
		}
		d.Service.Version, d.Code = version, &api.CodeVersion{ID: version}
	})
	err := w.Settle(ctx)
	if err != nil {
		w.change(func(d *api.DesiredService) { *d = before })
	}
	return err
}

// Configure merges a patch into the settings and settles.
func (w *World) Configure(ctx context.Context, patch string) error {
	s, err := w.Kind.MergeSettings(w.Service().Service.Settings, json.RawMessage(patch))
	if err != nil {
		return err
	}
	w.change(func(d *api.DesiredService) { d.Service.Settings = s })
	return w.Settle(ctx)
}

// Setenv sets the service's environment and settles.
func (w *World) Setenv(ctx context.Context, list ...api.Variable) error {
	w.change(func(d *api.DesiredService) { d.Environment = list })
	return w.Settle(ctx)
}

// Desire changes what the director wants; Settle makes it so.
func (w *World) Desire(f func(*api.DesiredService)) { w.change(f) }

func (w *World) change(f func(*api.DesiredService)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.desired)
}

// Weigh gives an instance weights by part, as the director does; Settle makes
// them so.
func (w *World) Weigh(id string, weights map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.list {
		if w.list[i].ID == id {
			w.list[i].Weights = weights
		}
	}
}

func (w *World) launch(parts []string) (api.Instance, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made++
	pid := os.Getpid()
	i := api.Instance{ID: fmt.Sprintf("i%d", w.made), Service: 1, Parts: parts, State: api.InstanceReady, Created: time.Unix(int64(w.made), 0),
		Address: fmt.Sprintf("127.%d.%d.%d", 64+pid/250%64, 1+pid%250, 1+w.made)}
	m, err := newMachine(filepath.Join(w.dir, i.ID), filepath.Join(w.short, i.ID), i.Address, w.log.With("instance", i.ID))
	if err != nil {
		return i, err
	}
	if m.super.tool, err = w.toolCommand(); err != nil && len(w.Kind.Tools) > 0 {
		return i, err
	}
	m.super.uid, m.super.gid = -1, -1
	if _, uid, gid, ok := m.User(); ok {
		m.super.uid, m.super.gid = uid, gid
	}
	if err := w.hold(i.ID, m, parts); err != nil {
		return i, err
	}
	m.agent = w.Kind.Agent(m)
	w.machine[i.ID] = m
	w.list = append(w.list, api.Instance{ID: i.ID, Service: 1, State: i.State, Created: i.Created, Address: i.Address})
	return i, nil
}

func (w *World) terminate(ctx context.Context, id string) {
	w.mu.Lock()
	m := w.machine[id]
	delete(w.machine, id)
	w.list = slices.DeleteFunc(w.list, func(i api.Instance) bool { return i.ID == id })
	w.mu.Unlock()
	if m == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute) // what has begun to end does end
	defer cancel()
	if err := m.half().Close(ctx); err != nil {
		w.T.Errorf("close instance %s: %v", id, err)
	}
	m.super.close(ctx)
	w.release(id)
}

// Lose ends an instance without a word, as a cloud does.
func (w *World) Lose(ctx context.Context, id string) { w.terminate(ctx, id) }

// RestartAgent replaces an instance's agent half by a new one, which is what
// the instance sees of kill -9 of its agent; daemons go on.
func (w *World) RestartAgent(ctx context.Context, id string) error {
	m := w.at(id)
	m.mu.Lock()
	m.agent = w.Kind.Agent(m)
	last := m.last
	m.mu.Unlock()
	if last == nil {
		return nil
	}
	return m.half().Apply(ctx, *last)
}

func (w *World) at(id string) *machine {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.machine[id]; m != nil {
		return m
	}
	return &machine{super: newSupervisor(""), agent: gone{}}
}

// RestartManager replaces the manager half, which is what a service sees of
// kill -9 of its manager.
func (w *World) RestartManager() { w.Manager = w.Kind.Manager(w) }

// Processes are the daemons of an instance.
func (w *World) Processes(id string) []api.Process { return w.at(id).super.Processes() }

// Dir is a directory of an instance.
func (w *World) Dir(id, name string) string { return w.at(id).Dir(name) }

// ReadLog reads an instance's log by its name.
func (w *World) ReadLog(id, name string) string {
	path, ok := w.at(id).super.logPath(name)
	if !ok {
		return ""
	}
	b, _ := os.ReadFile(path) // not written yet is empty
	return string(b)
}

// Steps are the steps named so far.
func (w *World) Steps() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.steps)
}
