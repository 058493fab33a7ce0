package director

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// NodesConfig says what machines that join get, and where they find us.
type NodesConfig struct {
	// Subnets is the network of the first node's containers; the next ones get
	// those behind it, of the same size. Zero: 10.201.0.0/16.
	Subnets netip.Prefix
	// Find is the UDP address on which we answer nodes that ask their network
	// for a director; empty: we do not.
	Find string
}

// subnetsDefault leaves room for 55 nodes before 10.255.0.0/16, and does not
// begin where this machine's own containers live.
var subnetsDefault = netip.MustParsePrefix("10.201.0.0/16")

func (c NodesConfig) subnets() netip.Prefix {
	if c.Subnets.IsValid() {
		return c.Subnets.Masked()
	}
	return subnetsDefault
}

// nodeRoutes are what administrators and nodes ask about nodes.
func (d *Director) nodeRoutes() []httpapi.Route {
	const get, post, del = http.MethodGet, http.MethodPost, http.MethodDelete
	return []httpapi.Route{
		httpapi.On(get, "/nodes", "node.list", httpapi.Admin, short, "Machines that lend their containers, and those that want to", d.listNodes),
		httpapi.On(get, "/nodes/{node}", "node.get", httpapi.Admin, short, "One node", d.getNode),
		httpapi.On(get, "/nodes/{node}/instances", "node.instances", httpapi.Admin, short, "Instances on a node", d.nodeInstances),
		httpapi.On(post, "/nodes/{node}/approve", "node.approve", httpapi.Admin, short, "Let a machine join", d.approveNode),
		httpapi.On(post, "/nodes/{node}/cordon", "node.cordon", httpapi.Admin, short, "Give a node no new instances", d.cordonNode),
		httpapi.On(post, "/nodes/{node}/uncordon", "node.uncordon", httpapi.Admin, short, "Give a node instances again", d.uncordonNode),
		httpapi.On(post, "/nodes/{node}/drain", nodeDrain, httpapi.Admin, short, "Replace a node's instances elsewhere", d.drainNode).Status(http.StatusAccepted),
		httpapi.On(del, "/nodes/{node}", "node.remove", httpapi.Admin, short, "Take a node out of the cluster, or send one away that waits", d.removeNode),

		httpapi.On(post, "/node/join", "node.join", httpapi.Public, short, "Ask to lend this machine", d.joinNode).Quiet(),
		httpapi.On(post, "/node/heartbeat", "node.heartbeat", httpapi.Node, short, "Tell how a node is", d.heartbeat).Quiet(),
		httpapi.On(get, "/node/layers/{digest}", "node.layer", httpapi.Node, transfer, "A layer of instances' file systems, as a compressed tar", d.sendLayer),
	}
}

// NodePath names a node in a path, by id or name.
type NodePath struct {
	Node string `path:"node"`
}

func (d *Director) listNodes(ctx context.Context, _ *struct{}) ([]api.Node, error) {
	rows, err := d.store.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	counts, err := d.store.NodeInstances(ctx)
	list := []api.Node{}
	for _, n := range rows {
		told := d.told(n, counts)
		told.Warnings, told.Replaces = d.warnings(n, rows)
		list = append(list, told)
	}
	return list, err
}

// told is a node with what was heard of it a moment ago.
func (d *Director) told(n store.Node, counts map[string]int) api.Node {
	if b, ok := d.nodes.last(n.ID); ok {
		n.Facts, n.Address, n.Seen = b.facts, b.address, b.at.UTC()
		if n.Reason == "" {
			n.Reason = b.facts.Problem
		}
	}
	if !n.Approved {
		n.Seen = d.nodes.askedAt(n.ID, n.Seen).UTC() // its row is written when something changes
	}
	told := n.Told()
	told.Instances = counts[n.ID]
	return told
}

func (d *Director) nodeNow(ctx context.Context, ref string) (api.Node, error) {
	n, err := d.store.Node(ctx, ref)
	if err != nil {
		return api.Node{}, err
	}
	counts, err := d.store.NodeInstances(ctx)
	if err != nil {
		return api.Node{}, err
	}
	all, err := d.store.Nodes(ctx)
	told := d.told(n, counts)
	told.Warnings, told.Replaces = d.warnings(n, all)
	return told, err
}

func (d *Director) getNode(ctx context.Context, in *NodePath) (api.Node, error) {
	return d.nodeNow(ctx, in.Node)
}

func (d *Director) nodeInstances(ctx context.Context, in *NodePath) ([]api.Instance, error) {
	n, err := d.store.Node(ctx, in.Node)
	if err != nil {
		return nil, err
	}
	rows, err := d.store.MachineInstances(ctx, n.ID)
	list := []api.Instance{}
	for _, r := range rows {
		list = append(list, r.Instance)
	}
	return d.live.fill(list), err
}

// changeNode changes a node's row and tells of it.
func (d *Director) changeNode(ctx context.Context, ref string, change func(ctx context.Context, t *store.Tx, n *store.Node) error) (api.Node, error) {
	id := ""
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		n, err := t.Node(ctx, ref)
		if err != nil {
			return err
		}
		id = n.ID
		if b, ok := d.nodes.last(n.ID); ok {
			n.Facts, n.Address = b.facts, b.address
		}
		if err := change(ctx, t, &n); err != nil {
			return err
		}
		return t.SaveNode(ctx, n)
	})
	if err != nil {
		return api.Node{}, err
	}
	return d.nodeNow(ctx, id)
}

// approveNode lets a machine in. It learns so the next time that it asks.
func (d *Director) approveNode(ctx context.Context, in *struct {
	NodePath
	Body api.ApproveNode
}) (api.Node, error) {
	return d.changeNode(ctx, in.Node, func(ctx context.Context, t *store.Tx, n *store.Node) error {
		if f := in.Body.Fingerprint; f != "" && !sameFingerprint(n.Fingerprint, f) {
			return &api.Error{Code: api.CodeConflict, Op: "approve", Object: "node " + n.Name, Message: "its fingerprint is another: " + n.Fingerprint,
				Hint: "compare it with what the machine's own screen shows; do not approve what you do not know", Fields: []string{"fingerprint"}}
		}
		if n.Approved {
			return nil
		}
		all, err := t.Nodes(ctx)
		if err != nil {
			return err
		}
		first := d.c.Nodes.subnets()
		if old := in.Body.Replace; old != "" {
			if all, first, err = d.replaceNode(ctx, t, n, all, old); err != nil {
				return err
			}
		}
		if n.Name, err = nodeNameFor(*n, in.Body.Name, all); err != nil {
			return err
		}
		subnet, err := nextSubnet(first, takenNetworks(all, func(store.Node) bool { return true }))
		if err != nil { // what machines that nobody knows say keeps no other out
			subnet, err = nextSubnet(first, takenNetworks(all, func(o store.Node) bool { return o.Approved || o.ID == n.ID }))
		}
		if err != nil {
			return err
		}
		n.Subnet, n.Approved, n.Seen, n.Reason = subnet.String(), true, t.Now(), "approved, and has not come yet"
		d.c.Log.Info("node approved", "node", n.ID, "name", n.Name, "address", n.Address, "subnet", n.Subnet)
		return nil
	})
}

// shortestFingerprint is how many of the 64 digits are enough to tell machines
// apart that somebody makes by the thousand.
const shortestFingerprint = 16

// sameFingerprint compares as people write it: with colons, blanks, in any
// case, and perhaps only its beginning.
func sameFingerprint(whole, given string) bool {
	given = strings.ToLower(strings.NewReplacer(":", "", " ", "", "-", "").Replace(strings.TrimPrefix(strings.ToLower(given), "sha256:")))
	return len(given) >= shortestFingerprint && strings.HasPrefix(whole, given)
}

func (d *Director) cordonNode(ctx context.Context, in *NodePath) (api.Node, error) {
	return d.changeNode(ctx, in.Node, func(_ context.Context, _ *store.Tx, n *store.Node) error {
		n.Cordoned = true
		return approved("cordon", *n)
	})
}

func (d *Director) uncordonNode(ctx context.Context, in *NodePath) (api.Node, error) {
	return d.changeNode(ctx, in.Node, func(ctx context.Context, t *store.Tx, n *store.Node) error {
		active, err := drainOf(ctx, t.View, n.ID)
		if err != nil {
			return err
		}
		if active != nil {
			return store.Busy("uncordon", *active)
		}
		n.Cordoned, n.Draining = false, false
		return approved("uncordon", *n)
	})
}

func approved(op string, n store.Node) error {
	if n.Approved {
		return nil
	}
	return &api.Error{Code: api.CodeConflict, Op: op, Object: "node " + n.Name, Message: "it has not joined yet", Hint: "approve it first, or remove it"}
}

// removeNode takes a node's identity away at once. Its containers are ended
// by itself when it hears so, if it still can.
func (d *Director) removeNode(ctx context.Context, in *struct {
	NodePath
	Force bool `query:"force" doc:"though it has instances: they are lost"`
}) (httpapi.None, error) {
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		n, err := t.Node(ctx, in.Node)
		if err != nil {
			return err
		}
		rows, err := t.MachineInstances(ctx, n.ID)
		if err != nil {
			return err
		}
		if len(rows) > 0 && !in.Force {
			return &api.Error{Code: api.CodeConflict, Op: "remove", Object: "node " + n.Name, Message: fmt.Sprintf("it has %d instances", len(rows)),
				Hint: "drain it first; or, if the machine is gone for good, remove it by force: its instances are replaced elsewhere, and volumes on it are lost"}
		}
		if err := loseInstances(ctx, t, rows, "its node "+n.Name+" was removed"); err != nil {
			return err
		}
		d.c.Log.Info("node removed", "node", n.ID, "name", n.Name, "instances", len(rows))
		t.After(func() { d.nodes.forget(n.ID) })
		return t.DeleteNode(ctx, n)
	})
	return httpapi.None{}, err
}

// loseInstances marks instances that are out of reach, for their managers to
// replace.
func loseInstances(ctx context.Context, t *store.Tx, rows []store.Instance, reason string) error {
	for _, r := range rows {
		if r.State == api.InstanceLeaving || r.State == api.InstanceLost {
			continue
		}
		r.State, r.Reason = api.InstanceLost, reason
		t.Bump(r.Application)
		if err := t.SaveInstance(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// nodeNameFor is what a node is called: as asked for, else as it calls itself
// unless that is what all of its model are called, else by model and serial.
func nodeNameFor(n store.Node, asked string, all []store.Node) (string, error) {
	taken := func(name string) bool {
		return slices.ContainsFunc(all, func(o store.Node) bool { return o.ID != n.ID && (o.Approved && o.Name == name || o.ID == name) })
	}
	if asked != "" {
		if err := api.CheckName("node", asked); err != nil {
			return "", err
		}
		if taken(asked) {
			return "", &api.Error{Code: api.CodeConflict, Op: "approve", Object: "node " + asked, Message: "another node has this name", Fields: []string{"name"}}
		}
		return asked, nil
	}
	name := n.Name
	for i := 2; taken(name); i++ {
		name = fmt.Sprintf("%s-%d", n.Name, i)
	}
	return name, nil
}

// takenNetworks are those that no more node may get: of other nodes'
// containers, and that any machine which is believed has an address in.
func takenNetworks(all []store.Node, believed func(store.Node) bool) []netip.Prefix {
	var list []netip.Prefix
	add := func(text string) {
		if p, err := netip.ParsePrefix(text); err == nil {
			list = append(list, p.Masked())
		}
	}
	for _, n := range all {
		if n.Approved {
			add(n.Subnet)
		}
		if !believed(n) {
			continue
		}
		for _, network := range n.Facts.Networks {
			add(network)
		}
	}
	return append(list, ownNetworks()...)
}

// nextSubnet is the first network behind first that overlaps none of those
// that are taken. It is pure.
func nextSubnet(first netip.Prefix, taken []netip.Prefix) (netip.Prefix, error) {
	for p := first; ; {
		if !slices.ContainsFunc(taken, func(t netip.Prefix) bool { return t.Bits() > 0 && t.Overlaps(p) }) {
			return p, nil
		}
		var ok bool
		if p, ok = behind(p); !ok || !p.Addr().IsPrivate() {
			return netip.Prefix{}, &api.Error{Code: api.CodeQuota, Op: "approve", Object: "node", Err: errors.New("no private network is left for its containers"),
				Hint: "let nodes.subnets begin elsewhere, such as at 10.64.0.0/16"}
		}
	}
}

// behind is the network of the same size that follows; false at the end.
func behind(p netip.Prefix) (netip.Prefix, bool) {
	b := p.Addr().As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	size := uint32(1) << (32 - p.Bits())
	if n+size < n {
		return p, false
	}
	n += size
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), p.Bits()), true //nolint:gosec // one byte after the other
}
