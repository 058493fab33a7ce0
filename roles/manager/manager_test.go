package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/operation"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
	"nutshell/services"
)

// world is a director and the instances it launched, over real mTLS on
// loopback addresses.
type world struct {
	t         *testing.T
	authority *pki.Authority
	url       string
	block     int // second octet of agents' addresses

	mu        sync.Mutex
	desired   api.Desired
	changed   chan struct{}
	reports   map[int64]api.Report
	ops       map[string]api.OperationReport
	agents    map[string]*testAgent
	next      int
	failNext  int    // launches to refuse
	badConfig string // settings that agents refuse

	offers   map[string]string    // of the kind store
	streamed []string             // streams that were alone, and whether they failed
	streams  func(*http.ServeMux) // of agents; nil: none
	applied  int                  // configurations that agents took
	without  int                  // of them, those of the first service without DB_HOST
	manager  string               // address
	began    bool                 // the newest manager was told what is wanted
	mute     sync.Map             // ids of instances whose agents let callers wait
}

type testAgent struct {
	i      api.Instance
	stop   context.CancelFunc
	config api.AgentConfig
}

func newWorld(t *testing.T) *world {
	t.Helper()
	a, err := pki.Create(filepath.Join(t.TempDir(), "ca"), "test1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, authority: a, block: 40 + int(time.Now().UnixNano()%200), changed: make(chan struct{}), reports: map[int64]api.Report{}, ops: map[string]api.OperationReport{}, agents: map[string]*testAgent{}}
	w.desired = api.Desired{Revision: 1, Application: api.Application{ID: 7, Name: "shop"}, Services: []api.DesiredService{{Service: api.Service{ID: 1, Application: 7, Name: "s",
		Kind: "testkind", State: api.Init, Desired: api.GoalStopped, Parts: map[string]int{"node": 1}, Settings: []byte("{}")}, Instances: []api.Instance{}}}}
	mux := http.NewServeMux()
	mux.Handle("GET /api/v1/manager/desired", http.HandlerFunc(w.serveDesired))
	mux.Handle("POST /api/v1/manager/launch", rpc.Handle(time.Minute, w.launch))
	mux.Handle("POST /api/v1/manager/terminate", rpc.Handle(time.Minute, w.terminate))
	mux.Handle("POST /api/v1/manager/report", rpc.Handle(time.Minute, func(_ context.Context, _ *http.Request, in []api.Report) (struct{}, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, r := range in {
			w.reports[r.Service] = r
		}
		return struct{}{}, nil
	}))
	mux.Handle("POST /api/v1/manager/operations/{id}", rpc.Handle(time.Minute, func(_ context.Context, r *http.Request, in api.OperationReport) (api.OperationReply, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ops[r.PathValue("id")] = in
		if in.State.Final() {
			w.changeLocked(func(d *api.DesiredService) { d.Operation = nil })
		}
		return api.OperationReply{}, nil
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.url = "https://" + l.Addr().String()
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute, TLSConfig: a.ServerTLS(func() []string { return []string{"127.0.0.1"} }), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = server.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		w.mu.Lock()
		for _, a := range w.agents {
			a.stop()
		}
		w.mu.Unlock()
		_ = server.Close()
	})
	return w
}

func (w *world) credentials(id api.Identity) *pki.Credentials {
	key, err := pki.NewKey()
	if err != nil {
		w.t.Fatal(err)
	}
	csr, err := pki.CSR(key)
	if err != nil {
		w.t.Fatal(err)
	}
	chain, _, err := w.authority.Sign(csr, id, nil, time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := pki.NewCredentials(key, chain, w.authority.RootSHA256(), time.Now)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) serveDesired(rw http.ResponseWriter, r *http.Request) {
	after, _ := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	for range 50 {
		w.mu.Lock()
		d, changed := w.desired, w.changed
		w.mu.Unlock()
		if d.Revision > after {
			w.mu.Lock()
			w.began = true
			w.mu.Unlock()
			rpc.Handle(time.Minute, func(context.Context, *http.Request, struct{}) (api.Desired, error) { return d, nil }).ServeHTTP(rw, r)
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func (w *world) change(f func(*api.DesiredService)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changeLocked(f)
}

func (w *world) changeLocked(f func(*api.DesiredService)) { w.changeOfLocked(1, f) }

func (w *world) changeOfLocked(service int64, f func(*api.DesiredService)) {
	d, at := w.desired, service-1
	d.Services = slices.Clone(d.Services)
	d.Services[at].Instances = slices.Clone(d.Services[at].Instances)
	d.Services[at].Service.Parts = maps.Clone(d.Services[at].Service.Parts)
	f(&d.Services[at])
	d.Revision++
	w.desired = d
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) launch(_ context.Context, _ *http.Request, in api.LaunchRequest) (api.LaunchResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failNext > 0 {
		w.failNext--
		return api.LaunchResult{Instances: []api.Instance{}, Error: &api.Error{Code: api.CodeQuota, Message: "over quota"}}, nil
	}
	var got []api.Instance
	for _, e := range in.Instances {
		w.next++
		i := api.Instance{ID: e.ID, Application: 7, Service: in.Service, Address: fmt.Sprintf("127.99.%d.%d", w.block, w.next), Parts: e.Parts, State: api.InstanceBooting, Created: time.Now()}
		w.boot(i)
		got = append(got, i)
	}
	w.changeOfLocked(in.Service, func(d *api.DesiredService) { d.Instances = append(d.Instances, got...) })
	return api.LaunchResult{Instances: got}, nil
}

// boot starts an agent that does what it is told.
func (w *world) boot(i api.Instance) {
	ctx, cancel := context.WithCancel(context.Background())
	a := &testAgent{i: i, stop: cancel}
	w.agents[i.ID] = a
	creds := w.credentials(api.Identity{Installation: "test1", Role: api.RoleAgent, Application: 7, Service: 1, Name: i.ID})
	l, err := net.Listen("tcp", net.JoinHostPort(i.Address, strconv.Itoa(api.AgentPort)))
	if err != nil {
		w.t.Error(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /v1/status", rpc.Handle(time.Minute, func(ctx context.Context, _ *http.Request, _ struct{}) (api.AgentStatus, error) {
		if _, mute := w.mute.Load(i.ID); mute {
			<-ctx.Done()
		}
		return api.AgentStatus{Instance: i.ID, Ready: true, Processes: []api.Process{}, Logs: []api.Log{}}, nil
	}))
	mux.Handle("PUT /v1/config", rpc.Handle(time.Minute, func(_ context.Context, _ *http.Request, c api.AgentConfig) (api.AgentStatus, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.badConfig != "" && string(c.Config) == w.badConfig {
			return api.AgentStatus{}, api.Invalidf("the agent refuses this")
		}
		a.config = c
		w.applied++
		if i.Service == 1 && !slices.ContainsFunc(c.Environment, func(v api.Variable) bool { return v.Name == "DB_HOST" }) {
			w.without++
		}
		return api.AgentStatus{Processes: []api.Process{}, Logs: []api.Log{}}, nil
	}))
	if w.streams != nil {
		w.streams(mux)
	}
	s := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute, TLSConfig: pki.ServerTLS(creds, pki.ManagerOf(7)), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = s.ServeTLS(l, "", "") }()
	go func() { <-ctx.Done(); _ = s.Close() }()
}

func (w *world) terminate(_ context.Context, _ *http.Request, in map[string][]string) (struct{}, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range in["instances"] {
		if a := w.agents[id]; a != nil {
			a.stop()
			delete(w.agents, id)
		}
		w.changeLocked(func(d *api.DesiredService) {
			d.Instances = slices.DeleteFunc(d.Instances, func(i api.Instance) bool { return i.ID == id })
		})
	}
	return struct{}{}, nil
}

// startManager runs a manager; the returned function kills it.
func (w *world) startManager() (kill func()) {
	var kinds services.Registry
	kinds.Register(services.Kind{Name: "testkind", Parts: []services.Part{{Name: "node", Default: 1, Min: 1, Max: 9}}, Manager: func(h services.Host) services.Manager { return half{h} }})
	kinds.Register(storeKind(w))
	w.mu.Lock()
	w.next++
	address := fmt.Sprintf("127.98.%d.%d", w.block, w.next)
	w.manager, w.began = address, false
	w.mu.Unlock()
	id := api.Identity{Installation: "test1", Role: api.RoleManager, Application: 7, Name: "a7-s0-m"}
	m, err := New(Config{Identity: id, Credentials: w.credentials(id), Director: w.url, Address: address, Dir: w.t.TempDir(), Kinds: &kinds, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.serve(ctx) }()
	stopped := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stopped)
	return stopped
}

func (w *world) until(what string, f func() bool) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		w.mu.Lock()
		ok := f()
		w.mu.Unlock()
		if ok {
			return
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Fatalf("in vain waited until %s; report %+v, operations %+v, agents %d", what, w.reports[1], w.ops, len(w.agents))
}

func (w *world) state(want api.State) func() bool {
	return func() bool { return w.reports[1].State == want }
}

// half is the simplest kind: one part, every instance configured with the settings.
type half struct{ h services.Host }

func (f half) Plan(have []api.Instance, want map[string]int, prefer []string) (services.Layout, error) {
	var l services.Layout
	slices.SortStableFunc(have, func(a, b api.Instance) int {
		return boolInt(slices.Contains(prefer, a.ID)) - boolInt(slices.Contains(prefer, b.ID))
	})
	for n, i := range have {
		if n < want["node"] {
			i.Parts = []string{"node"}
			l.Have = append(l.Have, i)
		} else {
			l.Leave = append(l.Leave, i)
		}
	}
	for range want["node"] - len(have) {
		l.Launch = append(l.Launch, []string{"node"})
	}
	return l, nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (f half) Converge(ctx context.Context, l services.Layout) error {
	for _, i := range l.Have {
		if err := f.h.Apply(ctx, i.ID, i.Parts, nil, f.h.Service().Service.Settings); err != nil {
			return err
		}
	}
	return nil
}

func (f half) Drain(context.Context, []api.Instance) error { return nil }

func (f half) Observe(ctx context.Context) (services.Health, error) {
	for _, i := range f.h.Instances() {
		if _, err := f.h.Status(ctx, i.ID); err != nil {
			return services.Health{}, err
		}
	}
	return services.Health{Ready: len(f.h.Instances()) > 0, URLs: []string{"http://x"}}, nil
}

func (f half) Act(context.Context, string, map[string]string) (api.ActResult, error) {
	return api.ActResult{}, errors.New("none")
}

func operationNamed(id string) *api.Operation {
	return &api.Operation{ID: id, State: api.OperationPending, Deadline: time.Now().Add(time.Minute)}
}

func TestLifeOfAService(t *testing.T) {
	w := newWorld(t)
	w.startManager()
	w.change(func(d *api.DesiredService) { d.Service.Desired, d.Operation = api.GoalStarted, operationNamed("start") })
	w.until("started", func() bool { return w.ops["start"].State == api.OperationDone && w.reports[1].State == api.Running })
	w.change(func(d *api.DesiredService) { d.Service.Parts["node"], d.Operation = 4, operationNamed("grow") })
	w.until("grown", func() bool { return w.ops["grow"].State == api.OperationDone && len(w.agents) == 4 })
	w.change(func(d *api.DesiredService) { d.Service.Parts["node"], d.Operation = 2, operationNamed("shrink") })
	w.until("shrunk", func() bool { return w.ops["shrink"].State == api.OperationDone && len(w.agents) == 2 })
	w.change(func(d *api.DesiredService) { d.Service.Desired, d.Operation = api.GoalStopped, operationNamed("stop") })
	w.until("stopped", func() bool {
		return w.ops["stop"].State == api.OperationDone && len(w.agents) == 0 && w.reports[1].State == api.Stopped
	})
}

func TestDeadAgentIsReplaced(t *testing.T) {
	w := newWorld(t)
	w.startManager()
	w.change(func(d *api.DesiredService) { d.Service.Desired, d.Service.Parts["node"] = api.GoalStarted, 2 })
	w.until("started", w.state(api.Running))
	var victim string
	w.mu.Lock()
	for id, a := range w.agents {
		victim = id
		a.stop()
		break
	}
	w.mu.Unlock()
	w.until("replaced", func() bool { return w.agents[victim] == nil && len(w.agents) == 2 && w.reports[1].State == api.Running })
}

func TestRefusedLaunchIsToldAndRetried(t *testing.T) {
	w := newWorld(t)
	w.failNext = 1
	w.startManager()
	w.change(func(d *api.DesiredService) { d.Service.Desired, d.Operation = api.GoalStarted, operationNamed("start") })
	w.until("failed", func() bool { return w.ops["start"].State == api.OperationFailed })
	if got := w.ops["start"].Error; got == nil || got.Code != api.CodeQuota {
		t.Errorf("got %+v, want quota", got)
	}
	w.until("started by itself, as it is still wanted", w.state(api.Running))
}

func TestNewManagerTakesOverWithoutTouching(t *testing.T) {
	w := newWorld(t)
	kill := w.startManager()
	w.change(func(d *api.DesiredService) { d.Service.Desired, d.Service.Parts["node"] = api.GoalStarted, 3 })
	w.until("started", w.state(api.Running))
	before := slices.Sorted(maps.Keys(w.agents))
	kill()
	w.mu.Lock()
	w.reports = map[int64]api.Report{}
	w.mu.Unlock()
	w.startManager()
	w.until("the new manager reports", w.state(api.Running))
	if after := slices.Sorted(maps.Keys(w.agents)); !slices.Equal(before, after) {
		t.Errorf("instances changed from %v to %v", before, after)
	}
}

func TestKilledInTheMiddleOfAStartGoesOn(t *testing.T) {
	w := newWorld(t)
	w.badConfig = `{"wrong":true}`
	kill := w.startManager()
	w.change(func(d *api.DesiredService) {
		d.Service.Desired, d.Service.Settings = api.GoalStarted, []byte(`{"wrong":true}`)
	})
	w.until("launched but not configured", func() bool { return len(w.agents) == 1 })
	kill()
	w.change(func(d *api.DesiredService) { d.Service.Settings = []byte(`{}`); d.Operation = operationNamed("start") })
	w.startManager()
	w.until("started with the instance that was there", func() bool { return w.ops["start"].State == api.OperationDone && w.reports[1].State == api.Running })
	if len(w.agents) != 1 {
		t.Errorf("got %d instances, want the 1 of the manager that was killed", len(w.agents))
	}
}

func TestOtherApplicationsManagerIsRefused(t *testing.T) {
	w := newWorld(t)
	w.startManager()
	w.change(func(d *api.DesiredService) { d.Service.Desired = api.GoalStarted })
	w.until("started", w.state(api.Running))
	stranger := w.credentials(api.Identity{Installation: "test1", Role: api.RoleManager, Application: 8, Name: "a8-s0-m"})
	for id, a := range w.agents {
		c := rpc.NewClient("https://"+net.JoinHostPort(a.i.Address, strconv.Itoa(api.AgentPort)), pki.ClientTLS(stranger, pki.AgentOf(7, id)))
		if err := c.Do(t.Context(), http.MethodGet, "/v1/status", nil, nil); err == nil {
			t.Error("another application's manager was let in")
		}
	}
}

// An operation may begin while what the manager did before is being told.
func TestEndOfOnePieceOfWorkKeepsTheNextOperation(t *testing.T) {
	for _, tc := range []struct {
		name      string
		had, next *api.Operation
		want      bool
	}{
		{"own-work-then-operation", nil, operationNamed("b"), true},
		{"operation-then-another", operationNamed("a"), operationNamed("b"), true},
		{"same-operation", operationNamed("a"), operationNamed("a"), false},
		{"own-work-then-none", nil, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &service{m: &Manager{director: rpc.NewClient("https://127.0.0.1:1", nil)}, log: slog.New(slog.DiscardHandler)}
			s.desired.Operation = tc.next
			run := operation.New(1, func(context.Context, api.OperationReport) (bool, error) { return false, nil }, time.Now)
			s.finish(t.Context(), run, api.DesiredService{Operation: tc.had}, nil)
			if got := s.wanted().Operation != nil; got != tc.want {
				t.Errorf("got an operation: %v, want %v", got, tc.want)
			}
		})
	}
}

func TestAgentAwayForAMomentDoesNotFailTheOperation(t *testing.T) {
	w := newWorld(t)
	w.startManager()
	w.change(func(d *api.DesiredService) { d.Service.Desired = api.GoalStarted })
	w.until("started", w.state(api.Running))
	w.mu.Lock()
	var i api.Instance
	for _, a := range w.agents {
		i = a.i
		a.stop()
	}
	w.mu.Unlock()
	w.change(func(d *api.DesiredService) {
		d.Service.Settings, d.Operation = []byte(`{"new":1}`), operationNamed("configure")
	})
	w.until("the operation has begun", func() bool { return w.ops["configure"].State == api.OperationRunning })
	w.mu.Lock()
	w.boot(i) // as init does when an agent is killed
	w.mu.Unlock()
	w.until("configured all the same", func() bool { return w.ops["configure"].State.Final() })
	if got := w.ops["configure"]; got.State != api.OperationDone {
		t.Errorf("got %s: %v", got.State, got.Error)
	}
}
