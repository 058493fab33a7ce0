package director

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/operation"
	"nutshell/roles/internal/store"
)

const (
	nodeDrain   = "node.drain"
	serviceMove = "service.move" // an instance gives way to another elsewhere
)

// drainTime bounds a whole drain, and busyWait is how often it is tried again
// to move an instance whose service is being changed.
const (
	drainTime = 4 * time.Hour
	busyWait  = 2 * time.Second
	mostMoves = 3 // of one instance, when it is still there after each
)

// drainRequest is what a drain remembers.
type drainRequest struct {
	Node string `json:"node"` // id
	Name string `json:"name"`
}

// drainOf is the drain of a node that is under way, nil for none.
func drainOf(ctx context.Context, v store.View, node string) (*store.Operation, error) {
	active, err := v.Operations(ctx, store.Filter{Active: true, Kind: nodeDrain, Limit: 10})
	if err != nil {
		return nil, err
	}
	for _, o := range active {
		var r drainRequest
		if json.Unmarshal(o.Request, &r) == nil && (node == "" || r.Node == node) {
			return &o, nil
		}
	}
	return nil, nil
}

// drainNode cordons a node and replaces its instances elsewhere, one by one.
func (d *Director) drainNode(ctx context.Context, in *NodePath) (api.Operation, error) {
	return d.drain(ctx, in.Node, "")
}

func (d *Director) drain(ctx context.Context, ref, retryOf string) (api.Operation, error) {
	p, key := httpapi.Who(ctx), httpapi.IdempotencyKey(ctx)
	var row store.Operation
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if key != "" {
			first, err := t.Repeated(ctx, p.User.ID, key)
			if err != nil || first != nil {
				if first != nil {
					row = *first
				}
				return err
			}
		}
		n, err := t.Node(ctx, ref)
		if err != nil {
			return err
		}
		if err := d.drainable(ctx, t, n); err != nil {
			return err
		}
		n.Cordoned, n.Draining = true, true
		if err := t.SaveNode(ctx, n); err != nil {
			return err
		}
		request, err := json.Marshal(drainRequest{n.ID, n.Name})
		if err != nil {
			return err
		}
		// It belongs to whoever asked, and is beside all that happens to applications.
		row, err = t.InsertOperation(ctx, store.Operation{User: p.User.ID, Beside: true, Operation: api.Operation{ID: api.NewID(12), Kind: nodeDrain, Title: "drain node " + n.Name, Actor: p.User.Name,
			State: api.OperationPending, Cancellable: true, RetryOf: retryOf, Deadline: t.Now().Add(drainTime), Request: request}}, p.User.ID, key)
		return err
	})
	if err != nil {
		return api.Operation{}, err
	}
	if !row.State.Final() {
		d.run(row) //nolint:contextcheck // it goes on when the asker has gone
	}
	return row.Operation, nil
}

// drainable refuses what could not end well.
func (d *Director) drainable(ctx context.Context, t *store.Tx, n store.Node) error {
	refuse := func(message, hint string) error {
		return &api.Error{Code: api.CodeConflict, Op: "drain", Object: "node " + n.Name, Message: message, Hint: hint}
	}
	if err := approved("drain", n); err != nil {
		return err
	}
	if n.Lost {
		return refuse("it does not answer, so its instances are being replaced already", "wait until it is back, or remove it by force if it is gone for good")
	}
	active, err := drainOf(ctx, t.View, "")
	if err != nil {
		return err
	}
	if active != nil {
		return store.Busy("drain node "+n.Name, *active) // or instances would move from one to the other
	}
	rows, err := t.MachineInstances(ctx, n.ID)
	if err != nil || len(rows) == 0 {
		return err
	}
	all, err := t.Nodes(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(o store.Node) bool { return o.ID != n.ID && o.State() == api.NodeReady }) {
		return refuse("no other node is ready to take its instances", "let another node join, or uncordon one")
	}
	return nil
}

// runDrain moves what is on a node until nothing is left. It looks at how
// things are, so it goes on after any death.
func (d *Director) runDrain(ctx context.Context, run *operation.Run, o store.Operation) (err error) {
	var r drainRequest
	if err := json.Unmarshal(o.Request, &r); err != nil {
		return err
	}
	defer func() {
		if d.ctx.Err() != nil {
			return // it goes on when the director does
		}
		if e := d.drained(ctx, r.Node); err == nil {
			err = e
		}
	}()
	ctx = httpapi.As(ctx, httpapi.Principal{User: api.User{Name: o.Actor}}, nil)
	stuck := map[string]error{}
	for {
		rows, err := d.store.MachineInstances(ctx, r.Node)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(rows, func(x store.Instance) bool { return stuck[x.ID] == nil })
		if i < 0 {
			return undrained(r.Name, stuck)
		}
		if err := run.Step(ctx, d.movingStep(ctx, rows[i])); err != nil {
			return err
		}
		err = d.move(ctx, o.ID, rows[i])
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			d.c.Log.Warn("instance not moved", "node", r.Node, "instance", rows[i].ID, "error", err)
			stuck[rows[i].ID] = err
		}
	}
}

func (d *Director) movingStep(ctx context.Context, r store.Instance) string {
	name := fmt.Sprintf("application %d", r.Application)
	if a, err := d.store.ApplicationByID(ctx, r.Application); err == nil {
		name = a.Name
	}
	if r.Service == 0 {
		return "move the manager of " + name
	}
	if s, err := d.store.ServiceByID(ctx, r.Application, r.Service); err == nil {
		name += "/" + s.Name
	}
	return "move " + r.ID + " of " + name
}

// undrained says why a node could not be drained of all.
func undrained(node string, stuck map[string]error) error {
	if len(stuck) == 0 {
		return nil
	}
	var lines []string
	for _, id := range slices.Sorted(maps.Keys(stuck)) {
		lines = append(lines, id+": "+api.AsError(stuck[id]).Error())
	}
	return &api.Error{Code: api.CodeConflict, Op: "drain", Object: "node " + node, Message: fmt.Sprintf("%d instances stay: %s", len(stuck), strings.Join(lines, "; ")),
		Hint: "mend that and drain again; the node gets no new instances meanwhile"}
}

// drained ends the draining; the node stays cordoned.
func (d *Director) drained(ctx context.Context, node string) error {
	return d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		n, err := t.Node(ctx, node)
		if api.CodeOf(err) == api.CodeNotFound {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		n.Draining = false
		return t.SaveNode(ctx, n)
	})
}

// move replaces one instance elsewhere, waiting while its service is changed.
func (d *Director) move(ctx context.Context, parent string, r store.Instance) error {
	for done := 0; ; {
		now, err := d.store.Instance(ctx, r.ID)
		if api.CodeOf(err) == api.CodeNotFound || err == nil && now.Machine != r.Machine {
			return nil
		}
		if err != nil {
			return err
		}
		op, err := d.moveOnce(ctx, parent, now)
		if api.CodeOf(err) == api.CodeConflict && api.AsError(err).Related != "" || err == nil && op.ID == "" {
			if err := d.idle(ctx, busyWait); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		ended, err := d.await(ctx, op.ID)
		switch {
		case err != nil:
			return err
		case ended.State != api.OperationDone && ended.Error != nil:
			return ended.Error
		case ended.State != api.OperationDone:
			return &api.Error{Code: api.CodeConflict, Message: "the operation was " + string(ended.State), Related: ended.ID}
		}
		if done++; done >= mostMoves {
			return &api.Error{Code: api.CodeConflict, Message: "its manager does not let it go", Related: ended.ID}
		}
	}
}

// moveOnce begins to move an instance. No operation and no error: it may be
// gone now, or must be tried again.
func (d *Director) moveOnce(ctx context.Context, parent string, r store.Instance) (api.Operation, error) {
	a, err := d.store.ApplicationByID(ctx, r.Application)
	if err != nil {
		return api.Operation{}, err
	}
	wanted := a.Desired == api.GoalStarted
	if r.Service != 0 && wanted {
		s, err := d.store.ServiceByID(ctx, r.Application, r.Service)
		if err != nil {
			return api.Operation{}, err
		}
		wanted = s.Desired == api.GoalStarted
	}
	held, err := d.store.InstanceVolumes(ctx, r.ID)
	if err != nil {
		return api.Operation{}, err
	}
	if len(held) > 0 {
		return api.Operation{}, &api.Error{Code: api.CodeConflict, Op: "move", Object: "instance " + r.ID, Message: fmt.Sprintf("it keeps data in %d volumes of this node", len(held)),
			Hint: "add another instance that gets the data and remove this one, or take a backup, restore it in a new service and delete this one"}
	}
	switch {
	case r.State == api.InstanceLeaving, r.State == api.InstanceLost:
		return api.Operation{}, nil // somebody sees to it
	case !wanted && a.Operation == "":
		return api.Operation{}, d.terminate(ctx, []store.Instance{r}) // it only waited for the next start, which makes another
	case !wanted:
		return api.Operation{}, nil
	case r.Service == 0:
		o := d.replaceOrder(a)
		o.title, o.parent = "move the manager of", parent
		return d.submit(ctx, o)
	}
	o := d.moveOrder(r.Application, r.Service, movement{Instance: r.ID})
	o.parent = parent
	return d.submit(ctx, o)
}

// movement is what an operation service.move was asked for.
type movement struct {
	Instance string `json:"instance"`
}

// moveOrder lets the service's manager start another instance, make it serve,
// and take this one away.
func (d *Director) moveOrder(application, service int64, m movement) order {
	return order{kind: serviceMove, title: "move " + m.Instance + " of", application: application, service: service, request: m,
		change: func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (bool, error) {
			row, err := t.Instance(ctx, m.Instance)
			if err != nil {
				return false, err
			}
			if row.Application != application || row.Service != service || row.State == api.InstanceLeaving {
				return false, api.NotFoundf("the service has no instance %s", api.Shorten(m.Instance))
			}
			s.Remove = []string{m.Instance}
			return d.adapt(ctx, t, a, s, "moving "+m.Instance)
		}}
}

// idle waits unless ctx ends first.
func (d *Director) idle(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// await returns an operation when it has ended.
func (d *Director) await(ctx context.Context, id string) (store.Operation, error) {
	for {
		changed := d.store.Changed()
		o, err := d.store.Operation(ctx, 0, id)
		if err != nil || o.State.Final() {
			return o, err
		}
		select {
		case <-ctx.Done():
			return o, context.Cause(ctx)
		case <-changed:
		}
	}
}

// retryDrain drains again what a drain left.
func (d *Director) retryDrain(ctx context.Context, o store.Operation) (api.Operation, error) {
	var r drainRequest
	if err := json.Unmarshal(o.Request, &r); err != nil {
		return api.Operation{}, err
	}
	if !httpapi.Who(ctx).User.Admin {
		return api.Operation{}, &api.Error{Code: api.CodeForbidden, Op: "retry", Object: "operation " + o.ID, Message: "only an administrator may do this"}
	}
	return d.drain(ctx, r.Node, o.ID)
}
