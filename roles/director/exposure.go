package director

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// mostVisits is how many addresses from outside are told.
const mostVisits = 5

// exposure tells how an appliance is reached: nil where no cloud shows
// instances on a network of this machine.
func (d *Director) exposure(ctx context.Context) (*api.Exposure, error) {
	var out *api.Exposure
	for _, c := range d.c.Clouds {
		if device, pool, ok := strings.Cut(c.Options["public"], " "); ok {
			out = &api.Exposure{Interface: device, Pool: strings.TrimSpace(pool), Outside: []api.Visit{}, NoSecondFactor: []string{}}
			break
		}
	}
	if out == nil {
		return nil, nil
	}
	own := interfaceNetworks(out.Interface)
	for _, p := range own {
		out.Network = p.Masked().String()
	}
	out.Problem = poolProblem(out.Interface, out.Pool, own)
	users, err := d.store.Users(ctx)
	if err != nil {
		return nil, err
	}
	names := map[int64]string{}
	for _, u := range users {
		names[u.ID] = u.Name
		if u.Admin && !u.SecondFactor {
			out.NoSecondFactor = append(out.NoSecondFactor, u.Name)
		}
	}
	sessions, err := d.store.OpenSessions(ctx, d.c.Now())
	out.Outside = visits(sessions, names, own)
	return out, err
}

// visits are the newest sessions of each address outside of these networks and
// of this machine. It is pure.
func visits(sessions []store.Session, names map[int64]string, own []netip.Prefix) []api.Visit {
	list, told := []api.Visit{}, map[netip.Addr]bool{}
	for _, s := range sessions {
		a, err := netip.ParseAddr(s.Remote)
		if err != nil {
			continue
		}
		a = a.Unmap()
		inside := a.IsLoopback() || a.IsLinkLocalUnicast()
		for _, p := range own {
			inside = inside || p.Contains(a)
		}
		if inside || told[a] || len(list) == mostVisits {
			continue
		}
		told[a] = true
		list = append(list, api.Visit{Address: a.String(), User: names[s.User], Seen: s.Seen})
	}
	return list
}

// interfaceNetworks are the addresses of an interface with their networks; of
// instances' own, which are single addresses, there are none among them.
func interfaceNetworks(name string) []netip.Prefix {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil
	}
	addresses, _ := i.Addrs()
	var list []netip.Prefix
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Bits() < 32 {
			list = append(list, p)
		}
	}
	return list
}

// poolProblem says what is wrong with a range of addresses on these networks.
// It is pure.
func poolProblem(device, pool string, own []netip.Prefix) string {
	from, to, _ := strings.Cut(pool, "-")
	first, err := netip.ParseAddr(from)
	last, err2 := netip.ParseAddr(to)
	switch {
	case err != nil || err2 != nil:
		return "the range of addresses is not one"
	case len(own) == 0:
		return "the interface " + device + " has no network"
	}
	for _, p := range own {
		if !p.Contains(first) || !p.Contains(last) {
			continue
		}
		if a := p.Addr(); !a.Less(first) && !last.Less(a) {
			return "the range has this machine's own address " + a.String()
		}
		return ""
	}
	return "the range lies outside of the network of " + device
}
