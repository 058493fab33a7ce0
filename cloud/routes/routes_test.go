package routes

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// apart runs the rest of the test in a network of its own, with one interface
// that has the address 192.168.7.1/24.
func apart(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("routes need root")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network name spaces here: %v", err)
	}
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "cable"}}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 168, 7, 1), Mask: net.CIDRMask(24, 32)}}); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
}

func route(to, via string) Route { return Route{netip.MustParsePrefix(to), netip.MustParseAddr(via)} }

// there are the routes marked as ours, of all owners.
func there(t *testing.T) (list []string) {
	t.Helper()
	all, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: protocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		found := of(r)
		list = append(list, found.To.String()+" "+found.Via.String())
	}
	slices.Sort(list)
	return list
}

func TestOwnersKeepApart(t *testing.T) {
	apart(t)
	set := func(owner string, wanted ...Route) {
		t.Helper()
		if err := Set(owner, wanted); err != nil {
			t.Fatal(err)
		}
	}
	want := func(list ...string) {
		t.Helper()
		if got := there(t); !slices.Equal(got, list) {
			t.Errorf("got %q, want %q", got, list)
		}
	}
	set("one/rack", route("10.201.0.0/16", "192.168.7.10"), route("10.202.0.0/16", "192.168.7.11"))
	set("two/rack", route("10.211.0.0/16", "192.168.7.20"))
	want("10.201.0.0/16 192.168.7.10", "10.202.0.0/16 192.168.7.11", "10.211.0.0/16 192.168.7.20")
	// A machine that has another address by now, and one that is gone.
	set("one/rack", route("10.201.0.0/16", "192.168.7.12"))
	want("10.201.0.0/16 192.168.7.12", "10.211.0.0/16 192.168.7.20")
	set("two/rack")
	want("10.201.0.0/16 192.168.7.12")
	set("one/rack")
	want()
}

func TestRoutesThatCannotBeSet(t *testing.T) {
	apart(t)
	err := Set("one/rack", []Route{route("10.201.0.0/16", "192.168.99.1"), route("10.202.0.0/16", "192.168.7.11"), route("10.203.0.0/16", "192.168.7.1")})
	if err == nil {
		t.Error("a route through an address of no network is no error")
	}
	if got := there(t); !slices.Equal(got, []string{"10.202.0.0/16 192.168.7.11"}) {
		t.Errorf("got %q", got)
	}
}
