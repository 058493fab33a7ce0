package mysql

import (
	"context"
	"maps"
	"slices"
	"time"
)

// slots gives each node a place that is the same in all balancers, because
// they tell each other by places who takes writes. Nodes keep theirs.
func (m *manager) slots(ctx context.Context, c cluster) map[string]int {
	was := map[string]int{}
	answered := false
	for _, g := range c.glbs {
		o, err := m.ask(ctx, g.ID)
		if err != nil {
			continue
		}
		answered = true
		if o.Balancer != nil && len(was) == 0 {
			was = o.Balancer.Slots
		}
	}
	if !answered {
		return nil
	}
	return places(was, ids(c.all()))
}

// maxPlaces leaves room for nodes that leave while others come.
const maxPlaces = 2 * maxNodes

// places keeps the places of nodes that are still there, and gives the others
// the first free ones.
func places(was map[string]int, nodes []string) map[string]int {
	now := map[string]int{}
	for _, id := range nodes {
		if n := was[id]; n > 0 {
			now[id] = n
		}
	}
	for _, id := range nodes {
		if now[id] > 0 {
			continue
		}
		used := slices.Collect(maps.Values(now))
		for n := 1; n <= maxPlaces; n++ {
			if !slices.Contains(used, n) {
				now[id] = n
				break
			}
		}
	}
	return now
}

// clientTime is how long clients of a node that leaves may go on.
const clientTime = 10 * time.Second

// waitClients waits until balancers have no clients on a node, for a while.
func (m *manager) waitClients(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, clientTime)
	defer cancel()
	for {
		clients := 0
		for _, g := range holding(m.host.Instances(), balancer) {
			if o, err := m.ask(ctx, g.ID); err == nil && o.Balancer != nil {
				clients += o.Balancer.Clients[node]
			}
		}
		if clients == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// part cuts off the clients that balancers have on a node. One that does not
// answer keeps nobody: they meet the end of the node itself.
func (m *manager) part(ctx context.Context, node string) {
	for _, g := range holding(m.host.Instances(), balancer) {
		if err := m.host.Call(ctx, g.ID, "part", node, nil); err != nil {
			m.host.Log().Warn("clients of a node that leaves are not told", "instance", g.ID, "node", node, "error", err)
		}
	}
}
