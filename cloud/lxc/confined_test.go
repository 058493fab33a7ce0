package lxc_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
)

// up launches instances of a bed, each in the group before its name's dash.
func (b bed) up(t *testing.T, d cloud.Driver, names ...string) []cloud.Instance {
	t.Helper()
	var specs []cloud.Spec
	for _, n := range names {
		group, _, _ := strings.Cut(n, "-")
		specs = append(specs, cloud.Spec{Name: n, Group: group, Layers: []string{b.Layer}, Context: []byte("secret of " + n)})
	}
	list, err := d.Launch(t.Context(), specs)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		answers(t, i, "/pid")
	}
	return list
}

// driver opens a driver in a new directory, which has to be clean at the end.
func (b bed) driver(t *testing.T) (cloud.Driver, string) {
	t.Helper()
	return b.driverIn(t, t.TempDir())
}

func (b bed) driverIn(t *testing.T, dir string) (cloud.Driver, string) {
	t.Helper()
	d := b.open(t, dir)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		list, err := d.List(ctx)
		if err != nil {
			t.Error(err)
		}
		for _, i := range list {
			if err := d.Terminate(ctx, []string{i.ID}); err != nil {
				t.Error(err)
			}
		}
		if err := d.(cloud.Closer).Close(ctx); err != nil {
			t.Error(err)
		}
		if left := b.leftovers(t, dir); len(left) > 0 {
			t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		}
	})
	return d, dir
}

func ask(t *testing.T, i cloud.Instance, path string, pairs ...string) (string, error) {
	t.Helper()
	q := url.Values{}
	for k := 0; k < len(pairs); k += 2 {
		q.Set(pairs[k], pairs[k+1])
	}
	return cloudtest.Ask(t.Context(), i, path, q)
}

func TestInstanceIsUnprivileged(t *testing.T) {
	b := newBed(t, map[string]string{"privileged": "never"})
	d, _ := b.driver(t)
	list := b.up(t, d, "shop-1", "shop-2", "blog-1")
	owner := func(i cloud.Instance) int {
		ids := strings.Fields(answers(t, i, "/uid"))
		if len(ids) != 3 || ids[0] != "0" || ids[2] != "65536" || atoi(t, ids[1]) < 1_300_000_000 {
			t.Errorf("%s has ids %v", i.Name, ids)
		}
		return atoi(t, ids[1])
	}
	if owner(list[0]) != owner(list[1]) || owner(list[0]) == owner(list[2]) {
		t.Error("groups do not have id ranges of their own")
	}
	// A file that only the layer's root may read is the container's root's.
	if got, err := ask(t, list[0], "/read", "path", "/etc/motd"); err != nil || got != "from the layer" {
		t.Errorf("file of the layer = %q, %v", got, err)
	}
	for path, want := range map[string]string{
		"/etc/hostname": "shop-1\n", "/etc/nutshell/context.json": "secret of shop-1",
		"/etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost\n" + list[0].Address + " shop-1\n",
	} {
		if got, err := ask(t, list[0], "/read", "path", path); err != nil || got != want {
			t.Errorf("%s = %q, %v; want %q", path, got, err, want)
		}
	}
	if got := answers(t, list[0], "/hostname"); got != "shop-1" {
		t.Errorf("host name = %q", got)
	}
	for _, path := range []string{"/usr/bin/nutshell", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"} {
		if _, err := ask(t, list[0], "/write", "path", path, "text", "x"); err == nil {
			t.Errorf("the instance can write %s", path)
		}
	}
	if _, err := ask(t, list[0], "/write", "path", "/etc/motd", "text", "changed"); err != nil {
		t.Errorf("the instance cannot change its own copy of a layer's file: %v", err)
	}
	if got, err := ask(t, list[1], "/read", "path", "/etc/motd"); err != nil || got != "from the layer" {
		t.Errorf("another instance sees the change: %q, %v", got, err)
	}
}

func TestHostIsOutOfReach(t *testing.T) {
	b := newBed(t, nil)
	d, _ := b.driver(t)
	director, err := d.(cloud.Gateway).DirectorAddress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := b.up(t, d, "shop-1")[0]
	gateway := i.Address[:strings.LastIndexByte(i.Address, '.')] + ".1"
	// One listener on all addresses tells that only the rules make a difference.
	anyPort := listen(t, "0.0.0.0:0")
	_, port, _ := net.SplitHostPort(anyPort.Addr().String())
	listen(t, director+":5555")
	listen(t, director+":2222")
	for _, c := range []struct {
		name, address string
		reached       bool
	}{
		{"director-api", director + ":5555", true},
		{"director-git", director + ":2222", true},
		{"director-other-port", director + ":" + port, false},
		{"gateway", gateway + ":" + port, false},
		{"own-machine", ownAddress(t) + ":" + port, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ask(t, i, "/fetch", "address", c.address)
			if err != nil || (got == "reached") != c.reached {
				t.Errorf("connect to %s: %q, %v; want reached %v", c.address, got, err, c.reached)
			}
		})
	}
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// ownAddress is an address of this machine that is neither loopback nor ours.
func ownAddress(t *testing.T) string {
	t.Helper()
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		n, ok := a.(*net.IPNet)
		if ok && n.IP.To4() != nil && !n.IP.IsLoopback() && n.IP.To4()[0] != 10 {
			return n.IP.String()
		}
	}
	return "127.0.0.1" // a machine without network: not reachable either way
}

// TestWorld has a network namespace play the world: instances reach it with
// this machine's address, and it does not reach them.
func TestWorld(t *testing.T) {
	b := newBed(t, nil)
	d, _ := b.driver(t)
	i := b.up(t, d, "shop-1")[0]
	const here, there = "198.18.77.1", "198.18.77.2" // for benchmarks, so never in real use
	hereName, thereName := "nw"+b.Installation, "nx"+b.Installation
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: hereName}, PeerName: thereName}
	must(t, netlink.LinkAdd(link))
	t.Cleanup(func() { _ = netlink.LinkDel(link) })
	must(t, netlink.AddrAdd(link, address(t, here)))
	must(t, netlink.LinkSetUp(link))

	var world net.Listener
	var inward error
	done := make(chan error)
	peer, err := netlink.LinkByName(thereName)
	must(t, err)
	go func() { // on a thread of its own, which is thrown away
		runtime.LockOSThread()
		host, err := netns.Get()
		if err == nil {
			defer func() { _ = host.Close() }()
			var ns netns.NsHandle
			if ns, err = netns.New(); err == nil {
				defer func() { _ = ns.Close() }()
				err = enter(t, host, peer, ns, there, here)
			}
		}
		if err == nil {
			world, err = (&net.ListenConfig{}).Listen(context.WithoutCancel(t.Context()), "tcp", there+":80")
		}
		if err == nil {
			var c net.Conn
			if c, inward = (&net.Dialer{Timeout: 1e9}).DialContext(t.Context(), "tcp", i.Address+":"+cloudtest.Port); inward == nil {
				_ = c.Close()
			}
		}
		done <- err
	}()
	must(t, <-done)
	defer func() { _ = world.Close() }()
	if inward == nil {
		t.Error("the world reaches an instance")
	}
	if got, err := ask(t, i, "/fetch", "address", there+":80"); err != nil || got != "reached" {
		t.Fatalf("the instance does not reach the world: %q, %v", got, err)
	}
	c, err := world.Accept()
	must(t, err)
	defer func() { _ = c.Close() }()
	if from, _, _ := net.SplitHostPort(c.RemoteAddr().String()); from != here {
		t.Errorf("the world sees %s, want this machine's %s", from, here)
	}
}

// enter moves the cable's end from the host's namespace into the thread's own.
func enter(t *testing.T, host netns.NsHandle, peer netlink.Link, ns netns.NsHandle, own, via string) error {
	outside, err := netlink.NewHandleAt(host)
	if err != nil {
		return err
	}
	defer outside.Close()
	name := peer.Attrs().Name
	if err := outside.LinkSetNsFd(peer, int(ns)); err != nil {
		return fmt.Errorf("move %s: %w", name, err)
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(l, address(t, own)); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(via)})
}

func address(t *testing.T, ip string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(ip + "/24")
	must(t, err)
	return a
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestHostileFiles has an instance leave links behind that point out of it,
// where the driver writes at the next start.
func TestHostileFiles(t *testing.T) {
	b := newBed(t, nil)
	d, dir := b.driver(t)
	b.up(t, d, "shop-1")
	must(t, d.(cloud.Stopper).Stop(t.Context(), []string{"shop-1"}))
	victim := t.TempDir()
	file := filepath.Join(victim, "hosts")
	must(t, os.WriteFile(file, []byte("mine"), 0o600))
	etc := filepath.Join(dir, "shop-1", "upper", "etc")
	for name, to := range map[string]string{"hosts": file, "nutshell": victim, "hostname": "../../../../../../" + file} {
		must(t, os.RemoveAll(filepath.Join(etc, name)))
		must(t, os.Symlink(to, filepath.Join(etc, name)))
	}
	usr := filepath.Join(dir, "shop-1", "upper", "usr", "bin", "nutshell")
	must(t, os.RemoveAll(usr))
	must(t, os.Symlink(file, usr))
	i := b.up(t, d, "shop-1")[0]
	if got := answers(t, i, "/context"); got != "secret of shop-1" {
		t.Errorf("context = %q", got)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "mine" {
		t.Errorf("file of the machine = %q, %v", got, err)
	}
	if list, err := os.ReadDir(victim); err != nil || len(list) != 1 {
		t.Errorf("directory of the machine has %v, %v", list, err)
	}
}

func TestExecute(t *testing.T) {
	b := newBed(t, nil)
	d, _ := b.driver(t)
	b.up(t, d, "shop-1")
	a := d.(interface {
		Execute(ctx context.Context, id string, args []string, in io.Reader, out, errs io.Writer) (int, error)
	})
	for _, c := range []struct {
		name string
		args []string
		want int
		says string
	}{
		{"good", []string{"/usr/bin/nutshell", "eat", "1"}, 0, ""},
		{"fails", []string{"/usr/bin/nutshell", "x"}, 2, "unexpected arguments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			got, err := a.Execute(t.Context(), "shop-1", c.args, nil, &out, &out)
			if err != nil || got != c.want || !strings.Contains(out.String(), c.says) {
				t.Errorf("Attach = %d, %v, %q; want %d, %q", got, err, out.String(), c.want, c.says)
			}
		})
	}
}

func TestSweep(t *testing.T) {
	b := newBed(t, nil)
	d, dir := b.driver(t)
	b.up(t, d, "shop-1", "blog-1")
	// What directors leave that die in the middle, made by hand.
	ghost := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "nsh" + b.Installation + "77"}}
	must(t, netlink.LinkAdd(ghost))
	for _, path := range []string{filepath.Join(dir, ".new-web-9", "upper"), filepath.Join(dir, ".gone-web-8", "work"), cgroupOf(b, "web-7") + "/payload"} {
		must(t, os.MkdirAll(path, 0o755))
	}
	again := b.open(t, dir)
	if list, err := again.List(t.Context()); err != nil || len(list) != 2 || !list[0].Running {
		t.Errorf("List = %v, %v", list, err)
	}
	if _, err := netlink.LinkByName(ghost.Name); err == nil {
		t.Error("the bridge is left")
	}
	for _, path := range []string{filepath.Join(dir, ".new-web-9"), filepath.Join(dir, ".gone-web-8"), cgroupOf(b, "web-7")} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	// The network goes with the last instance of a group, and not before.
	must(t, again.(cloud.Closer).Close(t.Context()))
	for n, want := range map[string]bool{"1": true, "2": true} {
		if _, err := netlink.LinkByName("nsh" + b.Installation + n); (err == nil) != want {
			t.Errorf("Close with running instances: bridge %s: %v", n, err)
		}
	}
	must(t, again.Terminate(t.Context(), []string{"shop-1"}))
	count := 0
	for _, n := range []string{"1", "2"} {
		if _, err := netlink.LinkByName("nsh" + b.Installation + n); err == nil {
			count++
		}
	}
	if count != 1 {
		t.Errorf("%d bridges after the end of one of two groups", count)
	}
}

func cgroupOf(b bed, name string) string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return "/sys/fs/cgroup/nutshell-" + b.Installation + "/" + name
	}
	return "/sys/fs/cgroup/pids/nutshell-" + b.Installation + "/" + name
}

// TestFlushedFirewall plays an operator who flushes all rules.
func TestFlushedFirewall(t *testing.T) {
	b := newBed(t, nil)
	d, _ := b.driver(t)
	list := b.up(t, d, "shop-1", "blog-1")
	c, err := nftables.New()
	must(t, err)
	c.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "nutshell_" + b.Installation})
	must(t, c.Flush())
	reach := func() bool {
		got, err := ask(t, list[0], "/fetch", "address", list[1].Address+":"+cloudtest.Port)
		must(t, err)
		return got == "reached"
	}
	if !reach() {
		t.Error("without rules the groups should reach each other: the test proves nothing")
	}
	_, err = d.List(t.Context())
	must(t, err)
	if reach() {
		t.Error("List did not write the rules again")
	}
}

func TestSubnet(t *testing.T) {
	b := newBed(t, nil)
	name := "nw" + b.Installation
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
	must(t, netlink.LinkAdd(link))
	t.Cleanup(func() { _ = netlink.LinkDel(link) })
	must(t, netlink.AddrAdd(link, address(t, "10.187.3.1")))
	must(t, netlink.LinkSetUp(link))
	for _, c := range []struct {
		name, subnet string
		ok           bool
	}{
		{"free", "10.186.0.0/16", true},
		{"used-by-the-machine", "10.187.0.0/16", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.Options = map[string]string{"subnet": c.subnet}
			d := b.open(t, t.TempDir())
			if err := d.Check(t.Context()); (err == nil) != c.ok {
				t.Errorf("Check = %v, want ok %v", err, c.ok)
			}
		})
	}
}

// TestFallback has a layer on a file system whose owners cannot be mapped.
func TestFallback(t *testing.T) {
	b := newBed(t, nil)
	base := t.TempDir()
	merged := filepath.Join(base, "merged")
	for _, dir := range []string{"upper", "work", "merged"} {
		must(t, os.Mkdir(filepath.Join(base, dir), 0o755))
	}
	must(t, unix.Mount("test", merged, "overlay", 0, "lowerdir="+b.Layer+",upperdir="+base+"/upper,workdir="+base+"/work"))
	t.Cleanup(func() { must(t, unix.Unmount(merged, 0)) })
	b.Layer = merged

	b.Options = map[string]string{"privileged": "never"}
	strict, _ := b.driver(t)
	list, err := strict.Launch(t.Context(), []cloud.Spec{{Name: "shop-1", Group: "shop", Layers: []string{merged}}})
	if err == nil || len(list) > 0 || !strings.Contains(err.Error(), "cannot be mapped") {
		t.Errorf("Launch without user namespaces, which are required = %v, %v", list, err)
	}
	b.Options = nil
	if err := b.open(t, merged).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "another data directory") {
		t.Errorf("Check of a directory on overlayfs = %v", err)
	}
	d, _ := b.driver(t)
	i := b.up(t, d, "shop-1")[0]
	if i.Tags["isolation"] != "privileged" {
		t.Errorf("tags = %v; want isolation: privileged", i.Tags)
	}
	if got := strings.Fields(answers(t, i, "/uid")); len(got) != 3 || got[1] != "0" {
		t.Errorf("ids = %v", got)
	}
	must(t, d.(cloud.Stopper).Stop(t.Context(), []string{"shop-1"}))
	b.up(t, d, "shop-1") // stays what it is
}
