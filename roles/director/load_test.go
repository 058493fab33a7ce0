package director

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// TestTenThousandServices prints how long the list takes through the API. It
// asserts that the list is right, not how fast a busy machine is.
func TestTenThousandServices(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a database")
	}
	h := newHouse(t)
	ctx := t.Context()
	const apps, each = 100, 100
	err := h.d.store.Write(ctx, func(tx *store.Tx) error { return fill(ctx, tx, apps, each) })
	if err != nil {
		t.Fatal(err)
	}
	h.timed(fmt.Sprint(apps*each, " services"), "/services", 2_000_000)
	err = h.d.store.Write(ctx, func(tx *store.Tx) error { return fill(ctx, tx, 1, apps*each) })
	if err != nil {
		t.Fatal(err)
	}
	h.timed(fmt.Sprint("an application with ", apps*each, " services"), "/applications/"+strconv.Itoa(apps+1), 2_000_000)
	var page []api.Service
	h.admin.must("GET", "/services?limit=3&after=2/99", nil, &page, 200)
	if len(page) != 3 || page[0].ID != 100 || page[1].Application != 3 {
		t.Errorf("page: %+v", page)
	}
}

// timed asks several times for the same and prints how long the best took.
func (h *house) timed(what, path string, least int64) {
	h.t.Helper()
	best := time.Hour
	for range 5 {
		began := time.Now()
		resp := h.admin.raw("GET", path, nil, nil)
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		took := time.Since(began)
		if err != nil || n < least || resp.Header.Get("Content-Type") != "application/json" {
			h.t.Fatalf("%d bytes, %v, %v", n, err, resp.Header)
		}
		best = min(best, took)
		h.t.Logf("%s in %v, %d bytes", what, took, n)
	}
	h.t.Logf("%s: best of five %v", what, best)
}

func fill(ctx context.Context, tx *store.Tx, apps, each int) error {
	for a := range apps {
		app, err := tx.InsertApplication(ctx, store.Application{OwnerID: 1, Application: api.Application{Name: fmt.Sprint("app", a, "-", each), State: api.Init, Desired: api.GoalStopped}})
		if err != nil {
			return err
		}
		for s := range each {
			_, err := tx.InsertService(ctx, store.Service{OwnerID: 1, Service: api.Service{ID: int64(s + 1), Application: app.ID, Name: fmt.Sprint("php", s), Kind: "test", State: api.Init,
				Desired: api.GoalStopped, Parts: map[string]int{"proxy": 1, "web": 1, "backend": 2}, Settings: []byte(`{"memory_limit":"128M","max_execution_time":30}`), URLs: []string{"http://10.0.0.1/"}}})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
