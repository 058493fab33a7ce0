package lxc_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"nutshell/cloud"
)

// TestReboot takes away all that a reboot takes: processes, with them the
// mounts, the network, the firewall and what is below /run. The instance must
// come back as it was.
func TestReboot(t *testing.T) {
	b := newBed(t, nil)
	d, dir := b.driver(t)
	before := b.up(t, d, "shop-1")[0]
	if _, err := ask(t, before, "/write", "path", "kept", "text", "data"); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, before, "/write", "path", "/run/pid", "text", "1"); err != nil {
		t.Fatal(err)
	}
	first, err := cloud.FindProcess(initOf(t, b.Installation, "shop-1"))
	must(t, err)
	stat, err := cloud.ReadStat(first.PID)
	must(t, err)
	monitor, err := cloud.FindProcess(stat.Parent)
	must(t, err)
	must(t, monitor.Signal(syscall.SIGKILL)) // the container ends with it
	must(t, monitor.Wait(t.Context()))
	must(t, first.Wait(t.Context()))
	links, err := netlink.LinkList()
	must(t, err)
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "nsh"+b.Installation) {
			must(t, netlink.LinkDel(l))
		}
	}
	c, err := nftables.New()
	must(t, err)
	c.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "nutshell_" + b.Installation})
	must(t, c.Flush())
	must(t, os.Remove(filepath.Join("/run/nutshell", b.Installation)))
	file := filepath.Join(dir, "shop-1", "process.json")
	state, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(state), first.Boot, "00000000-0000-0000-0000-000000000000")), 0o600))

	d = b.open(t, dir)
	for _, cut := range []bool{false, true} { // true: the power went before the file was on the disk
		if cut {
			must(t, os.Truncate(file, 0))
		}
		list, err := d.List(t.Context())
		if err != nil || len(list) != 1 || list[0].Running {
			t.Fatalf("List after the reboot = %+v, %v; want one that does not run", list, err)
		}
	}
	after := b.up(t, d, "shop-1", "blog-1")
	if after[0].Address != before.Address {
		t.Errorf("address was %s, is %s", before.Address, after[0].Address)
	}
	if got, err := ask(t, after[0], "/read", "path", "kept"); err != nil || got != "data" {
		t.Errorf("file = %q, %v", got, err)
	}
	if _, err := ask(t, after[0], "/read", "path", "/run/pid"); err == nil {
		t.Error("/run was not empty after the boot")
	}
	if got, err := ask(t, after[0], "/fetch", "address", after[1].Address+":8080"); err != nil || got == "reached" {
		t.Errorf("groups after the reboot: %q, %v", got, err)
	}
}

// TestMonitorIsKilled has the kernel or a person kill a container's monitor:
// the instance ends with it, is seen so, and can be started again.
func TestMonitorIsKilled(t *testing.T) {
	b := newBed(t, nil)
	d, _ := b.driver(t)
	b.up(t, d, "shop-1")
	stat, err := cloud.ReadStat(initOf(t, b.Installation, "shop-1"))
	must(t, err)
	monitor, err := cloud.FindProcess(stat.Parent)
	must(t, err)
	must(t, monitor.Signal(syscall.SIGKILL))
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		list, err := d.List(t.Context())
		if err != nil || len(list) != 1 || time.Now().After(end) {
			t.Fatalf("List = %+v, %v; want one that does not run", list, err)
		}
		if !list[0].Running {
			break
		}
	}
	b.up(t, d, "shop-1")
}
