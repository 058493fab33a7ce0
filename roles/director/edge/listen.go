package edge

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// gate bounds connections, in all and from one address, so that no stranger
// takes the last file descriptor of the director.
type gate struct {
	most, each int
	trusted    []netip.Prefix
	figures    *figures

	mu   sync.Mutex
	open int
	from map[netip.Addr]int
}

func newGate(most int, trusted []netip.Prefix, f *figures) *gate {
	return &gate{most: most, each: max(most/8, 8), trusted: trusted, figures: f, from: map[netip.Addr]int{}}
}

func (g *gate) guard(l net.Listener) net.Listener { return &guarded{Listener: l, gate: g} }

// enter counts a connection in, if there is room.
func (g *gate) enter(a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	many := g.from[a] >= g.each && !slices.ContainsFunc(g.trusted, func(p netip.Prefix) bool { return p.Contains(a) })
	if g.open >= g.most || many {
		g.figures.refused.Add(1)
		return false
	}
	g.open++
	g.from[a]++
	return true
}

func (g *gate) leave(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	if g.from[a]--; g.from[a] <= 0 {
		delete(g.from, a)
	}
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

type guarded struct {
	net.Listener
	gate *gate
}

// Accept closes at once those for whom there is no room.
func (l *guarded) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		a := addressOf(c.RemoteAddr().String())
		if l.gate.enter(a) {
			return &counted{Conn: c, left: sync.OnceFunc(func() { l.gate.leave(a) })}, nil
		}
		_ = c.Close()
	}
}

// addressOf is the address of a host:port, with IPv4 in its own form.
func addressOf(hostport string) netip.Addr {
	ap, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

type counted struct {
	net.Conn
	left func()
}

// Close counts the connection out.
func (c *counted) Close() error {
	c.left()
	return c.Conn.Close()
}
