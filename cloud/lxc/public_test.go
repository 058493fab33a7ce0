package lxc_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
)

// TestPublicAddresses: what people outside reach is the port that was asked
// for, at an address of the pool, and nothing else.
func TestPublicAddresses(t *testing.T) {
	b := newBed(t, nil)
	const device = "nutshelltest0"
	l := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: device}}
	if err := netlink.LinkAdd(l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(l) })
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
	b.Options = map[string]string{"public": device + " 198.18.77.10-198.18.77.11"}
	d, dir := b.driver(t)
	var specs []cloud.Spec
	for _, name := range []string{"one", "two", "three"} {
		specs = append(specs, cloud.Spec{Name: name, Group: "g", Layers: []string{b.Layer}, Public: []int{atoi(t, cloudtest.Port)}})
	}
	specs = append(specs, cloud.Spec{Name: "hidden", Group: "g", Layers: []string{b.Layer}})
	got, err := d.Launch(t.Context(), specs)
	if err != nil {
		t.Fatal(err)
	}
	byPublic := map[string]cloud.Instance{}
	for _, i := range got {
		answers(t, i, "/pid")
		if i.Public != "" {
			byPublic[i.Public] = i
			there := i
			there.Address = i.Public
			if said := answers(t, there, "/hostname"); !strings.Contains(said, i.Name) {
				t.Errorf("%s says it is %q", i.Public, said)
			}
		}
	}
	if len(byPublic) != 2 {
		t.Fatalf("a pool of two addresses gave %d: %v", len(byPublic), byPublic)
	}
	var first cloud.Instance
	for _, first = range byPublic {
		break
	}
	if c, err := net.DialTimeout("tcp", net.JoinHostPort(first.Public, "5556"), time.Second); err == nil {
		_ = c.Close()
		t.Error("a port that is not public is reached at the public address")
	}
	if err := d.Terminate(t.Context(), []string{first.Name}); err != nil {
		t.Fatal(err)
	}
	list, err := netlink.AddrList(l, netlink.FAMILY_V4)
	if err != nil || len(list) != 1 {
		t.Errorf("addresses after one has gone: %v, %v", list, err)
	}
	again, err := d.Launch(t.Context(), []cloud.Spec{{Name: "four", Group: "g", Layers: []string{b.Layer}, Public: []int{atoi(t, cloudtest.Port)}}})
	if err != nil {
		t.Fatal(err)
	}
	if again[0].Public != first.Public {
		t.Errorf("the next one got %q, want %q, which is free again", again[0].Public, first.Public)
	}
	// Somebody gives the machine another range: who starts again gets one of it.
	if err := d.(cloud.Stopper).Stop(t.Context(), []string{again[0].ID}); err != nil {
		t.Fatal(err)
	}
	b.Options = map[string]string{"public": device + " 198.18.77.20-198.18.77.21"}
	moved, err := b.open(t, dir).Launch(t.Context(), []cloud.Spec{{Name: "four", Group: "g", Layers: []string{b.Layer}, Public: []int{atoi(t, cloudtest.Port)}}})
	if err != nil {
		t.Fatal(err)
	}
	if moved[0].Public != "198.18.77.20" || moved[0].Address != again[0].Address {
		t.Errorf("in another range it is %s, %s", moved[0].Public, moved[0].Address)
	}
}
