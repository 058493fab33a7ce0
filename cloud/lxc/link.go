package lxc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"nutshell/cloud"
	"nutshell/cloud/nft"
	"nutshell/cloud/routes"
)

// Link makes this machine a part of a cluster: its subnet is own, groups keep
// to the slots they are told, and instances of one slot reach each other on
// all machines. It is kept over restarts. A zero own takes the machine out of
// the cluster.
func (d *driver) Link(_ context.Context, own netip.Prefix, peers []cloud.Peer) error {
	if err := checkLink(own, peers); err != nil {
		return err
	}
	return d.net.link(own, peers)
}

func checkLink(own netip.Prefix, peers []cloud.Peer) error {
	if !own.IsValid() && len(peers) == 0 {
		return nil
	}
	if !goodSubnet(own) {
		return fmt.Errorf("%w: %s is not a private IPv4 network of /22 or larger", cloud.ErrInvalid, own)
	}
	subnets := []netip.Prefix{own}
	for _, p := range peers {
		if !p.Address.Is4() {
			return fmt.Errorf("%w: address %s of another machine is not IPv4", cloud.ErrInvalid, p.Address)
		}
		if !p.Subnet.IsValid() {
			continue
		}
		if !goodSubnet(p.Subnet) {
			return fmt.Errorf("%w: subnet %s of machine %s is not a private IPv4 network of /22 or larger", cloud.ErrInvalid, p.Subnet, p.Address)
		}
		for _, s := range subnets {
			if s.Overlaps(p.Subnet) {
				return fmt.Errorf("%w: subnet %s of machine %s overlaps %s", cloud.ErrInvalid, p.Subnet, p.Address, s)
			}
		}
		subnets = append(subnets, p.Subnet)
	}
	return nil
}

func goodSubnet(p netip.Prefix) bool { return p.Addr().Is4() && p.Bits() <= 22 && p.Addr().IsPrivate() }

func (n *network) link(own netip.Prefix, peers []cloud.Peer) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.load(); err != nil {
		return err
	}
	if own = own.Masked(); own.IsValid() && own != n.plan.Subnet {
		if len(n.plan.Groups) > 0 {
			return fmt.Errorf("%w: instances on this machine have addresses of %s, and the cluster gives it %s: end them first", cloud.ErrInUse, n.plan.Subnet, own)
		}
		used, err := n.used()
		if err != nil {
			return err
		}
		for _, u := range used {
			if u.Overlaps(own) {
				return fmt.Errorf("%w: the cluster gives this machine %s, which overlaps its network %s", cloud.ErrInvalid, own, u)
			}
		}
		// The director's bridge has an address of the old subnet.
		if _, err := n.removeBridges(func(string) bool { return true }); err != nil {
			return err
		}
		n.built = map[int]bool{}
		n.plan.Subnet = own
	}
	peers = slices.Clone(peers)
	slices.SortFunc(peers, func(a, b cloud.Peer) int { return a.Address.Compare(b.Address) })
	if own == n.plan.Own && reflect.DeepEqual(peers, n.plan.Peers) {
		return n.routes()
	}
	n.plan.Own, n.plan.Peers = own, peers
	if err := cloud.SaveState(n.file(), n.plan); err != nil {
		return err
	}
	// First the rules: over a route that is there already, nobody shall come in
	// who may not.
	if there, err := n.walled(); err != nil || there {
		if err = errors.Join(err, n.firewall()); err != nil {
			return err
		}
	}
	return n.routes()
}

// routes leads to the other machines' subnets. The caller holds mu.
func (n *network) routes() error {
	if !n.plan.Own.IsValid() {
		return n.unlink()
	}
	n.routed = true
	n.watch()
	var list []routes.Route
	for _, p := range n.plan.Peers {
		if p.Subnet.IsValid() {
			list = append(list, routes.Route{To: p.Subnet, Via: p.Address})
		}
	}
	return routes.Set(n.d.tag, list)
}

// unlink removes the routes, if there may be some. The caller holds mu.
func (n *network) unlink() error {
	if n.unwatch != nil {
		n.unwatch()
		n.unwatch = nil
	}
	if !n.routed {
		return nil
	}
	return routes.Set(n.d.tag, nil)
}

// slotIn is the slot's /24 in another machine's subnet; zero if that subnet is
// too small to have it.
func slotIn(subnet netip.Prefix, slot int) netip.Prefix {
	if slot >= 1<<(24-subnet.Bits()) {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(in(subnet, slot, 0), 24)
}

// linkRules are what a cluster adds to the firewall:
//
//	forward: a slot's bridge and the same slot of other machines reach each
//	other, other slots do not; the director reaches all, and is reached at its
//	ports, at all if they are not known here; the other machines themselves
//	are out of reach.
//	input: the same for a director on this machine.
//	nat: nothing between machines of the cluster is translated.
//
// The caller holds mu.
func (n *network) linkRules(forward, input, nat func(parts ...[]expr.Any)) {
	from, to := nft.Interface(expr.MetaKeyIIFNAME, n.prefix()), nft.Interface(expr.MetaKeyOIFNAME, n.prefix())
	accept, drop := nft.Verdict(expr.VerdictAccept), nft.Verdict(expr.VerdictDrop)
	answers := nft.Conntrack(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
	for _, p := range n.plan.Peers {
		address := netip.PrefixFrom(p.Address, 32)
		if !p.Subnet.IsValid() {
			forward(from, nft.Destination(address), answers, accept)
			forward(from, nft.Destination(address), nft.Protocol(unix.IPPROTO_ICMP), accept)
			for _, number := range p.Ports {
				forward(from, nft.Destination(address), nft.TCPTo(uint16(number)), accept) //nolint:gosec // a port
				input(from, nft.Destination(address), nft.TCPTo(uint16(number)), accept)   //nolint:gosec // a port
			}
			forward(to, nft.Source(address), accept)
			nat(nft.Source(n.plan.Subnet), nft.Destination(address), accept)
			if len(p.Ports) > 0 {
				forward(from, nft.Destination(address), drop)
			}
			continue
		}
		for _, slot := range slices.Sorted(maps.Values(n.plan.Groups)) {
			there, bridge := slotIn(p.Subnet, slot), n.bridge(slot)+"\x00"
			if there.IsValid() {
				forward(nft.Interface(expr.MetaKeyIIFNAME, bridge), nft.Destination(there), accept)
				forward(nft.Interface(expr.MetaKeyOIFNAME, bridge), nft.Source(there), accept)
			}
		}
		forward(from, nft.Destination(p.Subnet), drop)
		forward(from, nft.Destination(address), drop)
		forward(to, nft.Source(p.Subnet), drop) // to public ports, too
		nat(nft.Source(n.plan.Subnet), nft.Destination(p.Subnet), accept)
	}
}
