package card

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

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
	for _, line := range []string{"link add " + device + " type veth peer name other", "link set other up", "link set " + device + " up", "address add 172.16.0.25/24 dev other"} {
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	for name, taken := range map[string]bool{"172.16.0.25": true, "172.16.0.26": false} {
		free, err := probe(t.Context(), []netip.Addr{netip.MustParseAddr(name)}, patient)
		if err != nil || free.IsValid() == taken {
			t.Errorf("%s: got free address %v, %v; want taken %v", name, free, err, taken)
		}
	}
}
