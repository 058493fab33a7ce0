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

const (
	restoredServes = 15 * time.Minute // from data in place to serving on all instances
	putBackTime    = 5 * time.Minute
	againEvery     = 2 * time.Second
)

// restoreRequest is what the operation service.restore stores of its request.
type restoreRequest struct {
	Backup string     `json:"backup"`
	At     *time.Time `json:"at,omitempty"`
	New    bool       `json:"new,omitempty"` // the service was made for this and is to be started
}

func (d *Director) restoreService(ctx context.Context, in *struct {
	ServicePath
	Body api.RestoreBackup
}) (api.Operation, error) {
	a, s, err := d.service(ctx, in.ServicePath)
	if err != nil {
		return api.Operation{}, err
	}
	b, err := d.restorable(ctx, a, in.Body)
	if err != nil {
		return api.Operation{}, err
	}
	if in.Body.New != "" {
		return d.restoreNew(ctx, a, b, in.Body)
	}
	if s.Kind != b.Kind {
		return api.Operation{}, &api.Error{Code: api.CodeInvalid, Op: "restore", Object: "service " + a.Name + "/" + s.Name,
			Message: "it is a " + s.Kind + " service and the backup is of a " + b.Kind + " service", Fields: []string{"backup"}}
	}
	return d.submit(ctx, d.restoreOrder(a.ID, s.ID, restoreRequest{Backup: b.ID, At: in.Body.At}))
}

func (d *Director) restoreApplication(ctx context.Context, in *struct {
	ApplicationPath
	Body api.RestoreBackup
}) (api.Operation, error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return api.Operation{}, err
	}
	if in.Body.New == "" {
		return api.Operation{}, &api.Error{Code: api.CodeInvalid, Op: "restore", Object: "application " + a.Name, Message: "a new service needs a name", Hint: "give it as new", Fields: []string{"new"}}
	}
	b, err := d.restorable(ctx, a, in.Body)
	if err != nil {
		return api.Operation{}, err
	}
	return d.restoreNew(ctx, a, b, in.Body)
}

// restorable finds the backup of a request and checks the moment.
func (d *Director) restorable(ctx context.Context, a store.Application, r api.RestoreBackup) (store.Backup, error) {
	b, err := d.backup(ctx, r.Backup)
	if err != nil {
		return b, err
	}
	if err := usable(b, "restore"); err != nil {
		return b, err
	}
	if b.Owner != a.OwnerID {
		return b, &api.Error{Code: api.CodeForbidden, Op: "restore", Object: "backup " + b.ID, Message: "it belongs to another user than application " + a.Name}
	}
	if r.At == nil {
		return b, nil
	}
	end := b.Until
	if end.IsZero() {
		end = b.Taken
	}
	if r.At.Before(b.Taken) || r.At.After(end) {
		return b, &api.Error{Code: api.CodeInvalid, Op: "restore", Object: "backup " + b.ID, Fields: []string{"at"},
			Message: fmt.Sprintf("%s is not between %s and %s", r.At.UTC().Format(time.RFC3339), b.Taken.Format(time.RFC3339), end.Format(time.RFC3339)),
			Hint:    "choose a moment between them, or another backup"}
	}
	return b, nil
}

// restoreNew makes a service like the one that was backed up, and restores
// into it.
func (d *Director) restoreNew(ctx context.Context, a store.Application, b store.Backup, r api.RestoreBackup) (api.Operation, error) {
	if a.Desired != api.GoalStarted {
		return api.Operation{}, d.canStream(a, store.Service{Service: api.Service{Name: r.New}}, "restore")
	}
	kind, err := d.c.Services.Get(b.Kind)
	if err != nil {
		return api.Operation{}, err
	}
	settings, err := kind.MergeSettings(kind.DefaultSettings(), b.Settings)
	if err != nil { // of an older Nutshell, say
		return api.Operation{}, fmt.Errorf("settings of backup %s: %w", b.ID, err)
	}
	made, err := d.createService(ctx, &struct {
		ApplicationPath
		Body api.CreateService
	}{ApplicationPath{fmt.Sprint(a.ID)}, api.CreateService{Kind: b.Kind, Name: r.New}})
	if err != nil {
		return api.Operation{}, err
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		s, err := t.ServiceByID(ctx, a.ID, made.ID)
		if err != nil {
			return err
		}
		s.Settings = settings
		return t.SaveService(ctx, s)
	})
	var o api.Operation
	if err == nil {
		o, err = d.submit(ctx, d.restoreOrder(a.ID, made.ID, restoreRequest{Backup: b.ID, At: r.At, New: true}))
	}
	if err == nil && o.Service == made.ID {
		return o, nil
	}
	// Refused, or the same key was answered with what began before.
	return o, errors.Join(err, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		s, err := t.ServiceByID(ctx, a.ID, made.ID)
		if err != nil {
			return err
		}
		return d.removeService(ctx, t, s)
	}))
}

func (d *Director) restoreOrder(application, service int64, r restoreRequest) order {
	return order{kind: serviceRestore, title: "restore", application: application, service: service, request: r,
		change: func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (bool, error) {
			b, err := t.Backup(ctx, 0, r.Backup)
			if err != nil {
				return false, err
			}
			if err := usable(b, "restore"); err != nil {
				return false, err
			}
			if r.New && a.Desired == api.GoalStarted && s.Desired != api.GoalStarted {
				s.Desired = api.GoalStarted
				if err := t.SaveService(ctx, *s); err != nil {
					return false, err
				}
				return false, t.MoveService(ctx, s, api.Prologue, "it is made from a backup")
			}
			if err := d.canStream(*a, *s, "restore"); err != nil {
				return false, err
			}
			return false, d.moveIfAllowed(ctx, t, s, api.Adapting, "its data is being restored")
		}}
}

// runRestore begins from the start after the director's death. Until the
// service's own switch, which is at the end of the last stream, it has its old
// data; after that the new.
func (d *Director) runRestore(ctx context.Context, run *operation.Run, o store.Operation) error {
	var r restoreRequest
	if err := json.Unmarshal(o.Request, &r); err != nil {
		return err
	}
	a, s, err := d.bothOf(ctx, o)
	if err != nil {
		return err
	}
	b, err := d.store.Backup(ctx, 0, r.Backup)
	if err != nil {
		return err
	}
	if r.New {
		if err := run.Step(ctx, "start the new service"); err != nil {
			return err
		}
		if err := d.untilServes(ctx, backupKey(s), d.c.Now().Add(-2*reportGap), operationLimits[serviceStart]); err != nil {
			return err
		}
	}
	pieces, err := d.piecesFor(ctx, b, r.At)
	if err != nil {
		return err
	}
	if err := d.putData(ctx, run, a, s, b, r, pieces); err != nil {
		return err
	}
	if err := run.Step(ctx, "wait until it serves"); err != nil {
		return d.putBack(ctx, a, s, err)
	}
	if err := d.untilServes(ctx, backupKey(s), d.c.Now(), restoredServes); err != nil {
		return d.putBack(ctx, a, s, err)
	}
	d.backups.mu.Lock()
	d.backups.ended[backupKey(s)] = d.newestBackup(ctx, s) // its log does not go on from here
	delete(d.backups.seen, backupKey(s))
	d.backups.mu.Unlock()
	// What the service had before is kept by it until now.
	if _, err := d.sendTo(ctx, a, s, services.StreamRestore, map[string]string{"then": "keep"}, strings.NewReader(""), nil); err != nil {
		d.c.Log.Warn("service not told that its restored data stays", "app", a.ID, "service", s.ID, "error", err)
	}
	return nil
}

// reportGap is more than the time between two reports of a manager.
const reportGap = 5 * time.Second

func (d *Director) newestBackup(ctx context.Context, s store.Service) string {
	base, _, err := d.endOfLog(ctx, s)
	if err != nil {
		d.c.Log.Error("backups not read", "app", s.Application, "service", s.ID, "error", err)
	}
	return base.ID
}

// putData streams the backup, and the changes after it.
func (d *Director) putData(ctx context.Context, run *operation.Run, a store.Application, s store.Service, b store.Backup, r restoreRequest, pieces []store.BackupLog) error {
	if err := run.Step(ctx, "restore the backup of "+b.Taken.Format(time.RFC3339)); err != nil {
		return err
	}
	args := map[string]string{}
	if r.At != nil {
		args["then"] = "replay"
	}
	if _, err := d.sendBackup(ctx, run, a, s, services.StreamRestore, args, b); err != nil {
		return d.putBack(ctx, a, s, err)
	}
	if r.At == nil {
		return nil
	}
	if err := run.Step(ctx, "repeat what changed until "+r.At.UTC().Format(time.RFC3339)); err != nil {
		return d.putBack(ctx, a, s, err)
	}
	all := int64(1)
	for _, l := range pieces {
		all += l.Bytes
	}
	from := &piecesReader{d: d, pieces: pieces}
	defer from.close()
	again := map[string]string{"until": r.At.UTC().Format(time.RFC3339Nano)}
	if n := len(pieces); n > 0 && !r.At.Before(pieces[n-1].Until) {
		delete(again, "until") // all of it, to the last change within a second
	}
	_, err := d.sendTo(ctx, a, s, services.StreamReplay, again, from, func(n int64) {
		run.Detail(ctx, fmt.Sprintf("%s of %s", amount(n), amount(all)), float64(n)/float64(all))
	})
	if err != nil {
		return d.putBack(ctx, a, s, err)
	}
	return nil
}

// putBack has the service take its old data again after a failure, unless the
// director is stopping: then the operation begins again. A manager that was
// killed in the middle is back in a moment.
func (d *Director) putBack(ctx context.Context, a store.Application, s store.Service, cause error) error {
	if d.ctx.Err() != nil {
		return cause
	}
	if ctx.Err() != nil {
		cause = context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putBackTime)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	for {
		now, err := d.store.ApplicationByID(ctx, a.ID)
		if err == nil {
			_, err = d.sendTo(ctx, now, s, services.StreamRestore, map[string]string{"then": "back"}, strings.NewReader(""), nil)
		}
		if err == nil {
			return cause
		}
		if c := api.CodeOf(err); ctx.Err() != nil || c != api.CodeUnavailable && c != api.CodeInternal && c != api.CodeConflict {
			d.c.Log.Error("service not told to take its old data again", "app", a.ID, "service", s.ID, "error", err)
			return cause
		}
		select {
		case <-ctx.Done():
		case <-time.After(againEvery):
		}
	}
}

// untilServes waits until the manager tells that the service runs, after a
// moment.
func (d *Director) untilServes(ctx context.Context, k serviceKey, after time.Time, patience time.Duration) error {
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		last := d.backups.told(k)
		fresh := last.at.After(after)
		if fresh && last.state == api.Running {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-wait.Done():
			reason := last.reason
			if !fresh {
				reason = "its manager does not answer"
			}
			return &api.Error{Code: api.CodeDeadline, Op: "restore", Message: "the service did not serve within " + patience.String() + ": " + reason}
		case <-tick.C:
		}
	}
}

// piecesFor are the pieces of log that lead from a backup to a moment.
func (d *Director) piecesFor(ctx context.Context, b store.Backup, at *time.Time) ([]store.BackupLog, error) {
	if at == nil {
		return nil, nil
	}
	logs, err := d.store.BackupLogs(ctx, b.Application, b.Service)
	var need []store.BackupLog
	for _, l := range chain(b, logs) {
		if l.Since.Before(*at) {
			need = append(need, l)
		}
	}
	return need, err
}

// piecesReader reads pieces of log one after another.
type piecesReader struct {
	d      *Director
	pieces []store.BackupLog
	open   io.ReadCloser
}

// Read reads on.
func (r *piecesReader) Read(p []byte) (int, error) {
	for {
		if r.open == nil {
			if len(r.pieces) == 0 {
				return 0, io.EOF
			}
			var err error
			if r.open, err = r.d.backups.vault.Open(r.pieces[0].ID); err != nil {
				return 0, err
			}
			r.pieces = r.pieces[1:]
		}
		n, err := r.open.Read(p)
		if errors.Is(err, io.EOF) {
			r.close()
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (r *piecesReader) close() {
	if r.open != nil {
		_ = r.open.Close()
		r.open = nil
	}
}
