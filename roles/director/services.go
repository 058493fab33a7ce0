package director

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

// ServicePath names a service in a path.
type ServicePath struct {
	App     string `path:"app"`
	Service string `path:"service"`
}

// service finds a service of an application that the asker may see.
func (d *Director) service(ctx context.Context, in ServicePath) (store.Application, store.Service, error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return a, store.Service{}, err
	}
	s, err := d.store.Service(ctx, a.ID, in.Service)
	return a, s, err
}

func (d *Director) listServices(ctx context.Context, in *struct {
	Application string `query:"application"`
	Limit       int    `query:"limit" minimum:"1" maximum:"100000"`
	After       string `query:"after" doc:"application/service, the last one of the page before"`
	All         bool   `query:"all"`
}) (httpapi.JSON[[]api.Service], error) {
	p := httpapi.Who(ctx)
	c := store.Selection{User: p.User.ID, Limit: in.Limit}
	if in.All && p.User.Admin {
		c.User = 0
	}
	if in.Application != "" {
		a, err := d.applicationFor(ctx, in.Application, api.AccessViewer)
		if err != nil {
			return nil, err
		}
		c.Application, c.User = a.ID, 0
	}
	if in.After != "" {
		app, id, _ := strings.Cut(in.After, "/")
		var err, err2 error
		c.AfterApp, err = strconv.ParseInt(app, 10, 64)
		c.AfterID, err2 = strconv.ParseInt(id, 10, 64)
		if err != nil || err2 != nil {
			return nil, &api.Error{Code: api.CodeInvalid, Message: "after is two ids such as 3/2", Fields: []string{"after"}}
		}
	}
	return d.store.ServicesJSON(ctx, c, nil)
}

func (d *Director) listApplicationServices(ctx context.Context, in *ApplicationPath) (httpapi.JSON[[]api.Service], error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return nil, err
	}
	return d.store.ServicesJSON(ctx, store.Selection{Application: a.ID}, nil)
}

func (d *Director) createService(ctx context.Context, in *struct {
	ApplicationPath
	Body api.CreateService
}) (api.Service, error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return api.Service{}, err
	}
	kind, err := d.c.Services.Get(in.Body.Kind)
	if err != nil {
		return api.Service{}, err
	}
	if in.Body.Name != "" {
		if err := api.CheckName("service", in.Body.Name); err != nil {
			return api.Service{}, err
		}
	}
	if in.Body.Cloud == "" {
		in.Body.Cloud = a.Cloud
	}
	p, err := d.place(in.Body.Cloud)
	if err != nil {
		return api.Service{}, err
	}
	s := newService(a, kind, p.name, in.Body.Name)
	code, err := d.defaultCode(ctx, kind)
	if err != nil {
		return api.Service{}, err
	}
	if code != nil {
		s.Version = code.ID
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if _, err := t.ApplicationByID(ctx, a.ID); err != nil { // deleted a moment ago
			return err
		}
		if s.Name == "" {
			if s.Name, err = freeName(ctx, t, a.ID, kind.Name); err != nil {
				return err
			}
		}
		s, err = d.addService(ctx, t, kind, s, code)
		return err
	})
	return s.Service, err
}

// newService is a service of a kind as it begins.
func newService(a store.Application, kind services.Kind, cloud, name string) store.Service {
	s := store.Service{OwnerID: a.OwnerID, Service: api.Service{Application: a.ID, Name: name, Kind: kind.Name, State: api.Init, Desired: api.GoalStopped,
		Reason: "created", Cloud: cloud, Parts: map[string]int{}, Settings: kind.DefaultSettings(), AutoDeploy: true, URLs: []string{}}}
	for _, part := range kind.Parts {
		s.Parts[part.Name] = part.Default
	}
	return s
}

// addService stores a new service with all that its kind's services have; code
// may be nil.
func (d *Director) addService(ctx context.Context, t *store.Tx, kind services.Kind, s store.Service, code *api.CodeVersion) (store.Service, error) {
	var err error
	if s.ID, err = t.NextServiceID(ctx, s.Application); err != nil {
		return s, err
	}
	if s, err = t.InsertService(ctx, s); err != nil {
		return s, err
	}
	if err := d.makeSecrets(ctx, t, kind, s); err != nil || code == nil {
		return s, err
	}
	_, err = t.InsertVersion(ctx, s, *code)
	return s, err
}

func freeName(ctx context.Context, t *store.Tx, application int64, kind string) (string, error) {
	rows, err := t.Services(ctx, store.Selection{Application: application})
	taken := map[string]bool{}
	for _, s := range rows {
		taken[s.Name] = true
	}
	name := kind
	for n := 2; taken[name]; n++ {
		name = kind + "-" + strconv.Itoa(n)
	}
	return name, err
}

func (d *Director) getService(ctx context.Context, in *ServicePath) (api.Service, error) {
	a, s, err := d.service(ctx, *in)
	if err != nil {
		return api.Service{}, err
	}
	rows, err := d.store.ServiceInstances(ctx, a.ID, s.ID)
	s.Instances = d.instancesOf(a, s.ID, rows)
	return s.Service, err
}

// maxKeep bounds the number of versions to keep: beyond it, 0 is meant.
const maxKeep = 10_000

func (d *Director) changeService(ctx context.Context, in *struct {
	ServicePath
	Body api.ChangeService
}) (api.Service, error) {
	b := in.Body
	if b.Name != nil {
		if err := api.CheckName("service", *b.Name); err != nil {
			return api.Service{}, err
		}
	}
	if b.KeepVersions != nil && (*b.KeepVersions < 0 || *b.KeepVersions > maxKeep) {
		return api.Service{}, &api.Error{Code: api.CodeInvalid, Op: "change", Object: "service " + in.Service, Message: fmt.Sprintf("%d versions cannot be kept", *b.KeepVersions),
			Hint: fmt.Sprintf("keep 1 to %d, or 0 for all", maxKeep), Fields: []string{"keep_versions"}}
	}
	return d.change(ctx, in.ServicePath, func(ctx context.Context, t *store.Tx, s *store.Service) error {
		if b.Name != nil && *b.Name != s.Name {
			if err := rebind(ctx, t, *s, *b.Name); err != nil {
				return err
			}
			s.Name = *b.Name
		}
		if b.Bind != nil {
			if err := checkBind(ctx, t, *s, *b.Bind); err != nil {
				return err
			}
			s.Bind = *b.Bind
		}
		if b.AutoDeploy != nil {
			s.AutoDeploy = *b.AutoDeploy
		}
		if b.KeepVersions != nil {
			s.Keep = *b.KeepVersions
			return d.retain(ctx, t, *s)
		}
		return nil
	})
}

// change changes what is wanted of a service, without an operation.
func (d *Director) change(ctx context.Context, in ServicePath, fn func(context.Context, *store.Tx, *store.Service) error) (api.Service, error) {
	_, s, err := d.service(ctx, in)
	if err != nil {
		return api.Service{}, err
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if s, err = t.ServiceByID(ctx, s.Application, s.ID); err != nil {
			return err
		}
		if err := fn(ctx, t, &s); err != nil {
			return err
		}
		return t.SaveService(ctx, s)
	})
	return s.Service, err
}

func (d *Director) serviceHistory(ctx context.Context, in *ServicePath) ([]api.Change, error) {
	a, s, err := d.service(ctx, *in)
	if err != nil {
		return nil, err
	}
	return d.store.History(ctx, a.ID, s.ID)
}

func (d *Director) getSettings(ctx context.Context, in *ServicePath) (json.RawMessage, error) {
	_, s, err := d.service(ctx, *in)
	return s.Settings, err
}

func (d *Director) configure(ctx context.Context, in *struct {
	ServicePath
	Match
	Body map[string]json.RawMessage
}) (httpapi.Either, error) {
	return d.now(ctx, in.ServicePath, func(a, s int64) order {
		return in.on(d.configureOrder(a, s, in.Body), inSettings, slices.Sorted(maps.Keys(in.Body)))
	})
}

// now submits an order, and where its service is not started does it at once
// and answers the service.
func (d *Director) now(ctx context.Context, in ServicePath, make func(application, service int64) order) (httpapi.Either, error) {
	a, s, err := d.service(ctx, in)
	if err != nil {
		return httpapi.Either{}, err
	}
	o, err := d.onService(ctx, in, make)
	if err != nil {
		return httpapi.Either{}, err
	}
	if s.Desired == api.GoalStarted || o.State != api.OperationDone {
		return httpapi.Either{Operation: &o}, nil
	}
	s, err = d.store.ServiceByID(ctx, a.ID, s.ID)
	return httpapi.Either{Service: &s.Service}, err
}

// adapt is the end of each change of a service: the manager carries it out if
// the service is started, else it is done with being stored.
func (d *Director) adapt(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service, reason string) (bool, error) {
	if s.Deleting {
		return false, &api.Error{Code: api.CodeConflict, Object: "service " + a.Name + "/" + s.Name, Message: "it is being deleted"}
	}
	if err := t.SaveService(ctx, *s); err != nil {
		return false, err
	}
	if a.Desired != api.GoalStarted || s.Desired != api.GoalStarted {
		return true, nil
	}
	return false, d.moveIfAllowed(ctx, t, s, api.Adapting, reason)
}

func (d *Director) configureOrder(application, service int64, patch map[string]json.RawMessage) order {
	return order{kind: serviceConfigure, title: "change settings of", application: application, service: service, request: patch,
		change: func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (bool, error) {
			kind, err := d.c.Services.Get(s.Kind)
			if err != nil {
				return false, err
			}
			b, err := json.Marshal(patch)
			if err != nil {
				return false, err
			}
			before := s.Settings
			if s.Settings, err = kind.MergeSettings(s.Settings, b); err != nil {
				return false, err
			}
			if err := d.checkSizes(ctx, t, kind, *s, before); err != nil {
				return false, err
			}
			return d.adapt(ctx, t, a, s, "settings change")
		}}
}

func (d *Director) getScript(ctx context.Context, in *ServicePath) (api.Script, error) {
	_, s, err := d.service(ctx, *in)
	return api.Script{Text: s.Script}, err
}

func (d *Director) putScript(ctx context.Context, in *struct {
	ServicePath
	Match
	Body api.Script
}) (httpapi.None, error) {
	if err := checkScript(in.Body.Text); err != nil {
		return httpapi.None{}, err
	}
	_, err := d.change(ctx, in.ServicePath, func(ctx context.Context, t *store.Tx, s *store.Service) error {
		if err := in.on(order{title: "change the startup script of"}, inScript, []string{scriptName}).unchanged(ctx, t, *s); err != nil {
			return err
		}
		t.By(httpapi.Who(ctx).User.Name, "set the startup script of "+s.Name)
		s.Script = in.Body.Text
		return nil
	})
	return httpapi.None{}, err
}
