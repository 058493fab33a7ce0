package director

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
	cloudcontext "nutshell/cloud/context"
	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
	"nutshell/services"
)

// house is a director on a loopback port with a cloud in memory, whose
// managers speak the real protocol with real certificates.
type house struct {
	t   *testing.T
	dir string
	sim *cloudtest.Sim
	// cabinet is sim with volumes.
	cabinet *cabinet
	d       *Director
	url     string
	admin   client
	stop    context.CancelFunc
	served  chan error
	log     *slog.Logger
	edge    EdgeConfig
	credit  CreditConfig

	mu     sync.Mutex
	fail   map[string]error         // operations that managers fail, by kind
	hold   map[string]chan struct{} // operations that managers do not end before
	silent bool                     // managers do not come up
	answer func(*http.ServeMux)     // what managers answer beside the usual; may be nil
	boots  int
}

func newHouse(t *testing.T) *house { t.Helper(); return newHouseWith(t, CreditConfig{}) }

func newHouseWith(t *testing.T, credit CreditConfig) *house {
	t.Helper()
	h := &house{t: t, credit: credit, dir: t.TempDir(), fail: map[string]error{}, hold: map[string]chan struct{}{}}
	h.log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	network, n := freeNetwork(t), 0
	h.sim = &cloudtest.Sim{Boot: h.boot, Address: func(int) string {
		n++
		return fmt.Sprintf("%s.%d", network, n)
	}}
	h.cabinet = newCabinet(h.sim)
	h.start()
	t.Cleanup(func() {
		h.stopDirector()
		list, _ := h.sim.List(context.Background())
		for _, i := range list {
			_ = h.sim.Terminate(context.Background(), []string{i.ID})
		}
	})
	return h
}

// freeNetwork is one of loopback's that no other house has: it is claimed by a
// listener until the test has ended.
func freeNetwork(t *testing.T) string {
	t.Helper()
	for range 1000 {
		network := fmt.Sprintf("127.%d.%d", 200+rand.IntN(40), 1+rand.IntN(250))
		l, err := net.Listen("tcp", fmt.Sprintf("%s.254:%d", network, api.ManagerPort))
		if err == nil {
			t.Cleanup(func() { _ = l.Close() })
			return network
		}
	}
	t.Fatal("no network of loopback is free")
	return ""
}

// testWriter shows the director's log with a failing test.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

func (h *house) config() Config {
	var drivers cloud.Registry
	drivers.Register("sim", func(cloud.Config) (cloud.Driver, error) { return h.cabinet, nil })
	var kinds services.Registry
	kinds.Register(testKind)
	kinds.Register(keeperKind)
	return Config{Dir: h.dir, Listen: []string{"127.0.0.1:0"}, Git: GitConfig{Listen: []string{"127.0.0.1:0"}}, Clouds: []CloudConfig{{Name: "default", Driver: "sim"}}, Drivers: &drivers,
		Services: &kinds, Binary: os.Args[0], Limits: Limits{Instances: 6}, Edge: h.edge, Credit: h.credit, Now: time.Now, Log: h.log}
}

// start starts a director on the house's data directory.
func (h *house) start() {
	h.t.Helper()
	d, err := New(context.Background(), h.config())
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	l, err := d.Listen(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	h.stop, h.served = stop, make(chan error, 1)
	h.mu.Lock() // managers look where it is: it has another port each time
	h.d, h.url = d, "https://"+l.Addresses()[0]
	h.mu.Unlock()
	served := h.served
	go func() { served <- l.Serve(ctx) }()
	h.admin = h.fromClientFile()
}

func (h *house) stopDirector() {
	if h.d == nil {
		return
	}
	h.stop()
	<-h.served
	if err := h.d.Close(); err != nil {
		h.t.Error(err)
	}
	h.mu.Lock()
	h.d = nil
	h.mu.Unlock()
}

// fromClientFile signs in as the command line on the same machine does.
func (h *house) fromClientFile() client {
	h.t.Helper()
	var b []byte
	h.eventually("client.yaml", func() bool {
		var err error
		b, err = os.ReadFile(filepath.Join(h.dir, "client.yaml"))
		return err == nil && strings.Contains(string(b), h.url)
	})
	var token string
	for _, line := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "token: "); ok {
			token = v
		}
	}
	return client{h: h, auth: "Bearer " + token, http: rpc.NewClient(h.url, pki.PinnedTLS(h.d.CASHA256())).HTTP}
}

// user makes a user and a client that is signed in as them.
func (h *house) user(name string) client {
	h.t.Helper()
	h.admin.must("POST", "/users", api.CreateUser{Name: name, Email: name + "@example.org", Password: "correct horse " + name}, nil, 201)
	c := h.admin
	var s struct{ Secret string }
	c.auth = ""
	c.basic = [2]string{name, "correct horse " + name}
	c.must("POST", "/tokens", api.CreateToken{Name: "test"}, &s, 201)
	c.basic, c.auth = [2]string{}, "Bearer "+s.Secret
	return c
}

// eventually waits for something that other goroutines bring about.
func (h *house) eventually(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	h.t.Fatalf("%s did not come about in a minute", what)
}

type client struct {
	h     *house
	http  *http.Client
	auth  string
	basic [2]string
	key   string
}

func (c client) raw(method, path string, body io.Reader, header http.Header) *http.Response {
	c.h.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, c.h.url+"/api/v1"+path, body)
	if err != nil {
		c.h.t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if c.auth != "" {
		req.Header.Set("Authorization", c.auth)
	}
	if c.basic[0] != "" {
		req.SetBasicAuth(c.basic[0], c.basic[1])
	}
	if c.key != "" {
		req.Header.Set("Idempotency-Key", c.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.h.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp
}

// do sends JSON and decodes what comes back, an error too.
func (c client) do(method, path string, in, out any) (int, *api.Error) {
	c.h.t.Helper()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			c.h.t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	resp := c.raw(method, path, body, http.Header{"Content-Type": {"application/json"}})
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.h.t.Fatal(err)
	}
	if resp.StatusCode >= 400 {
		var e api.Error
		if err := json.Unmarshal(b, &e); err != nil || e.Code == "" {
			c.h.t.Fatalf("%s %s: %d is no problem: %s", method, path, resp.StatusCode, b)
		}
		return resp.StatusCode, &e
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			c.h.t.Fatalf("%s %s: %v in %s", method, path, err, b)
		}
	}
	return resp.StatusCode, nil
}

func (c client) must(method, path string, in, out any, status int) {
	c.h.t.Helper()
	if got, e := c.do(method, path, in, out); got != status {
		c.h.t.Fatalf("%s %s: got %d (%v), want %d", method, path, got, e, status)
	}
}

func (c client) refused(method, path string, in any, code api.Code) *api.Error {
	c.h.t.Helper()
	status, e := c.do(method, path, in, nil)
	if e == nil || e.Code != code {
		c.h.t.Fatalf("%s %s: got %d (%v), want %s", method, path, status, e, code)
	}
	return e
}

// finish asks for an operation and waits for its end.
func (c client) finish(method, path string, in any) api.Operation {
	c.h.t.Helper()
	var o api.Operation
	c.must(method, path, in, &o, 202)
	return c.wait(o.ID)
}

func (c client) wait(id string) api.Operation {
	c.h.t.Helper()
	var o api.Operation
	for end := time.Now().Add(2 * time.Minute); !o.State.Final() && time.Now().Before(end); {
		o = api.Operation{}
		c.must("GET", "/operations/"+id+"?wait=30s", nil, &o, 200)
	}
	if !o.State.Final() {
		c.h.t.Fatalf("operation %s (%s) has not ended: %+v", o.ID, o.Title, o)
	}
	return o
}

func (c client) done(method, path string, in any) api.Operation {
	c.h.t.Helper()
	o := c.finish(method, path, in)
	if o.State != api.OperationDone {
		c.h.t.Fatalf("%s %s: operation is %s: %v", method, path, o.State, o.Error)
	}
	return o
}

// running makes an application with one service, both started.
func (c client) running(app string) {
	c.h.t.Helper()
	c.must("POST", "/applications", api.CreateApplication{Name: app}, nil, 201)
	c.done("POST", "/applications/"+app+"/start", nil)
	c.must("POST", "/applications/"+app+"/services", api.CreateService{Kind: "test"}, nil, 201)
	c.done("POST", "/applications/"+app+"/services/test/start", nil)
}

func (c client) service(path string) api.Service {
	c.h.t.Helper()
	var s api.Service
	c.must("GET", path, nil, &s, 200)
	return s
}

// testPort is where instances of testKind would show pages.
const testPort = 8088

// testKind has one part that grows and one that does not.
var testKind = services.Kind{
	Name: "test", Title: "Test", Summary: "for tests",
	Parts: []services.Part{{Name: "web", Default: 1, Min: 1, Max: 8, Ports: []api.Port{{Number: testPort, Use: "HTTP", Public: true}}}, {Name: "master", Default: 0, Min: 0, Max: 1, Fixed: true}},
	Settings: &struct {
		Memory string `json:"memory" type:"size"`
		Level  int    `json:"level" min:"1" max:"9"`
	}{"64M", 3},
	Actions: []api.Action{{Name: "hello", Params: []api.Parameter{{Name: "who", Required: true}}},
		{Name: "fill", Title: "Fill it", Takes: "a text", Params: []api.Parameter{{Name: "into"}}}, {Name: "copy", Title: "Copy it", Gives: "copy.txt"}},
	Offers:      []api.Offer{{Name: "host", Help: "where it is"}, {Name: "password", Help: "its password", Secret: true}},
	Backups:     testPolicy,
	Code:        api.CodeRules{Accepts: true},
	DefaultCode: map[string]string{"index.html": "hello\n"},
	Manager:     func(services.Host) services.Manager { return testHalf{} },
}

type testHalf struct{ services.Manager }

// Plan gives each web an instance of its own.
func (testHalf) Plan(have []api.Instance, want map[string]int, prefer []string) (services.Layout, error) {
	l := services.Layout{Have: append([]api.Instance{}, have...)}
	for len(l.Have) > want["web"] {
		at := len(l.Have) - 1
		for i, h := range l.Have {
			if len(prefer) > 0 && h.ID == prefer[0] {
				at = i
			}
		}
		l.Leave = append(l.Leave, l.Have[at])
		l.Have = append(l.Have[:at], l.Have[at+1:]...)
	}
	for n := len(l.Have); n < want["web"]; n++ {
		l.Launch = append(l.Launch, []string{"web"})
	}
	return l, nil
}

// boot is what an instance of the cloud runs: a manager, or an agent that is
// content to exist.
func (h *house) boot(ctx context.Context, s cloud.Spec, address string) {
	told, err := cloudcontext.Parse(s.Context)
	if err != nil {
		h.t.Error(err)
		return
	}
	id, err := api.ParseIdentity(told.Identity)
	if err != nil {
		h.t.Error(err)
		return
	}
	h.mu.Lock()
	h.boots++
	silent := h.silent
	h.mu.Unlock()
	if id.Role == api.RoleManager && !silent {
		m := fakeManager{h: h, id: id, address: address, ended: map[string]bool{}}
		if err := m.run(ctx, told); err != nil && ctx.Err() == nil {
			h.t.Logf("manager %s: %v", id.Name, err)
		}
		return
	}
	<-ctx.Done()
}

// fakeManager carries out what is wanted in the simplest way.
type fakeManager struct {
	h        *house
	id       api.Identity
	address  string
	director *rpc.Client
	ended    map[string]bool // operations
}

func enrol(ctx context.Context, told cloudcontext.Context) (*pki.Credentials, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := pki.CSR(key)
	if err != nil {
		return nil, err
	}
	var out api.Enrolled
	err = rpc.NewClient(told.Directors[0], pki.PinnedTLS(told.CASHA256)).Do(ctx, "POST", "/api/v1/enrol", api.Enrol{Secret: told.Secret, CSR: string(csr)}, &out)
	if err != nil {
		return nil, err
	}
	return pki.NewCredentials(key, []byte(out.Chain), told.CASHA256, time.Now)
}

func (m *fakeManager) run(ctx context.Context, told cloudcontext.Context) error {
	creds, err := enrol(ctx, told)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(m.address, strconv.Itoa(api.ManagerPort)))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/log", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "log of %s, tail %s\n", m.id.Name, r.URL.Query().Get("tail"))
	})
	mux.HandleFunc("POST /v1/services/{id}/actions/{action}", func(w http.ResponseWriter, r *http.Request) {
		var a api.Act
		_ = json.NewDecoder(r.Body).Decode(&a)
		_ = json.NewEncoder(w).Encode(api.ActResult{Text: r.PathValue("action") + " " + a.Args["who"]})
	})
	if m.h.answer != nil {
		m.h.answer(mux)
	}
	s := &http.Server{Handler: mux, TLSConfig: pki.ServerTLS(creds, pki.Director), ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = s.ServeTLS(l, "", "") }()
	defer s.Close()
	after := int64(-1)
	for ctx.Err() == nil {
		// The director may have moved to another port: tests restart it.
		m.director = rpc.NewClient(m.h.where(), pki.ClientTLS(creds, pki.Director))
		poll, cancel := context.WithTimeout(ctx, time.Second) // and so is the heartbeat
		var d api.Desired
		err := m.director.Do(poll, "GET", "/api/v1/manager/desired?after="+strconv.FormatInt(after, 10), nil, &d)
		cancel()
		switch {
		case err == nil && d.Revision != 0:
			after = d.Revision
			for _, s := range d.Services {
				if err := m.keep(ctx, s); err != nil {
					m.h.t.Logf("manager %s: %v", m.id.Name, err)
					after = -1
				}
			}
		case errors.Is(err, context.DeadlineExceeded), api.CodeOf(err) == api.CodeDeadline:
		case err != nil:
			time.Sleep(50 * time.Millisecond)
		}
		m.director.HTTP.CloseIdleConnections()
	}
	return ctx.Err()
}

func (h *house) where() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.url
}

func (m *fakeManager) keep(ctx context.Context, d api.DesiredService) error {
	if o := d.Operation; o != nil && !m.ended[o.ID] {
		path := "/api/v1/manager/operations/" + o.ID
		began := time.Now()
		step := api.Step{Name: "do it", State: api.OperationRunning, Started: &began}
		if err := m.director.Do(ctx, "POST", path, api.OperationReport{State: api.OperationRunning, Steps: []api.Step{step}, Progress: 0.5}, nil); err != nil {
			return err
		}
		m.h.mu.Lock()
		fail, hold := m.h.fail[o.Kind], m.h.hold[o.Kind]
		m.h.mu.Unlock()
		if hold != nil {
			if over, err := m.held(ctx, path, hold, step); over || err != nil {
				m.ended[o.ID] = over
				return err
			}
		}
		end := api.OperationReport{State: api.OperationDone, Steps: []api.Step{step}, Progress: 1}
		if fail == nil {
			fail = m.converge(ctx, d)
		}
		if fail != nil {
			end.State, end.Error = api.OperationFailed, api.AsError(fail)
		}
		if err := m.director.Do(ctx, "POST", path, end, nil); err != nil {
			return err
		}
		m.ended[o.ID] = true
		return nil // the end of the operation changes what is wanted, and wakes us
	}
	if err := m.converge(ctx, d); err != nil {
		return err
	}
	state := api.Stopped
	if d.Service.Desired == api.GoalStarted {
		state = api.Running
	}
	return m.director.Do(ctx, "POST", "/api/v1/manager/report", []api.Report{{Service: d.Service.ID, State: state, Reason: "observed", URLs: []string{}, Serving: d.Service.Version}}, nil)
}

// held keeps an operation going until the test lets it go or somebody cancels.
func (m *fakeManager) held(ctx context.Context, path string, hold chan struct{}, step api.Step) (over bool, err error) {
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-hold:
			return false, nil
		case <-time.After(20 * time.Millisecond):
			m.director.Base = m.h.where()
			var reply api.OperationReply
			err := m.director.Do(ctx, "POST", path, api.OperationReport{State: api.OperationRunning, Steps: []api.Step{step}}, &reply)
			if err == nil && reply.Cancelling {
				err = m.director.Do(ctx, "POST", path, api.OperationReport{State: api.OperationCancelled, Steps: []api.Step{step}}, nil)
				return true, err
			}
		}
	}
}

func (m *fakeManager) converge(ctx context.Context, d api.DesiredService) error {
	want := map[string]int{}
	if d.Service.Desired == api.GoalStarted {
		want = d.Service.Parts
	}
	l, err := testHalf{}.Plan(d.Instances, want, d.Remove)
	if err != nil {
		return err
	}
	if d.Operation != nil && d.Operation.Kind == serviceMove { // others first, then it leaves
		l.Launch, l.Leave = [][]string{{"web"}}, nil
		for _, i := range d.Instances {
			if slices.Contains(d.Remove, i.ID) {
				l.Leave = append(l.Leave, i)
			}
		}
	}
	if len(l.Launch) > 0 {
		ask := api.LaunchRequest{Service: d.Service.ID}
		for _, parts := range l.Launch {
			ask.Instances = append(ask.Instances, api.LaunchEntry{ID: api.NewInstanceID(m.id.Application, d.Service.ID), Parts: parts})
		}
		var got api.LaunchResult
		if err := m.director.Do(ctx, "POST", "/api/v1/manager/launch", ask, &got); err != nil {
			return err
		}
		if got.Error != nil {
			return got.Error
		}
	}
	if err := m.askVolumes(ctx, d); err != nil {
		return err
	}
	if len(l.Leave) == 0 {
		return nil
	}
	ids := []string{}
	for _, i := range l.Leave {
		ids = append(ids, i.ID)
	}
	return m.director.Do(ctx, "POST", "/api/v1/manager/terminate", map[string][]string{"instances": ids}, nil)
}
