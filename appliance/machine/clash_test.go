package machine

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"nutshell/appliance"
	"nutshell/roles/api"
)

func TestARP(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 7}
	q := question(mac, netip.MustParseAddr("192.168.56.2"))
	if len(q) != arpBytes || [4]byte(q[arpTarget:]) != [4]byte{192, 168, 56, 2} {
		t.Errorf("got % x", q)
	}
	if _, _, ok := owner(q); ok {
		t.Error("who only asks is taken for an owner")
	}
	copy(q[arpFrom:], []byte{192, 168, 56, 9})
	if a, by, ok := owner(q); !ok || a.String() != "192.168.56.9" || by.String() != mac.String() {
		t.Errorf("got %v, %v, %v", a, by, ok)
	}
	for _, b := range [][]byte{nil, q[:27], make([]byte, 60)} {
		if _, _, ok := owner(b); ok {
			t.Errorf("% x is taken for an answer", b)
		}
	}
}

func TestNoNeighbours(t *testing.T) {
	if got, err := Clash("lo", []netip.Addr{netip.MustParseAddr("192.0.2.1")}); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := Clash("none0", nil); err == nil {
		t.Error("an interface that does not exist has an answer")
	}
}

// TestAddressesOfOthersAreRefused: the machine's new address and what is new
// in the range are asked for, and nothing that it has already.
func TestAddressesOfOthersAreRefused(t *testing.T) {
	for _, c := range []struct {
		name, taken string
		want        api.Code
	}{{"own", "192.168.60.2", api.CodeConflict}, {"first", "192.168.60.10", api.CodeConflict}, {"last", "192.168.60.20", api.CodeConflict}, {"outside", "192.168.60.21", ""}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			b.Clash = func(_ string, asked []netip.Addr) (map[netip.Addr]string, error) {
				if len(asked) != 12 {
					t.Errorf("%d addresses are asked for", len(asked))
				}
				a := netip.MustParseAddr(c.taken)
				if !slices.Contains(asked, a) {
					return nil, nil
				}
				return map[netip.Addr]string{a: "02:00:00:00:00:07"}, nil
			}
			if err := b.SetNetwork(t.Context(), other(), nil); api.CodeOf(err) != c.want {
				t.Errorf("got %v", err)
			}
			if _, pending, _ := b.Pending(); pending != (c.want == "") {
				t.Error("what was refused waits to be confirmed, or the other way round")
			}
		})
	}
	b := newBed(t)
	n, _ := appliance.Plan(appliance.Director)
	n.Last = n.Last.Next()
	b.Clash = func(_ string, asked []netip.Addr) (map[netip.Addr]string, error) {
		if len(asked) != 1 || asked[0] != n.Last {
			t.Errorf("asked for %v, of which only one is new", asked)
		}
		return nil, nil
	}
	if err := b.SetNetwork(t.Context(), n, nil); err != nil {
		t.Error(err)
	}
}
