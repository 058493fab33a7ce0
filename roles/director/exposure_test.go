package director

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

func TestVisitsFromOutside(t *testing.T) {
	own := []netip.Prefix{netip.MustParsePrefix("192.168.56.2/24")}
	var sessions []store.Session
	for _, remote := range []string{"192.168.56.1", "203.0.113.9", "::1", "::ffff:203.0.113.9", "fe80::1", "nonsense", "10.0.2.2", "2001:db8::7"} {
		sessions = append(sessions, store.Session{User: 1, OpenSession: api.OpenSession{Remote: remote}})
	}
	var got []string
	for _, v := range visits(sessions, map[int64]string{1: "admin"}, own) {
		got = append(got, v.User+"@"+v.Address)
	}
	if want := []string{"admin@203.0.113.9", "admin@10.0.2.2", "admin@2001:db8::7"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	many := []store.Session{}
	for i := range 20 {
		many = append(many, store.Session{OpenSession: api.OpenSession{Remote: netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}).String()}})
	}
	if got := visits(many, nil, own); len(got) != mostVisits {
		t.Errorf("%d are told", len(got))
	}
}

func TestPoolProblem(t *testing.T) {
	for _, c := range []struct{ name, pool, own, want string }{
		{"good", "192.168.56.10-192.168.56.99", "192.168.56.2/24", ""},
		{"own-address-in-it", "192.168.56.2-192.168.56.99", "192.168.56.2/24", "own address 192.168.56.2"},
		{"elsewhere", "192.168.57.10-192.168.57.99", "192.168.56.2/24", "outside of the network of eth1"},
		{"half-outside", "192.168.56.10-192.168.57.1", "192.168.56.2/24", "outside of the network"},
		{"no-interface", "192.168.56.10-192.168.56.99", "", "eth1 has no network"},
		{"no-range", "192.168.56.10", "192.168.56.2/24", "is not one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var own []netip.Prefix
			if c.own != "" {
				own = append(own, netip.MustParsePrefix(c.own))
			}
			if got := poolProblem("eth1", c.pool, own); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestExposure: an appliance tells where its administrators are signed in from
// and who of them has a password alone; who runs no appliance is not bothered.
func TestExposure(t *testing.T) {
	h := newHouse(t)
	var s api.Setup
	h.admin.must("GET", "/setup", nil, &s, 200)
	if s.Exposure != nil {
		t.Errorf("got %+v", s.Exposure)
	}
	h.d.c.Clouds[0].Options = map[string]string{"public": "lo 127.0.0.10-127.0.0.20"}
	h.admin.must("GET", "/setup", nil, &s, 200)
	e := s.Exposure
	if e == nil || e.Interface != "lo" || e.Network != "127.0.0.0/8" || e.Problem != "" || len(e.Outside) != 0 || !slices.Equal(e.NoSecondFactor, []string{"admin"}) {
		t.Errorf("got %+v", e)
	}
}
