package doctor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// checkPorts tries each address that the director would listen on.
func checkPorts(ctx context.Context, p *Patient) (all []Finding) {
	for _, port := range p.Ports {
		f := p.port(ctx, port)
		f.Check = "port " + port.Address
		all = append(all, f)
	}
	return all
}

func (p *Patient) port(ctx context.Context, port Port) Finding {
	option := port.Key + " in the configuration"
	host, number, err := net.SplitHostPort(port.Address)
	if err != nil {
		return fail("write host:port for "+option, "%v", err)
	}
	err = p.Listen(ctx, port.Address)
	bad := fail
	if port.Optional {
		bad = warn
	}
	switch {
	case err == nil:
		return ok("free")
	case errors.Is(err, syscall.EADDRINUSE):
		n, _ := strconv.Atoi(number)
		pid, name := p.owner(n)
		if p.Running > 0 && (pid == p.Running || pid == 0) {
			return ok("the director listens (process %d)", p.Running)
		}
		who := "another program"
		if pid > 0 {
			who = fmt.Sprintf("%s (process %d)", name, pid)
		}
		return bad("stop it, or choose another port by "+option, "%s has it", who)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return bad("ip address shows those there are; choose one by "+option, "no interface of this machine has %s", host)
	case errors.Is(err, syscall.EACCES):
		return bad("run it as root, or: setcap cap_net_bind_service=+ep PROGRAM; or choose a port above 1023 by "+option, "this user may not listen on ports below 1024")
	}
	return bad("choose another by "+option, "%v", err)
}

// owner finds the process that listens on a port; 0 where that cannot be seen.
func (p *Patient) owner(port int) (pid int, name string) {
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		for line := range strings.Lines(p.read(table)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" { // LISTEN
				continue
			}
			if _, at, ok := strings.Cut(f[1], ":"); ok {
				if n, err := strconv.ParseUint(at, 16, 16); err == nil && int(n) == port {
					inodes["socket:["+f[9]+"]"] = true
				}
			}
		}
	}
	if len(inodes) == 0 {
		return 0, ""
	}
	files, _ := filepath.Glob(p.path("/proc/[0-9]*/fd/*"))
	for _, file := range files {
		if to, err := os.Readlink(file); err != nil || !inodes[to] {
			continue
		}
		process := filepath.Dir(filepath.Dir(file))
		if pid, err := strconv.Atoi(filepath.Base(process)); err == nil {
			b, _ := os.ReadFile(filepath.Join(process, "comm"))
			return pid, strings.TrimSpace(string(b))
		}
	}
	return 0, ""
}

// route is a network that an interface leads to.
type route struct {
	device  string
	network netip.Prefix
}

// routes are this machine's, without the default ones.
func (p *Patient) routes() (list []route) {
	for line := range strings.Lines(p.read("/proc/net/route")) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		to, err := strconv.ParseUint(f[1], 16, 32)
		mask, err2 := strconv.ParseUint(f[7], 16, 32)
		if err != nil || err2 != nil {
			continue
		}
		// The kernel prints the bytes of addresses as a number of this machine.
		var a, m [4]byte
		binary.NativeEndian.PutUint32(a[:], uint32(to))
		binary.NativeEndian.PutUint32(m[:], uint32(mask))
		if ones, bits := net.IPMask(m[:]).Size(); bits == 32 && ones > 0 {
			list = append(list, route{f[0], netip.PrefixFrom(netip.AddrFrom4(a), ones)})
		}
	}
	return list
}

// checkNetworks: networks of clouds must be nobody else's.
func checkNetworks(_ context.Context, p *Patient) (all []Finding) {
	if !p.Containers {
		return []Finding{skip("no containers here")}
	}
	var routes []route
	for _, r := range p.routes() {
		if !strings.HasPrefix(r.device, "nsh") && !strings.HasPrefix(r.device, "nsn") { // ours
			routes = append(routes, r)
		}
	}
	var wanted []route
	for _, s := range p.Subnets {
		n, err := netip.ParsePrefix(s.Network)
		if err != nil {
			all = append(all, fail("write it as 10.200.0.0/16", "cloud %s: %q is no network", s.Cloud, s.Network))
			continue
		}
		const other = "choose another by the cloud's option subnet"
		for _, r := range routes {
			if r.network.Overlaps(n) {
				all = append(all, fail(other, "cloud %s: its network %s overlaps %s of %s", s.Cloud, n, r.network, r.device))
			}
		}
		for _, w := range wanted {
			if w.network.Overlaps(n) {
				all = append(all, fail(other, "cloud %s: its network %s overlaps %s of cloud %s", s.Cloud, n, w.network, w.device))
			}
		}
		wanted = append(wanted, route{s.Cloud, n})
	}
	if len(p.Subnets) == 0 {
		free := false
		for second := 192; second < 256 && !free; second++ {
			n := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(second), 0, 0}), 16)
			free = !slices.ContainsFunc(routes, func(r route) bool { return r.network.Overlaps(n) })
		}
		if !free {
			all = append(all, fail("name one by the cloud's option subnet, such as 172.20.0.0/16", "no /16 of 10.192.0.0/10 is free on this machine"))
		}
	}
	if len(all) == 0 {
		return []Finding{ok("those of the clouds are nobody else's")}
	}
	return all
}

// checkForwarding: Docker drops what it does not know, our instances' too.
func checkForwarding(_ context.Context, p *Patient) Finding {
	if !p.Containers {
		return skip("no containers here")
	}
	if p.exists("/sys/class/net/docker0") {
		return warn("iptables -I DOCKER-USER -i nsh+ -j ACCEPT; iptables -I DOCKER-USER -o nsh+ -m state --state ESTABLISHED,RELATED -j ACCEPT",
			"Docker is here, and drops what instances send to the outside unless it is told otherwise")
	}
	return ok("nothing known stands in the way")
}

// checkNames asks for the name that is needed first: the Debian mirror's.
func checkNames(ctx context.Context, p *Patient) Finding {
	host := p.mirror()
	if host == "" || p.Lookup == nil {
		return skip("no mirror is named whose address could be asked for")
	}
	ctx, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	if err := p.Lookup(ctx, host); err != nil {
		return warn("see /etc/resolv.conf: a name server that answers must stand there; without Internet the layers must be there already", "%s, the Debian mirror, is not found: layers cannot be built, code cannot be fetched", host)
	}
	return ok("%s is found", host)
}

// mirror is the host of the Debian mirror: the configuration's or apt's first.
func (p *Patient) mirror() string {
	texts := []string{p.Mirror}
	lists, _ := filepath.Glob(p.path("/etc/apt/sources.list.d/*"))
	slices.Sort(lists)
	texts = append(texts, p.read("/etc/apt/sources.list"))
	for _, l := range lists {
		if b, err := os.ReadFile(l); err == nil {
			texts = append(texts, string(b))
		}
	}
	for _, text := range texts {
		for line := range strings.Lines(text) {
			line, _, _ = strings.Cut(line, "#")
			for _, scheme := range []string{"http://", "https://"} {
				if _, rest, ok := strings.Cut(line, scheme); ok {
					host, _, _ := strings.Cut(rest+"/", "/")
					host, _, _ = strings.Cut(strings.TrimSpace(host), ":")
					return host
				}
			}
		}
	}
	return ""
}

// maxSkew is what certificates and tokens bear.
const maxSkew = 2 * time.Minute

// checkDirector asks the director that this machine's command line uses.
func checkDirector(ctx context.Context, p *Patient) []Finding {
	if p.Ask == nil {
		return []Finding{skip("not asked")}
	}
	a, err := p.Ask(ctx)
	switch {
	case err != nil && a.URL == "":
		return []Finding{skip("%v", err)}
	case err != nil && p.Running == 0 && p.DataDir != "" && strings.HasPrefix(a.From, p.DataDir):
		return []Finding{ok("none runs here now (%s)", a.URL)}
	case err != nil:
		return []Finding{fail("is it running? its address comes from "+a.From, "%s: %v", a.URL, err)}
	}
	all := []Finding{ok("%s answers, %s", a.URL, a.Version)}
	if !a.Time.IsZero() {
		if skew := p.Now().Sub(a.Time).Round(time.Second); skew > maxSkew || skew < -maxSkew {
			all = append(all, Finding{Check: "time", Level: Fail, Found: fmt.Sprintf("this machine's clock and the director's are %s apart", skew.Abs()), Do: "timedatectl set-ntp true on the one that is wrong"})
		}
	}
	if a.Own != "" && a.Version != "" && a.Own != a.Version {
		all = append(all, Finding{Check: "version", Level: Warn, Found: fmt.Sprintf("this program is %s, the director %s", a.Own, a.Version), Do: "take the director's: the same file serves all roles"})
	}
	if !a.SignedIn {
		return all
	}
	for _, name := range slices.Sorted(maps.Keys(a.Problems)) {
		all = append(all, Finding{Check: "cloud " + name, Level: Fail, Found: "the director says: " + a.Problems[name]})
	}
	return all
}
