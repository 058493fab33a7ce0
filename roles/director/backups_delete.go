package director

import (
	"context"
	"encoding/json"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/operation"
	"nutshell/roles/internal/store"
)

// retireOrder deletes a service after a last backup of it.
func (d *Director) retireOrder(application, service int64, now bool) order {
	r := backupRequest{Backup: api.NewID(16), Why: backupLast, Now: now}
	return order{kind: serviceRetire, title: "back up and delete service", application: application, service: service, request: r,
		change: func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (bool, error) {
			if _, err := d.backedUp(*a, *s, "back up"); err != nil {
				return false, err
			}
			if err := d.canStream(*a, *s, "back up"); err != nil {
				return false, err
			}
			return false, t.InsertBackup(ctx, backupRow(*a, *s, r, t.Now()))
		}}
}

// runRetire deletes only what has a complete backup. From then on it cannot be
// cancelled.
func (d *Director) runRetire(ctx context.Context, run *operation.Run, o store.Operation) error {
	var r backupRequest
	if err := json.Unmarshal(o.Request, &r); err != nil {
		return err
	}
	if err := d.takeBackup(ctx, run, o, r); err != nil {
		return err
	}
	if err := run.Step(ctx, "end the instances"); err != nil {
		return err
	}
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		b, err := t.Backup(ctx, 0, r.Backup)
		if err != nil {
			return err
		}
		if err := usable(b, "delete"); err != nil {
			return err
		}
		s, err := t.ServiceByID(ctx, o.Application, o.Service)
		if err != nil {
			return err
		}
		s.Desired, s.Deleting = api.GoalStopped, true
		if err := t.SaveService(ctx, s); err != nil {
			return err
		}
		t.Bump(o.Application)
		return d.moveIfAllowed(ctx, t, &s, api.Epilogue, "deletion was asked for")
	})
	if err != nil {
		return err
	}
	return d.untilGone(ctx, o.Application, o.Service)
}

// untilGone waits until a service has no instances any more.
func (d *Director) untilGone(ctx context.Context, application, service int64) error {
	tick := time.NewTicker(time.Second) // rows of instances go without a word now and then
	defer tick.Stop()
	for {
		changed := d.store.Changed()
		rows, err := d.store.ServiceInstances(ctx, application, service)
		if err != nil || len(rows) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-tick.C:
		}
	}
}

// retireApplicationOrder deletes an application after a last backup of each
// service that can have one and has served.
func (d *Director) retireApplicationOrder(application int64, now bool) order {
	return order{kind: applicationRetire, title: "back up and delete application", application: application, request: deletion{Now: now},
		change: func(ctx context.Context, t *store.Tx, a *store.Application, _ *store.Service) (bool, error) {
			list, err := t.Services(ctx, store.Selection{Application: a.ID})
			for _, s := range list {
				if _, not := d.backedUp(*a, s, "back up"); not == nil && s.Served && err == nil {
					err = d.canStream(*a, s, "back up")
				}
			}
			return false, err
		}}
}

// runRetireApplication deletes nothing before all backups are complete. Those
// that an earlier run has taken are found by the operation's id.
func (d *Director) runRetireApplication(ctx context.Context, run *operation.Run, o store.Operation) error {
	a, err := d.store.ApplicationByID(ctx, o.Application)
	if err != nil {
		return err
	}
	if a.Desired == api.GoalStarted {
		list, err := d.store.View.Services(ctx, store.Selection{Application: a.ID})
		if err != nil {
			return err
		}
		for _, s := range list {
			if _, not := d.backedUp(a, s, "back up"); not != nil || !s.Served {
				continue
			}
			if err := d.lastBackup(ctx, run, o, a, s); err != nil {
				return err
			}
		}
		err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
			if a, err = t.ApplicationByID(ctx, o.Application); err != nil {
				return err
			}
			return d.beginStop(ctx, t, &a, "deletion was asked for")
		})
		if err != nil {
			return err
		}
	}
	return d.runDelete(ctx, run, a)
}

func (d *Director) lastBackup(ctx context.Context, run *operation.Run, o store.Operation, a store.Application, s store.Service) error {
	rows, err := d.store.ServiceBackups(ctx, a.ID, s.ID)
	if err != nil {
		return err
	}
	r := backupRequest{Why: backupLast}
	for _, b := range rows {
		if b.Operation == o.ID && b.State != api.BackupBroken {
			r.Backup = b.ID
		}
	}
	if r.Backup == "" {
		r.Backup = api.NewID(16)
		row := backupRow(a, s, r, d.c.Now())
		row.Operation = o.ID
		if err := d.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.InsertBackup(ctx, row) }); err != nil {
			return err
		}
	}
	o.Service = s.ID
	return d.takeBackup(ctx, run, o, r)
}
