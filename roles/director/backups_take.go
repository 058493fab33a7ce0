package director

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/operation"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

// copying bounds the time for all data of a service.
const copying = 12 * time.Hour

// backupRequest is what the operation service.backup stores of its request.
type backupRequest struct {
	Backup string `json:"backup"` // id of its row
	Why    string `json:"why"`
	Verify bool   `json:"verify,omitempty"`
	Now    bool   `json:"now,omitempty"` // of a last one: deletion for good
}

// backupOrder takes a backup. Its row is stored with the operation.
func (d *Director) backupOrder(application, service int64, r backupRequest) order {
	r.Backup = api.NewID(16)
	return order{kind: serviceBackup, title: "back up", application: application, service: service, request: r, beside: true,
		change: func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (bool, error) {
			if err := d.canStream(*a, *s, "back up"); err != nil {
				return false, err
			}
			return false, t.InsertBackup(ctx, backupRow(*a, *s, r, t.Now()))
		}}
}

func backupRow(a store.Application, s store.Service, r backupRequest, now time.Time) store.Backup {
	return store.Backup{Owner: a.OwnerID, Settings: s.Settings, Backup: api.Backup{ID: r.Backup, Application: a.ID, Service: s.ID,
		ApplicationName: a.Name, ServiceName: s.Name, Kind: s.Kind, Why: r.Why, State: api.BackupTaking, Taken: now}}
}

// canStream says why data can neither be got from a service nor be given to it.
func (d *Director) canStream(a store.Application, s store.Service, op string) error {
	refuse := func(message, hint string) error {
		return &api.Error{Code: api.CodeConflict, Op: op, Object: "service " + a.Name + "/" + s.Name, Message: message, Hint: hint}
	}
	switch {
	case s.Deleting:
		return refuse("it is being deleted", "")
	case a.Desired != api.GoalStarted:
		return refuse("its application is not started", "start the application first")
	case s.Desired != api.GoalStarted:
		return refuse("it is not started", "start it first")
	}
	return nil
}

// runBackup begins from the start after the director's death: what was
// written is gone by then.
func (d *Director) runBackup(ctx context.Context, run *operation.Run, o store.Operation) error {
	var r backupRequest
	if err := json.Unmarshal(o.Request, &r); err != nil {
		return err
	}
	if err := d.takeBackup(ctx, run, o, r); err != nil {
		return err
	}
	if !r.Verify {
		return nil
	}
	return d.tryBackup(ctx, run, o, r.Backup)
}

// takeBackup makes the row and the file of a backup, or leaves a row that says
// why there is none.
func (d *Director) takeBackup(ctx context.Context, run *operation.Run, o store.Operation, r backupRequest) error {
	if err := run.Step(ctx, "copy the data"); err != nil {
		d.noBackup(ctx, r.Backup, err)
		return err
	}
	row, err := d.store.Backup(ctx, 0, r.Backup)
	if err != nil || row.State == api.BackupReady { // ready: the director died after that
		return err
	}
	a, s, err := d.bothOf(ctx, o)
	if err == nil {
		d.lastPiece(ctx, a, s)
		err = d.copyBackup(ctx, run, a, s, &row)
	}
	if err == nil {
		d.lastPiece(ctx, a, s) // up to the moment of this one
	}
	if err != nil {
		d.noBackup(ctx, r.Backup, err)
		return err
	}
	row.State, row.Problem, row.Operation = api.BackupReady, "", o.ID
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if err := t.SaveBackup(ctx, row); err != nil {
			return err
		}
		return d.keepBackups(ctx, t, s)
	})
	if err == nil {
		d.backups.mu.Lock()
		delete(d.backups.seen, backupKey(s)) // it was about the backup before
		d.backups.mu.Unlock()
	}
	return err
}

// bothOf are application and service of an operation as they are now.
func (d *Director) bothOf(ctx context.Context, o store.Operation) (store.Application, store.Service, error) {
	a, err := d.store.ApplicationByID(ctx, o.Application)
	if err != nil {
		return a, store.Service{}, err
	}
	s, err := d.store.ServiceByID(ctx, o.Application, o.Service)
	return a, s, err
}

// copyBackup streams the data into the row's file.
func (d *Director) copyBackup(ctx context.Context, run *operation.Run, a store.Application, s store.Service, row *store.Backup) error {
	before, err := d.store.ServiceBackups(ctx, a.ID, s.ID)
	if err != nil {
		return err
	}
	expected := int64(0)
	for _, b := range before {
		if b.State == api.BackupReady {
			expected = b.Bytes
			break
		}
	}
	if err := d.backups.vault.Room(expected); err != nil {
		return err
	}
	began := d.c.Now()
	w, err := d.backups.vault.Create(row.ID)
	if err != nil {
		return err
	}
	defer w.Discard()
	position, err := d.takeFrom(ctx, a, s, services.StreamBackup, nil, &told{w: w, now: d.c.Now, tell: func(n int64) {
		fraction := 0.0
		if expected > 0 {
			fraction = float64(n) / float64(expected)
		}
		run.Detail(ctx, amount(n), fraction)
	}})
	if err != nil {
		return err
	}
	if row.Bytes, err = w.Keep(); err != nil {
		return err
	}
	row.Position, row.Taken = position, takenAt(position, began, d.c.Now())
	return nil
}

// takenAt is the moment of a copy: the one with which its position begins, if
// that can be, else when it was complete.
func takenAt(position string, began, ended time.Time) time.Time {
	first, _, _ := strings.Cut(position, " ")
	if t, err := time.Parse(time.RFC3339Nano, first); err == nil && !t.Before(began.Add(-time.Second)) && !t.After(ended.Add(time.Second)) {
		return t.UTC()
	}
	return ended.UTC()
}

// told tells how much was written.
type told struct {
	w    io.Writer
	n    int64
	tell func(int64)
	now  func() time.Time
	last time.Time
}

// Write writes and perhaps tells.
func (t *told) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	t.n += int64(n)
	if now := t.now(); now.Sub(t.last) > 250*time.Millisecond {
		t.last = now
		t.tell(t.n)
	}
	return n, err
}

// noBackup says in the row why there is no backup. When the director is
// stopping, the row stays as it is: the operation goes on.
func (d *Director) noBackup(ctx context.Context, id string, cause error) {
	if d.ctx.Err() != nil {
		return
	}
	if ctx.Err() != nil {
		cause = context.Cause(ctx)
	}
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		row, err := t.Backup(ctx, 0, id)
		if err != nil || row.State != api.BackupTaking {
			return err
		}
		row.State, row.Problem = api.BackupBroken, cause.Error()
		if err := t.SaveBackup(ctx, row); err != nil {
			return err
		}
		s, err := t.ServiceByID(ctx, row.Application, row.Service)
		if api.CodeOf(err) == api.CodeNotFound { // deleted meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		return d.keepBackups(ctx, t, s)
	})
	if err != nil && api.CodeOf(err) != api.CodeNotFound {
		d.c.Log.Error("failure of a backup not stored", "backup", id, "error", err)
	}
	d.dropBackupFile(id)
}

// verifyRequest is what the operation service.verify stores of its request.
type verifyRequest struct {
	Backup string `json:"backup"`
}

func (d *Director) verifyOrder(application, service int64, id string) order {
	return order{kind: serviceVerify, title: "restore a backup on trial beside", application: application, service: service, request: verifyRequest{id}, beside: true,
		change: func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (bool, error) {
			b, err := t.Backup(ctx, 0, id)
			if err != nil {
				return false, err
			}
			if err := usable(b, "verify"); err != nil {
				return false, err
			}
			return false, d.canStream(*a, *s, "verify")
		}}
}

// usable refuses backups that are not complete.
func usable(b store.Backup, op string) error {
	if b.State == api.BackupReady {
		return nil
	}
	message := "it is still being taken"
	if b.State == api.BackupBroken {
		message = "it is of no use: " + b.Problem
	}
	return &api.Error{Code: api.CodeConflict, Op: op, Object: "backup " + b.ID, Message: message}
}

func (d *Director) runVerify(ctx context.Context, run *operation.Run, o store.Operation) error {
	var r verifyRequest
	if err := json.Unmarshal(o.Request, &r); err != nil {
		return err
	}
	return d.tryBackup(ctx, run, o, r.Backup)
}

// tryBackup has a backup restored beside the data and keeps what that found.
func (d *Director) tryBackup(ctx context.Context, run *operation.Run, o store.Operation, id string) error {
	if err := run.Step(ctx, "restore it on trial"); err != nil {
		return err
	}
	row, err := d.store.Backup(ctx, 0, id)
	if err != nil {
		return err
	}
	a, s, err := d.bothOf(ctx, o)
	if err != nil {
		return err
	}
	result, err := d.sendBackup(ctx, run, a, s, services.StreamVerify, nil, row)
	if d.ctx.Err() != nil {
		return err
	}
	finding, verified := result.Text, d.c.Now().UTC()
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		finding, verified = "the trial failed: "+err.Error(), time.Time{}
		if api.CodeOf(err) == api.CodeNoSpace && o.Kind != serviceVerify { // the backup itself is well
			finding, err = "not tried: "+err.Error(), nil
		}
	}
	return errors.Join(err, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		row, err := t.Backup(ctx, 0, id)
		if err != nil {
			return err
		}
		row.Finding, row.Verified = finding, verified
		return t.SaveBackup(ctx, row)
	}))
}

// sendBackup streams a backup to a service.
func (d *Director) sendBackup(ctx context.Context, run *operation.Run, a store.Application, s store.Service, name string, args map[string]string, b store.Backup) (api.ActResult, error) {
	r, err := d.backups.vault.Open(b.ID)
	if err != nil {
		return api.ActResult{}, err
	}
	defer func() { _ = r.Close() }()
	return d.sendTo(ctx, a, s, name, args, r, func(n int64) {
		run.Detail(ctx, fmt.Sprintf("%s of %s", amount(n), amount(b.Bytes)), float64(n)/float64(max(b.Bytes, 1)))
	})
}

// backupAgain makes the order of an operation on backups again.
func (d *Director) backupAgain(o store.Operation) (order, error) {
	switch o.Kind {
	case serviceBackup:
		var r backupRequest
		err := json.Unmarshal(o.Request, &r)
		return d.backupOrder(o.Application, o.Service, r), err
	case serviceVerify:
		var r verifyRequest
		err := json.Unmarshal(o.Request, &r)
		return d.verifyOrder(o.Application, o.Service, r.Backup), err
	case serviceRestore:
		var r restoreRequest
		err := json.Unmarshal(o.Request, &r)
		return d.restoreOrder(o.Application, o.Service, r), err
	}
	return d.retireOrder(o.Application, o.Service, forGood(o)), nil
}
