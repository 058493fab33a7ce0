package director

import (
	"context"
	"sync"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/operation"
	"nutshell/roles/internal/store"
)

// passingLimit is how long a service may be on its way somewhere with no
// operation that has a deadline of its own, and beside the time that its cloud
// takes to start an instance.
const passingLimit = 5 * time.Minute

// supervise keeps one manager alive for each started application, ends what
// is out of time, and compares rows with what clouds really run. It only
// looks at how things are, never at how they came to be so.
func (d *Director) supervise(ctx context.Context) {
	var sweeping sync.WaitGroup
	defer sweeping.Wait()
	sweeping.Go(func() { d.sweeps(ctx) }) // beside: a cloud may take minutes to end an instance
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	s := supervisor{d: d, began: d.c.Now(), again: map[int64]attempt{}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.look(ctx)
		}
	}
}

// sweeps looks at clouds and at what is to be forgotten, again and again.
func (d *Director) sweeps(ctx context.Context) {
	sweep := time.NewTicker(30 * time.Second)
	defer sweep.Stop()
	daily := time.NewTicker(24 * time.Hour)
	defer daily.Stop()
	d.sweep(ctx)
	d.prune(ctx)
	d.emptyBin(ctx)
	d.dropUploads(ctx)
	d.dropManifests(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.nodes.back:
			d.sweep(ctx)
		case <-sweep.C:
			d.sweep(ctx)
			d.emptyBin(ctx)
			d.dropBlobs(ctx)
			d.dropUploads(ctx)
		case <-daily.C:
			d.dropManifests(ctx)
			d.prune(ctx)
		}
	}
}

// prune forgets what is too old to be asked for, so that the database of a
// busy installation does not grow without end.
func (d *Director) prune(ctx context.Context) {
	var gone int64
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		var err error
		tuned := d.tune()
		gone, err = t.Prune(ctx, store.Keep{Audit: tuned.audit, Operations: tuned.operations})
		return err
	})
	if err != nil {
		d.c.Log.Warn("old rows not removed", "error", err)
		return
	}
	d.c.Log.Debug("old rows removed", "count", gone)
}

type supervisor struct {
	d     *Director
	began time.Time // nobody is lost before the director has had time to hear them
	again map[int64]attempt
}

// attempt spaces the replacements of a manager that does not come up.
type attempt struct {
	at   time.Time
	wait time.Duration
}

func (s *supervisor) look(ctx context.Context) {
	d := s.d
	if d.isHalted() {
		return
	}
	if err := d.lookAtNodes(ctx, s.began); err != nil {
		d.c.Log.Error("nodes not looked after", "error", err)
	}
	apps, err := d.store.StartedApplications(ctx)
	if err != nil {
		d.c.Log.Error("applications not read", "error", err)
		return
	}
	for _, a := range apps {
		if err := s.manager(ctx, a); err != nil {
			d.c.Log.Error("manager not supervised", "app", a.ID, "error", err)
		}
	}
	if err := d.expire(ctx); err != nil {
		d.c.Log.Error("deadlines not checked", "error", err)
	}
}

func (d *Director) isHalted() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.halted
}

// manager looks after one application.
func (s *supervisor) manager(ctx context.Context, a store.Application) error {
	d, now := s.d, s.d.c.Now()
	if a.Operation != "" {
		return nil
	}
	last := s.began
	heard := false
	if a.Manager != nil {
		if t, ok := d.live.last(a.Manager.ID); ok {
			last, heard = t, true
		}
	}
	if now.Sub(last) <= managerSilence {
		if !heard || (a.State == api.Running && a.Manager.State == api.InstanceReady) {
			return nil
		}
		delete(s.again, a.ID)
		return d.write(ctx, func(ctx context.Context, t *store.Tx) error {
			row, err := t.Instance(ctx, a.Manager.ID)
			if err != nil {
				return err
			}
			row.State, row.Reason = api.InstanceReady, ""
			if err := t.SaveInstance(ctx, row); err != nil {
				return err
			}
			return t.MoveApplication(ctx, &a, api.Running, "its manager answers")
		})
	}
	try := s.again[a.ID]
	if now.Sub(try.at) < try.wait {
		return nil
	}
	s.again[a.ID] = attempt{now, min(max(2*try.wait, 15*time.Second), 5*time.Minute)}
	_, err := d.submit(ctx, d.replaceOrder(a))
	if api.CodeOf(err) == api.CodeConflict {
		return nil // something else has just begun
	}
	return err
}

func (d *Director) replaceOrder(a store.Application) order {
	return order{kind: instanceReplace, title: "bring back the manager of", application: a.ID, actor: "nutshell", final: true,
		change: func(ctx context.Context, t *store.Tx, a *store.Application, _ *store.Service) (bool, error) {
			reason := "its manager has not answered for " + managerSilence.String() + " and is started again"
			d.c.Log.Warn("manager lost", "app", a.ID)
			if a.Manager != nil {
				row, err := t.Instance(ctx, a.Manager.ID)
				if err != nil {
					return false, err
				}
				row.State, row.Reason = api.InstanceLost, reason
				if err := t.SaveInstance(ctx, row); err != nil {
					return false, err
				}
			}
			if _, err := a.State.To(api.Adapting); err != nil && a.State != api.Adapting {
				return false, nil //nolint:nilerr // PROLOGUE and the like say as much
			}
			return false, t.MoveApplication(ctx, a, api.Adapting, reason)
		}}
}

// managerAlive reports whether an application's manager was heard lately.
func (d *Director) managerAlive(ctx context.Context, t *store.Tx, application int64) (bool, error) {
	rows, err := t.ServiceInstances(ctx, application, 0)
	for _, r := range rows {
		if at, ok := d.live.last(r.ID); ok && d.c.Now().Sub(at) <= managerSilence {
			return true, err
		}
	}
	return false, err
}

// expire ends operations of managers that are out of time, or cancelled with
// nobody there to undo them, and services that got stuck.
func (d *Director) expire(ctx context.Context) error {
	active, err := d.store.ActiveOperations(ctx)
	if err != nil {
		return err
	}
	now := d.c.Now()
	for _, o := range active {
		if d.carries(o) || (now.Before(o.Deadline) && !o.Cancelling) {
			continue // the director's own have their deadline in their context
		}
		err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
			row, err := t.Operation(ctx, 0, o.ID)
			if err != nil || row.State.Final() {
				return err
			}
			switch alive, err := d.managerAlive(ctx, t, row.Application); {
			case err != nil:
				return err
			case !now.Before(row.Deadline):
				row.State, row.Error = api.OperationFailed, &api.Error{Code: api.CodeDeadline, Op: row.Title, Message: "it did not finish in time"}
			case row.Cancelling && !alive:
				row.State, row.Error = api.OperationCancelled, operation.ErrCancelled
			default:
				return nil
			}
			return d.settle(ctx, t, &row)
		})
		if err != nil {
			return err
		}
	}
	passing, err := d.store.PassingServices(ctx)
	if err != nil {
		return err
	}
	for _, s := range passing {
		limit := passingLimit + d.startTime(s.Cloud, 0)
		if s.Operation != "" || now.Sub(s.Since) < limit {
			continue
		}
		err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
			a, err := t.ApplicationByID(ctx, s.Application)
			if err != nil || a.Operation != "" || a.Desired != api.GoalStarted {
				return err
			}
			return t.MoveService(ctx, &s, api.Failed, "it has been "+string(s.State)+" for "+limit.String()+" without getting anywhere; last: "+s.Reason)
		})
		if err != nil && api.CodeOf(err) != api.CodeConflict {
			return err
		}
	}
	return nil
}
