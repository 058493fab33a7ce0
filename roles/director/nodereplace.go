package director

import (
	"context"
	"net/netip"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// former is the entry of a machine that wants to join again with another key:
// its card was written anew. The serial number says so, which anybody can tell;
// so only an entry that is not heard any more is meant, and of the same make. It
// is pure.
func former(n store.Node, all []store.Node) (store.Node, bool) {
	var found store.Node
	for _, o := range all {
		same := o.ID != n.ID && n.Facts.Serial != "" && o.Facts.Serial == n.Facts.Serial && o.Facts.Model == n.Facts.Model && o.Facts.Arch == n.Facts.Arch
		if same && o.Approved && o.Lost && (found.ID == "" || o.Seen.After(found.Seen)) {
			found = o
		}
	}
	return found, found.ID != "" && !n.Approved
}

// replaceNode takes the entry of an earlier life away, and gives its name and
// its network to who comes after it. Its key is refused from then on.
func (d *Director) replaceNode(ctx context.Context, t *store.Tx, n *store.Node, all []store.Node, old string) ([]store.Node, netip.Prefix, error) {
	o, ok := former(*n, all)
	if !ok || o.ID != old {
		return nil, netip.Prefix{}, &api.Error{Code: api.CodeConflict, Op: "replace", Object: "node " + api.Shorten(old), Message: "it is not an entry of the same machine that is lost",
			Hint: "approve the machine as one of its own, and remove the other entry where it is not needed", Fields: []string{"replace"}}
	}
	rows, err := t.MachineInstances(ctx, o.ID)
	if err == nil {
		err = loseInstances(ctx, t, rows, "its node "+o.Name+" began anew")
	}
	if err == nil {
		err = t.DeleteNode(ctx, o)
	}
	if err != nil {
		return nil, netip.Prefix{}, err
	}
	t.After(func() { d.nodes.forget(o.ID) })
	d.c.Log.Info("node replaced", "node", o.ID, "name", o.Name, "by", n.ID, "serial", o.Facts.Serial, "instances", len(rows))
	var left []store.Node
	for _, other := range all {
		if other.ID != o.ID {
			left = append(left, other)
		}
	}
	n.Name = o.Name
	subnet, err := netip.ParsePrefix(o.Subnet)
	return left, subnet, err
}
