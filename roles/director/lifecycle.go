package director

import (
	"context"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// onService submits an order on a service that the asker may see.
func (d *Director) onService(ctx context.Context, in ServicePath, make func(application, service int64) order) (api.Operation, error) {
	a, s, err := d.service(ctx, in)
	if err != nil {
		return api.Operation{}, err
	}
	return d.submit(ctx, make(a.ID, s.ID))
}

func (d *Director) startService(ctx context.Context, in *struct {
	ServicePath
	Body *api.Start
}) (api.Operation, error) {
	var b api.Start
	if in.Body != nil {
		b = *in.Body
	}
	return d.onService(ctx, in.ServicePath, func(a, s int64) order { return d.startServiceOrder(a, s, b) })
}

func (d *Director) stopService(ctx context.Context, in *ServicePath) (api.Operation, error) {
	return d.onService(ctx, *in, d.stopServiceOrder)
}

func (d *Director) deleteService(ctx context.Context, in *struct {
	ServicePath
	Backup bool `query:"backup" doc:"take a last backup first, and delete nothing if that fails"`
	Now    bool `query:"now" doc:"for good, instead of into the bin"`
}) (api.Operation, error) {
	if in.Backup {
		return d.onService(ctx, in.ServicePath, func(a, s int64) order { return d.retireOrder(a, s, in.Now) })
	}
	return d.onService(ctx, in.ServicePath, func(a, s int64) order { return d.deleteServiceOrder(a, s, in.Now) })
}

func (d *Director) startServiceOrder(application, service int64, b api.Start) order {
	return order{kind: serviceStart, title: "start service", application: application, service: service, request: b,
		change: func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (bool, error) {
			refuse := func(message, hint string) error {
				return &api.Error{Code: api.CodeConflict, Op: "start", Object: "service " + a.Name + "/" + s.Name, Message: message, Hint: hint}
			}
			switch {
			case a.Desired != api.GoalStarted:
				return false, refuse("its application is not started", "start the application first")
			case s.Deleting:
				return false, refuse("it is being deleted", "")
			case s.Desired == api.GoalStarted && s.State != api.Failed:
				return false, refuse("it is started already: "+string(s.State), "")
			}
			if b.Cloud != "" {
				p, err := d.place(b.Cloud)
				if err != nil {
					return false, err
				}
				s.Cloud = p.name
			}
			if s.State == api.Failed {
				s.Retry++
			}
			s.Desired = api.GoalStarted
			if err := t.SaveService(ctx, *s); err != nil {
				return false, err
			}
			return false, t.MoveService(ctx, s, api.Prologue, "start was asked for")
		}}
}

func (d *Director) stopServiceOrder(application, service int64) order {
	return order{kind: serviceStop, title: "stop service", application: application, service: service,
		change: func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (bool, error) {
			if s.Desired == api.GoalStopped && (s.State == api.Init || s.State == api.Stopped) {
				return false, &api.Error{Code: api.CodeConflict, Op: "stop", Object: "service " + a.Name + "/" + s.Name, Message: "it is not started: " + string(s.State)}
			}
			s.Desired = api.GoalStopped
			if err := t.SaveService(ctx, *s); err != nil {
				return false, err
			}
			if a.Desired == api.GoalStarted {
				return false, d.moveIfAllowed(ctx, t, s, api.Epilogue, "stop was asked for")
			}
			if err := d.leave(ctx, t, s.Application, s.ID); err != nil {
				return false, err
			}
			return true, d.moveIfAllowed(ctx, t, s, api.Stopped, "stopped, its application is not started")
		}}
}

func (d *Director) moveIfAllowed(ctx context.Context, t *store.Tx, s *store.Service, next api.State, reason string) error {
	if _, err := s.State.To(next); err != nil {
		return nil //nolint:nilerr // the state already says as much, for example STOPPED
	}
	return t.MoveService(ctx, s, next, reason)
}

func (d *Director) deleteServiceOrder(application, service int64, now bool) order {
	return order{kind: serviceDelete, title: "delete service", application: application, service: service, final: true, request: deletion{Now: now},
		change: func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (bool, error) {
			instances, err := t.ServiceInstances(ctx, s.Application, s.ID)
			if err != nil {
				return false, err
			}
			if a.Desired != api.GoalStarted || (s.Desired == api.GoalStopped && len(instances) == 0) {
				return true, d.discardService(ctx, t, *s, now)
			}
			s.Desired, s.Deleting = api.GoalStopped, true
			if err := t.SaveService(ctx, *s); err != nil {
				return false, err
			}
			return false, d.moveIfAllowed(ctx, t, s, api.Epilogue, "deletion was asked for")
		}}
}

// removeService deletes a service's row with all that hangs on it, and makes
// what is left of its instances go.
func (d *Director) removeService(ctx context.Context, t *store.Tx, s store.Service) error {
	if err := d.leave(ctx, t, s.Application, s.ID); err != nil {
		return err
	}
	versions, err := t.Versions(ctx, s.Application, s.ID)
	if err != nil {
		return err
	}
	if err := d.dropVolumes(ctx, t, s); err != nil {
		return err
	}
	for _, v := range versions {
		t.After(func() { d.dropBlob(v.SHA256) })
	}
	return t.DeleteService(ctx, s)
}

// leave marks the instances of a service as leaving and ends them once that
// is stored.
func (d *Director) leave(ctx context.Context, t *store.Tx, application, service int64) error {
	rows, err := t.ServiceInstances(ctx, application, service)
	if err != nil || len(rows) == 0 {
		return err
	}
	for i := range rows {
		rows[i].State, rows[i].Reason = api.InstanceLeaving, "its service needs it no more"
		if err := t.SaveInstance(ctx, rows[i]); err != nil {
			return err
		}
	}
	t.After(func() {
		d.goWork(func(ctx context.Context) {
			if err := d.terminate(ctx, rows); err != nil {
				d.c.Log.Warn("instances could not be ended, the sweep tries again", "app", application, "service", service, "error", err)
			}
		})
	})
	return nil
}
