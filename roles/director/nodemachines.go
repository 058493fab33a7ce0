package director

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"nutshell/cloud"
	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// machines is the director, seen by a driver that spreads instances over
// nodes.
type machines struct{ d *Director }

var _ cloud.Machines = machines{}

// Machines returns the nodes that were approved. One is up until it is called
// lost: a director that has just started asks where they were last.
func (m machines) Machines(ctx context.Context) ([]cloud.Machine, error) {
	rows, err := m.d.store.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	list := []cloud.Machine{}
	for _, n := range rows {
		if !n.Approved {
			continue
		}
		b, heard := m.d.nodes.last(n.ID)
		if heard {
			n.Facts, n.Address = b.facts, b.address
		}
		subnet, err := netip.ParsePrefix(n.Subnet)
		if err != nil {
			return nil, fmt.Errorf("node %s: subnet: %w", n.Name, err)
		}
		list = append(list, cloud.Machine{ID: n.ID, Name: n.Name, Address: addrOf(n.Address), Subnet: subnet, Up: !n.Lost, Full: diskFull(n.Facts), Silent: heard && m.d.c.Now().Sub(b.at) > nodeLate, Cordoned: n.Cordoned || n.Draining || n.Facts.Problem != "",
			Arch: n.Facts.Arch, CPUs: n.Facts.CPUs, Memory: n.Facts.Memory, Free: n.Facts.MemoryFree})
	}
	slices.SortFunc(list, func(a, b cloud.Machine) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// Call asks a node. Its answer proves that it is the one that joined.
func (m machines) Call(ctx context.Context, machine, method, path string, in, out any) error {
	n, err := m.d.store.Node(ctx, machine)
	if err != nil {
		return err
	}
	if b, ok := m.d.nodes.last(n.ID); ok {
		n.Facts, n.Address = b.facts, b.address
	}
	if !n.Approved || n.Address == "" {
		return &api.Error{Code: api.CodeUnavailable, Object: "node " + n.Name, Message: "it has not joined yet"}
	}
	return m.d.nodeClient(n.ID, n.Address, n.Facts.Port).Do(ctx, method, path, in, out)
}

// mostSlots is how many groups a cluster has at a time: each has a /24 of a
// node's /16, and the first and last are left out.
const mostSlots = 250

// Slot is the number that a group has on each node; it stays the group's until
// the application is gone.
func (m machines) Slot(ctx context.Context, group string) (int, error) {
	if n, err := m.d.store.Slot(ctx, group); err != nil || n != 0 {
		return n, err
	}
	number := 0
	err := m.d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		var err error
		if number, err = t.Slot(ctx, group); err != nil || number != 0 {
			return err
		}
		slots, err := t.Slots(ctx)
		if err != nil {
			return err
		}
		if number = freeSlot(slots); number == 0 {
			if err := m.dropSlots(ctx, t, slots); err != nil {
				return err
			}
			if number = freeSlot(slots); number == 0 {
				return fmt.Errorf("%w: a cluster has room for %d applications", cloud.ErrQuota, mostSlots)
			}
		}
		return t.SetSlot(ctx, group, number)
	})
	return number, err
}

// freeSlot is the lowest number that nobody has, 0 if there is none.
func freeSlot(slots map[string]int) int {
	taken := map[int]bool{}
	for _, n := range slots {
		taken[n] = true
	}
	for n := 1; n <= mostSlots; n++ {
		if !taken[n] {
			return n
		}
	}
	return 0
}

// dropSlots gives those of applications back that are gone. It waits until
// numbers run out, so that one is not another's while containers still end.
func (m machines) dropSlots(ctx context.Context, t *store.Tx, slots map[string]int) error {
	apps, err := t.Applications(ctx, 0)
	if err != nil {
		return err
	}
	rows, err := t.Instances(ctx)
	if err != nil {
		return err
	}
	for group := range slots {
		if slices.ContainsFunc(apps, func(a store.Application) bool { return groupOf(a.ID) == group }) ||
			slices.ContainsFunc(rows, func(r store.Instance) bool { return groupOf(r.Application) == group }) {
			continue
		}
		if err := t.SetSlot(ctx, group, 0); err != nil {
			return err
		}
		delete(slots, group)
	}
	return nil
}
