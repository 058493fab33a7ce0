package director

import (
	"encoding/json"
	"slices"
	"testing"

	"nutshell/roles/api"
)

// TestWhatEndedOperationsLeave looks at operations that managers carried out
// and at one that was done at once.
func TestWhatEndedOperationsLeave(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	path := "/applications/shop/services/test"
	o := h.admin.done("POST", path+"/scale", api.Scale{Add: map[string]int{"web": 1}})
	if o.Cancellable {
		t.Errorf("an operation that has ended can be cancelled: %+v", o)
	}
	if s := h.admin.service(path); s.Reason != "serves" {
		t.Errorf("reason of what serves: %q", s.Reason)
	}
	h.admin.done("POST", path+"/stop", nil)
	h.admin.done("POST", "/applications/shop/stop", nil)
	o = h.admin.done("POST", path+"/scale", api.Scale{Set: map[string]int{"web": 1}}) // nothing runs: done at once
	if o.Cancellable || o.Ended == nil {
		t.Errorf("done at once: %+v", o)
	}

	history := func(path string) (list []api.Change) {
		h.admin.must("GET", path+"/history", nil, &list, 200)
		return list
	}
	for _, want := range []struct{ path, line string }{
		{path, "serves (scale shop/test, by admin)"},
		{path, "stopped (stop service shop/test, by admin)"},
		{path, "scaling (scale shop/test, by admin)"},
		{"/applications/shop", "its manager answers (start application shop, by admin)"},
		{"/applications/shop", "stopped; everything is kept (stop application shop, by admin)"},
	} {
		if got := history(want.path); !slices.ContainsFunc(got, func(c api.Change) bool { return c.Reason == want.line }) {
			t.Errorf("history of %s does not say %q: %+v", want.path, want.line, got)
		}
	}

	events, err := h.d.store.Events(t.Context(), 0, true, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	ended := map[string]bool{}
	shown := map[string]string{} // operation by what it was last shown on
	for _, e := range events {
		switch e.Type {
		case "operation":
			var o api.Operation
			if err := json.Unmarshal(e.Data, &o); err != nil {
				t.Fatal(err)
			}
			if ended[o.ID] = o.State.Final(); ended[o.ID] && o.Cancellable {
				t.Errorf("event: %s is %s and can be cancelled", o.Title, o.State)
			}
		case "service", "application":
			var is struct{ Operation string }
			if err := json.Unmarshal(e.Data, &is); err != nil {
				t.Fatal(err)
			}
			if shown[e.Type+e.Object] = is.Operation; ended[is.Operation] {
				t.Errorf("event %d: the %s still has an operation that has ended", e.ID, e.Type)
			}
		}
	}
	for what, o := range shown {
		if o != "" {
			t.Errorf("the last event of %s still has the operation %s", what, o)
		}
	}
	if len(ended) < 6 || len(shown) != 2 {
		t.Errorf("%d operations, %d things", len(ended), len(shown))
	}
}
