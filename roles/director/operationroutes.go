package director

import (
	"context"
	"encoding/json"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/operation"
	"nutshell/roles/internal/store"
)

func (d *Director) listOperations(ctx context.Context, in *struct {
	State       string `query:"state" enum:"active,all,pending,running,done,failed,cancelled"`
	Application string `query:"application"`
	Service     string `query:"service"`
	Kind        string `query:"kind" doc:"service.start, say, or service for all kinds that begin so"`
	Actor       string `query:"actor" doc:"name of the user who asked for it"`
	Parent      string `query:"parent" doc:"id of the operation that it is a part of"`
	Before      string `query:"before" doc:"id of an operation: only older ones"`
	Limit       int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	All         bool   `query:"all"`
}) ([]api.Operation, error) {
	p := httpapi.Who(ctx)
	f := store.Filter{User: p.User.ID, Active: in.State == "active", Kind: in.Kind, Actor: in.Actor, Parent: in.Parent, Before: in.Before, Limit: in.Limit}
	if in.State != "active" && in.State != "all" {
		f.State = api.OperationState(in.State)
	}
	if in.All && p.User.Admin {
		f.User = 0
	}
	if in.Application != "" {
		a, err := d.applicationFor(ctx, in.Application, api.AccessViewer)
		if err != nil {
			return nil, err
		}
		f.Application, f.User = a.ID, 0
		if in.Service != "" {
			s, err := d.store.Service(ctx, a.ID, in.Service)
			if err != nil {
				return nil, err
			}
			f.Service = &s.ID
		}
	}
	rows, err := d.store.Operations(ctx, f)
	list := make([]api.Operation, len(rows))
	for i := range rows {
		list[i] = rows[i].Operation
	}
	return list, err
}

// OperationPath names an operation in a path.
type OperationPath struct {
	ID string `path:"id"`
}

// operation finds an operation that the asker may see, and do this with.
func (d *Director) operation(ctx context.Context, id string) (store.Operation, error) {
	o, err := d.store.Operation(ctx, seer(ctx), id)
	if err != nil {
		return o, err
	}
	return o, d.entitled(ctx, thing{"operation " + o.ID, o.Application, o.User}, needed(ctx))
}

func (d *Director) getOperation(ctx context.Context, in *struct {
	OperationPath
	Wait string `query:"wait"`
}) (api.Operation, error) {
	wait := time.Duration(0)
	if in.Wait != "" {
		var err error
		if wait, err = time.ParseDuration(in.Wait); err != nil || wait < 0 {
			return api.Operation{}, &api.Error{Code: api.CodeInvalid, Message: "wait is a time such as 30s, not " + api.Shorten(in.Wait), Fields: []string{"wait"}}
		}
	}
	timer := time.NewTimer(min(wait, time.Minute))
	defer timer.Stop()
	for {
		changed := d.store.Changed()
		o, err := d.operation(ctx, in.ID)
		if err != nil || o.State.Final() || wait == 0 {
			return o.Operation, err
		}
		select {
		case <-ctx.Done():
			return o.Operation, ctx.Err()
		case <-d.waits.Done():
			return o.Operation, nil
		case <-timer.C:
			return o.Operation, nil
		case <-changed:
		}
	}
}

// cancel asks whoever runs an operation to undo it. If nobody does, it ends
// here.
func (d *Director) cancel(ctx context.Context, in *OperationPath) (api.Operation, error) {
	o, err := d.operation(ctx, in.ID)
	if err != nil {
		return api.Operation{}, err
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if o, err = t.Operation(ctx, 0, in.ID); err != nil {
			return err
		}
		switch {
		case o.State.Final():
			return &api.Error{Code: api.CodeConflict, Op: "cancel", Object: "operation " + o.ID, Message: "it has ended already: " + string(o.State)}
		case !o.Cancellable:
			return &api.Error{Code: api.CodeConflict, Op: "cancel", Object: "operation " + o.ID, Message: "this kind of operation cannot be undone half-way"}
		case o.Cancelling:
			return nil
		}
		o.Cancelling = true
		if !d.carries(o) {
			if alive, err := d.managerAlive(ctx, t, o.Application); err != nil || !alive {
				o.State, o.Error = api.OperationCancelled, operation.ErrCancelled
				if err != nil {
					return err
				}
				return d.settle(ctx, t, &o)
			}
			t.Bump(o.Application)
		}
		return t.SaveOperation(ctx, o)
	})
	if err != nil {
		return api.Operation{}, err
	}
	d.mu.Lock()
	stop := d.running[o.ID]
	d.mu.Unlock()
	if stop != nil {
		stop(operation.ErrCancelled)
	}
	return o.Operation, nil
}

func (d *Director) retry(ctx context.Context, in *OperationPath) (api.Operation, error) {
	o, err := d.operation(ctx, in.ID)
	if err != nil {
		return api.Operation{}, err
	}
	if destroys(o.Kind) {
		if err := d.entitled(ctx, thing{"operation " + o.ID, o.Application, o.User}, api.AccessOwner); err != nil {
			return api.Operation{}, err
		}
	}
	if o.State != api.OperationFailed && o.State != api.OperationCancelled {
		return api.Operation{}, &api.Error{Code: api.CodeConflict, Op: "retry", Object: "operation " + o.ID, Message: "only what failed or was cancelled can be tried again; it is " + string(o.State)}
	}
	if o.Kind == applicationManifest {
		return d.retryManifest(ctx, o)
	}
	if o.Kind == nodeDrain {
		return d.retryDrain(ctx, o)
	}
	order, err := d.reorder(o)
	if err != nil {
		return api.Operation{}, err
	}
	order.retryOf = o.ID
	return d.submit(ctx, order)
}

// reorder makes the order of a stored operation again.
func (d *Director) reorder(o store.Operation) (order, error) {
	read := func(v any) error {
		if len(o.Request) == 0 {
			return nil
		}
		return json.Unmarshal(o.Request, v)
	}
	switch o.Kind {
	case applicationStart:
		var b api.Start
		err := read(&b)
		return d.startApplicationOrder(o.Application, b), err
	case applicationStop:
		return d.stopApplicationOrder(o.Application), nil
	case applicationDelete:
		return d.deleteApplicationOrder(o.Application, forGood(o)), nil
	case applicationRetire:
		return d.retireApplicationOrder(o.Application, forGood(o)), nil
	case serviceStart:
		var b api.Start
		err := read(&b)
		return d.startServiceOrder(o.Application, o.Service, b), err
	case serviceStop:
		return d.stopServiceOrder(o.Application, o.Service), nil
	case serviceDelete:
		return d.deleteServiceOrder(o.Application, o.Service, forGood(o)), nil
	case serviceScale:
		var b api.Scale
		err := read(&b)
		return d.scaleOrder(o.Application, o.Service, b), err
	case serviceConfigure:
		var b map[string]json.RawMessage
		err := read(&b)
		return d.configureOrder(o.Application, o.Service, b), err
	case serviceRevert:
		var b revert
		err := read(&b)
		return d.revertOrder(o.Application, o.Service, b.Revision), err
	case serviceEnvironment:
		return d.environmentAgain(o)
	case serviceVolume:
		var c volumeChange
		err := read(&c)
		if c.Do == volumeCreate { // the volume that could not be made is still being deleted, perhaps
			c.Volume = newVolumeID(store.Service{Service: api.Service{Application: o.Application, ID: o.Service}})
		}
		return d.volumeOrder(o.Application, o.Service, c), err
	case serviceSecret:
		return d.secretAgain(o)
	case serviceBackup, serviceVerify, serviceRestore, serviceRetire:
		return d.backupAgain(o)
	case serviceWeights:
		var b api.Weights
		err := read(&b)
		return d.weightsOrder(o.Application, o.Service, b), err
	case serviceMove:
		var b movement
		err := read(&b)
		return d.moveOrder(o.Application, o.Service, b), err
	case serviceActivate:
		var b api.Activate
		err := read(&b)
		return d.activateOrder(o.Application, o.Service, b), err
	}
	return order{}, api.Conflictf("an operation of kind %s cannot be tried again by hand", o.Kind)
}
