package lxc

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"

	"nutshell/cloud"
	"nutshell/cloud/pool"
)

// maxSlots bounds the groups of a large subnet, so that names of bridges have
// at most 15 characters and id ranges stay below 2^31.
const maxSlots = 4000

// network is the installation's part of this machine's network: a bridge and
// a /24 per group, and firewall rules between them. Slot 0 is the director's.
type network struct {
	d      *driver
	wanted netip.Prefix // option subnet, may be zero
	public pool.Pool    // option public, may be zero

	mu     sync.Mutex
	read   bool
	plan   plan
	built  map[int]bool // slots whose bridge this process has seen to
	routed bool         // routes to other machines may have been set
	// unwatch ends the mending of routes; nil: nobody mends them.
	unwatch func()
	// reserved holds addresses, with their group, of instances whose records
	// are being written.
	reserved map[netip.Addr]string
}

// plan is what network.json keeps.
type plan struct {
	Subnet netip.Prefix   `json:"subnet"`
	Groups map[string]int `json:"groups"` // slot by group
	// Of the cluster that this machine is a part of, if it is.
	Own   netip.Prefix `json:"own,omitzero"`
	Peers []cloud.Peer `json:"peers,omitempty"`
}

func (n *network) init(d *driver, subnet string) error {
	n.d, n.built, n.reserved = d, map[int]bool{}, map[netip.Addr]string{}
	if subnet == "" {
		return nil
	}
	p, err := netip.ParsePrefix(subnet)
	if err != nil || !goodSubnet(p) {
		return fmt.Errorf("%w: option subnet of cloud %s: %q is not a private IPv4 network of /22 or larger", cloud.ErrInvalid, d.c.Name, subnet)
	}
	n.wanted = p.Masked()
	return nil
}

func (n *network) file() string { return filepath.Join(n.d.c.Dir, "network.json") }

// load reads the plan, or makes one. The caller holds mu.
func (n *network) load() error {
	if n.read {
		return nil
	}
	err := cloud.LoadState(n.file(), &n.plan)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if n.plan.Groups == nil {
		n.plan.Groups = map[string]int{}
	}
	// The subnet is chosen anew only while no instance has an address in it.
	if !n.plan.Own.IsValid() && (len(n.plan.Groups) == 0 || !n.plan.Subnet.IsValid()) {
		if n.plan.Subnet, err = n.choose(); err != nil {
			return err
		}
	}
	if n.wanted.IsValid() && n.wanted != n.plan.Subnet && !n.plan.Own.IsValid() {
		n.d.log.Warn("option subnet is used when the last instance is gone", "wanted", n.wanted, "used", n.plan.Subnet)
	}
	n.read = true
	return cloud.SaveState(n.file(), n.plan)
}

// choose takes the subnet that was asked for, or the first free /16 from a
// place that follows from the installation.
func (n *network) choose() (netip.Prefix, error) {
	used, err := n.used()
	if err != nil {
		return netip.Prefix{}, err
	}
	free := func(p netip.Prefix) (netip.Prefix, bool) {
		for _, u := range used {
			if u.Overlaps(p) {
				return u, false
			}
		}
		return p, true
	}
	if n.wanted.IsValid() {
		if u, ok := free(n.wanted); !ok {
			return netip.Prefix{}, fmt.Errorf("%w: option subnet %s overlaps this machine's network %s", cloud.ErrInvalid, n.wanted, u)
		}
		return n.wanted, nil
	}
	for i := range uint32(64) {
		second := 192 + (hash(n.d.tag)+i)%64
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(second), 0, 0}), 16)
		if _, ok := free(p); ok {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("%w: no free /16 in 10.192.0.0/10: give option subnet", cloud.ErrUnavailable)
}

// used are the networks that this machine has, ours left out.
func (n *network) used() ([]netip.Prefix, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("read routes: %w", err)
	}
	var used []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue // the default
		}
		if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil && strings.HasPrefix(l.Attrs().Name, n.prefix()) {
			continue
		}
		ones, _ := r.Dst.Mask.Size()
		if a, ok := netip.AddrFromSlice(r.Dst.IP.To4()); ok && ones > 0 {
			used = append(used, netip.PrefixFrom(a, ones))
		}
	}
	return used, nil
}

// prefix begins the names of all our bridges.
func (n *network) prefix() string         { return "nsh" + n.d.tag }
func (n *network) bridge(slot int) string { return n.prefix() + strconv.Itoa(slot) }

// veth is the host's end of an instance's cable. The kernel removes it with
// the other end.
func (n *network) veth(name string) string {
	return fmt.Sprintf("nv%08x%04x", hash(n.d.tag+"/"+name), hash(name)&0xffff)
}

// at is an address of the slot's /24.
func (n *network) at(slot, host int) netip.Addr { return in(n.plan.Subnet, slot, host) }

func in(subnet netip.Prefix, slot, host int) netip.Addr {
	b := subnet.Addr().As4()
	base := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8
	v := base + uint32(slot)<<8 + uint32(host)                                           //nolint:gosec // within the network
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}) //nolint:gosec // one byte after the other
}

func (n *network) gateway(slot int) netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.at(slot, 1)
}

// place gives r's group a slot, the one wanted if that is not 0, and r an
// address in it. They are kept for r
// until release, when r's record must have been written: writing takes the
// disk's time, and many instances are placed at once.
func (n *network) place(r *record, wanted int) (release func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.load(); err != nil {
		return nil, err
	}
	slot, err := n.slot(r.Group, wanted)
	if err != nil {
		return nil, err
	}
	records, err := n.d.records()
	if err != nil {
		return nil, err
	}
	used := map[netip.Addr]bool{}
	for _, o := range records {
		used[o.Address] = true
	}
	// Hosts 2 to 254, from a place that follows from the name, so that an
	// address is not given again at once.
	first := int(hash(r.Name) % 253)
	for i := range 253 {
		a := n.at(slot, 2+(first+i)%253)
		if _, ok := n.reserved[a]; ok || used[a] {
			continue
		}
		r.Slot, r.Address = slot, a
		n.reserved[a] = r.Group
		if len(r.Ports) > 0 {
			n.choosePublic(r, records)
		}
		return func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			delete(n.reserved, a)
			delete(n.reserved, r.Public)
		}, nil
	}
	return nil, fmt.Errorf("%w: group %q has 253 instances", cloud.ErrQuota, r.Group)
}

// slot is the group's, a new one if it has none. The caller holds mu.
func (n *network) slot(group string, wanted int) (int, error) {
	if slot, ok := n.plan.Groups[group]; ok {
		if wanted > 0 && wanted != slot {
			return 0, fmt.Errorf("%w: group %q has slot %d on this machine, and the cluster gives it %d", cloud.ErrInUse, group, slot, wanted)
		}
		return slot, nil
	}
	taken := map[int]string{0: "the director"}
	for g, s := range n.plan.Groups {
		taken[s] = g
	}
	slot := max(1, wanted)
	for ; wanted == 0; slot++ {
		if _, ok := taken[slot]; !ok {
			break
		}
	}
	if other, ok := taken[slot]; ok {
		return 0, fmt.Errorf("%w: slot %d of group %q is that of group %q on this machine", cloud.ErrInUse, slot, group, other)
	}
	if most := min(1<<(24-n.plan.Subnet.Bits()), maxSlots); slot >= most {
		return 0, fmt.Errorf("%w: subnet %s has room for %d groups", cloud.ErrQuota, n.plan.Subnet, most-1)
	}
	n.plan.Groups[group] = slot
	if err := cloud.SaveState(n.file(), n.plan); err != nil {
		delete(n.plan.Groups, group)
		return 0, err
	}
	return slot, nil
}

// leave calls remove, which must remove r's record, and takes the group's
// bridge away when r was its last instance.
func (n *network) leave(r record, remove func() error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := remove(); err != nil {
		return err
	}
	records, err := n.d.records()
	if err != nil {
		return err
	}
	if r.Public.IsValid() || len(r.Ports) > 0 {
		if err := n.unpublish(); err != nil {
			return err
		}
	}
	groups := map[string]bool{}
	for _, o := range records {
		groups[o.Group] = true
	}
	if groups[r.Group] {
		return nil
	}
	if err := n.load(); err != nil {
		return err
	}
	return n.drop(groups)
}

// keep removes what groups that exist no longer have left.
func (n *network) keep(groups map[string]bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := os.Stat(n.file()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := n.load(); err != nil {
		return err
	}
	return n.drop(groups)
}

// drop removes all groups but those given, from the plan and from the
// machine. The caller holds mu.
func (n *network) drop(groups map[string]bool) error {
	for _, g := range n.reserved {
		groups[g] = true
	}
	wanted := map[string]bool{n.bridge(0): true}
	changed := false
	for g, slot := range n.plan.Groups {
		if groups[g] {
			wanted[n.bridge(slot)] = true
			continue
		}
		delete(n.plan.Groups, g)
		delete(n.built, slot)
		changed = true
	}
	if changed {
		if err := cloud.SaveState(n.file(), n.plan); err != nil {
			return err
		}
	}
	removed, err := n.removeBridges(func(name string) bool { return !wanted[name] })
	if err != nil || removed == 0 {
		return err
	}
	return n.firewall()
}

// up makes the slot's bridge, the director's, and the firewall rules.
func (n *network) up(slot int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.load(); err != nil {
		return err
	}
	missing := false
	for _, s := range []int{0, slot} {
		if _, err := net.InterfaceByName(n.bridge(s)); err != nil || !n.built[s] {
			missing = true
			if err := n.makeBridge(s); err != nil {
				return err
			}
		}
	}
	shown, err := n.shown()
	open, err2 := n.open()
	if err = errors.Join(err, err2); err != nil {
		return err
	}
	if there, err := n.walled(); err != nil || there && !missing && len(shown)+len(open) == 0 {
		return err
	}
	if err := writeSysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	if err := n.firewall(); err != nil {
		return err
	}
	if err := n.routes(); err != nil {
		n.d.log.Warn("other machines of the cluster are not reached", "error", err)
	}
	n.built[0], n.built[slot] = true, true
	return n.publish(shown)
}

// guard writes the firewall rules again when somebody flushed them: without
// them groups are not apart.
func (n *network) guard() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.built) == 0 {
		return nil // no instance was started by this process
	}
	if there, err := n.walled(); err != nil || there {
		return err
	}
	n.d.log.Warn("firewall rules were removed by somebody, writing them again", "table", n.table().Name)
	return n.firewall()
}

// director makes the director's address usable.
func (n *network) director() (string, error) {
	if err := n.up(0); err != nil {
		return "", fmt.Errorf("network: %w", err)
	}
	return n.gateway(0).String(), nil
}

// close removes all that up made, but for the plan.
func (n *network) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.built = map[int]bool{}
	if err := n.publish(nil); err != nil {
		n.d.log.Warn("public addresses not taken away", "error", err)
	}
	_, err := n.removeBridges(func(string) bool { return true })
	return errors.Join(err, n.unlink(), n.removeFirewall(), removeStage(n.d.stage()))
}

func removeStage(dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_ = os.Remove(filepath.Dir(dir)) // fails when another installation is there
	return nil
}
