package director

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/rpc"
	"nutshell/roles/internal/store"
)

// bodies are what a request to a route needs to get past decoding, so that
// only ownership can refuse it.
var bodies = map[string]any{
	"application.rename": api.Rename{Name: "mine"}, "service.create": api.CreateService{Kind: "test"}, "service.change": api.Rename{Name: "mine"},
	serviceScale: api.Scale{Add: map[string]int{"web": 1}}, "service.preview": api.Scale{Add: map[string]int{"web": 1}}, serviceConfigure: map[string]any{"level": 5},
	"service.set_script": api.Script{Text: "rm -rf /"}, "service.act": api.Act{Args: map[string]string{"who": "x"}}, serviceActivate: api.Activate{Version: DefaultVersion},
	"site.add":         api.AddSite{Name: "www.shop.test"},
	serviceEnvironment: api.ChangeEnvironment{Set: []api.Variable{{Name: "A", Value: "b"}}}, serviceWeights: api.Weights{Weights: map[string]map[string]int{"a": {"web": 5}}},
	"user.change": api.ChangeUser{}, "version.create": "archive", "upload.create": api.StartUpload{Filename: "x.zip", Bytes: 5},
	"user.create": api.CreateUser{Name: "x", Password: "long enough", Email: "x@example.org"}, "application.create": api.CreateApplication{Name: "own"},
	"token.create": api.CreateToken{Name: "x"}, "passkey.rename": api.Rename{Name: "mine"}, "session.create": api.SignIn{Name: "x", Password: "y"},
	"application.set_member": api.SetMember{Access: api.AccessDeveloper}, "application.hand_over": api.HandOver{User: "vic"},
	serviceSecret: api.SetSecret{Value: "mine"}, "volume.create": api.CreateVolume{Name: "v", Bytes: 1 << 30}, "volume.attach": api.AttachVolume{Instance: "a"},
	"volume.grow": api.ChangeVolume{Bytes: ptr[int64](1 << 30)}, serviceRestore: api.RestoreBackup{Backup: "x"}, "application.restore": api.RestoreBackup{Backup: "x", New: "y"},
	"manager.volumes": api.VolumesRequest{Service: 1, Parts: []string{}},
	"manager.launch":  api.LaunchRequest{Service: 1, Instances: []api.LaunchEntry{}}, "manager.terminate": map[string]any{"instances": []string{}},
	"manager.report": []api.Report{}, "manager.operation": api.OperationReport{State: api.OperationDone}, "member.renew": api.Enrol{}, "member.enrol": api.Enrol{},
	"node.approve": api.ApproveNode{}, "node.join": api.NodeJoin{}, "node.heartbeat": api.NodeFacts{},
}

// everybodys are the public routes. One more is a decision.
var everybodys = []string{"health", "version", "ca", "session.create", "session.passkey_begin", "session.passkey", "member.enrol", "manifest.schema", "node.join"}

// theirOwn says what a route that needs no more than a signed-in user answers
// about what is somebody else's. Those without a name in their path have
// nothing of somebody's.
var theirOwn = map[string]int{
	"user.get": 404, "user.change": 404, "credit.account": 404, "credit.ledger": 404, "token.delete": 404, "key.delete": 404,
	"bin.restore": 404, "bin.delete": 404, "session.revoke": 404, "passkey.rename": 404, "passkey.delete": 404,
	"kind.get": 200, "template.get": 404, // the same for all; the template is none
}

// opened is one route of the document that the director publishes.
type opened struct {
	id, method, path string
	needs            httpapi.Needs
}

// published reads the routes of the OpenAPI document. What deletes comes last,
// and what holds most of all.
func (h *house) published() []opened {
	h.t.Helper()
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Needs       string `json:"x-needs"`
		}
	}
	h.admin.must("GET", "/openapi.json", nil, &doc, 200)
	var list []opened
	for p, methods := range doc.Paths {
		for method, o := range methods {
			list = append(list, opened{o.OperationID, strings.ToUpper(method), strings.TrimPrefix(p, httpapi.Prefix), httpapi.Needs(o.Needs)})
		}
	}
	late := func(p opened) int {
		switch {
		case p.id == applicationDelete: // members of what is gone are none
			return 200
		case p.method == http.MethodDelete:
			return 100 - strings.Count(p.path, "/")
		}
		return 0
	}
	slices.SortFunc(list, func(a, b opened) int {
		if l := late(a) - late(b); l != 0 {
			return l
		}
		return strings.Compare(a.path+a.method, b.path+b.method)
	})
	return list
}

// matrix is an application with everybody who can be something to it.
type matrix struct {
	*house
	t                                       *testing.T
	nobody, stranger, viewer, developer     client
	owner, reader                           client
	session                                 http.Header // of the owner, without the token against forgery
	manager, agent                          *rpc.Client // of another application
	operation, token, key, instance, backup string
}

func newMatrix(t *testing.T) *matrix {
	h := newHouse(t)
	m := &matrix{house: h, t: t, owner: h.user("ann"), stranger: h.user("eve"), viewer: h.user("vic"), developer: h.user("dev")}
	m.owner.running("shop")
	m.stranger.must("POST", "/applications", api.CreateApplication{Name: "blog"}, nil, 201)
	m.stranger.done("POST", "/applications/blog/start", nil)
	for name, access := range map[string]api.Access{"vic": api.AccessViewer, "dev": api.AccessDeveloper} {
		m.owner.must("PUT", "/applications/shop/members/"+name, api.SetMember{Access: access}, nil, 200)
	}
	m.instance = m.owner.service("/applications/1/services/1").Instances[0].ID
	var ops []api.Operation
	m.owner.must("GET", "/operations", nil, &ops, 200)
	m.operation = ops[0].ID
	var token api.NewToken
	m.owner.must("POST", "/tokens", api.CreateToken{Name: "reader", Scope: "read"}, &token, 201)
	m.token = token.Token.ID
	var keys []api.Key
	m.owner.must("POST", "/keys", api.AddKey{Text: publicKey(t)}, &keys, 201)
	m.key, m.backup = keys[0].ID, "abackup"
	if err := h.d.store.Write(t.Context(), func(tx *store.Tx) error {
		return tx.InsertBackup(t.Context(), store.Backup{Owner: 2, Backup: api.Backup{ID: m.backup, Application: 1, Service: 1, Kind: "test", State: api.BackupReady}})
	}); err != nil {
		t.Fatal(err)
	}
	m.reader, m.nobody = m.owner, m.owner
	m.reader.auth, m.nobody.auth = "Bearer "+token.Secret, ""
	resp := m.nobody.raw("POST", "/session", strings.NewReader(`{"name":"ann","password":"correct horse ann"}`), http.Header{"Content-Type": {"application/json"}})
	resp.Body.Close()
	cookie := resp.Cookies()[0]
	m.session = http.Header{"Cookie": {cookie.Name + "=" + cookie.Value}, "Content-Type": {"application/json"}}
	var blog api.Application
	m.stranger.must("GET", "/applications/blog", nil, &blog, 200)
	m.manager = rpc.NewClient(h.url, h.credentials(api.Identity{Installation: h.d.installation, Role: api.RoleManager, Application: blog.ID, Name: blog.Manager.ID}))
	var shop api.Application
	m.owner.must("GET", "/applications/1", nil, &shop, 200)
	m.agent = rpc.NewClient(h.url, h.credentials(api.Identity{Installation: h.d.installation, Role: api.RoleAgent, Application: 1, Service: 1, Name: shop.Services[0].Instances[0].ID}))
	return m
}

// publicKey is a new one, as ssh-keygen writes it.
func publicKey(t *testing.T) string {
	t.Helper()
	key, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	const kind = "ssh-ed25519"
	wire := binary.BigEndian.AppendUint32(nil, uint32(len(kind)))
	wire = binary.BigEndian.AppendUint32(append(wire, kind...), uint32(len(key)))
	return kind + " " + base64.StdEncoding.EncodeToString(append(wire, key...)) + " ann"
}

// fill puts names in a path. service is 1, or one that there is not: whoever
// may ask is told so, and nothing happens.
func (m *matrix) fill(p opened, service string) string {
	m.t.Helper()
	id := map[string]string{"operations": m.operation, "manager": m.operation, "tokens": m.token, "keys": m.key, "backups": m.backup}[strings.Split(p.path, "/")[1]]
	if id == "" {
		id = m.instance
	}
	user := "ann"
	if strings.HasPrefix(p.path, "/applications/") {
		user = "dev"
	}
	full := strings.NewReplacer("{app}", "1", "{service}", service, "{id}", id, "{version}", DefaultVersion, "{from}", DefaultVersion, "{upload}", "nosuchupload1234", "{user}", user,
		"{kind}", "test", "{name}", "www.shop.test", "{action}", "hello", "{log}", "web", "{sha256}", strings.Repeat("a", 64), "{secret}", "password", "{volume}", "nosuchvolume",
		"{snapshot}", "nosuchsnapshot", "{template}", "nosuchtemplate", "{cloud}", "default", "{node}", "nosuchnode", "{digest}", strings.Repeat("b", 64), "{revision}", "99").Replace(p.path)
	if strings.Contains(full, "{") {
		m.t.Errorf("%s %s: say in fill what stands for its names, so that it is tried", p.method, p.path)
	}
	return full
}

// ask sends a request and reads no more of the answer than whether it was refused.
func (m *matrix) ask(c client, p opened, full string, header http.Header) (int, api.Error) {
	m.t.Helper()
	b, err := json.Marshal(bodies[p.id])
	if err != nil {
		m.t.Fatal(err)
	}
	if bodies[p.id] == nil {
		b = nil
	}
	if header == nil {
		header = http.Header{"Content-Type": {"application/json"}}
	}
	resp := c.raw(p.method, full, strings.NewReader(string(b)), header)
	defer resp.Body.Close()
	var e api.Error
	if resp.StatusCode >= 400 {
		if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Code == "" {
			m.t.Errorf("%s %s: %d is no problem: %v", p.method, full, resp.StatusCode, err)
		}
	}
	return resp.StatusCode, e
}

// TestEveryRouteForEverybody tries each route that the director publishes as
// everybody who can be something to an application: each is refused what is not
// for them, in the way that tells them no more than they may know, and nobody
// is refused what is. A route without a rule fails.
func TestEveryRouteForEverybody(t *testing.T) {
	t.Parallel()
	m := newMatrix(t)
	people := 0
	for _, p := range m.published() {
		name := p.method + " " + p.path
		switch p.needs {
		case httpapi.Public:
			if !slices.Contains(everybodys, p.id) {
				t.Errorf("%s (%s) is open to everybody: name it in everybodys if it must be", name, p.id)
			}
			continue
		case httpapi.Manager, httpapi.Agent, httpapi.Node, httpapi.AnyRole, httpapi.Renewing:
			m.machine(p, name)
			continue
		case httpapi.User, httpapi.Viewer, httpapi.Developer, httpapi.Owner, httpapi.Admin:
		default:
			t.Errorf("%s needs %q, and there is no rule for that", name, p.needs)
			continue
		}
		people++
		full := m.fill(p, "1")
		want := func(who string, c client, header http.Header, status int, says string) {
			t.Helper()
			if got, e := m.ask(c, p, full, header); got != status || !strings.Contains(e.Message, says) {
				t.Errorf("%s as %s: got %d (%v), want %d and %q", name, who, got, &e, status, says)
			}
		}
		want("nobody", m.nobody, nil, 401, "")
		for who, c := range map[string]*rpc.Client{"manager": m.manager, "agent": m.agent} {
			if err := c.Do(t.Context(), p.method, httpapi.Prefix+full, bodies[p.id], nil); api.CodeOf(err) != api.CodeUnauthorized {
				t.Errorf("%s as %s: got %v, want unauthorized", name, who, err)
			}
		}
		if p.method != http.MethodGet {
			want("a page elsewhere in the owner's browser", m.nobody, m.session, 403, "X-CSRF-Token")
			if p.needs != httpapi.Admin {
				want("a token that may only read", m.reader, nil, 403, "only read")
			}
		}
		switch p.needs { // the others were sorted out
		case httpapi.Admin:
			want("an owner", m.owner, nil, 403, "administrator")
		case httpapi.User:
			status, ok := theirOwn[p.id]
			if !ok && strings.Contains(p.path, "{") {
				t.Errorf("%s: say in theirOwn what a stranger is answered", name)
			} else if ok {
				want("a stranger", m.stranger, nil, status, "")
			}
		default:
			want("a stranger", m.stranger, nil, 404, "")
			m.ranks(p, name, full)
		}
	}
	if people < 100 {
		t.Errorf("only %d routes for people were tried", people)
	}
	for _, list := range []string{"/applications", "/services", "/operations", "/resources", "/backups"} {
		var found []struct{ Application, ID any }
		m.stranger.must("GET", list, nil, &found, 200)
		for _, x := range found {
			if (list == "/applications" && x.ID == 1.0) || x.Application == 1.0 {
				t.Errorf("%s shows a stranger what is somebody else's: %v", list, x)
			}
		}
	}
	m.stranger.refused("GET", "/applications?all=true", nil, api.CodeForbidden)
	m.stranger.refused("GET", "/services?application=1", nil, api.CodeNotFound)
	m.stranger.refused("GET", "/operations?application=1", nil, api.CodeNotFound)
	m.stranger.refused("PATCH", "/users/eve", api.ChangeUser{Admin: new(bool)}, api.CodeForbidden)
}

// ranks tries a route about an application as those who are something to it.
// Only whoever just may use it does, so that not more happens than must.
func (m *matrix) ranks(p opened, name, full string) {
	t := m.t
	t.Helper()
	ranks := []httpapi.Needs{httpapi.Viewer, httpapi.Developer, httpapi.Owner}
	as := map[httpapi.Needs]client{httpapi.Viewer: m.viewer, httpapi.Developer: m.developer, httpapi.Owner: m.owner}
	least := slices.Index(ranks, p.needs)
	for _, who := range ranks[:least] {
		got, e := m.ask(as[who], p, full, nil)
		if says := "you are " + oneOf(api.Access(who)) + " there, and this is for " + oneOf(api.Access(p.needs)); got != 403 || !strings.Contains(e.Message, says) || !strings.Contains(e.Hint, "ann") {
			t.Errorf("%s as %s: got %d (%v)", name, who, got, &e)
		}
	}
	if p.id == "application.remove_member" { // leaving has a test of its own
		return
	}
	got, e := m.ask(as[p.needs], p, m.fill(p, "999"), nil)
	if got == 401 || got == 403 || (got == 404 && strings.Contains(e.Message, "there is no application")) {
		t.Errorf("%s as %s: got %d (%v), and it is for them", name, p.needs, got, &e)
	}
	if strings.Contains(p.path, "{service}") && (got != 404 || !strings.Contains(e.Message, "there is no service")) {
		t.Errorf("%s of no service as %s: got %d (%v)", name, p.needs, got, &e)
	}
}

// machine tries a route of managers and agents.
func (m *matrix) machine(p opened, name string) {
	t := m.t
	t.Helper()
	full := m.fill(p, "1")
	for who, c := range map[string]client{"nobody": m.nobody, "an administrator": m.admin} {
		if got, e := m.ask(c, p, full, nil); got != 401 {
			t.Errorf("%s as %s: got %d (%v), want 401", name, who, got, &e)
		}
	}
	try := func(who string, c *rpc.Client, want api.Code) {
		t.Helper()
		if err := c.Do(t.Context(), p.method, httpapi.Prefix+full, bodies[p.id], nil); api.CodeOf(err) != want {
			t.Errorf("%s as %s: got %v, want %s", name, who, err, want)
		}
	}
	switch p.needs { //nolint:exhaustive // the others are for both
	case httpapi.Manager:
		try("agent", m.agent, api.CodeForbidden)
	case httpapi.Agent:
		try("manager", m.manager, api.CodeForbidden)
	case httpapi.Node:
		try("manager", m.manager, api.CodeForbidden)
		try("agent", m.agent, api.CodeForbidden)
	}
	if p.id == "manager.operation" || p.id == "manager.volumes" || p.id == "manager.launch" {
		try("manager of another application", m.manager, api.CodeNotFound)
	}
}
