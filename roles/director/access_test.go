package director

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/auth"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
	"nutshell/roles/internal/store"
)

func TestMembersReachTheirOwnOnly(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	h.admin.running("blog")
	ctx := t.Context()
	var shop, blog api.Application
	h.admin.must("GET", "/applications/shop", nil, &shop, 200)
	h.admin.must("GET", "/applications/blog", nil, &blog, 200)
	agents := []api.Instance{shop.Services[0].Instances[0], blog.Services[0].Instances[0]}
	as := func(role api.Role, i api.Instance) *rpc.Client {
		id := api.Identity{Installation: h.d.installation, Role: role, Application: i.Application, Service: i.Service, Name: i.ID}
		return rpc.NewClient(h.url, h.credentials(id))
	}
	manager, agent := as(api.RoleManager, *shop.Manager), as(api.RoleAgent, agents[0])
	refused := func(name string, c *rpc.Client, method, path string, in any, want api.Code) {
		t.Helper()
		if err := c.Do(ctx, method, "/api/v1"+path, in, nil); api.CodeOf(err) != want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
	refused("terminate another application's agent", manager, "POST", "/manager/terminate", map[string][]string{"instances": {agents[1].ID}}, api.CodeNotFound)
	refused("terminate the manager itself", manager, "POST", "/manager/terminate", map[string][]string{"instances": {shop.Manager.ID}}, api.CodeNotFound)
	refused("launch in another's name", manager, "POST", "/manager/launch", api.LaunchRequest{Service: 1, Instances: []api.LaunchEntry{{ID: "a2-s1-zzzzz", Parts: []string{"web"}}}}, api.CodeInvalid)
	refused("launch for no service", manager, "POST", "/manager/launch", api.LaunchRequest{Service: 9}, api.CodeNotFound)
	many := api.LaunchRequest{Service: 1}
	for n := range 7 {
		many.Instances = append(many.Instances, api.LaunchEntry{ID: fmt.Sprintf("a1-s1-many%d", n), Parts: []string{"web"}})
	}
	refused("launch more than the quota", manager, "POST", "/manager/launch", many, api.CodeQuota)
	refused("agent as manager", agent, "POST", "/manager/report", []api.Report{}, api.CodeForbidden)
	refused("manager as user", manager, "GET", "/applications", nil, api.CodeUnauthorized)
	v, err := h.d.store.Version(ctx, 1, 1, DefaultVersion)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := agent.Stream(ctx, "GET", "/api/v1/blobs/"+v.SHA256, nil); err != nil || resp.ContentLength != v.Bytes {
		t.Errorf("agent reads its code: %v", err)
	} else {
		resp.Body.Close()
	}
	refused("agent reads other bytes", agent, "GET", "/blobs/"+strings.Repeat("0", 64), nil, api.CodeNotFound)
	refused("agent reads a file", agent, "GET", "/blobs/..%2f..%2fnutshell.db", nil, api.CodeNotFound)
	refused("identity of no instance", as(api.RoleAgent, api.Instance{Application: 1, Service: 1, ID: "a1-s1-ghost"}), "GET", "/binary", nil, api.CodeUnauthorized)
	refused("identity with another application", as(api.RoleManager, api.Instance{Application: 2, ID: shop.Manager.ID}), "GET", "/manager/desired", nil, api.CodeUnauthorized)
	h.admin.done("DELETE", "/applications/shop/services/test", nil)
	refused("agent that was removed", agent, "GET", "/binary", nil, api.CodeUnauthorized)
}

// credentials are TLS settings with a certificate for an identity.
func (h *house) credentials(id api.Identity) *tls.Config {
	h.t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		h.t.Fatal(err)
	}
	csr, err := pki.CSR(key)
	if err != nil {
		h.t.Fatal(err)
	}
	chain, _, err := h.d.ca.Sign(csr, id, nil, time.Hour)
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := pki.NewCredentials(key, chain, h.d.CASHA256(), time.Now)
	if err != nil {
		h.t.Fatal(err)
	}
	return pki.ClientTLS(c, pki.Director)
}

func TestSecretsWorkOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	ctx := t.Context()
	var shop api.Application
	h.admin.must("GET", "/applications/shop", nil, &shop, 200)
	agent := shop.Services[0].Instances[0]
	id := api.Identity{Installation: h.d.installation, Role: api.RoleAgent, Application: 1, Service: 1, Name: agent.ID}
	issue := func(id api.Identity, life time.Duration) string {
		secret, hash := auth.NewSecret()
		if err := h.d.store.Write(ctx, func(tx *store.Tx) error { return tx.InsertSecret(ctx, hash, id, time.Now().Add(life)) }); err != nil {
			t.Fatal(err)
		}
		return secret
	}
	csr := func() string {
		key, err := pki.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		b, err := pki.CSR(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	c := rpc.NewClient(h.url, pki.PinnedTLS(h.d.CASHA256()))
	ask := func(secret, csr string) (api.Enrolled, error) {
		var out api.Enrolled
		err := c.Do(ctx, "POST", "/api/v1/enrol", api.Enrol{Secret: secret, CSR: csr}, &out)
		return out, err
	}
	secret, first := issue(id, time.Minute), csr()
	if _, err := ask(secret, "no CSR"); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a bad CSR: %v", err)
	}
	results := make(chan error, 4)
	for range 4 {
		go func() {
			_, err := ask(secret, csr())
			results <- err
		}()
	}
	won := 0
	for range 4 {
		if err := <-results; err == nil {
			won++
		} else if api.CodeOf(err) != api.CodeUnauthorized {
			t.Errorf("replay: %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of 4 got a certificate for one secret", won)
	}
	secret = issue(id, time.Minute)
	for range 2 { // the answer to the first may have been lost
		if out, err := ask(secret, first); err != nil || out.Identity != id.String() {
			t.Errorf("the same key again: %+v %v", out, err)
		}
	}
	if _, err := ask(issue(id, -time.Second), csr()); api.CodeOf(err) != api.CodeUnauthorized {
		t.Errorf("an expired secret: %v", err)
	}
	if _, err := ask("nsh_guess", csr()); api.CodeOf(err) != api.CodeUnauthorized {
		t.Errorf("a guess: %v", err)
	}
	removed := id
	removed.Name = "a1-s1-ghost"
	if _, err := ask(issue(removed, time.Minute), csr()); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("for an instance that was removed: %v", err)
	}
}

func TestSessionAndSignIn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.user("ann")
	c := h.admin
	c.auth = ""
	resp := c.raw("POST", "/session", strings.NewReader(`{"name":"ann","password":"correct horse ann"}`), http.Header{"Content-Type": {"application/json"}})
	resp.Body.Close()
	cookies := resp.Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || !cookies[0].Secure || cookies[0].SameSite != http.SameSiteStrictMode {
		t.Fatalf("cookies: %v", resp.Header["Set-Cookie"])
	}
	with := func(method, path, body, csrf string) int {
		header := http.Header{"Cookie": {cookies[0].Name + "=" + cookies[0].Value}, "Content-Type": {"application/json"}}
		if csrf != "" {
			header.Set("X-CSRF-Token", csrf)
		}
		resp := c.raw(method, path, strings.NewReader(body), header)
		resp.Body.Close()
		return resp.StatusCode
	}
	csrf := auth.CSRFToken(cookies[0].Value)
	for _, try := range []struct {
		name, csrf string
		want       int
	}{{"no-csrf", "", 403}, {"wrong-csrf", "x", 403}, {"right-csrf", csrf, 201}} {
		if got := with("POST", "/applications", `{"name":"`+try.name+`"}`, try.csrf); got != try.want {
			t.Errorf("%s: got %d, want %d", try.name, got, try.want)
		}
	}
	if got := with("DELETE", "/session", "", csrf); got != 204 {
		t.Errorf("sign out: %d", got)
	}
	if got := with("GET", "/session", "", ""); got != 401 {
		t.Errorf("after signing out: got %d, want 401", got)
	}
	status := 0
	for range 30 {
		var e *api.Error
		if status, e = c.do("POST", "/session", api.SignIn{Name: "ann", Password: "a wrong guess"}, nil); status == 429 {
			if !strings.Contains(e.Hint, "try again in") {
				t.Errorf("hint %q", e.Hint)
			}
			break
		}
	}
	if status != 429 {
		t.Errorf("guessing is not limited: last %d", status)
	}
	var found bool
	var log []api.AuditEntry
	h.admin.must("GET", "/audit", nil, &log, 200)
	for _, e := range log {
		found = found || (e.Actor == "ann" && e.Action == "session.create" && e.Result == "unauthorized")
	}
	if !found {
		t.Error("the guesses are not in the audit")
	}
}

func TestNamesAndUsers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, name := range []string{"", "a'b", `a"b`, "../x", strings.Repeat("x", 10000), "🥜", "42", "a\x00b", " a"} {
		h.admin.refused("POST", "/applications", api.CreateApplication{Name: name}, api.CodeInvalid)
		h.admin.refused("POST", "/users", api.CreateUser{Name: name, Password: "long enough"}, api.CodeInvalid)
	}
	h.admin.must("POST", "/applications", api.CreateApplication{Name: "my shop"}, nil, 201)
	h.admin.must("GET", "/applications/my%20shop", nil, nil, 200)
	h.admin.refused("POST", "/applications", api.CreateApplication{Name: "my shop"}, api.CodeConflict)
	for _, want := range []string{"test", "test-2", "test-3"} {
		var s api.Service
		h.admin.must("POST", "/applications/1/services", api.CreateService{Kind: "test"}, &s, 201)
		if s.Name != want {
			t.Errorf("service is called %s, want %s", s.Name, want)
		}
	}
	h.admin.refused("POST", "/applications/1/services", api.CreateService{Kind: "cobol"}, api.CodeInvalid)
	h.admin.refused("POST", "/applications", api.CreateApplication{Name: "x", Cloud: "mars"}, api.CodeInvalid)
	if e := h.admin.refused("POST", "/applications", map[string]any{"name": "x", "colour": "red"}, api.CodeInvalid); len(e.Fields) != 1 || e.Fields[0] != "colour" {
		t.Errorf("an unknown field: %+v", e)
	}
	h.admin.refused("DELETE", "/users/admin", nil, api.CodeConflict)
	var v api.Version
	h.admin.must("GET", "/version", nil, &v, 200)
	sum, err := fileSHA256(os.Args[0])
	if err != nil || v.BinarySHA256 != sum || v.Installation != h.d.installation {
		t.Errorf("version %+v, %v", v, err)
	}
	if h.d.FirstPassword() == "" || h.d.FirstPassword() != "" {
		t.Error("the first password is not handed out once")
	}
	if _, err := New(context.Background(), h.config()); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("a second director on the same directory: %v", err)
	}
}

// TestHeartbeatsWriteNothing looks at the database's files: an idle
// installation must not wear out a card.
func TestHeartbeatsWriteNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	var shop api.Application
	h.admin.must("GET", "/applications/shop", nil, &shop, 200)
	s := shop.Services[0]
	id := api.Identity{Installation: h.d.installation, Role: api.RoleManager, Application: 1, Name: shop.Manager.ID}
	c := rpc.NewClient(h.url, h.credentials(id))
	beat := func(cpu float64) {
		t.Helper()
		r := api.Report{Service: 1, State: api.Running, Reason: "serves", Serving: s.Version, URLs: []string{}, Instances: []api.InstanceReport{
			{ID: s.Instances[0].ID, State: api.InstanceReady, Parts: []string{"web"}, Figures: &api.Figures{At: time.Now(), CPUPercent: cpu}}}}
		if err := c.Do(t.Context(), "POST", "/api/v1/manager/report", []api.Report{r}, nil); err != nil {
			t.Fatal(err)
		}
	}
	beat(1)
	h.eventually("the service has settled", func() bool { return h.admin.service("/applications/1/services/1").Serving == s.Version })
	written := func() string {
		out := ""
		for _, f := range []string{"nutshell.db", "nutshell.db-wal"} {
			info, err := os.Stat(h.dir + "/" + f)
			if err != nil {
				t.Fatal(err)
			}
			out += fmt.Sprint(info.Size(), info.ModTime(), " ")
		}
		return out
	}
	// Whatever else the start has led to comes to its end: its manager tells of
	// it, too.
	h.eventually("50 heartbeats write nothing", func() bool {
		before := written()
		for n := range 50 {
			beat(float64(n))
		}
		return written() == before
	})
	if f := h.admin.service("/applications/1/services/1").Instances[0].Figures; f == nil || f.CPUPercent != 49 {
		t.Errorf("figures are not shown: %+v", f)
	}
}
