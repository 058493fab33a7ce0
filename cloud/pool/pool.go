// Package pool gives instances addresses of a range on one of this machine's
// interfaces, and sends on what comes to their public ports there: from outside,
// and from this machine itself. It needs root.
package pool

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"nutshell/cloud"
	"nutshell/cloud/nft"
)

// Pool is a range of addresses on an interface; the zero one has none. They are
// ours alone: nobody else may have one.
type Pool struct {
	Device      string
	First, Last netip.Addr
}

// Shown is an instance that has an address of the pool.
type Shown struct {
	Public netip.Addr // of the pool
	Inner  netip.Addr // to which it is sent on
	Ports  []int      // TCP, of both
}

// Parse reads the option public: "eth1 192.168.56.10-192.168.56.99".
func Parse(s string) (Pool, error) {
	var p Pool
	if s == "" {
		return p, nil
	}
	device, pool, _ := strings.Cut(s, " ")
	from, to, _ := strings.Cut(strings.TrimSpace(pool), "-")
	var err, err2 error
	p.Device = device
	p.First, err = netip.ParseAddr(from)
	p.Last, err2 = netip.ParseAddr(to)
	if err != nil || err2 != nil || !p.First.Is4() || !p.Last.Is4() || p.Last.Less(p.First) || device == "" || len(device) > 15 {
		return Pool{}, fmt.Errorf("%w: %q is not an interface and a range, such as eth1 192.168.56.10-192.168.56.99", cloud.ErrInvalid, s)
	}
	return p, nil
}

// Has reports whether an address is one of the range.
func (p Pool) Has(a netip.Addr) bool {
	return p.Device != "" && a.Is4() && !a.Less(p.First) && !p.Last.Less(a)
}

// Range is how people write the addresses.
func (p Pool) Range() string { return p.First.String() + "-" + p.Last.String() }

// Free is the lowest address that is not used; the zero one where none is left,
// and of the zero pool.
func (p Pool) Free(used func(netip.Addr) bool) netip.Addr {
	for a := p.First; p.Has(a); a = a.Next() {
		if !used(a) {
			return a
		}
	}
	return netip.Addr{}
}

// Hold gives the interface the addresses of these instances, and takes those of
// others away.
func (p Pool) Hold(shown []Shown) error {
	if p.Device == "" {
		return nil
	}
	l, err := netlink.LinkByName(p.Device)
	if err != nil {
		return fmt.Errorf("interface %s for public addresses: %w", p.Device, err)
	}
	have, err := netlink.AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("read addresses of %s: %w", p.Device, err)
	}
	wanted := map[netip.Addr]bool{}
	for _, s := range shown {
		wanted[s.Public] = true
	}
	for _, h := range have {
		a, _ := netip.AddrFromSlice(h.IP.To4())
		ones, _ := h.Mask.Size()
		switch {
		case !p.Has(a) || ones != 32: // this machine's own address may lie in the range by mistake
		case wanted[a]:
			delete(wanted, a)
		default:
			if err := netlink.AddrDel(l, &h); err != nil {
				return fmt.Errorf("take %s from %s: %w", a, p.Device, err)
			}
		}
	}
	for a := range wanted {
		if err := netlink.AddrReplace(l, &netlink.Addr{IPNet: &net.IPNet{IP: net.IP(a.AsSlice()), Mask: net.CIDRMask(32, 32)}}); err != nil {
			return fmt.Errorf("give %s to %s: %w", a, p.Device, err)
		}
	}
	return nil
}

// Redirect adds the chains to a table that send on what comes to public ports.
func Redirect(c *nftables.Conn, t *nftables.Table, shown []Shown) {
	if len(shown) == 0 {
		return
	}
	for name, hook := range map[string]*nftables.ChainHook{"public": nftables.ChainHookPrerouting, "public_here": nftables.ChainHookOutput} {
		p := *nftables.ChainPriorityNATDest
		chain := c.AddChain(&nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: &p})
		for _, s := range shown {
			for _, number := range s.Ports {
				c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: slices.Concat(
					nft.Destination(netip.PrefixFrom(s.Public, 32)), nft.TCPTo(uint16(number)), //nolint:gosec // Spec.Check bounds ports
					[]expr.Any{
						&expr.Immediate{Register: 1, Data: s.Inner.AsSlice()},
						&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
					})})
			}
		}
	}
}

// Apart writes a table of its own for instances on other machines. What is sent
// on bears this machine's address, so that answers come back through it: the
// instance's machine has another way to the visitor. No instance: no table.
func Apart(name string, shown []Shown) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: name})
	if len(shown) == 0 {
		c.DelTable(t)
		if err := c.Flush(); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove rules of public addresses: %w", err)
		}
		return nil
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("let this machine forward: %w", err)
	}
	c.FlushTable(t)
	Redirect(c, t, shown)
	p := *nftables.ChainPriorityNATSource
	back := c.AddChain(&nftables.Chain{Name: "back", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: &p})
	for _, s := range shown {
		c.AddRule(&nftables.Rule{Table: t, Chain: back, Exprs: slices.Concat(nft.Destination(netip.PrefixFrom(s.Inner, 32)), nft.Conntrack(expr.CtKeySTATUS, nft.Redirected), []expr.Any{&expr.Masq{}})})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("write rules of public addresses: %w", err)
	}
	return nil
}
