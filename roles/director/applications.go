package director

import (
	"bytes"
	"context"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// ApplicationPath names an application in a path. Such types are exported only
// because huma looks into embedded exported structs alone.
type ApplicationPath struct {
	App string `path:"app"`
}

func (d *Director) listApplications(ctx context.Context, in *struct {
	All bool `query:"all"`
}) ([]api.Application, error) {
	p := httpapi.Who(ctx)
	read := d.store.SeenApplications
	if in.All {
		if !p.User.Admin {
			return nil, &api.Error{Code: api.CodeForbidden, Message: "only an administrator may list everybody's applications"}
		}
		read = func(ctx context.Context, _ int64) ([]store.Application, error) { return d.store.Applications(ctx, 0) }
	}
	rows, err := read(ctx, p.User.ID)
	list := make([]api.Application, len(rows))
	for i := range rows {
		if p.User.Admin {
			rows[i].Access = api.AccessOwner
		}
		list[i] = d.shown(rows[i])
	}
	return list, err
}

// shown hides the manager of a stopped application: what it holds is kept, but
// it does not run.
func (d *Director) shown(a store.Application) api.Application {
	if a.Manager != nil && a.Desired == api.GoalStopped && a.Operation == "" {
		a.Manager = nil
	}
	if a.Manager != nil {
		one := d.live.fill([]api.Instance{*a.Manager})
		a.Manager = &one[0]
	}
	return a.Application
}

func (d *Director) createApplication(ctx context.Context, in *struct{ Body api.CreateApplication }) (api.Application, error) {
	if err := api.CheckName("application", in.Body.Name); err != nil {
		return api.Application{}, err
	}
	p, err := d.place(in.Body.Cloud)
	if err != nil {
		return api.Application{}, err
	}
	who := httpapi.Who(ctx).User
	a := store.Application{OwnerID: who.ID, Application: api.Application{Name: in.Body.Name, Owner: who.Name, Access: api.AccessOwner, State: api.Init, Desired: api.GoalStopped, Cloud: p.name, Reason: "created"}}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if err := d.roomFor(ctx, t, a.OwnerID, api.Quota{Applications: 1}); err != nil {
			return err
		}
		a, err = t.InsertApplication(ctx, a)
		return err
	})
	return a.Application, err
}

func (d *Director) getApplication(ctx context.Context, in *ApplicationPath) (httpapi.JSON[api.Application], error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return nil, err
	}
	rows, err := d.store.ApplicationInstances(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	instances := map[int64][]store.Instance{}
	for _, i := range rows {
		instances[i.Service] = append(instances[i.Service], i)
	}
	services, err := d.store.ServicesJSON(ctx, store.Selection{Application: a.ID}, func(s *api.Service) bool {
		s.Instances = d.instancesOf(a, s.ID, instances[s.ID])
		return len(s.Instances) > 0
	})
	if err != nil {
		return nil, err
	}
	out, err := api.Encode(d.shown(a))
	if err != nil || len(services) == len("[]") {
		return out, err
	}
	out = append(bytes.TrimSuffix(out, []byte("}")), `,"services":`...)
	return append(append(out, services...), '}'), nil
}

// instancesOf picks a service's instances that run or are about to.
func (d *Director) instancesOf(a store.Application, service int64, all []store.Instance) []api.Instance {
	list := []api.Instance{}
	if a.Desired == api.GoalStopped && a.Operation == "" {
		return list
	}
	for _, i := range all {
		if i.Service == service {
			list = append(list, i.Instance)
		}
	}
	return d.live.fill(list)
}

func (d *Director) renameApplication(ctx context.Context, in *struct {
	ApplicationPath
	Body api.Rename
}) (api.Application, error) {
	if err := api.CheckName("application", in.Body.Name); err != nil {
		return api.Application{}, err
	}
	a, err := d.application(ctx, in.App)
	if err != nil {
		return api.Application{}, err
	}
	access := a.Access
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if a, err = t.ApplicationByID(ctx, a.ID); err != nil {
			return err
		}
		a.Name, a.Access = in.Body.Name, access
		return t.SaveApplication(ctx, a)
	})
	return d.shown(a), err
}

func (d *Director) deleteApplication(ctx context.Context, in *struct {
	ApplicationPath
	Backup bool `query:"backup" doc:"take last backups first, and delete nothing if one fails"`
	Now    bool `query:"now" doc:"for good, instead of into the bin"`
}) (api.Operation, error) {
	if in.Backup {
		return d.onApplication(ctx, in.App, func(id int64) order { return d.retireApplicationOrder(id, in.Now) })
	}
	return d.onApplication(ctx, in.App, func(id int64) order { return d.deleteApplicationOrder(id, in.Now) })
}

func (d *Director) stopApplication(ctx context.Context, in *ApplicationPath) (api.Operation, error) {
	return d.onApplication(ctx, in.App, d.stopApplicationOrder)
}

func (d *Director) startApplication(ctx context.Context, in *struct {
	ApplicationPath
	Body *api.Start
}) (api.Operation, error) {
	var b api.Start
	if in.Body != nil {
		b = *in.Body
	}
	return d.onApplication(ctx, in.App, func(id int64) order { return d.startApplicationOrder(id, b) })
}

func (d *Director) onApplication(ctx context.Context, ref string, make func(int64) order) (api.Operation, error) {
	a, err := d.application(ctx, ref)
	if err != nil {
		return api.Operation{}, err
	}
	return d.submit(ctx, make(a.ID))
}

func (d *Director) startApplicationOrder(id int64, b api.Start) order {
	return order{kind: applicationStart, title: "start application", application: id, request: b,
		change: func(ctx context.Context, t *store.Tx, a *store.Application, _ *store.Service) (bool, error) {
			if a.Desired == api.GoalStarted && a.State != api.Failed {
				return false, &api.Error{Code: api.CodeConflict, Op: "start", Object: "application " + a.Name, Message: "it is started already: " + string(a.State)}
			}
			if b.Cloud != "" {
				p, err := d.place(b.Cloud)
				if err != nil {
					return false, err
				}
				a.Cloud = p.name
			}
			a.Desired = api.GoalStarted
			if err := t.SaveApplication(ctx, *a); err != nil {
				return false, err
			}
			return false, t.MoveApplication(ctx, a, api.Prologue, "start was asked for")
		}}
}

func (d *Director) stopApplicationOrder(id int64) order {
	return order{kind: applicationStop, title: "stop application", application: id, final: true,
		change: func(ctx context.Context, t *store.Tx, a *store.Application, _ *store.Service) (bool, error) {
			if a.Desired == api.GoalStopped && (a.State == api.Stopped || a.State == api.Init) {
				return false, &api.Error{Code: api.CodeConflict, Op: "stop", Object: "application " + a.Name, Message: "it is not started: " + string(a.State)}
			}
			return false, d.beginStop(ctx, t, a, "stop was asked for")
		}}
}

func (d *Director) deleteApplicationOrder(id int64, now bool) order {
	return order{kind: applicationDelete, title: "delete application", application: id, final: true, request: deletion{Now: now},
		change: func(ctx context.Context, t *store.Tx, a *store.Application, _ *store.Service) (bool, error) {
			return false, d.beginStop(ctx, t, a, "deletion was asked for")
		}}
}

// beginStop makes an application and its services stop. The services' goals
// stay, so that they run again when the application does.
func (d *Director) beginStop(ctx context.Context, t *store.Tx, a *store.Application, reason string) error {
	a.Desired = api.GoalStopped
	if err := t.SaveApplication(ctx, *a); err != nil {
		return err
	}
	if _, err := a.State.To(api.Epilogue); err == nil {
		if err := t.MoveApplication(ctx, a, api.Epilogue, reason); err != nil {
			return err
		}
	}
	services, err := t.Services(ctx, store.Selection{Application: a.ID})
	if err != nil {
		return err
	}
	for _, s := range services {
		if _, err := s.State.To(api.Epilogue); err != nil {
			continue
		}
		if err := t.MoveService(ctx, &s, api.Epilogue, "the application is being stopped"); err != nil {
			return err
		}
	}
	return nil
}

func (d *Director) applicationHistory(ctx context.Context, in *ApplicationPath) ([]api.Change, error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return nil, err
	}
	return d.store.History(ctx, a.ID, 0)
}

func (d *Director) resources(ctx context.Context, _ *struct{}) ([]api.Instance, error) {
	user := httpapi.Who(ctx).User.ID
	apps, err := d.store.SeenApplications(ctx, user)
	if err != nil {
		return nil, err
	}
	live := map[int64]bool{}
	for _, a := range apps {
		live[a.ID] = a.Desired == api.GoalStarted || a.Operation != ""
	}
	rows, err := d.store.SeenInstances(ctx, user)
	list := []api.Instance{}
	for _, i := range rows {
		if live[i.Application] {
			list = append(list, i.Instance)
		}
	}
	return d.live.fill(list), err
}
