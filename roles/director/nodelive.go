package director

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
	"nutshell/roles/internal/store"
)

// Times of nodes. They tell of themselves every 3 s.
const (
	nodeLate    = 7 * time.Second  // then a node is asked with less patience, and gets instances last
	nodeSilence = 12 * time.Second // then a node is lost
	nodeReturn  = 40 * time.Second // the same after a start of the director: nodes ask more rarely while it is away, and may need another certificate
	nodeTell    = time.Minute      // between two events about what a node's figures have become
	nodeKeep    = 10 * time.Minute // how exactly a node's row knows when it was seen: each change is a write
)

// mostNodeAnswer bounds what a node makes us hold; a thousand instances have half
// a MiB.
const mostNodeAnswer = 8 << 20

// nodes is what the director knows of nodes and does not write down at each
// heartbeat.
type nodes struct {
	mu      sync.Mutex
	beats   map[string]beat
	clients map[string]*rpc.Client
	joins   map[string]time.Time // machines that wait: when they asked last
	queue   queue                // addresses that came in vain
	back    chan struct{}        // somebody is there again: the sweep should look
}

// beat is the last that was heard of a node.
type beat struct {
	at       time.Time
	facts    api.NodeFacts
	address  string // that it came from
	director string // host by which it reached us
	told     time.Time
	shown    api.NodeFacts // in the last event
	skew     time.Duration // of its clock, ahead of ours

	// Which process speaks for it, and which did before; see claim.
	boot, rival string
	double      string    // address of a second machine with its key
	doubled     time.Time // when that was heard last
}

func newNodes() *nodes {
	return &nodes{beats: map[string]beat{}, clients: map[string]*rpc.Client{}, joins: map[string]time.Time{}, queue: queue{}, back: make(chan struct{}, 1)}
}

func (n *nodes) last(id string) (beat, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b, ok := n.beats[id]
	return b, ok
}

func (n *nodes) keep(id string, b beat) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.beats[id] = b
}

func (n *nodes) forget(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.beats, id)
	delete(n.joins, id)
	if c := n.clients[id]; c != nil {
		c.HTTP.CloseIdleConnections()
		delete(n.clients, id)
	}
}

// hosts are those by which nodes reach us, the one of the most recent first.
func (n *nodes) hosts() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var beats []beat
	for _, b := range n.beats {
		beats = append(beats, b)
	}
	slices.SortFunc(beats, func(a, b beat) int { return b.at.Compare(a.at) })
	var hosts []string
	for _, b := range beats {
		if b.director != "" && !slices.Contains(hosts, b.director) {
			hosts = append(hosts, b.director)
		}
	}
	return hosts
}

// client calls a node at its address, and nobody else who has that by now.
func (d *Director) nodeClient(id, address string, port int) *rpc.Client {
	if port == 0 {
		port = api.NodePort
	}
	base := "https://" + netip.AddrPortFrom(addrOf(address), uint16(port)).String() // checked when it was told
	n := d.nodes
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.clients[id]
	if c != nil && c.Base == base {
		return c
	}
	if c != nil {
		c.HTTP.CloseIdleConnections()
	}
	c = rpc.NewClient(base, d.ca.ClientTLS(pki.NodeOf(id)))
	c.Most = mostNodeAnswer
	n.clients[id] = c
	return c
}

func addrOf(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.IPv4Unspecified()
	}
	return a.Unmap()
}

// ownNetworks are those that this machine has addresses in.
func ownNetworks() []netip.Prefix {
	var list []netip.Prefix
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			list = append(list, p.Masked())
		}
	}
	return list
}

// answers reports whether a node was heard lately.
func (d *Director) answers(id string) bool {
	b, ok := d.nodes.last(id)
	return ok && d.c.Now().Sub(b.at) <= nodeSilence
}

// lookAtNodes calls those lost that were not heard for too long, and their
// instances with them. Nobody is lost before the director has had time to hear
// them.
func (d *Director) lookAtNodes(ctx context.Context, began time.Time) error {
	rows, err := d.store.Nodes(ctx)
	if err != nil {
		return err
	}
	now := d.c.Now()
	for _, n := range rows {
		last, patience := began, nodeReturn
		if b, ok := d.nodes.last(n.ID); ok {
			last, patience = b.at, nodeSilence
		}
		if !n.Approved || n.Lost || now.Sub(last) <= patience || now.Sub(n.Seen) <= nodeSilence {
			continue
		}
		if err := d.loseNode(ctx, n.ID, "it has not been heard for "+patience.String()); err != nil {
			return err
		}
	}
	return nil
}

func (d *Director) loseNode(ctx context.Context, id, reason string) error {
	return d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		n, err := t.Node(ctx, id)
		if err != nil || n.Lost {
			return err
		}
		if b, ok := d.nodes.last(id); ok {
			n.Facts, n.Address, n.Seen = b.facts, b.address, b.at
		}
		n.Lost, n.Reason = true, reason
		rows, err := t.MachineInstances(ctx, id)
		if err != nil {
			return err
		}
		d.c.Log.Warn("node lost", "node", id, "name", n.Name, "instances", len(rows))
		if err := loseInstances(ctx, t, rows, "its node "+n.Name+" does not answer"); err != nil {
			return err
		}
		return t.SaveNode(ctx, n)
	})
}

// away splits rows in those whose node can be asked about them and those whose
// node is lost or was removed. What of these still runs there ends when the
// node is back: it has no row then, or the node no identity.
func (d *Director) away(ctx context.Context, rows []store.Instance) (there, gone []store.Instance, err error) {
	if !slices.ContainsFunc(rows, func(r store.Instance) bool { return r.Machine != "" }) {
		return rows, nil, nil
	}
	known, err := d.store.Nodes(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range rows {
		i := slices.IndexFunc(known, func(n store.Node) bool { return n.ID == r.Machine && n.Approved && !n.Lost })
		if r.Machine != "" && i < 0 {
			gone = append(gone, r)
		} else {
			there = append(there, r)
		}
	}
	return there, gone, nil
}

// mustLeave reports whether an instance's node is lost, removed or drained, so
// that bringing it back there is of no use.
func (d *Director) mustLeave(ctx context.Context, r store.Instance) (bool, error) {
	if r.Machine == "" {
		return false, nil
	}
	n, err := d.store.Node(ctx, r.Machine)
	if api.CodeOf(err) == api.CodeNotFound {
		return true, nil
	}
	return err == nil && (n.Lost || n.Draining), err
}

// machineOf is the node that a cloud says an instance runs on, by id and name.
func machineOf(ctx context.Context, t *store.Tx, c cloud.Instance) (id, name string, err error) {
	if c.Machine == "" {
		return "", "", nil
	}
	n, err := t.Node(ctx, c.Machine)
	if api.CodeOf(err) == api.CodeNotFound {
		return c.Machine, c.Machine, nil // removed in this moment
	}
	return c.Machine, n.Name, err
}
