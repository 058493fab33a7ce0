package director

import (
	"context"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

const (
	stillThere = 20 * time.Second // between two signs of life of a long step
	tailLines  = 20               // of a failed activation's log
)

// activatePushed activates the versions that pushes have made of services that
// deploy by themselves, all at once, and follows them.
func (d *Director) activatePushed(ctx context.Context, application int64, user string, to *teller) error {
	_, folders, err := d.store.Repository(ctx, application)
	if err != nil {
		return err
	}
	type started struct {
		service int64
		op      api.Operation
		version string
	}
	var list []started
	for _, f := range folders {
		if !f.Pending {
			continue
		}
		op, err := d.activateFolder(ctx, application, f, user, to)
		switch {
		case ctx.Err() != nil:
			return ctx.Err() // it stays pending for the next director
		case err != nil:
			to.say("%s is not activated: %v", f.Version, err)
		case op != nil:
			list = append(list, started{f.Service, *op, f.Version})
		}
	}
	for _, l := range list {
		if err := d.follow(ctx, application, l.service, l.op, l.version, to); err != nil {
			return err
		}
	}
	return nil
}

// activateFolder asks for the activation of a folder's version. Operations
// that are in the way are waited for; a version that a later push has
// replaced meanwhile is left alone.
func (d *Director) activateFolder(ctx context.Context, application int64, f store.Folder, user string, to *teller) (*api.Operation, error) {
	for {
		var op *api.Operation
		o := d.activateOrder(application, f.Service, api.Activate{Version: f.Version})
		o.actor = user
		current, superseded, err := d.settleFolder(ctx, application, f)
		if err != nil || superseded {
			return nil, err
		}
		if current {
			to.say("%s is the current version already", f.Version)
			return nil, nil
		}
		row, err := d.submit(ctx, o)
		if err == nil {
			op = &row
			return op, d.donePending(ctx, application, f)
		}
		e := api.AsError(err)
		if e.Code != api.CodeConflict || e.Related == "" {
			_ = d.donePending(ctx, application, f) // it would be refused again
			return nil, err
		}
		to.say("%s waits: %s", f.Version, e.Message)
		if err := d.waitFor(ctx, e.Related, to); err != nil {
			return nil, err
		}
	}
}

// settleFolder tells whether there is nothing to activate any more.
func (d *Director) settleFolder(ctx context.Context, application int64, f store.Folder) (current, superseded bool, err error) {
	_, folders, err := d.store.Repository(ctx, application)
	if err != nil {
		return false, false, err
	}
	superseded = true
	for _, now := range folders {
		if now == f {
			superseded = false
		}
	}
	if superseded {
		return false, true, nil
	}
	s, err := d.store.ServiceByID(ctx, application, f.Service)
	if err != nil {
		return false, false, err
	}
	if s.Version == f.Version {
		return true, false, d.donePending(ctx, application, f)
	}
	return false, false, nil
}

// donePending notes that nothing is left to do for a folder, unless a later
// push has changed it.
func (d *Director) donePending(ctx context.Context, application int64, f store.Folder) error {
	return d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		_, folders, err := t.Repository(ctx, application)
		if err != nil {
			return err
		}
		for _, now := range folders {
			if now == f {
				f.Pending = false
				return t.SaveFolder(ctx, application, f)
			}
		}
		return nil
	})
}

// waitFor waits until an operation has ended, whatever came of it.
func (d *Director) waitFor(ctx context.Context, id string, to *teller) error {
	life := time.NewTicker(stillThere)
	defer life.Stop()
	for {
		changed := d.store.Changed()
		o, err := d.store.Operation(ctx, 0, id)
		if api.CodeOf(err) == api.CodeNotFound || (err == nil && o.State.Final()) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-life.C:
			to.say("  … still: %s", o.Title)
		}
	}
}

// follow tells the steps of an activation as they come, and how it ended.
func (d *Director) follow(ctx context.Context, application, service int64, op api.Operation, version string, to *teller) error {
	life := time.NewTicker(stillThere)
	defer life.Stop()
	told := 0
	for {
		changed := d.store.Changed()
		o, err := d.store.Operation(ctx, 0, op.ID)
		if err != nil {
			return err
		}
		for ; told < len(o.Steps); told++ {
			to.say("  %s: %s", version, o.Steps[told].Name)
		}
		if o.State.Final() {
			return d.tellEnd(ctx, application, service, o.Operation, version, to)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-life.C:
			to.say("  … still: %s", o.Title)
		}
	}
}

func (d *Director) tellEnd(ctx context.Context, application, service int64, o api.Operation, version string, to *teller) error {
	s, err := d.store.ServiceByID(ctx, application, service)
	if err != nil {
		return err
	}
	switch {
	case o.State != api.OperationDone:
		why := string(o.State)
		var tail []string
		if o.Error != nil {
			why, tail = o.Error.Error(), o.Error.LogTail
		}
		to.say("%s: %s is NOT active: %s", s.Name, version, why)
		for _, line := range tail[max(0, len(tail)-tailLines):] {
			to.say("  | %s", strings.TrimRight(line, "\r\n"))
		}
		if s.Version != "" {
			to.say("%s: %s serves as before", s.Name, s.Version)
		}
	case s.Desired != api.GoalStarted:
		to.say("%s: %s is the current version and serves when the service is started", s.Name, version)
	default:
		to.say("%s: %s serves at %s", s.Name, version, strings.Join(s.URLs, " "))
	}
	return nil
}
