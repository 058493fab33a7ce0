package director

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nutshell/roles/api"
)

// matching sends a change with the revision that its asker has seen.
func (c client) matching(method, path, revision string, in any) (int, *api.Error) {
	c.h.t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		c.h.t.Fatal(err)
	}
	resp := c.raw(method, path, strings.NewReader(string(b)), http.Header{"Content-Type": {"application/json"}, "If-Match": {revision}})
	defer resp.Body.Close()
	var e api.Error
	if b, err = io.ReadAll(resp.Body); err != nil || resp.StatusCode >= 400 && json.Unmarshal(b, &e) != nil {
		c.h.t.Fatalf("%s %s: %v: %s", method, path, err, b)
	}
	return resp.StatusCode, &e
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, eve := h.user("ann"), h.user("eve")
	path := ann.shopWith("shop")
	list := func() (list []api.Revision) {
		t.Helper()
		ann.must("GET", path+"/revisions", nil, &list, 200)
		return list
	}
	if first := ann.service(path); first.Revision != 1 || len(list()) != 0 {
		t.Errorf("a new service: %+v, %+v", first, list())
	}
	ann.must("PATCH", path+"/settings", map[string]int{"level": 5}, nil, 200)
	ann.must("PATCH", path+"/settings", map[string]int{"level": 5}, nil, 200) // changes nothing
	ann.must("PATCH", path+"/environment", api.ChangeEnvironment{Set: []api.Variable{{Name: "MODE", Value: "fast"}, {Name: "TOKEN", Value: "geheim", Secret: true}}}, nil, 200)
	ann.must("PUT", path+"/script", api.Script{Text: "#!/bin/sh\n"}, nil, 204)
	got := list()
	if s := ann.service(path); s.Revision != 4 || len(got) != 4 {
		t.Fatalf("revision %d, list %+v", s.Revision, got)
	}
	type change = api.RevisionChange
	for i, want := range [][]change{
		{{What: "script", Name: "startup.sh", To: "#!/bin/sh\n"}},
		{{What: "environment", Name: "MODE", To: "fast"}, {What: "environment", Name: "TOKEN", To: "********", Secret: true}},
		{{What: "settings", Name: "level", From: "3", To: "5"}},
		{},
	} {
		if diff := cmp.Diff(want, got[i].Changes); diff != "" {
			t.Errorf("revision %d: %s", got[i].Number, diff)
		}
		if got[i].By != "ann" && i < 3 || got[i].Number != int64(4-i) {
			t.Errorf("revision: %+v", got[i])
		}
	}
	eve.refused("GET", path+"/revisions", nil, api.CodeNotFound)
	eve.refused("POST", path+"/revisions/1/revert", nil, api.CodeNotFound)
	ann.refused("POST", path+"/revisions/9/revert", nil, api.CodeNotFound)

	// Somebody who has looked at revision 2 does not know of what came then.
	if status, e := ann.matching("PUT", path+"/script", "2", api.Script{Text: "other"}); status != 409 || len(e.Fields) != 1 || !strings.Contains(e.Message, "ann was last") {
		t.Errorf("script: %d %+v", status, e)
	}
	if status, e := ann.matching("PATCH", path+"/environment", "2", api.ChangeEnvironment{Unset: []string{"MODE"}}); status != 409 || e.Fields[0] != "MODE" {
		t.Errorf("environment: %d %+v", status, e)
	}
	if status, e := ann.matching("PATCH", path+"/settings", `"1"`, map[string]int{"level": 7}); status != 409 || !strings.Contains(e.Message, "level is 5 now, and was 3") {
		t.Errorf("settings: %d %+v", status, e)
	}
	if status, e := ann.matching("PATCH", path+"/settings", "2", map[string]int{"level": 6}); status != 200 { // only others changed since
		t.Errorf("settings that nobody touched: %d %+v", status, e)
	}
	if status, _ := ann.matching("PATCH", path+"/settings", "new", map[string]int{"level": 6}); status != 422 {
		t.Errorf("no revision: %d", status)
	}

	ann.must("POST", path+"/revisions/1/revert", nil, nil, 200)
	var script api.Script
	var env []api.Variable
	ann.must("GET", path+"/script", nil, &script, 200)
	ann.must("GET", path+"/environment", nil, &env, 200)
	if s := ann.service(path); !strings.Contains(string(s.Settings), `"level":3`) || script.Text != "" || len(env) != 0 || s.Revision != 6 {
		t.Errorf("reverted: %+v, %q, %+v", s, script.Text, env)
	}
	ann.refused("POST", path+"/revisions/1/revert", nil, api.CodeConflict)
}

// TestAFailedChangeIsTwoRevisions goes back by itself.
func TestAFailedChangeIsTwoRevisions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	const path = "/applications/shop/services/test"
	h.mu.Lock()
	h.fail[serviceConfigure] = api.Conflictf("no")
	h.mu.Unlock()
	if o := h.admin.finish("PATCH", path+"/settings", map[string]int{"level": 5}); o.State != api.OperationFailed {
		t.Fatalf("the operation is %s", o.State)
	}
	var list []api.Revision
	h.admin.must("GET", path+"/revisions", nil, &list, 200)
	if len(list) != 3 || !strings.HasPrefix(list[0].Why, "put back: ") || list[0].Changes[0].To != "3" || list[1].Changes[0].To != "5" {
		t.Errorf("revisions: %+v", list)
	}
	h.mu.Lock()
	delete(h.fail, serviceConfigure)
	h.mu.Unlock()
	h.admin.done("POST", path+"/revisions/2/revert", nil)
	if s := h.admin.service(path); !strings.Contains(string(s.Settings), `"level":5`) || s.State != api.Running {
		t.Errorf("after going back: %+v", s)
	}
}
