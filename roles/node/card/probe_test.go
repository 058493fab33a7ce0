package card

import (
	"errors"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestFixedAddressOfAnother: a machine on the same cable is heard.
func TestFixedAddressOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network name spaces here: %v", err)
	}
	ours := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: device}, PeerName: "other"}
	other := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "other"}}
	address, err := netlink.ParseAddr("172.16.0.25/24")
	if err := errors.Join(err, netlink.LinkAdd(ours), netlink.LinkSetUp(ours), netlink.LinkSetUp(other), netlink.AddrAdd(other, address)); err != nil {
		t.Fatal(err)
	}
	for name, taken := range map[string]bool{"172.16.0.25": true, "172.16.0.26": false} {
		free, err := probe(t.Context(), []netip.Addr{netip.MustParseAddr(name)}, patient)
		if err != nil || free.IsValid() == taken {
			t.Errorf("%s: got free address %v, %v; want taken %v", name, free, err, taken)
		}
	}
}
