// Package routes sets the routes by which the machines of a cluster reach each
// other's containers: one for each other machine's subnet, through that
// machine's address. It needs root.
package routes

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Route leads to a subnet through a neighbour.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// protocol marks our routes for those who look at them, as "proto 78".
const protocol = 78

// metric tells owners apart, so that two installations on one machine leave
// each other's routes alone.
func metric(owner string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(owner))
	return 20_000 + int(h.Sum32()%40_000)
}

// Set makes the owner's routes those wanted. It does what it can: its error
// joins one for each route that could not be set, such as one through an
// address that no network of this machine has now. A route through this
// machine itself is none.
func Set(owner string, wanted []Route) error {
	here, err := addresses()
	if err != nil {
		return err
	}
	want := map[Route]bool{}
	for _, r := range wanted {
		if !here[r.Via] {
			want[r] = true
		}
	}
	have, err := netlink.RouteListFiltered(netlink.FAMILY_V4,
		&netlink.Route{Protocol: protocol, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("read routes: %w", err)
	}
	var errs []error
	for _, h := range have {
		if h.Priority != metric(owner) { // another installation's; RT_FILTER_PRIORITY filters rules only
			continue
		}
		if r := of(h); want[r] {
			delete(want, r)
			continue
		}
		if err := netlink.RouteDel(&h); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route to %s: %w", h.Dst, err))
		}
	}
	for r := range want {
		err := netlink.RouteReplace(&netlink.Route{
			Dst: &net.IPNet{IP: net.IP(r.To.Masked().Addr().AsSlice()), Mask: net.CIDRMask(r.To.Bits(), 32)},
			Gw:  net.IP(r.Via.AsSlice()), Protocol: protocol, Priority: metric(owner), Table: unix.RT_TABLE_MAIN,
		})
		switch {
		case errors.Is(err, fs.ErrPermission):
			return errors.Join(append(errs, fmt.Errorf("routes to other machines need root: %w", err))...)
		case err != nil:
			errs = append(errs, fmt.Errorf("route to %s through %s: %w", r.To, r.Via, err))
		}
	}
	return errors.Join(errs...)
}

func of(r netlink.Route) Route {
	var found Route
	if r.Dst != nil {
		ones, _ := r.Dst.Mask.Size()
		a, _ := netip.AddrFromSlice(r.Dst.IP.To4())
		found.To = netip.PrefixFrom(a, ones)
	}
	found.Via, _ = netip.AddrFromSlice(r.Gw.To4())
	return found
}

// addresses are this machine's own.
func addresses() (map[netip.Addr]bool, error) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("read addresses: %w", err)
	}
	own := map[netip.Addr]bool{}
	for _, l := range list {
		if a, ok := netip.AddrFromSlice(l.IP.To4()); ok {
			own[a] = true
		}
	}
	return own, nil
}
