package lxc

import (
	"errors"
	"net/netip"
	"slices"

	"nutshell/cloud/pool"
)

// entries are records as the pool sees them.
func entries(records []record) []pool.Shown {
	var list []pool.Shown
	for _, r := range records {
		list = append(list, pool.Shown{Public: r.Public, Inner: r.Address, Ports: r.Ports})
	}
	return list
}

// choose takes the lowest address that no record has. The caller holds mu. None
// left is no error: the instance is reached by its own address.
func (n *network) choosePublic(r *record, records []record) {
	if n.public.Device == "" {
		return
	}
	used := map[netip.Addr]bool{}
	for _, o := range records {
		used[o.Public] = true
	}
	if r.Public = n.public.Free(func(a netip.Addr) bool { _, reserved := n.reserved[a]; return reserved || used[a] }); r.Public.IsValid() {
		n.reserved[r.Public] = r.Group
		return
	}
	n.d.log.Warn("no public address is left for an instance", "instance", r.Name, "pool", n.public.Range())
}

// moved gives an instance that starts again an address of the range that the
// option names now, where it has none of it.
func (n *network) moved(r *record) (release func(), err error) {
	if len(r.Ports) == 0 || n.public.Has(r.Public) || n.public.Device == "" && !r.Public.IsValid() {
		return func() {}, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	records, err := n.d.records()
	if err != nil {
		return nil, err
	}
	r.Public = netip.Addr{}
	n.choosePublic(r, records)
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.reserved, r.Public)
	}, nil
}

// shown are the records that have a public address of the pool. The caller
// holds mu.
func (n *network) shown() ([]record, error) {
	if n.public.Device == "" {
		return nil, nil
	}
	records, err := n.d.records()
	return slices.DeleteFunc(records, func(r record) bool { return !n.public.Has(r.Public) || len(r.Ports) == 0 }), err
}

// open are the records whose public ports are reached in a cluster by whoever
// has a route to this machine's subnet. The caller holds mu.
func (n *network) open() ([]record, error) {
	if !n.plan.Own.IsValid() {
		return nil, nil
	}
	records, err := n.d.records()
	return slices.DeleteFunc(records, func(r record) bool { return len(r.Ports) == 0 || !r.Address.IsValid() }), err
}

// publish gives the interface the addresses of these records, and takes those
// of others away. The caller holds mu.
func (n *network) publish(records []record) error { return n.public.Hold(entries(records)) }

// unpublish takes away what belongs to no record any more.
func (n *network) unpublish() error {
	if err := n.load(); err != nil {
		return err
	}
	shown, err := n.shown()
	if err != nil {
		return err
	}
	return errors.Join(n.publish(shown), n.firewall())
}
