package lxc_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nutshell/cloud"
)

// TestSpeed prints, side by side in one run, the time from the order to the
// first HTTP answer of one and of ten instances, and of a bare lxc-start of
// the same root file system. It runs when NUTSHELL_BENCH is set.
func TestSpeed(t *testing.T) {
	if os.Getenv("NUTSHELL_BENCH") == "" {
		t.Skip("set NUTSHELL_BENCH to measure")
	}
	b := newBed(t, nil)
	d, _ := b.driver(t)
	// The first instance makes the group's bridge; it stays during the run.
	launch := func(names ...string) (time.Duration, []string) {
		var specs []cloud.Spec
		for _, n := range names {
			specs = append(specs, cloud.Spec{Name: n, Group: "shop", Layers: []string{b.Layer}, Context: []byte("{}")})
		}
		began := time.Now()
		list, err := d.Launch(t.Context(), specs)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for _, i := range list {
			wg.Go(func() { answers(t, i, "/pid") })
		}
		wg.Wait()
		return time.Since(began), names
	}
	end := func(names []string) time.Duration {
		began := time.Now()
		if err := d.Terminate(t.Context(), names); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	launch("first")
	var ten []string
	for n := range 10 {
		ten = append(ten, fmt.Sprintf("ten-%d", n))
	}
	for round := range 5 {
		one, names := launch(fmt.Sprintf("one-%d", round))
		oneEnd := end(names)
		all, names := launch(ten...)
		allEnd := end(names)
		bare, bareEnd := b.bare(t, 1)
		bareAll, bareAllEnd := b.bare(t, 10)
		t.Logf("one %v (end %v), bare %v (%v); ten %v (end %v), bare %v (%v)", ms(one), ms(oneEnd), ms(bare), ms(bareEnd),
			ms(all), ms(allEnd), ms(bareAll), ms(bareAllEnd))
	}
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// bare starts the same program in n privileged containers on the same bridge,
// all at once, with the commands of Debian's lxc.
func (b bed) bare(t *testing.T, n int) (start, stop time.Duration) {
	t.Helper()
	dir := t.TempDir()
	link := "nsh" + b.Installation + "1"
	network := strings.TrimSuffix(b.address(t, link), "254")
	group := "nutshell-" + b.Installation + "-bare"
	all := func(do func(name, address string)) time.Duration {
		began := time.Now()
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { do(fmt.Sprintf("bare-%d", i), network+strconv.Itoa(254-i)) })
		}
		wg.Wait()
		return time.Since(began)
	}
	start = all(func(name, address string) {
		b.bareConfig(t, filepath.Join(dir, name), name, link, address, group)
		command(t, "lxc-start", "-P", dir, "-n", name)
		answers(t, cloud.Instance{Name: name, Address: address}, "/pid")
	})
	stop = all(func(name, _ string) { command(t, "lxc-stop", "-P", dir, "-n", name, "-k") })
	t.Cleanup(func() { // lxc-stop leaves these
		var dirs []string
		tops, _ := filepath.Glob("/sys/fs/cgroup/*/" + group)
		for _, top := range tops {
			_ = filepath.WalkDir(top, func(p string, e os.DirEntry, err error) error {
				if err == nil && e.IsDir() {
					dirs = append(dirs, p)
				}
				return err
			})
		}
		for _, dir := range slices.Backward(dirs) {
			_ = os.Remove(dir)
		}
	})
	return start, stop
}

func (b bed) bareConfig(t *testing.T, dir, name, link, address, group string) {
	t.Helper()
	for _, p := range []string{"upper", "rootfs"} {
		must(t, os.MkdirAll(filepath.Join(dir, p), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(dir, "config"), fmt.Appendf(nil, `lxc.include = /usr/share/lxc/config/common.conf
lxc.rootfs.path = overlay:%s:%s
lxc.uts.name = %s
lxc.cgroup.dir = %s/%s
lxc.init.cmd = /usr/bin/nutshell --role init --context /etc/motd --dir /var
lxc.environment = NUTSHELL_ADDRESS=%s
lxc.net.0.type = veth
lxc.net.0.link = %s
lxc.net.0.flags = up
lxc.net.0.hwaddr = %s
lxc.net.0.ipv4.address = %s/24
lxc.mount.entry = %s usr/bin/nutshell none bind,ro,create=file 0 0
`, b.Layer, filepath.Join(dir, "upper"), name, group, name, address, link, hardware(address), address, b.Binary), 0o600))
}

// hardware is the address that the driver would give: the ARP table of this
// machine shall not decide who is slow.
func hardware(address string) string {
	ip := net.ParseIP(address).To4()
	return fmt.Sprintf("02:6e:%02x:%02x:%02x:%02x", ip[0], ip[1], ip[2], ip[3])
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %q: %v\n%s", name, args, err, out)
	}
}
