package director

import (
	"context"
	"math"
	"net"
	"slices"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// heartbeat takes what a node says of itself and tells it its place in the
// cluster. What has not changed for people is not written.
func (d *Director) heartbeat(ctx context.Context, in *struct{ Body api.NodeFacts }) (api.NodeOrders, error) {
	id, now := httpapi.Who(ctx).Identity.Name, d.c.Now()
	n, err := d.store.Node(ctx, id)
	if err != nil {
		return api.NodeOrders{}, err
	}
	if ok, wait := d.joins.Allow("beat " + id); !ok {
		return api.NodeOrders{}, &api.Error{Code: api.CodeTooMany, Op: "tell of", Object: "node " + n.Name, Message: "it tells of itself more often than it should", RetryAfter: int(wait.Seconds()) + 1}
	}
	b, heard := d.nodes.last(id)
	before := b.doubled
	b, err = b.claim(cleanText(in.Body.Boot), httpapi.Remote(ctx), now)
	if b.doubled.Sub(before) > nodeSilence {
		d.c.Log.Warn("two machines have the key of one node", "node", id, "name", n.Name, "address", b.address, "other", b.double)
	}
	if err != nil {
		d.nodes.keep(id, b)
		return api.NodeOrders{}, err
	}
	b.skew = skewOf(in.Body.Clock, now)
	b.at, b.facts, b.address = now, cleanFacts(in.Body), httpapi.Remote(ctx)
	if host := httpapi.Host(ctx); net.ParseIP(host) != nil || hostName.MatchString(host) {
		b.director = host
	}
	returned := n.Lost
	write := returned || !heard || n.Reason != b.facts.Problem || n.Address != b.address || n.Director != b.director || now.Sub(n.Seen) > nodeKeep || lasting(n.Facts, b.facts)
	if tell := drifted(b.shown, b.facts) && now.Sub(b.told) >= nodeTell; write || tell {
		b.told, b.shown = now, b.facts
	}
	d.nodes.keep(id, b)
	if write || b.told.Equal(now) {
		err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
			if n, err = t.Node(ctx, id); err != nil {
				return err
			}
			if n.Lost {
				d.c.Log.Info("node is back", "node", id, "name", n.Name)
			}
			n.Lost, n.Reason = false, b.facts.Problem
			n.Facts, n.Address, n.Director, n.Seen = b.facts, b.address, b.director, now
			if write {
				if err := t.KeepNode(ctx, n); err != nil {
					return err
				}
			}
			return t.TellNode(ctx, n)
		})
		if err != nil {
			return api.NodeOrders{}, err
		}
	}
	if returned {
		select {
		case d.nodes.back <- struct{}{}: // what it still runs and should not ends soon
		default:
		}
	}
	return d.orders(ctx, n)
}

// lasting reports whether something changed that a director should know of a
// node that it has not heard yet.
func lasting(a, b api.NodeFacts) bool {
	return !sameFacts(a, b) || a.Port != b.Port || a.Problem != b.Problem || a.Disk != b.Disk || !slices.Equal(a.Layers, b.Layers)
}

// drifted reports whether figures changed so much that people who look at them
// should see it.
func drifted(a, b api.NodeFacts) bool {
	far := func(x, y, whole int64) bool { return whole > 0 && math.Abs(float64(x-y)) > float64(whole)/20 }
	return far(a.MemoryFree, b.MemoryFree, b.Memory) || far(a.DiskFree, b.DiskFree, b.Disk) || math.Abs(a.Load-b.Load) > max(0.5, float64(b.CPUs)/4) ||
		math.Abs(a.Heat-b.Heat) >= 5 || hot(a) != hot(b) || a.PowerLow != b.PowerLow
}

// orders are a node's place among the others.
func (d *Director) orders(ctx context.Context, n store.Node) (api.NodeOrders, error) {
	all, err := d.store.Nodes(ctx)
	if err != nil {
		return api.NodeOrders{}, err
	}
	out := api.NodeOrders{Now: d.c.Now().UTC(), Name: n.Name, State: n.State(), Subnet: n.Subnet, Peers: []api.NodePeer{}, Ports: d.ports()}
	for _, o := range all {
		if o.Approved && o.ID != n.ID && o.Address != "" {
			if b, ok := d.nodes.last(o.ID); ok {
				o.Address = b.address
			}
			out.Peers = append(out.Peers, api.NodePeer{Address: o.Address, Subnet: o.Subnet})
		}
	}
	return out, nil
}
