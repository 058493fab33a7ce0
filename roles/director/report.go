package director

import (
	"context"
	"slices"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// report takes what a manager observed. It is also the heartbeat, so it
// writes only what is different.
func (d *Director) report(ctx context.Context, in *struct{ Body []api.Report }) (httpapi.None, error) {
	id := httpapi.Who(ctx).Identity
	d.live.hear(id.Name, d.c.Now())
	for _, r := range in.Body {
		d.backups.heard(id.Application, r, d.c.Now())
		for _, i := range r.Instances {
			d.live.measure(i.ID, i.Figures)
		}
	}
	services, err := d.store.Services(ctx, store.Selection{Application: id.Application})
	if err != nil {
		return httpapi.None{}, err
	}
	instances, err := d.store.ApplicationInstances(ctx, id.Application)
	if err != nil {
		return httpapi.None{}, err
	}
	news := slices.ContainsFunc(in.Body, func(r api.Report) bool {
		i := slices.IndexFunc(services, func(s store.Service) bool { return s.ID == r.Service })
		return i >= 0 && (differs(services[i], r) || slices.ContainsFunc(r.Instances, func(o api.InstanceReport) bool { return observed(instances, r.Service, o) != nil }))
	})
	if !news {
		return httpapi.None{}, nil
	}
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		for _, r := range in.Body {
			if err := d.observe(ctx, t, id.Application, r); err != nil {
				return err
			}
		}
		return nil
	})
}

// differs reports whether a report says something new about a service.
func differs(s store.Service, r api.Report) bool {
	_, moves := nextState(s, r)
	return moves || s.Serving != r.Serving || !slices.Equal(s.Reported, r.URLs)
}

// nextState is what a report makes of a service's state. While an operation is
// under way, its end decides.
func nextState(s store.Service, r api.Report) (api.State, bool) {
	switch {
	case s.Operation != "":
		return s.State, false
	case s.State == api.Failed && s.Desired == api.GoalStopped && r.State == api.Stopped:
		return s.State, false // a failed start stays visible until the user does something
	case s.State == r.State:
		return s.State, s.State != api.Running && s.Reason != r.Reason && r.Reason != ""
	}
	_, err := s.State.To(r.State)
	return r.State, err == nil
}

// observed is the row as a report makes it, nil if that is as before or there
// is no such row. One that leaves stays so.
func observed(rows []store.Instance, service int64, o api.InstanceReport) *store.Instance {
	i := slices.IndexFunc(rows, func(r store.Instance) bool { return r.ID == o.ID && r.Service == service })
	if i < 0 || rows[i].State == api.InstanceLeaving {
		return nil
	}
	row := rows[i]
	switch o.State {
	case api.InstanceBooting, api.InstanceReady, api.InstanceLost, api.InstanceLeaving:
		row.State = o.State
	case api.InstanceAsked:
	default:
		return nil
	}
	row.Reason = o.Reason
	if o.Parts != nil {
		row.Parts = o.Parts
	}
	if row.State == rows[i].State && row.Reason == rows[i].Reason && slices.Equal(row.Parts, rows[i].Parts) {
		return nil
	}
	return &row
}

func (d *Director) observe(ctx context.Context, t *store.Tx, application int64, r api.Report) error {
	s, err := t.ServiceByID(ctx, application, r.Service)
	if api.CodeOf(err) == api.CodeNotFound {
		return nil // deleted a moment ago
	}
	if err != nil {
		return err
	}
	if s.Serving != r.Serving || !slices.Equal(s.Reported, r.URLs) {
		s.Serving, s.Reported = r.Serving, append([]string{}, r.URLs...)
		if err := t.ObserveService(ctx, s); err != nil {
			return err
		}
	}
	if next, moves := nextState(s, r); moves {
		if err := t.MoveService(ctx, &s, next, r.Reason); err != nil {
			return err
		}
	}
	rows, err := t.ServiceInstances(ctx, application, r.Service)
	if err != nil {
		return err
	}
	for _, o := range r.Instances {
		if row := observed(rows, r.Service, o); row != nil {
			if err := t.SaveInstance(ctx, *row); err != nil {
				return err
			}
		}
	}
	return nil
}

// reportOperation takes how far a manager is with an operation of one of its
// services.
func (d *Director) reportOperation(ctx context.Context, in *struct {
	OperationPath
	Body api.OperationReport
}) (api.OperationReply, error) {
	id := httpapi.Who(ctx).Identity
	d.live.hear(id.Name, d.c.Now())
	switch in.Body.State {
	case api.OperationPending, api.OperationRunning, api.OperationDone, api.OperationFailed, api.OperationCancelled:
	default:
		return api.OperationReply{}, &api.Error{Code: api.CodeInvalid, Message: "there is no such state of an operation", Fields: []string{"state"}}
	}
	var reply api.OperationReply
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		o, err := t.Operation(ctx, 0, in.ID)
		if err != nil {
			return err
		}
		if o.Application != id.Application || d.carries(o) {
			return api.NotFoundf("your application has no operation %s", api.Shorten(in.ID))
		}
		if o.State.Final() { // out of time, or this report comes a second time
			reply.Cancelling = o.State != in.Body.State
			return nil
		}
		reply.Cancelling = o.Cancelling
		return d.take(ctx, t, o, in.Body)
	})
	return reply, err
}
