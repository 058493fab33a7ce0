package director

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
)

// What managers post is drawn for the owner, over a restart of the director,
// and nobody can post for others or look at theirs.
func TestMeasured(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	h.admin.running("blog")
	var shop, blog api.Application
	h.admin.must("GET", "/applications/shop", nil, &shop, 200)
	h.admin.must("GET", "/applications/blog", nil, &blog, 200)
	mine, other := shop.Services[0].Instances[0], blog.Services[0].Instances[0]
	manager := rpc.NewClient(h.url, h.credentials(api.Identity{Installation: h.d.installation, Role: api.RoleManager, Application: shop.ID, Name: shop.Manager.ID}))
	post := func(list ...api.Measured) {
		t.Helper()
		if err := manager.Do(t.Context(), "POST", "/api/v1/manager/measured", list, nil); err != nil {
			t.Fatal(err)
		}
	}
	memory := []api.Sample{{Name: "nutshell_memory_bytes", Value: 5e7}}
	post(api.Measured{Instance: mine.ID, Service: mine.Service, Parts: []string{"web"}, Samples: memory},
		api.Measured{Instance: other.ID, Service: other.Service, Samples: memory},
		api.Measured{Instance: mine.ID, Service: 99, Samples: memory},
		api.Measured{Instance: shop.Manager.ID, Service: mine.Service, Samples: memory})
	const path = "/applications/shop/services/test/graphs"
	drawn := func(app, query string) []api.Graph {
		t.Helper()
		var list []api.Graph
		h.admin.must("GET", strings.Replace(path, "shop", app, 1)+query, nil, &list, 200)
		return list
	}
	// A point is for a whole step; the next one comes within it.
	h.eventually("there is a graph", func() bool {
		list := drawn("shop", "?since=5m&by=instance")
		return len(list) > 0 && list[0].ID == "memory" && len(list[0].Series) == 1 && list[0].Series[0].Name == mine.ID && list[0].Series[0].Points[0][1] == 5e7
	})
	if list := drawn("blog", ""); len(list) != 0 {
		t.Errorf("a manager posted for another application: %+v", list)
	}
	text := h.admin.raw("GET", "/metrics", nil, nil)
	b, err := io.ReadAll(text.Body)
	text.Body.Close()
	if err != nil || text.StatusCode != http.StatusOK || !strings.HasPrefix(text.Header.Get("Content-Type"), "text/plain") {
		t.Fatalf("metrics: %s %s %v", text.Status, text.Header, err)
	}
	for _, want := range []string{`nutshell_memory_bytes{application="shop",instance="` + mine.ID + `",service="test"} 5e+07`, `nutshell_operations{state="done"} `, `nutshell_api_requests_total{code="204",route="manager.measured"} 1`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("there is no %s in\n%s", want, b)
		}
	}
	if strings.Contains(string(b), other.ID) {
		t.Error("a figure of another application is told")
	}
	ann := h.user("ann")
	ann.refused("GET", path, nil, api.CodeNotFound)
	ann.refused("GET", "/metrics", nil, api.CodeForbidden)
	for _, query := range []string{"?since=never", "?since=-1h", "?until=x", "?by=part", "?points=5000", "?since=2m&until=1h", "?since=99999d", "?since=9999-99-99T00:00:00Z"} {
		h.admin.refused("GET", path+query, nil, api.CodeInvalid)
	}
	for _, query := range []string{"?since=30d", "?since=2026-01-01T00:00:00Z&points=2", "?since=48h&until=24h", "?points=0", "?since=1ns"} {
		drawn("shop", query)
	}
	h.stopDirector()
	h.start()
	if list := drawn("shop", "?since=5m"); len(list) == 0 {
		t.Error("history ended with the director")
	}
}

// The edge's figures become those of a part of each service.
func TestEdgeMeasured(t *testing.T) {
	of := func(service string, more ...string) map[string]string {
		m := map[string]string{"application": "1", "service": service}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	got := edgeMeasured([]api.Sample{{Name: "nutshell_edge_connections", Value: 1}, {Name: "nutshell_edge_requests_total", Labels: map[string]string{"application": "0", "service": "0"}, Value: 9},
		{Name: "nutshell_edge_requests_total", Labels: of("2", "code", "2xx"), Value: 5}, {Name: "nutshell_edge_request_seconds_bucket", Labels: of("3", "le", "0.1"), Value: 4}})
	want := map[int64][]api.Measured{1: {
		{Instance: "edge-1-2", Service: 2, Parts: []string{"edge"}, Samples: []api.Sample{{Name: "nutshell_http_requests_total", Labels: map[string]string{"part": "edge", "class": "2xx"}, Value: 5}}},
		{Instance: "edge-1-3", Service: 3, Parts: []string{"edge"}, Samples: []api.Sample{{Name: "nutshell_http_seconds_bucket", Labels: map[string]string{"part": "edge", "le": "0.1"}, Value: 4}}}}}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("got %s, want %s", a, b)
	}
}

func TestMoment(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{"": now.Add(time.Hour), "90m": now.Add(-90 * time.Minute), "30d": now.AddDate(0, 0, -30), "2026-01-31T12:00:00Z": time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)} {
		if got, err := moment("since", text, now, now.Add(time.Hour)); err != nil || !got.Equal(want) {
			t.Errorf("%q: got %v %v, want %v", text, got, err, want)
		}
	}
}
