package director

import (
	"context"
	"slices"
	"strings"
	"testing"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
	"nutshell/roles/api"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

// TestAddressesOutside: people are told the address that they can reach, and
// what we ask ourselves keeps the inner one.
func TestAddressesOutside(t *testing.T) {
	h := withEdge(t, nil)
	asked := map[string][]int{}
	public := func(s cloud.Spec) string {
		asked[s.Name] = s.Public
		return "192.0.2.10"
	}
	h.sim.Set(func(s *cloudtest.Sim) { s.Public = public })
	h.admin.running("shop")
	rows, err := h.d.store.ApplicationInstances(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	var web store.Instance
	for _, r := range rows {
		if r.Service != 0 {
			web = r
		} else if r.Public != "" {
			t.Errorf("the manager is shown at %s", r.Public)
		}
	}
	if web.Public != "192.0.2.10" || !slices.Equal(asked[web.ID], []int{testPort}) || len(asked) != 1 {
		t.Fatalf("instance is at %q, ports were asked for: %v", web.Public, asked)
	}
	own := "http://" + web.Address + ":8088/x"
	h.eventually("people are told addresses outside, the manager its own", func() bool {
		h.reports(1, 1, own, "http://other.test/")
		got := h.admin.service("/applications/shop/services/test").URLs
		d, err := h.d.desiredOf(t.Context(), 1)
		return err == nil && len(got) > 1 && slices.Equal(got[len(got)-2:], []string{"http://192.0.2.10:8088/x", "http://other.test/"}) && slices.Equal(d.Services[0].Service.URLs, []string{own, "http://other.test/"})
	})
	for _, p := range h.d.proxies(store.Service{Service: api.Service{Kind: "test"}}, []store.Instance{web}) {
		if !strings.HasPrefix(p.Address, web.Address) {
			t.Errorf("the edge asks %s", p.Address)
		}
	}

	// The cloud gives another one, or none: the sweep sees it.
	for _, now := range []string{"192.0.2.11", ""} {
		h.sim.Set(func(s *cloudtest.Sim) { s.Move(web.ID, now) })
		h.d.sweep(t.Context())
		want := "http://" + now + ":8088/x"
		if now == "" {
			want = own
		}
		h.eventually("people are told "+want, func() bool {
			h.reports(1, 1, own) // its manager may just report that it has none
			return slices.Contains(h.admin.service("/applications/shop/services/test").URLs, want)
		})
		row, err := h.d.store.Instance(t.Context(), web.ID)
		if err != nil || row.Public != now {
			t.Errorf("stored: %q, %v", row.Public, err)
		}
	}
}

// reports stores what a service's manager would report to serve at, once that
// has said its own.
func (h *house) reports(app, service int64, urls ...string) {
	h.t.Helper()
	h.eventually("the service serves where it is told", func() bool {
		s, err := h.d.store.ServiceByID(h.t.Context(), app, service)
		if err != nil {
			h.t.Fatal(err)
		}
		s.Reported = urls
		if err := h.d.write(h.t.Context(), func(ctx context.Context, t *store.Tx) error { return t.ObserveService(ctx, s) }); err != nil {
			h.t.Fatal(err)
		}
		return s.State == api.Running
	})
}

func TestPublicPorts(t *testing.T) {
	k := services.Kind{Parts: []services.Part{
		{Name: "proxy", Ports: []api.Port{{Number: 80, Public: true}, {Number: 8080}}},
		{Name: "web", Ports: []api.Port{{Number: 9000}}},
		{Name: "sql", Ports: []api.Port{{Number: 3306, Public: true}, {Number: 80, Public: true}}},
	}}
	for _, c := range []struct {
		name  string
		parts []string
		want  []int
	}{
		{"proxy", []string{"proxy"}, []int{80}},
		{"inner-part", []string{"web"}, nil},
		{"both", []string{"sql", "proxy"}, []int{80, 3306}},
		{"not-known-yet", nil, []int{80, 3306}},
		{"unknown", []string{"x"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := publicPorts(k, c.parts); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
