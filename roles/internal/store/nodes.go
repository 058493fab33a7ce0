package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"nutshell/roles/api"
)

// Node is a machine that lends its containers, or asks to.
type Node struct {
	ID          string
	Name        string
	Fingerprint string // SHA-256 of its public key, hex
	Approved    bool
	Cordoned    bool
	Draining    bool
	Lost        bool
	Reason      string
	Subnet      string // of its containers, empty while it waits
	Address     string
	Director    string // host by which it reaches the director
	Facts       api.NodeFacts
	Joined      time.Time
	Seen        time.Time // when the row was last written on its word
}

// State is what a node's flags come to.
func (n Node) State() api.NodeState {
	switch {
	case !n.Approved:
		return api.NodeWaiting
	case n.Lost:
		return api.NodeLost
	case n.Draining:
		return api.NodeDraining
	case n.Cordoned:
		return api.NodeCordoned
	}
	return api.NodeReady
}

// Told is the node as people are shown it, without its instances.
func (n Node) Told() api.Node {
	f := n.Facts
	layers := f.Layers
	if layers == nil {
		layers = []string{}
	}
	return api.Node{ID: n.ID, Name: n.Name, State: n.State(), Reason: n.Reason, Serial: f.Serial, Model: f.Model, Fingerprint: n.Fingerprint, Address: n.Address, Subnet: n.Subnet,
		Arch: f.Arch, Version: f.Version, CPUs: f.CPUs, Memory: f.Memory, MemoryFree: f.MemoryFree, Disk: f.Disk, DiskFree: f.DiskFree, Load: f.Load, Heat: f.Heat, HeatMost: f.HeatMost, PowerLow: f.PowerLow, Layers: layers, Joined: n.Joined, Seen: n.Seen}
}

const nodeColumns = `id, name, fingerprint, approved, cordoned, draining, lost, reason, subnet, address, director, facts, joined, seen`

func scanNode(r *sql.Rows) (Node, error) {
	var n Node
	var facts string
	var joined, seen int64
	err := r.Scan(&n.ID, &n.Name, &n.Fingerprint, &n.Approved, &n.Cordoned, &n.Draining, &n.Lost, &n.Reason, &n.Subnet, &n.Address, &n.Director, &facts, &joined, &seen)
	if err != nil {
		return n, err
	}
	n.Joined, n.Seen = timeOf(joined), timeOf(seen)
	return n, json.Unmarshal([]byte(facts), &n.Facts)
}

func (v View) nodes(ctx context.Context, where string, args ...any) ([]Node, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT `+nodeColumns+` FROM node WHERE `+where+` ORDER BY approved, id`, args...)
	return scanAll(rows, err, scanNode)
}

// Nodes lists all nodes, those that wait first.
func (v View) Nodes(ctx context.Context) ([]Node, error) { return v.nodes(ctx, `1`) }

// Node finds a node by its id, or by its name where only one has that.
func (v View) Node(ctx context.Context, ref string) (Node, error) {
	found, err := v.nodes(ctx, `id = ?1 OR name = ?1`, ref)
	for _, n := range found {
		if n.ID == ref || n.Approved && len(found) > 1 { // a machine that waits takes no name from one that was approved
			found = []Node{n}
			break
		}
	}
	if len(found) > 1 {
		return Node{}, &api.Error{Code: api.CodeConflict, Object: "node " + api.Shorten(ref), Message: "several machines ask to join by this name", Hint: "use an id of the list of nodes"}
	}
	return one(found, err, func() error {
		return &api.Error{Code: api.CodeNotFound, Object: "node " + api.Shorten(ref), Message: "there is no such node", Hint: "list the nodes to see their names"}
	})
}

// NodeInstances counts the instances on each node.
func (v View) NodeInstances(ctx context.Context) (map[string]int, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT machine, count(*) FROM instance WHERE machine <> '' GROUP BY machine`)
	counts := map[string]int{}
	_, err = scanAll(rows, err, func(r *sql.Rows) (struct{}, error) {
		var id string
		var n int
		err := r.Scan(&id, &n)
		counts[id] = n
		return struct{}{}, err
	})
	return counts, err
}

// MachineInstances lists the instances on a node.
func (v View) MachineInstances(ctx context.Context, node string) ([]Instance, error) {
	return v.instances(ctx, `machine = ?`, node)
}

// SaveNode stores a node, new or changed. Its events tell what people see, so
// who only wants to keep facts calls KeepNode.
func (t *Tx) SaveNode(ctx context.Context, n Node) error {
	if err := t.KeepNode(ctx, n); err != nil {
		return err
	}
	return t.TellNode(ctx, n)
}

// KeepNode is SaveNode without an event.
func (t *Tx) KeepNode(ctx context.Context, n Node) error {
	facts, err := json.Marshal(n.Facts)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `INSERT INTO node (`+nodeColumns+`) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
		ON CONFLICT (id) DO UPDATE SET name = ?2, approved = ?4, cordoned = ?5, draining = ?6, lost = ?7, reason = ?8, subnet = ?9, address = ?10, director = ?11, facts = ?12, seen = ?14`,
		n.ID, n.Name, n.Fingerprint, n.Approved, n.Cordoned, n.Draining, n.Lost, n.Reason, n.Subnet, n.Address, n.Director, string(facts), micros(n.Joined), micros(n.Seen))
	return err
}

// TellNode sends the event of a node as it is, for administrators.
func (t *Tx) TellNode(ctx context.Context, n Node) error {
	told := n.Told()
	counts, err := t.NodeInstances(ctx)
	if err != nil {
		return err
	}
	told.Instances = counts[n.ID]
	return t.event(ctx, "node", 0, 0, 0, n.ID, told)
}

// DeleteNode forgets a node. From then on its certificate is refused.
func (t *Tx) DeleteNode(ctx context.Context, n Node) error {
	if _, err := t.exec(ctx, `DELETE FROM node WHERE id = ?`, n.ID); err != nil {
		return err
	}
	return t.event(ctx, "node.deleted", 0, 0, 0, n.ID, n.Told())
}

// Slot is the number of a group, 0 if it has none.
func (v View) Slot(ctx context.Context, group string) (int, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT number FROM slot WHERE "group" = ?`, group)
	found, err := scanAll(rows, err, func(r *sql.Rows) (int, error) {
		var n int
		return n, r.Scan(&n)
	})
	if err != nil || len(found) == 0 {
		return 0, err
	}
	return found[0], nil
}

// Slots are all numbers by group.
func (v View) Slots(ctx context.Context) (map[string]int, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT "group", number FROM slot`)
	slots := map[string]int{}
	_, err = scanAll(rows, err, func(r *sql.Rows) (struct{}, error) {
		var group string
		var n int
		err := r.Scan(&group, &n)
		slots[group] = n
		return struct{}{}, err
	})
	return slots, err
}

// SetSlot gives a group a number; 0 takes it away.
func (t *Tx) SetSlot(ctx context.Context, group string, number int) error {
	if number == 0 {
		_, err := t.exec(ctx, `DELETE FROM slot WHERE "group" = ?`, group)
		return err
	}
	_, err := t.exec(ctx, `INSERT INTO slot ("group", number) VALUES (?, ?)`, group, number)
	return err
}
