package lxc

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"nutshell/cloud"
)

// public is a range of addresses on one of this machine's interfaces. Instances
// get one each, and what comes to their public ports there is sent on to them.
// The addresses of the range are ours alone: nobody else may have one.
type public struct {
	device      string
	first, last netip.Addr
}

// parsePublic reads the option public: "eth1 192.168.56.10-192.168.56.99".
func parsePublic(s string) (public, error) {
	var p public
	if s == "" {
		return p, nil
	}
	device, pool, _ := strings.Cut(s, " ")
	from, to, _ := strings.Cut(strings.TrimSpace(pool), "-")
	var err, err2 error
	p.device = device
	p.first, err = netip.ParseAddr(from)
	p.last, err2 = netip.ParseAddr(to)
	if err != nil || err2 != nil || !p.first.Is4() || !p.last.Is4() || p.last.Less(p.first) || device == "" || len(device) > 15 {
		return public{}, fmt.Errorf("%w: %q is not an interface and a range, such as eth1 192.168.56.10-192.168.56.99", cloud.ErrInvalid, s)
	}
	return p, nil
}

func (p public) has(a netip.Addr) bool {
	return p.device != "" && a.Is4() && !a.Less(p.first) && !p.last.Less(a)
}

// choose takes the lowest address that no record has. The caller holds mu. None
// left is no error: the instance is reached by its own address.
func (n *network) choosePublic(r *record, records []record) {
	if n.public.device == "" {
		return
	}
	used := map[netip.Addr]bool{}
	for _, o := range records {
		used[o.Public] = true
	}
	for a := n.public.first; n.public.has(a); a = a.Next() {
		if _, reserved := n.reserved[a]; !reserved && !used[a] {
			r.Public = a
			n.reserved[a] = r.Group
			return
		}
	}
	n.d.log.Warn("no public address is left for an instance", "instance", r.Name, "pool", n.public.first.String()+"-"+n.public.last.String())
}

// moved gives an instance that starts again an address of the range that the
// option names now, where it has none of it.
func (n *network) moved(r *record) (release func(), err error) {
	if len(r.Ports) == 0 || n.public.has(r.Public) || n.public.device == "" && !r.Public.IsValid() {
		return func() {}, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	records, err := n.d.records()
	if err != nil {
		return nil, err
	}
	r.Public = netip.Addr{}
	n.choosePublic(r, records)
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.reserved, r.Public)
	}, nil
}

// shown are the records that have a public address of the pool. The caller
// holds mu.
func (n *network) shown() ([]record, error) {
	if n.public.device == "" {
		return nil, nil
	}
	records, err := n.d.records()
	return slices.DeleteFunc(records, func(r record) bool { return !n.public.has(r.Public) || len(r.Ports) == 0 }), err
}

// open are the records whose public ports are reached in a cluster by whoever
// has a route to this machine's subnet. The caller holds mu.
func (n *network) open() ([]record, error) {
	if !n.plan.Own.IsValid() {
		return nil, nil
	}
	records, err := n.d.records()
	return slices.DeleteFunc(records, func(r record) bool { return len(r.Ports) == 0 || !r.Address.IsValid() }), err
}

// publish gives the interface the addresses of these records, and takes those
// of others away. The caller holds mu.
func (n *network) publish(records []record) error {
	if n.public.device == "" {
		return nil
	}
	l, err := netlink.LinkByName(n.public.device)
	if err != nil {
		return fmt.Errorf("interface %s for public addresses: %w", n.public.device, err)
	}
	have, err := netlink.AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("read addresses of %s: %w", n.public.device, err)
	}
	wanted := map[netip.Addr]bool{}
	for _, r := range records {
		wanted[r.Public] = true
	}
	for _, h := range have {
		a, _ := netip.AddrFromSlice(h.IP.To4())
		ones, _ := h.Mask.Size()
		switch {
		case !n.public.has(a) || ones != 32: // this machine's own address may lie in the range by mistake
		case wanted[a]:
			delete(wanted, a)
		default:
			if err := netlink.AddrDel(l, &h); err != nil {
				return fmt.Errorf("take %s from %s: %w", a, n.public.device, err)
			}
		}
	}
	for a := range wanted {
		if err := netlink.AddrReplace(l, &netlink.Addr{IPNet: &net.IPNet{IP: net.IP(a.AsSlice()), Mask: net.CIDRMask(32, 32)}}); err != nil {
			return fmt.Errorf("give %s to %s: %w", a, n.public.device, err)
		}
	}
	return nil
}

// unpublish takes away what belongs to no record any more.
func (n *network) unpublish() error {
	if err := n.load(); err != nil {
		return err
	}
	shown, err := n.shown()
	if err != nil {
		return err
	}
	return errors.Join(n.publish(shown), n.firewall())
}

// redirect writes the rules that send what comes to public addresses on: from
// outside, and from this machine itself.
func (n *network) redirect(c *nftables.Conn, t *nftables.Table, records []record) {
	if len(records) == 0 {
		return
	}
	for name, hook := range map[string]*nftables.ChainHook{"public": nftables.ChainHookPrerouting, "public_here": nftables.ChainHookOutput} {
		p := *nftables.ChainPriorityNATDest
		chain := c.AddChain(&nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: &p})
		for _, r := range records {
			for _, number := range r.Ports {
				c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: slices.Concat(
					destination(netip.PrefixFrom(r.Public, 32)), tcpTo(uint16(number)), //nolint:gosec // Spec.Check bounds ports
					[]expr.Any{
						&expr.Immediate{Register: 1, Data: r.Address.AsSlice()},
						&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
					})})
			}
		}
	}
}
