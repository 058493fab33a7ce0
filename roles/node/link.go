package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
)

// link puts containers in touch with those of other machines.
func (w *worker) link(ctx context.Context, orders api.NodeOrders) {
	l, ok := w.driver.(cloud.Linked)
	if !ok || orders.Subnet == "" {
		return
	}
	same := w.linked != nil && w.linked.Subnet == orders.Subnet && slices.Equal(w.linked.Peers, orders.Peers) && slices.Equal(w.linked.Ports, orders.Ports) && w.linkedBy == w.address
	if same || w.c.Now().Before(w.relink) {
		return
	}
	own, peers, err := w.neighbours(ctx, orders)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		err = l.Link(ctx, own, peers)
	}
	if err != nil {
		w.linked, w.relink = nil, w.c.Now().Add(relinkEvery)
		w.problem = "not linked with other nodes: " + err.Error()
		w.c.Log.Warn("containers not linked with those of other nodes", "error", err)
		return
	}
	w.linked, w.linkedBy, w.relink, w.checked = &orders, w.address, time.Time{}, time.Time{}
	w.c.Log.Info("containers linked with those of other nodes", "subnet", orders.Subnet, "nodes", len(orders.Peers))
}

// neighbours are the other nodes and the director's machine, which may be this
// one.
func (w *worker) neighbours(ctx context.Context, orders api.NodeOrders) (netip.Prefix, []cloud.Peer, error) {
	own, err := netip.ParsePrefix(orders.Subnet)
	if err != nil {
		return own, nil, fmt.Errorf("subnet of this node: %w", err)
	}
	var peers []cloud.Peer
	for _, p := range orders.Peers {
		address, err := netip.ParseAddr(p.Address)
		if err != nil {
			return own, nil, fmt.Errorf("address of another node: %w", err)
		}
		subnet, err := netip.ParsePrefix(p.Subnet)
		if err != nil {
			return own, nil, fmt.Errorf("subnet of another node: %w", err)
		}
		peers = append(peers, cloud.Peer{Address: address, Subnet: subnet})
	}
	host, _, err := net.SplitHostPort(w.address)
	if err != nil {
		return own, nil, err
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	if err != nil || len(found) == 0 {
		return own, nil, fmt.Errorf("address of the director: %w", err)
	}
	return own, append(peers, cloud.Peer{Address: found[0].Unmap(), Ports: orders.Ports}), nil
}
