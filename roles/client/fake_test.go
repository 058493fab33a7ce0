package client

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
)

// fake is a director in memory that keeps the contract of
// docs/develop/api.md as far as the command line uses it.
type fake struct {
	*httptest.Server
	authority *pki.Authority

	mu       sync.Mutex
	apps     []*api.Application
	services []*api.Service
	versions map[int64][]api.CodeVersion // by service
	archives map[string][]byte
	uploads  []*fakeUpload
	cut      int64 // the next piece of an upload is broken off after so many bytes
	cuts     int
	scripts  map[int64]string
	settings map[int64]map[string]any
	shown    bool // the secret
	ops      []*api.Operation
	sites    []api.Site
	users    map[string]*api.User
	tokens   map[string]api.Token // by secret
	keys     []api.Key
	nextKey  int
	asked    []string            // what was to be changed
	hold     chan struct{}       // operations end when it is closed; nil: at once
	fail     *api.Error          // what the next operation ends with
	down     bool                // every connection is cut
	asking   func(*http.Request) // called when a change is asked for
	waits    int                 // long polls begun
	sent     []byte              // the last manifest
	breakOff bool                // downloads of manifests end in the middle
	headers  []http.Header
}

var fakeTime = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

const fakePassword = "correct horse"

func fakeKinds() []api.Kind {
	part := func(name string) api.Part {
		return api.Part{Name: name, Default: 1, Min: 1, Max: 16, Summary: "the " + name + " tier", Ports: []api.Port{}}
	}
	master := part("master")
	master.Fixed = true
	return []api.Kind{
		{Name: "generic", Title: "Generic", Summary: "any application with five scripts", Parts: []api.Part{master, {Name: "node", Max: 63}}, Code: api.CodeRules{Accepts: true}, Volumes: true,
			Settings: []api.Setting{}, Actions: []api.Action{
				{Name: "run", Summary: "run run.sh on every agent", Params: []api.Parameter{{Name: "parameters", Help: "passed to the script"}}},
				{Name: "interrupt", Summary: "run interrupt.sh, then kill", Params: []api.Parameter{{Name: "parameters"}}},
				{Name: "cleanup", Summary: "run cleanup.sh on every agent", Params: []api.Parameter{{Name: "parameters"}}},
				{Name: "get_script_status", Summary: "how the scripts are", Reads: true}}},
		{Name: "helloworld", Title: "Hello", Summary: "says hello", Parts: []api.Part{part("node")}, Settings: []api.Setting{}, Actions: []api.Action{{Name: "get_helloworld", Summary: "ask each node", Reads: true}}},
		fakeMySQL(),
		{Name: "php", Title: "PHP", Summary: "web pages in PHP", Parts: []api.Part{part("proxy"), part("web"), {Name: "backend", Default: 1, Min: 1, Max: 64, Summary: "runs PHP"}}, Code: api.CodeRules{Accepts: true},
			Settings: []api.Setting{{Name: "display_errors", Type: "boolean", Default: []byte("false"), Help: "show errors to visitors"}, {Name: "memory_limit", Type: "size", Default: []byte(`"128M"`)},
				{Name: "extensions", Type: "list", Default: []byte("[]")}, {Name: "max_children", Type: "integer", Default: []byte("5")}},
			Actions: []api.Action{{Name: "get_php_config", Summary: "the php.ini in force", Reads: true}}},
	}
}

func newFake(t *testing.T) *fake {
	t.Helper()
	authority, err := pki.Create(filepath.Join(t.TempDir(), "ca"), "test1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{authority: authority, versions: map[int64][]api.CodeVersion{}, archives: map[string][]byte{}, scripts: map[int64]string{}, settings: map[int64]map[string]any{},
		users: map[string]*api.User{"admin": {ID: 1, Name: "admin", Email: "a@example.org", Admin: true, Credit: 120, Created: fakeTime}}, tokens: map[string]api.Token{}}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	f.Listener = tls.NewListener(f.Listener, authority.ServerTLS(func() []string { return []string{"127.0.0.1"} }))
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.Start()
	f.URL = "https://" + f.Listener.Addr().String()
	t.Cleanup(f.Close)
	return f
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		panic(http.ErrAbortHandler)
	}
	f.headers = append(f.headers, r.Header.Clone())
	user, password, _ := r.BasicAuth()
	_, known := f.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	if !known && (f.users[user] == nil || password != fakePassword) {
		rpc.WriteError(w, &api.Error{Code: api.CodeUnauthorized, Message: "sign in first"})
		return
	}
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/api/v1")
	var body []byte
	if r.Method != http.MethodGet {
		body = f.receive(r)
		shown := strings.TrimSpace(path + " " + string(body))
		if r.URL.RawQuery != "" {
			shown = fmt.Sprintf("%s?%s (%d bytes)", path, r.URL.RawQuery, len(body))
		}
		f.asked = append(f.asked, r.Method+" "+shown)
		if f.asking != nil {
			f.asking(r)
		}
	}
	status, out, err := f.answer(w, r, strings.Split(strings.Trim(path, "/"), "/"), body)
	switch {
	case err != nil:
		rpc.WriteError(w, err)
	case status == 0: // written already
	case out == nil:
		w.WriteHeader(status)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(out)
	}
}

func (f *fake) answer(w http.ResponseWriter, r *http.Request, p []string, body []byte) (int, any, error) {
	read := func(v any) { _ = json.Unmarshal(body, v) }
	switch what := r.Method + " " + p[0]; {
	case what == "GET version":
		return 200, api.Version{Version: "0.1.0"}, nil
	case what == "GET session":
		return 200, api.Session{User: *f.users["admin"]}, nil
	case what == "GET kinds" && len(p) == 1:
		return 200, fakeKinds(), nil
	case what == "GET kinds":
		if i := slices.IndexFunc(fakeKinds(), func(k api.Kind) bool { return k.Name == p[1] }); i >= 0 {
			return 200, fakeKinds()[i], nil
		}
		return 0, nil, api.NotFoundf("there is no such kind")
	case what == "GET clouds":
		return 200, []api.Cloud{{Name: "default", Driver: "process", Default: true, Ready: true}, {Name: "mycloud", Driver: "lxc", Problem: "lxc is missing"}}, nil
	case what == "GET resources":
		return 200, f.resources(), nil
	case what == "GET edge":
		return 200, api.Edge{On: true, Domain: "apps.example.org", HTTPS: 443, HTTP: 80}, nil
	case len(p) > 4 && p[4] == "sites":
		return f.answerSites(r, p, read)
	case what == "GET audit":
		return 200, []api.AuditEntry{{Time: fakeTime, Actor: "admin", From: "127.0.0.1", Action: "application.create", Object: "shop", Result: "ok"}}, nil
	case p[0] == "manifests":
		return f.answerManifests(r, p, body)
	case p[0] == "templates":
		return f.answerTemplates(p)
	case p[0] == "backups":
		return f.answerBackups(r, p)
	case p[0] == "users":
		return f.answerUsers(r, p, read)
	case p[0] == "keys":
		return f.answerKeys(r, p, read)
	case p[0] == "tokens":
		return f.answerTokens(r, p, read)
	case p[0] == "operations":
		return f.answerOperations(r, p)
	case what == "GET services":
		return 200, copies(f.services), nil
	case what == "GET events":
		fmt.Fprint(w, "id: 1\nevent: hello\ndata: {\"type\":\"hello\"}\n\n")
		b, _ := json.Marshal(api.Event{ID: 7, Time: fakeTime, Type: "service", Application: 1, Object: "1", Data: []byte(`{"name":"php","state":"RUNNING","reason":"as asked"}`)})
		fmt.Fprintf(w, "id: 7\nevent: service\ndata: %s\n\n", b)
		return 0, nil, nil
	case p[0] == "applications":
		return f.answerApplications(w, r, p, read, body)
	}
	return 0, nil, api.NotFoundf("no route %s %s", r.Method, r.URL.Path)
}

func copies[T any](list []*T) []T {
	out := []T{}
	for _, v := range list {
		out = append(out, *v)
	}
	return out
}

func (f *fake) resources() []api.Instance {
	all := []api.Instance{}
	for _, a := range f.apps {
		if a.Manager != nil {
			all = append(all, *a.Manager)
		}
	}
	for _, s := range f.services {
		all = append(all, s.Instances...)
	}
	return all
}

func (f *fake) answerUsers(r *http.Request, p []string, read func(any)) (int, any, error) {
	if len(p) == 1 && r.Method == "POST" {
		var in api.CreateUser
		read(&in)
		u := &api.User{ID: int64(len(f.users) + 1), Name: in.Name, Email: in.Email, Credit: *in.Credit}
		f.users[u.Name] = u
		return 201, u, nil
	}
	if len(p) == 1 {
		all := []*api.User{}
		for _, n := range slices.Sorted(maps.Keys(f.users)) {
			all = append(all, f.users[n])
		}
		return 200, all, nil
	}
	u := f.users[p[1]]
	if u == nil {
		return 0, nil, &api.Error{Code: api.CodeNotFound, Object: "user " + p[1], Message: "there is no such user"}
	}
	if len(p) == 3 {
		return f.answerAccount(r, u, p[2], read)
	}
	switch r.Method {
	case "DELETE":
		delete(f.users, u.Name)
		return 204, nil, nil
	case "PATCH":
		var in api.ChangeUser
		read(&in)
	}
	return 200, u, nil
}

func (f *fake) answerAccount(r *http.Request, u *api.User, what string, read func(any)) (int, any, error) {
	end := fakeTime.Add(5 * time.Hour)
	a := api.Account{User: u.Name, PerHour: 3, Held: 1, Exhausted: &end, Enforced: u.Name != "admin", Quota: api.Quota{Instances: 8}, Used: api.Quota{Applications: 2, Instances: 3, VolumeBytes: 3 << 30}}
	switch what {
	case "credit":
		var in api.Grant
		read(&in)
		u.Credit += in.Amount
	case "quota":
		read(&a.Quota)
	case "ledger":
		return 200, []api.LedgerEntry{
			{ID: 3, Time: fakeTime, Amount: -1, Balance: 9, Kind: "charge", Reason: "hour 1", Actor: "nutshell", Application: 1, Service: 1, Instance: "a1-s1-abcde"},
			{ID: 2, Time: fakeTime, Amount: -2, Balance: 8, Kind: "hold", Reason: "held: scale shop/web", Actor: "nutshell", Application: 1, Service: 1},
			{ID: 1, Time: fakeTime, Amount: 10, Balance: 10, Kind: "grant", Reason: "to begin with", Actor: "nutshell"}}, nil
	}
	a.Credit = u.Credit
	return 200, a, nil
}

func (f *fake) answerTokens(r *http.Request, p []string, read func(any)) (int, any, error) {
	switch r.Method {
	case "POST":
		var in api.CreateToken
		read(&in)
		made := api.NewToken{Token: api.Token{ID: fmt.Sprintf("t%d", len(f.tokens)+1), Name: in.Name, Scope: in.Scope, Created: fakeTime, Expires: fakeTime}, Secret: fmt.Sprintf("nsh_secret%d", len(f.tokens)+1)}
		f.tokens[made.Secret] = made.Token
		return 201, made, nil
	case "DELETE":
		for s, k := range f.tokens {
			if k.ID == p[1] {
				delete(f.tokens, s)
				return 204, nil, nil
			}
		}
		return 0, nil, api.NotFoundf("there is no such token")
	}
	all := []api.Token{}
	for _, s := range slices.Sorted(maps.Keys(f.tokens)) {
		all = append(all, f.tokens[s])
	}
	return 200, all, nil
}

// operation stores an operation that ends, with done, when somebody waits.
func (f *fake) operation(kind, title string, app, service int64, done func()) (int, any, error) {
	op := &api.Operation{ID: fmt.Sprintf("op%d", len(f.ops)+1), Kind: kind, Title: title, Actor: "admin", Application: app, Service: service, State: api.OperationRunning,
		Created: fakeTime, Deadline: fakeTime, Progress: 0.5, Steps: []api.Step{{Name: "launch", State: api.OperationDone}, {Name: "configure", State: api.OperationRunning, Detail: "a1"}}}
	f.ops = append(f.ops, op)
	finish := func() {
		op.State, op.Progress, op.Steps[1].State = api.OperationDone, 1, api.OperationDone
		if f.fail != nil {
			op.State, op.Error, op.Steps[1].State, op.Undone = api.OperationFailed, f.fail, api.OperationFailed, "the new node was taken away again"
			return
		}
		if done != nil {
			done()
		}
	}
	if f.hold == nil {
		answer := *op
		answer.Steps = slices.Clone(op.Steps)
		finish()
		return 202, answer, nil
	}
	hold := f.hold
	go func() {
		<-hold
		f.mu.Lock()
		defer f.mu.Unlock()
		if !op.State.Final() {
			finish()
		}
	}()
	return 202, *op, nil
}

func (f *fake) answerOperations(r *http.Request, p []string) (int, any, error) {
	if len(p) == 1 {
		all := copies(f.ops)
		slices.Reverse(all)
		return 200, all, nil
	}
	i := slices.IndexFunc(f.ops, func(o *api.Operation) bool { return o.ID == p[1] })
	if i < 0 {
		return 0, nil, &api.Error{Code: api.CodeNotFound, Object: "operation " + p[1], Message: "there is no such operation"}
	}
	op := f.ops[i]
	if len(p) == 3 && p[2] == "cancel" {
		op.State, op.Undone = api.OperationCancelled, "nothing had been changed"
	}
	if len(p) == 3 && p[2] == "retry" {
		return f.operation(op.Kind, op.Title, op.Application, op.Service, nil)
	}
	if wait, _ := time.ParseDuration(r.URL.Query().Get("wait")); wait > 0 && !op.State.Final() {
		f.waits++
		f.mu.Unlock() // a long poll must not hold the others up
		for end := time.Now().Add(min(wait, 200*time.Millisecond)); time.Now().Before(end) && r.Context().Err() == nil; time.Sleep(5 * time.Millisecond) {
			f.mu.Lock()
			final := op.State.Final() || f.down
			f.mu.Unlock()
			if final {
				break
			}
		}
		f.mu.Lock()
		if f.down {
			panic(http.ErrAbortHandler)
		}
	}
	return 200, *op, nil
}

func (f *fake) findApp(name string) *api.Application {
	for _, a := range f.apps {
		if a.Name == strings.ReplaceAll(name, "%20", " ") || strconv.FormatInt(a.ID, 10) == name {
			return a
		}
	}
	return nil
}

// take hands out what was asked since the last time.
func (f *fake) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.asked
	f.asked = nil
	return asked
}

func tarball(name string) []byte { return bytes.Repeat([]byte(name+"\n"), 100) }
