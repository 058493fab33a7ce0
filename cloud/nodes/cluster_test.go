package nodes_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
	"nutshell/cloud/nodes"
)

const directorPort, otherPort = 5555, 5556

// rack is machines on one cable, with the lxc cloud in each.
type rack struct {
	*shelf
	t        *testing.T
	tag      string
	net      byte // third number of the network between machines, second of their subnets
	layer    string
	client   map[string]*http.Client
	order    []string
	dir      string
	director cloud.Driver
}

func newRack(t *testing.T, machines ...string) *rack {
	t.Helper()
	if os.Geteuid() != 0 {
		cloudtest.Need(t, "containers need root")
	}
	var id [3]byte
	_, _ = rand.Read(id[:])
	r := &rack{shelf: newShelf(), t: t, tag: hex.EncodeToString(id[:]), net: id[0]%64 + 64, client: map[string]*http.Client{}, order: machines}
	r.layer = filepath.Join(t.TempDir(), "layers", strings.Repeat("a", 64))
	for _, dir := range []string{"etc", "usr/bin"} {
		if err := os.MkdirAll(filepath.Join(r.layer, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "nt" + r.tag}}
	if err := netlink.LinkAdd(bridge); err != nil {
		cloudtest.Need(t, "a bridge: "+err.Error())
	}
	t.Cleanup(func() { _ = netlink.LinkDel(bridge) })
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.IP(r.address(0).AsSlice()), Mask: net.CIDRMask(24, 32)}}
	if err := netlink.AddrReplace(bridge, address); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		t.Fatal(err)
	}
	for n, id := range machines {
		r.boot(n+1, id, bridge)
	}
	r.dir = t.TempDir()
	r.direct()
	r.link()
	if err := r.director.Check(t.Context()); err != nil {
		cloudtest.Need(t, err.Error())
	}
	t.Cleanup(r.clear)
	return r
}

// direct begins a director, or the next one.
func (r *rack) direct() {
	r.t.Helper()
	d, err := nodes.New(cloud.Config{Name: "nodes", Installation: r.tag, Dir: r.dir, Binary: "/bin/true", Log: cloudtest.Log(r.t),
		Options: map[string]string{"public": fmt.Sprintf("nt%s %s-%s", r.tag, r.address(60), r.address(61))}})
	if err != nil {
		r.t.Fatal(err)
	}
	d.(cloud.Clustered).Use(r)
	r.director = d
}

// address of the n-th machine on the cable; the director's is the first.
func (r *rack) address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 31, r.net, byte(1 + n)})
}

func (r *rack) subnet(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, r.net, byte(16 * n), 0}), 20)
}

// boot starts a machine and puts it on the cable.
func (r *rack) boot(n int, id string, bridge netlink.Link) {
	r.t.Helper()
	dir, err := os.MkdirTemp("", "nutshell-machine-") // short, for the socket
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := machineConfig{Dir: dir, Socket: filepath.Join(dir, "s"), Installation: r.tag + id, Binary: cloudtest.Program(r.t),
		Layers: filepath.Dir(r.layer), Address: r.address(n).String() + "/24"}
	told, err := json.Marshal(c)
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(r.t.Context()), "/proc/self/exe")
	cmd.Env = append(os.Environ(), machineEnv+"="+string(told))
	cmd.Stderr = r.t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Unshareflags: unix.CLONE_NEWNS}
	in, err := cmd.StdinPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cloudtest.Need(r.t, "namespaces: "+err.Error())
	}
	r.t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "nt" + r.tag + id, MasterIndex: bridge.Attrs().Index}, PeerName: "eth0", PeerNamespace: netlink.NsPid(cmd.Process.Pid)}
	if err := netlink.LinkAdd(cable); err != nil {
		r.t.Fatal(err)
	}
	if err := netlink.LinkSetUp(cable); err != nil {
		r.t.Fatal(err)
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		r.t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		r.t.Fatalf("machine %s does not come up: %v", id, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.client[id] = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
	}}}
	r.machines[id] = &cloud.Machine{ID: id, Name: "rack " + id, Address: r.address(n), Subnet: r.subnet(n), Up: true, Memory: 4096 * mib, Free: 3000 * mib}
}

// Call asks a machine over its socket.
func (r *rack) Call(ctx context.Context, machine, method, path string, in, out any) error {
	r.mu.Lock()
	c, away := r.client[machine], r.away[machine]
	r.mu.Unlock()
	if away {
		return fmt.Errorf("%s is away", machine)
	}
	return post(ctx, c, method, "http://machine"+path, in, out)
}

func (r *rack) tell(machine, path string, in any) {
	r.t.Helper()
	if err := r.Call(context.WithoutCancel(r.t.Context()), machine, http.MethodPost, path, in, &struct{}{}); err != nil {
		r.t.Errorf("%s%s: %v", machine, path, err)
	}
}

// link tells all machines of each other, as a director does.
func (r *rack) link() {
	r.t.Helper()
	for n, id := range r.order {
		l := linkOrder{Own: r.subnet(n + 1), Peers: []cloud.Peer{{Address: r.address(0), Ports: []int{directorPort}}}}
		for m := range r.order {
			if m != n {
				l.Peers = append(l.Peers, cloud.Peer{Address: r.address(m + 1), Subnet: r.subnet(m + 1)})
			}
		}
		if !r.away[id] {
			r.tell(id, "/link", l)
		}
	}
}

// clear ends all, and asks each machine for what is left.
func (r *rack) clear() {
	ctx := context.WithoutCancel(r.t.Context())
	for _, id := range r.order {
		r.setAway(id, false)
		r.set(id, func(m *cloud.Machine) { m.Up = true })
	}
	eventually(r.t, "all instances are ended", func() bool {
		list, err := r.director.List(ctx)
		if err != nil {
			r.t.Fatal(err)
		}
		var ids []string
		for _, i := range list {
			ids = append(ids, i.ID)
		}
		if err := r.director.Terminate(ctx, ids); err != nil {
			r.t.Error(err)
		}
		left := 0
		for _, id := range r.order {
			var got struct{ Instances []cloud.Instance }
			if err := r.Call(ctx, id, http.MethodPost, "/cloud/list", struct{}{}, &got); err != nil {
				r.t.Fatal(err)
			}
			left += len(got.Instances)
		}
		return left == 0
	})
	for _, id := range r.order {
		r.tell(id, "/close", nil)
	}
	if err := r.director.(cloud.Closer).Close(ctx); err != nil {
		r.t.Error(err)
	}
}

// up launches an instance on a machine, or anywhere for "".
func (r *rack) up(group, name, machine string) cloud.Instance {
	r.t.Helper()
	for _, id := range r.order {
		r.set(id, func(m *cloud.Machine) { m.Cordoned = machine != "" && id != machine })
	}
	list, err := r.director.Launch(r.t.Context(), []cloud.Spec{{Name: name, Group: group, Layers: []string{r.layer}, Context: []byte("{}")}})
	if err != nil || machine != "" && list[0].Machine != machine {
		r.t.Fatalf("Launch of %s on %s = %v, %v", name, machine, list, err)
	}
	for _, id := range r.order {
		r.set(id, func(m *cloud.Machine) { m.Cordoned = false })
	}
	eventually(r.t, name+" answers at "+list[0].Address, func() bool {
		_, err := cloudtest.Ask(r.t.Context(), list[0], "/pid", nil)
		return err == nil
	})
	return list[0]
}

// want checks at once: what is not reached takes a second to say so.
func (r *rack) want(wg *sync.WaitGroup, from cloud.Instance, address string, want bool, what string) {
	wg.Go(func() {
		got, err := cloudtest.Ask(r.t.Context(), from, "/fetch", url.Values{"address": {address}})
		if err != nil || (got == "reached") != want {
			r.t.Errorf("%s reaches %s (%s): %q, %v; want it reached: %v", from.Name, what, address, got, err, want)
		}
	})
}

func at(i cloud.Instance) string { return i.Address + ":" + cloudtest.Port }

// listen notes who connects to the director.
func (r *rack) listen(port int) <-chan string {
	r.t.Helper()
	l, err := (&net.ListenConfig{}).Listen(r.t.Context(), "tcp", fmt.Sprintf("%s:%d", r.address(0), port))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = l.Close() })
	from := make(chan string, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			from <- host
			_ = c.Close()
		}
	}()
	return from
}

func TestTwoMachines(t *testing.T) {
	r := newRack(t, "a", "b")
	heard := r.listen(directorPort)
	r.listen(otherPort)
	shopA, shopB := r.up("shop", "shop-a", "a"), r.up("shop", "shop-b", "b")
	blogA, blogB := r.up("blog", "blog-a", "a"), r.up("blog", "blog-b", "b")
	for i, subnet := range map[*cloud.Instance]netip.Prefix{&shopA: r.subnet(1), &shopB: r.subnet(2)} {
		if !subnet.Contains(netip.MustParseAddr(i.Address)) {
			t.Errorf("%s has %s, its machine %s", i.Name, i.Address, subnet)
		}
	}
	apart := func() {
		t.Helper()
		var wg sync.WaitGroup
		defer wg.Wait()
		r.want(&wg, shopA, at(shopB), true, "its application on the other machine")
		r.want(&wg, shopB, at(shopA), true, "its application on the other machine")
		r.want(&wg, blogA, at(blogB), true, "its application on the other machine")
		for _, from := range []cloud.Instance{shopA, shopB} {
			r.want(&wg, from, at(blogA), false, "another application")
			r.want(&wg, from, at(blogB), false, "another application")
		}
		r.want(&wg, blogB, at(shopA), false, "another application")
	}
	apart()
	var wg sync.WaitGroup
	director := r.address(0).String()
	r.want(&wg, shopA, fmt.Sprintf("%s:%d", director, directorPort), true, "the director")
	r.want(&wg, shopA, fmt.Sprintf("%s:%d", director, otherPort), false, "another port of the director")
	r.want(&wg, shopA, r.address(2).String()+":7000", false, "another machine")
	r.want(&wg, shopA, r.address(1).String()+":7000", false, "its own machine")
	wg.Wait()
	select {
	case got := <-heard:
		if got != shopA.Address {
			t.Errorf("the director sees %s in place of %s", got, shopA.Address)
		}
	case <-time.After(30 * time.Second):
		t.Error("the director hears nothing")
	}
	t.Run("public-ports", func(t *testing.T) { r.visits(shopA) })
	t.Run("pool", func(t *testing.T) { r.pooled(t) })
	t.Run("node-is-restarted", func(t *testing.T) {
		r.tell("a", "/reopen", nil)
		apart()
		wikiA, wikiB := r.up("wiki", "wiki-a", "a"), r.up("wiki", "wiki-b", "b")
		var wg sync.WaitGroup
		defer wg.Wait()
		r.want(&wg, wikiA, at(wikiB), true, "its application, new since the restart")
		r.want(&wg, wikiA, at(shopB), false, "another application")
		r.want(&wg, shopB, at(wikiA), false, "another application")
	})
	t.Run("network-goes-and-comes", func(t *testing.T) {
		r.tell("a", "/cut", nil)
		r.setAway("a", true)
		if got := listed(t, r.director); got["shop-a"] != "a" || len(got) != 6 {
			t.Errorf("with a cut off: %v", got)
		}
		r.tell2("a", "/mend")
		r.setAway("a", false) // and nobody tells it of the others again
		eventually(t, "the machines reach each other again", func() bool {
			for _, to := range []cloud.Instance{shopA, shopB} {
				from := map[string]cloud.Instance{"shop-a": shopB, "shop-b": shopA}[to.Name]
				if got, err := cloudtest.Ask(t.Context(), from, "/fetch", url.Values{"address": {at(to)}}); err != nil || got != "reached" {
					return false
				}
			}
			return true
		})
		apart()
	})
}

// visits comes from a computer that has a route and is neither the director
// nor a machine: public ports are reached, no others, and not by containers of
// other applications.
func (r *rack) visits(other cloud.Instance) {
	r.t.Helper()
	me := r.address(99)
	l, err := netlink.LinkByName("nt" + r.tag)
	if err == nil {
		err = netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: me.AsSlice(), Mask: net.CIDRMask(32, 32)}})
	}
	if err != nil {
		r.t.Fatal(err)
	}
	port, err := strconv.Atoi(cloudtest.Port)
	if err != nil {
		r.t.Fatal(err)
	}
	list, err := r.director.Launch(r.t.Context(), []cloud.Spec{{Name: "site-1", Group: "site", Layers: []string{r.layer}, Context: []byte("{}"), Public: []int{port}}})
	if err != nil {
		r.t.Fatal(err)
	}
	site := list[0]
	d := net.Dialer{Timeout: 3 * time.Second, LocalAddr: &net.TCPAddr{IP: me.AsSlice()}}
	reached := func(address string) bool {
		c, err := d.DialContext(r.t.Context(), "tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	eventually(r.t, "a visitor reaches the public port", func() bool { return reached(at(site)) })
	if reached(at(other)) {
		r.t.Error("a visitor reaches a port that is not public")
	}
	var wg sync.WaitGroup
	r.want(&wg, other, at(site), false, "the public port of another application")
	wg.Wait()
	if err := r.director.Terminate(r.t.Context(), []string{site.ID}); err != nil {
		r.t.Fatal(err)
	}
}

// pooled gives instances on both machines addresses of the director's pool,
// which it holds as long as they are there, also when another begins.
func (r *rack) pooled(t *testing.T) {
	port, err := strconv.Atoi(cloudtest.Port)
	if err != nil {
		t.Fatal(err)
	}
	spec := func(name string) cloud.Spec {
		return cloud.Spec{Name: name, Group: "pool", Layers: []string{r.layer}, Context: []byte("{}"), Public: []int{port}, Tags: map[string]string{"service": "1", "parts": "proxy"}}
	}
	// comes is who answers at an address of the pool; a visitor comes from another machine.
	comes := func(public string) string {
		said, err := cloudtest.Ask(t.Context(), cloud.Instance{Address: public}, "/hostname", nil)
		if err != nil {
			return err.Error()
		}
		return strings.TrimSpace(said)
	}
	held := func() (list []string) {
		l, err := netlink.LinkByName("nt" + r.tag)
		if err != nil {
			t.Fatal(err)
		}
		all, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range all {
			if ip := a.IP.String(); ip == r.address(60).String() || ip == r.address(61).String() {
				list = append(list, ip)
			}
		}
		slices.Sort(list)
		return list
	}
	list, err := r.director.Launch(t.Context(), []cloud.Spec{spec("pool-1"), spec("pool-2"), spec("pool-3")})
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]string{}
	shown := map[string]string{}
	for _, i := range list {
		if byName[i.Name] = i.Public; i.Public != "" {
			shown[i.Public] = i.Name
		}
	}
	if len(shown) != 2 || len(held()) != 2 {
		t.Fatalf("a pool of two gave %v, and the machine holds %v", byName, held())
	}
	good := func() bool {
		for public, name := range shown {
			if got := comes(public); got != name {
				t.Logf("%s says %q, want %s", public, got, name)
				return false
			}
		}
		return true
	}
	eventually(t, "both answer at their public addresses", good)
	if c, err := net.DialTimeout("tcp", r.address(60).String()+":5556", time.Second); err == nil {
		_ = c.Close()
		t.Error("a port that is not public is reached there")
	}
	if err := r.director.(cloud.Closer).Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := held(); len(got) != 0 {
		t.Errorf("a director that has ended holds %v", got)
	}
	r.direct()
	again, err := r.director.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range again {
		if want, ok := byName[i.Name]; ok && i.Public != want {
			t.Errorf("%s has %q with the next director, and had %q", i.Name, i.Public, want)
		}
	}
	eventually(t, "the next director shows them, too", good)

	// The machine of one is lost: what is launched for it has its address.
	gone := shown[r.address(60).String()]
	var machine string
	for _, i := range again {
		if i.Name == gone {
			machine = i.Machine
		}
	}
	r.set(machine, func(m *cloud.Machine) { m.Up = false })
	next, err := r.director.Launch(t.Context(), []cloud.Spec{spec("pool-4")})
	r.set(machine, func(m *cloud.Machine) { m.Up = true })
	if err != nil || next[0].Public != r.address(60).String() {
		t.Fatalf("in place of %s: %+v, %v", gone, next, err)
	}
	shown = map[string]string{r.address(60).String(): "pool-4"}
	eventually(t, "the new one answers at the address of the lost one", good)
	if err := r.director.Terminate(t.Context(), []string{"pool-1", "pool-2", "pool-3", "pool-4"}); err != nil {
		t.Fatal(err)
	}
	if got := held(); len(got) != 0 {
		t.Errorf("without an instance it holds %v", got)
	}
}

// tell2 reaches a machine that is away.
func (r *rack) tell2(machine, path string) {
	r.t.Helper()
	if err := post(r.t.Context(), r.client[machine], http.MethodPost, "http://machine"+path, nil, &struct{}{}); err != nil {
		r.t.Fatal(err)
	}
}

func TestFourMachines(t *testing.T) {
	r := newRack(t, "a", "b", "c", "d")
	var list []cloud.Instance
	on := map[string]int{}
	for n := range 4 {
		list = append(list, r.up("shop", fmt.Sprintf("shop-%d", n), ""))
		on[list[n].Machine]++
	}
	if len(on) != 4 {
		t.Errorf("four instances are on %v", on)
	}
	other := r.up("blog", "blog-1", "")
	mesh := func() {
		t.Helper()
		var wg sync.WaitGroup
		defer wg.Wait()
		for _, from := range list {
			for _, to := range list {
				r.want(&wg, from, at(to), true, to.Name)
			}
			r.want(&wg, from, at(other), false, "another application")
			r.want(&wg, other, at(from), false, "another application")
		}
	}
	mesh()
	// One machine is gone for good, and what it had is launched elsewhere.
	lost := list[0].Machine
	if other.Machine == lost {
		lost = list[1].Machine
	}
	r.tell(lost, "/cut", nil)
	r.setAway(lost, true)
	r.set(lost, func(m *cloud.Machine) { m.Up = false })
	began := time.Now()
	n := slices.IndexFunc(list, func(i cloud.Instance) bool { return i.Machine == lost })
	list[n] = r.up("shop", list[n].Name, "")
	t.Logf("replaced on machine %s after %v", list[n].Machine, time.Since(began))
	if list[n].Machine == lost {
		t.Error("it is on the lost machine")
	}
	mesh()
	r.tell2(lost, "/mend")
}
