package director

import (
	"bufio"
	"context"
	"errors"
	"slices"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
	"nutshell/roles/internal/operation"
	"nutshell/roles/internal/store"
)

// Waiting for managers.
const (
	managerBoot    = time.Minute      // a new manager must be heard within
	managerRestart = 15 * time.Second // one whose instance exists must be heard within
	managerSilence = 10 * time.Second // then it is lost
)

// errStopping ends work that goes on when the director is started again.
var errStopping = errors.New("the director is stopping")

// run carries out an operation on an application, beside requests. It is the
// same for one that has just been stored and for one found at the start.
func (d *Director) run(o store.Operation) {
	ctx, stop := context.WithCancelCause(d.ctx)
	d.mu.Lock()
	if d.running[o.ID] != nil {
		d.mu.Unlock()
		stop(nil)
		return
	}
	d.running[o.ID] = stop
	d.mu.Unlock()
	d.goWork(func(context.Context) {
		defer func() {
			d.mu.Lock()
			delete(d.running, o.ID)
			d.mu.Unlock()
			stop(nil)
		}()
		ctx, cancel := context.WithDeadlineCause(ctx, o.Deadline, &api.Error{Code: api.CodeDeadline, Message: "the operation did not finish in time"})
		defer cancel()
		log := d.c.Log.With("op", o.Kind, "operation", o.ID, "app", o.Application)
		run := operation.New(stepsOf(o), d.saveRun(o.ID), d.c.Now)
		err := d.carryOut(ctx, run, o)
		if err != nil && d.ctx.Err() != nil {
			return // it goes on when the director does
		}
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx) // cancelled by a user, or out of time
		}
		if saveErr := run.End(ctx, err); saveErr != nil {
			log.Error("outcome of an operation not stored", "error", saveErr)
		}
		if err != nil {
			log.Warn("operation failed", "error", err)
			return
		}
		log.Info("operation done")
	})
}

// stepsOf is how many steps an operation is expected to have.
func stepsOf(o store.Operation) int {
	if o.Kind == applicationManifest {
		return manifestSteps
	}
	return 2
}

func (d *Director) carryOut(ctx context.Context, run *operation.Run, o store.Operation) error {
	if o.Kind == nodeDrain {
		return d.runDrain(ctx, run, o)
	}
	a, err := d.store.ApplicationByID(ctx, o.Application)
	if err != nil {
		return err
	}
	switch o.Kind {
	case applicationStart:
		return d.runStart(ctx, run, a)
	case instanceReplace:
		return d.runReplace(ctx, run, a)
	case applicationStop:
		return d.runStop(ctx, run, a)
	case applicationDelete:
		return d.runDelete(ctx, run, a)
	}
	if carry := d.carriers()[o.Kind]; carry != nil {
		return carry(ctx, run, o)
	}
	return &api.Error{Code: api.CodeInternal, Message: "nobody knows how to carry out " + o.Kind}
}

// carriers are the operations that the director carries out beside those on
// applications as such. They may begin again after its death.
func (d *Director) carriers() map[string]func(context.Context, *operation.Run, store.Operation) error {
	return map[string]func(context.Context, *operation.Run, store.Operation) error{
		serviceStream: d.carryStream, applicationManifest: d.carryManifest,
		serviceVolume: d.runVolume,
		serviceBackup: d.runBackup, serviceVerify: d.runVerify, serviceRestore: d.runRestore, serviceRetire: d.runRetire, applicationRetire: d.runRetireApplication,
	}
}

// carries reports whether the director carries an operation out, and not the
// service's manager.
func (d *Director) carries(o store.Operation) bool {
	return o.Service == 0 || d.carriers()[o.Kind] != nil
}

// runStart starts the manager, and with it the instances that were stopped
// with the application and kept what they hold.
func (d *Director) runStart(ctx context.Context, run *operation.Run, a store.Application) error {
	if err := run.Step(ctx, "start the manager"); err != nil {
		return err
	}
	manager, err := d.managerRow(ctx, a)
	if err != nil {
		return err
	}
	kept, err := d.keptInstances(ctx, a.ID)
	if err != nil {
		return err
	}
	run.Undo("end the manager", func(ctx context.Context) error { return d.terminate(ctx, []store.Instance{manager}) })
	if len(kept) > 0 {
		run.Undo("stop the instances", func(ctx context.Context) error {
			return d.halt(ctx, kept, "stopped with the application", d.terminate)
		})
		if err := d.booting(ctx, kept); err != nil {
			return err
		}
		// Beside the manager, which waits for them; those that do not come back it replaces.
		d.goWork(func(ctx context.Context) {
			if _, err := d.launch(ctx, kept, func(string, float64) {}); err != nil {
				d.c.Log.Warn("kept instances did not start, their manager replaces them", "app", a.ID, "error", err)
			}
		})
	}
	return d.bringUp(ctx, run, manager, managerBoot)
}

// bringUp launches a manager and waits until it is heard.
func (d *Director) bringUp(ctx context.Context, run *operation.Run, manager store.Instance, patience time.Duration) error {
	since := d.c.Now()
	if _, err := d.launch(ctx, []store.Instance{manager}, func(step string, f float64) { run.Detail(ctx, step, f) }); err != nil {
		return err
	}
	if err := run.Step(ctx, "wait for the manager"); err != nil {
		return err
	}
	patience = d.startTime(manager.Cloud, patience)
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := d.live.wait(wait, manager.ID, since); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &api.Error{Code: api.CodeUnavailable, Op: "start", Object: "manager " + manager.ID,
			Message: "it did not answer within " + patience.String(), LogTail: d.bootLog(ctx, manager), Hint: "see its boot log, then try again"}
	}
	return d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		row, err := t.Instance(ctx, manager.ID)
		if err != nil {
			return err
		}
		row.State, row.Reason = api.InstanceReady, ""
		return t.SaveInstance(ctx, row)
	})
}

// bootLog is what an instance printed last, to go with the error.
func (d *Director) bootLog(ctx context.Context, i store.Instance) []string {
	p, err := d.place(i.Cloud)
	if err != nil {
		return nil
	}
	c, ok := p.driver.(cloud.Console)
	if !ok {
		return nil
	}
	r, err := c.BootLog(ctx, cloudIDs([]store.Instance{i})[0])
	if err != nil {
		return nil
	}
	defer r.Close()
	var tail []string
	for s := bufio.NewScanner(r); s.Scan(); {
		if tail = append(tail, s.Text()); len(tail) > 20 {
			tail = tail[1:]
		}
	}
	return tail
}

// managerRow is the row of an application's manager, stored before any cloud
// is asked.
func (d *Director) managerRow(ctx context.Context, a store.Application) (store.Instance, error) {
	var row store.Instance
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		rows, err := t.ServiceInstances(ctx, a.ID, 0)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(rows, func(r store.Instance) bool { return r.State != api.InstanceLeaving }); i >= 0 {
			row = rows[i]
			return nil
		}
		row, err = t.InsertInstance(ctx, store.Instance{Instance: api.Instance{ID: api.NewInstanceID(a.ID, 0), Application: a.ID, Cloud: a.Cloud, Parts: []string{"manager"}, State: api.InstanceAsked}})
		return err
	})
	return row, err
}

// keptInstances are those of services that run whenever their application does.
func (d *Director) keptInstances(ctx context.Context, application int64) ([]store.Instance, error) {
	services, err := d.store.Services(ctx, store.Selection{Application: application})
	if err != nil {
		return nil, err
	}
	rows, err := d.store.ApplicationInstances(ctx, application)
	return slices.DeleteFunc(rows, func(r store.Instance) bool {
		return r.State == api.InstanceLeaving || !slices.ContainsFunc(services, func(s store.Service) bool { return s.ID == r.Service && s.Desired == api.GoalStarted })
	}), err
}

// runReplace brings a lost manager back: first its own instance, which knows
// it already, then a new one.
func (d *Director) runReplace(ctx context.Context, run *operation.Run, a store.Application) error {
	if err := run.Step(ctx, "start the lost manager again"); err != nil {
		return err
	}
	manager, err := d.managerRow(ctx, a)
	if err != nil {
		return err
	}
	leaves, err := d.mustLeave(ctx, manager)
	if err != nil {
		return err
	}
	if !leaves {
		err = d.bringUp(ctx, run, manager, managerRestart)
		if err == nil || ctx.Err() != nil {
			return err
		}
		d.c.Log.Warn("manager does not come back, it is replaced", "app", a.ID, "instance", manager.ID, "error", err)
	}
	if err := run.Step(ctx, "replace the manager by a new instance"); err != nil {
		return err
	}
	if err := d.terminate(ctx, []store.Instance{manager}); err != nil {
		return err
	}
	if manager, err = d.managerRow(ctx, a); err != nil {
		return err
	}
	return d.bringUp(ctx, run, manager, managerBoot)
}

func (d *Director) runStop(ctx context.Context, run *operation.Run, a store.Application) error {
	rows, err := d.store.ApplicationInstances(ctx, a.ID)
	if err != nil {
		return err
	}
	// The manager goes first, or it would replace the instances that stop.
	if err := run.Step(ctx, "stop the manager"); err != nil {
		return err
	}
	managers, others := splitManagers(rows)
	if err := d.halt(ctx, managers, "stopped with the application", d.terminate); err != nil {
		return err
	}
	if err := run.Step(ctx, "stop the instances"); err != nil {
		return err
	}
	return d.halt(ctx, others, "stopped with the application", d.terminate)
}

func (d *Director) runDelete(ctx context.Context, run *operation.Run, a store.Application) error {
	rows, err := d.store.ApplicationInstances(ctx, a.ID)
	if err != nil {
		return err
	}
	managers, others := splitManagers(rows)
	if err := run.Step(ctx, "end the manager"); err != nil {
		return err
	}
	if err := d.terminate(ctx, managers); err != nil {
		return err
	}
	if err := run.Step(ctx, "end the instances"); err != nil {
		return err
	}
	return d.terminate(ctx, others)
}

// settleApplication makes an application fit an operation on it that has
// ended, in the same transaction.
func (d *Director) settleApplication(ctx context.Context, t *store.Tx, o *store.Operation) error {
	if o.Kind == applicationManifest {
		return d.settleManifest(ctx, t, o)
	}
	if o.State != api.OperationDone && o.Kind == applicationStart {
		if o.Undone != "" {
			o.Undone += "; "
		}
		o.Undone += "the application is wanted stopped"
	}
	if err := t.SaveOperation(ctx, *o); err != nil {
		return err
	}
	a, err := t.ApplicationByID(ctx, o.Application)
	if err != nil {
		return err
	}
	t.Bump(a.ID)
	if o.State != api.OperationDone && o.Kind == applicationRetire && a.Desired == api.GoalStarted {
		return t.Tell(ctx, a.ID, 0) // nothing was taken away yet
	}
	if o.State != api.OperationDone {
		next, reason := api.Failed, "failed: "+o.Title
		if o.Error != nil {
			reason += ": " + o.Error.Error()
		}
		if o.State == api.OperationCancelled {
			next, reason = api.Stopped, "cancelled: "+o.Title
		}
		if o.Kind == applicationStart {
			a.Desired = api.GoalStopped
			if err := t.SaveApplication(ctx, a); err != nil {
				return err
			}
		}
		return t.MoveApplication(ctx, &a, next, reason)
	}
	switch o.Kind {
	case applicationStart, instanceReplace:
		if err := d.moveServices(ctx, t, a.ID, api.Prologue, "the application was started", func(s store.Service) bool {
			return s.Desired == api.GoalStarted && s.State == api.Stopped
		}); err != nil {
			return err
		}
		return t.MoveApplication(ctx, &a, api.Running, "its manager answers")
	case applicationDelete, applicationRetire:
		return d.discardApplication(ctx, t, a, forGood(*o))
	}
	if err := d.moveServices(ctx, t, a.ID, api.Stopped, "the application was stopped", func(s store.Service) bool { return s.State != api.Init }); err != nil {
		return err
	}
	if a.State == api.Init {
		return t.Tell(ctx, a.ID, 0)
	}
	return t.MoveApplication(ctx, &a, api.Stopped, stoppedBecause(o))
}

// removeApplication deletes an application's row with all that hangs on it.
func (d *Director) removeApplication(ctx context.Context, t *store.Tx, a store.Application) error {
	services, err := t.Services(ctx, store.Selection{Application: a.ID})
	if err != nil {
		return err
	}
	for _, s := range services {
		if err := d.removeService(ctx, t, s); err != nil {
			return err
		}
	}
	t.After(func() { d.dropRepository(a.ID) })
	return t.DeleteApplication(ctx, a)
}

func (d *Director) moveServices(ctx context.Context, t *store.Tx, application int64, next api.State, reason string, which func(store.Service) bool) error {
	services, err := t.Services(ctx, store.Selection{Application: application})
	if err != nil {
		return err
	}
	for _, s := range services {
		if !which(s) {
			continue
		}
		s.Reported = []string{}
		if err := t.ObserveService(ctx, s); err != nil {
			return err
		}
		if err := d.moveIfAllowed(ctx, t, &s, next, reason); err != nil {
			return err
		}
	}
	return nil
}
