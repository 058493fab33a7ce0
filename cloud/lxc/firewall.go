package lxc

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"nutshell/cloud/nft"
	"nutshell/cloud/pool"
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
	from, to := nft.Interface(expr.MetaKeyIIFNAME, n.prefix()), nft.Interface(expr.MetaKeyOIFNAME, n.prefix())
	linkLocal := netip.MustParsePrefix("169.254.0.0/16")
	answers := nft.Conntrack(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)

	for _, slot := range slices.Sorted(maps.Values(n.plan.Groups)) {
		name := n.bridge(slot) + "\x00" // whole, where the others are prefixes
		rule(forward, nft.Interface(expr.MetaKeyIIFNAME, name), nft.Interface(expr.MetaKeyOIFNAME, name), nft.Verdict(expr.VerdictAccept))
	}
	rule(forward, from, to, nft.Verdict(expr.VerdictDrop))
	into := func(chain *nftables.Chain) func(...[]expr.Any) {
		return func(parts ...[]expr.Any) { rule(chain, parts...) }
	}
	n.linkRules(into(forward), into(input), into(nat))
	rule(forward, from, nft.Destination(linkLocal), nft.Verdict(expr.VerdictDrop))
	rule(forward, to, answers, nft.Verdict(expr.VerdictAccept))
	rule(forward, to, nft.Conntrack(expr.CtKeySTATUS, nft.Redirected), nft.Verdict(expr.VerdictAccept))
	open, err := n.open()
	if err != nil {
		return err
	}
	for _, r := range open {
		for _, number := range r.Ports {
			rule(forward, to, nft.Destination(netip.PrefixFrom(r.Address, 32)), nft.TCPTo(uint16(number)), nft.Verdict(expr.VerdictAccept)) //nolint:gosec // Spec.Check bounds ports
		}
	}
	rule(forward, to, nft.Verdict(expr.VerdictDrop))

	rule(input, from, answers, nft.Verdict(expr.VerdictAccept))
	rule(input, from, nft.Protocol(unix.IPPROTO_ICMP), nft.Verdict(expr.VerdictAccept))
	for _, p := range n.d.c.Ports {
		rule(input, from, nft.Destination(netip.PrefixFrom(n.at(0, 1), 32)), nft.TCPTo(uint16(p)), nft.Verdict(expr.VerdictAccept)) //nolint:gosec // a port, checked where it comes in
	}
	rule(input, from, nft.Verdict(expr.VerdictDrop))

	shown, err := n.shown()
	if err != nil {
		return err
	}
	pool.Redirect(c, t, entries(shown))
	rule(nat, nft.Source(n.plan.Subnet), nft.Not(to), []expr.Any{&expr.Masq{}})
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
