package lxc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

func (n *network) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: "nutshell_" + n.d.tag}
}

// firewall writes the table anew, in one transaction:
//
//	forward: a group's bridge to itself, and between groups nothing; out to
//	the world but not to link-local addresses (where clouds keep credentials
//	of this machine); in only what answers or what was redirected on purpose,
//	in a cluster also what comes to public ports.
//	input: of this machine instances reach the director's ports, and ping.
//	nat: outward connections bear this machine's address.
//
// The caller holds mu.
func (n *network) firewall() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	t := c.AddTable(n.table())
	c.FlushTable(t)
	chain := func(name string, hook *nftables.ChainHook, p nftables.ChainPriority, typ nftables.ChainType) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: t, Type: typ, Hooknum: hook, Priority: &p})
	}
	forward := chain("forward", nftables.ChainHookForward, *nftables.ChainPriorityFilter, nftables.ChainTypeFilter)
	input := chain("input", nftables.ChainHookInput, *nftables.ChainPriorityFilter, nftables.ChainTypeFilter)
	nat := chain("outward", nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource, nftables.ChainTypeNAT)
	rule := func(to *nftables.Chain, parts ...[]expr.Any) {
		c.AddRule(&nftables.Rule{Table: t, Chain: to, Exprs: slices.Concat(parts...)})
	}
	from, to := port(expr.MetaKeyIIFNAME, n.prefix()), port(expr.MetaKeyOIFNAME, n.prefix())
	linkLocal := netip.MustParsePrefix("169.254.0.0/16")
	answers := ctBits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
	const redirected = 0x20 // IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h

	for _, slot := range slices.Sorted(maps.Values(n.plan.Groups)) {
		name := n.bridge(slot) + "\x00" // whole, where the others are prefixes
		rule(forward, port(expr.MetaKeyIIFNAME, name), port(expr.MetaKeyOIFNAME, name), verdict(expr.VerdictAccept))
	}
	rule(forward, from, to, verdict(expr.VerdictDrop))
	into := func(chain *nftables.Chain) func(...[]expr.Any) {
		return func(parts ...[]expr.Any) { rule(chain, parts...) }
	}
	n.linkRules(into(forward), into(input), into(nat))
	rule(forward, from, destination(linkLocal), verdict(expr.VerdictDrop))
	rule(forward, to, answers, verdict(expr.VerdictAccept))
	rule(forward, to, ctBits(expr.CtKeySTATUS, redirected), verdict(expr.VerdictAccept))
	open, err := n.open()
	if err != nil {
		return err
	}
	for _, r := range open {
		for _, number := range r.Ports {
			rule(forward, to, destination(netip.PrefixFrom(r.Address, 32)), tcpTo(uint16(number)), verdict(expr.VerdictAccept)) //nolint:gosec // Spec.Check bounds ports
		}
	}
	rule(forward, to, verdict(expr.VerdictDrop))

	rule(input, from, answers, verdict(expr.VerdictAccept))
	rule(input, from, protocol(unix.IPPROTO_ICMP), verdict(expr.VerdictAccept))
	for _, p := range n.d.c.Ports {
		rule(input, from, destination(netip.PrefixFrom(n.at(0, 1), 32)), tcpTo(uint16(p)), verdict(expr.VerdictAccept)) //nolint:gosec // a port, checked where it comes in
	}
	rule(input, from, verdict(expr.VerdictDrop))

	shown, err := n.shown()
	if err != nil {
		return err
	}
	n.redirect(c, t, shown)
	rule(nat, source(n.plan.Subnet), not(to), []expr.Any{&expr.Masq{}})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("write firewall rules: %w", err)
	}
	return nil
}

// walled reports whether the table is there.
func (n *network) walled() (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("nftables: %w", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("read firewall tables: %w", err)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == n.table().Name }), nil
}

func (n *network) removeFirewall() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	c.DelTable(n.table())
	if err := c.Flush(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove firewall rules: %w", err)
	}
	return nil
}

// port matches interfaces whose name begins so.
func port(key expr.MetaKey, begin string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(begin)},
	}
}

// not turns the last comparison round.
func not(match []expr.Any) []expr.Any {
	turned := slices.Clone(match)
	last := *turned[len(turned)-1].(*expr.Cmp)
	last.Op = expr.CmpOpNeq
	turned[len(turned)-1] = &last
	return turned
}

func protocol(p byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p}},
	}
}

func tcpTo(p uint16) []expr.Any {
	return append(protocol(unix.IPPROTO_TCP),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, p)})
}

func source(p netip.Prefix) []expr.Any      { return ipv4(12, p) }
func destination(p netip.Prefix) []expr.Any { return ipv4(16, p) }

// ipv4 matches the address at an offset of the IPv4 header.
func ipv4(offset uint32, p netip.Prefix) []expr.Any {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.NFPROTO_IPV4}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// ctBits matches connections of which any of the bits is set.
func ctBits(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }
