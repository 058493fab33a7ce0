package director

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// TestEveryChangeIsAudited asks for each change in each way that it can be
// refused: nobody, somebody with nonsense, and somebody with wrong JSON.
func TestEveryChangeIsAudited(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	// No change, many a minute, or a piece of what is audited at its start and end.
	quiet := map[string]bool{"session.passkey_begin": true, "service.preview": true, "manifest.check": true, "upload.append": true, "member.renew": true, "manager.report": true, "manager.measured": true, "manager.operation": true, "node.join": true, "node.heartbeat": true}
	parameter := regexp.MustCompile(`\{[a-z0-9]+\}`)
	nobody := h.admin
	nobody.auth = ""
	seen := 0
	for _, r := range h.d.routes() {
		if r.Method == http.MethodGet || quiet[r.ID] {
			continue
		}
		path := parameter.ReplaceAllString(r.Path, "nothing")
		for _, try := range []struct {
			name, body, result string
			c                  client
		}{
			{"nobody", "{}", "unauthorized", nobody},
			{"unknown-field", `{"nonsense":1}`, "", h.admin},
			{"no-json", `{`, "", h.admin},
		} {
			before := lastAudit(t, h)
			resp := try.c.raw(r.Method, path, strings.NewReader(try.body), http.Header{"Content-Type": {"application/json"}})
			resp.Body.Close()
			last := lastAudit(t, h)
			switch {
			case last.ID != before.ID+1:
				t.Errorf("%s %s by %s: %d rows, want 1 (status %d)", r.Method, path, try.name, last.ID-before.ID, resp.StatusCode)
			case last.Action != r.ID || last.From != "127.0.0.1" || last.Object != path || (last.Result == "ok") != (resp.StatusCode < 300):
				t.Errorf("%s %s by %s: %+v (status %d)", r.Method, path, try.name, last, resp.StatusCode)
			case try.result != "" && r.Needs != "public" && last.Result != try.result:
				t.Errorf("%s %s by %s: result %q, want %q", r.Method, path, try.name, last.Result, try.result)
			case try.name != "nobody" && slices.Contains([]httpapi.Needs{httpapi.User, httpapi.Viewer, httpapi.Developer, httpapi.Owner, httpapi.Admin}, r.Needs) && last.Actor != "admin":
				t.Errorf("%s %s by %s: actor %q", r.Method, path, try.name, last.Actor)
			}
			seen++
		}
	}
	if seen < 60 {
		t.Errorf("only %d requests were made", seen)
	}
}

func lastAudit(t *testing.T, h *house) api.AuditEntry {
	t.Helper()
	list, err := h.d.store.Audit(t.Context(), store.AuditFilter{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		return api.AuditEntry{}
	}
	return list[0]
}

func TestSigningInIsAudited(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.user("ann")
	c := ann
	c.auth = ""
	long := strings.Repeat("x", 5000)
	for _, try := range []struct {
		name, actor, action, result string
		ask                         func()
	}{
		{"right", "ann", "session.create", "ok", func() { c.must("POST", "/session", api.SignIn{Name: "ann", Password: "correct horse ann"}, nil, 200) }},
		{"wrong", "ann", "session.create", "unauthorized", func() { c.must("POST", "/session", api.SignIn{Name: "ann", Password: "guess"}, nil, 401) }},
		{"nobody", "eve", "session.create", "unauthorized", func() { c.must("POST", "/session", api.SignIn{Name: "eve", Password: "guess"}, nil, 401) }},
		{"long-name", long[:200] + "…", "session.create", "unauthorized", func() { c.must("POST", "/session", api.SignIn{Name: long, Password: "guess"}, nil, 401) }},
		{"wrong-with-the-request", "ann", "application.list", "unauthorized", func() {
			c.basic = [2]string{"ann", "guess"}
			c.must("GET", "/applications", nil, nil, 401)
		}},
	} {
		t.Run(try.name, func(t *testing.T) {
			try.ask()
			if e := lastAudit(t, h); e.Actor != try.actor || e.Action != try.action || e.Result != try.result || e.From != "127.0.0.1" {
				t.Errorf("got %+v", e)
			}
		})
	}
}

// TestOpenAPI looks whether the document says of every route what clients are
// generated from.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	type operation struct {
		OperationID string `json:"operationId"`
		Summary     string
		Needs       string                      `json:"x-needs"`
		Security    *[]map[string][]string      `json:"security"`
		Parameters  []struct{ Name, In string } `json:"parameters"`
		Responses   map[string]struct {
			Description string
			Content     map[string]json.RawMessage
		}
	}
	var doc struct {
		OpenAPI    string `json:"openapi"`
		Info       struct{ Title, Version string }
		Paths      map[string]map[string]operation
		Components struct {
			Schemas         map[string]json.RawMessage
			SecuritySchemes map[string]struct{ Type string }
		}
	}
	var raw json.RawMessage
	h.admin.must("GET", "/openapi.json", nil, &raw, 200)
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") || doc.Info.Title == "" || doc.Info.Version == "" {
		t.Errorf("document: %q, %+v", doc.OpenAPI, doc.Info)
	}
	for _, ref := range regexp.MustCompile(`"\$ref":"#/components/schemas/([^"]+)"`).FindAllStringSubmatch(string(raw), -1) {
		if doc.Components.Schemas[ref[1]] == nil {
			t.Errorf("there is no schema %s", ref[1])
		}
	}
	braces := regexp.MustCompile(`\{([a-z0-9]+)\}`)
	for _, r := range h.d.routes() {
		o, ok := doc.Paths["/api/v1"+r.Path][strings.ToLower(r.Method)]
		if !ok || o.OperationID != r.ID || o.Summary == "" || o.Needs == "" || o.Security == nil {
			t.Errorf("%s %s: %+v", r.Method, r.Path, o)
			continue
		}
		if (len(*o.Security) == 0) != (r.Needs == "public") {
			t.Errorf("%s: security %v for %s", r.ID, *o.Security, r.Needs)
		}
		for _, s := range *o.Security {
			for name := range s {
				if doc.Components.SecuritySchemes[name].Type == "" {
					t.Errorf("%s: there is no security scheme %s", r.ID, name)
				}
			}
		}
		if _, ok := o.Responses["default"].Content["application/problem+json"]; !ok {
			t.Errorf("%s does not say what errors look like", r.ID)
		}
		success := 0
		for status, answer := range o.Responses {
			if status[0] == '2' {
				success++
			}
			if answer.Description == "" { // the standard requires it
				t.Errorf("%s: the answer %s has no description", r.ID, status)
			}
		}
		if success == 0 {
			t.Errorf("%s does not say what it answers", r.ID)
		}
		said := map[string]int{}
		for _, p := range o.Parameters {
			said[p.In+" "+p.Name]++
		}
		for _, name := range braces.FindAllStringSubmatch(r.Path, -1) {
			if said["path "+name[1]] != 1 {
				t.Errorf("%s: the path parameter %s is described %d times", r.ID, name[1], said["path "+name[1]])
			}
		}
	}
}
