package director

import (
	"archive/zip"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nutshell/roles/api"
)

// file gets what a route sends as a file.
func (c client) file(path string) []byte {
	c.h.t.Helper()
	resp := c.raw("GET", path, nil, nil)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		c.h.t.Fatalf("GET %s: %d %v %s", path, resp.StatusCode, err, b)
	}
	return b
}

func TestAuditIsSearched(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, eve := h.user("ann"), h.user("eve")
	ann.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	eve.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	eve.refused("PATCH", "/applications/1", api.Rename{Name: "mine"}, api.CodeNotFound)
	eve.must("PATCH", "/applications/shop", api.Rename{Name: "=cmd"}, nil, 422)
	ann.must("POST", "/applications/shop/services", api.CreateService{Kind: "test"}, nil, 201)
	list := func(c client, path string) (actions []string) {
		t.Helper()
		var rows []api.AuditEntry
		c.must("GET", path, nil, &rows, 200)
		for _, r := range rows {
			actions = append(actions, r.Actor+" "+r.Action+" "+r.Result)
		}
		return actions
	}
	for query, want := range map[string][]string{
		"?actor=ann&action=service":                      {"ann service.create ok"},
		"?result=refused":                                {"eve application.rename invalid", "eve application.rename not_found"},
		"?object=/applications/1":                        {"eve application.rename not_found"},
		"?actor=eve&limit=1":                             {"eve application.rename invalid"},
		"?actor=eve&until=24h":                           nil,
		"?action=application.rename&since=1h&result=ok":  nil,
		"?action=application.create&since=7d&result=ok":  {"eve application.create ok", "ann application.create ok"},
		"?action=application.create&since=7d&before=1":   nil,
		"?action=app":                                    nil,
		"?object=/applications/shop/services&actor=ann":  {"ann service.create ok"},
		"?object=/applications/shop/services&actor=nobo": nil,
	} {
		if got := list(h.admin, "/audit"+query); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	h.admin.refused("GET", "/audit?since=yesterday", nil, api.CodeInvalid)
	// Who owns an application sees what others tried with it, and not what they
	// did with another of its name.
	if got := list(ann, "/applications/shop/audit"); !slices.Equal(got, []string{"ann service.create ok", "eve application.rename not_found"}) {
		t.Errorf("of the application: %v", got)
	}
	eve.refused("GET", "/applications/1/audit", nil, api.CodeNotFound)
	eve.refused("GET", "/audit/export", nil, api.CodeForbidden)
	rows, err := csv.NewReader(bytes.NewReader(h.admin.file("/audit/export?actor=eve&action=application"))).ReadAll()
	if err != nil || len(rows) != 4 || rows[0][1] != "time" {
		t.Errorf("exported: %v %v", rows, err)
	}
	lines := strings.Split(strings.TrimSpace(string(h.admin.file("/audit/export?format=jsonl&actor=eve&action=application"))), "\n")
	var e api.AuditEntry
	if err := json.Unmarshal([]byte(lines[0]), &e); err != nil || len(lines) != 3 || e.Actor != "eve" {
		t.Errorf("exported: %q %v", lines, err)
	}
	if got := plainCell("=1+1"); got != "'=1+1" {
		t.Errorf("a formula: %s", got)
	}
}

func TestOperationsAreFound(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, eve := h.user("ann"), h.user("eve")
	ann.running("shop")
	const path = "/applications/shop/services/test"
	h.mu.Lock()
	h.fail[serviceScale] = api.Conflictf("no room")
	h.mu.Unlock()
	failed := ann.finish("POST", path+"/scale", api.Scale{Add: map[string]int{"web": 1}})
	ann.done("POST", path+"/stop", nil)
	second := ann.done("POST", path+"/start", nil)
	if second.ExpectedMS <= 0 {
		t.Errorf("nobody knows how long a second start takes: %+v", second)
	}
	kinds := func(query string) (kinds []string) {
		t.Helper()
		var list []api.Operation
		ann.must("GET", "/operations"+query, nil, &list, 200)
		for _, o := range list {
			kinds = append(kinds, o.Kind)
		}
		return kinds
	}
	for query, want := range map[string][]string{
		"?kind=application":         {applicationStart},
		"?state=failed":             {serviceScale},
		"?kind=service.start":       {serviceStart, serviceStart},
		"?actor=eve":                nil,
		"?actor=ann&limit=1":        {serviceStart},
		"?before=" + failed.ID:      {serviceStart, applicationStart},
		"?parent=" + failed.ID:      nil,
		"?before=none":              nil,
		"?state=active":             nil,
		"?state=done&kind=service.": nil,
	} {
		if got := kinds(query); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	var r reported
	if err := json.Unmarshal(ann.file("/operations/"+failed.ID+"/report"), &r); err != nil || r.Operation.Error == nil || r.Service == nil || r.Application.Name != "shop" || len(r.History) == 0 || len(r.Log) == 0 {
		t.Errorf("report: %+v %v", r, err)
	}
	eve.refused("GET", "/operations/"+failed.ID+"/report", nil, api.CodeNotFound)
	ann.refused("GET", "/diagnostics", nil, api.CodeForbidden)
	if err := os.MkdirAll(filepath.Join(h.dir, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, "log", "director.log"), []byte("it began\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := h.admin.file("/diagnostics")
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range z.File {
		rd, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(rd)
		if err != nil || len(got) == 0 || strings.Contains(string(got), "correct horse") {
			t.Errorf("%s: %d bytes, %v", f.Name, len(got), err)
		}
		var d diagnosed
		if f.Name == "report.json" && (json.Unmarshal(got, &d) != nil || d.Services["test RUNNING"] != 1 || len(d.Failed) != 1 || d.Users != 3) {
			t.Errorf("summary: %s", got)
		}
	}
}
