package director

import (
	"context"
	"encoding/json"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// What applications say.
const (
	usedUp   = "credits are used up: ask an administrator for more, then start it again"
	nearlyUp = "its manager answers; credits are left for less than an hour: ask an administrator for more"
)

// exhaust stops a user's applications as a user would: in order, and keeping
// all that they hold. What is being changed just now is asked again later.
func (d *Director) exhaust(ctx context.Context, u store.User) error {
	apps, err := d.store.Applications(ctx, u.ID)
	if err != nil {
		return err
	}
	for _, a := range apps {
		if a.Desired != api.GoalStarted {
			continue
		}
		_, err := d.submit(ctx, d.exhaustOrder(a.ID))
		if api.CodeOf(err) == api.CodeConflict {
			continue
		}
		if err != nil {
			return err
		}
		d.c.Log.Warn("credits are used up, an application is stopped", "user", u.Name, "app", a.ID)
	}
	return nil
}

// stopWhy is the request of a stop that no user asked for.
type stopWhy struct {
	Why string `json:"why"`
}

func (d *Director) exhaustOrder(id int64) order {
	return order{kind: applicationStop, title: "stop application", application: id, final: true, actor: "nutshell", request: stopWhy{usedUp},
		change: func(ctx context.Context, t *store.Tx, a *store.Application, _ *store.Service) (bool, error) {
			if a.Desired == api.GoalStopped {
				return false, api.Conflictf("application %s is stopped already", a.Name)
			}
			return false, d.beginStop(ctx, t, a, usedUp)
		}}
}

// stoppedBecause is what a stopped application says.
func stoppedBecause(o *store.Operation) string {
	var w stopWhy
	if err := json.Unmarshal(o.Request, &w); err == nil && w.Why != "" {
		return w.Why + "; everything is kept"
	}
	return "stopped; everything is kept"
}

// warn says at each running application whether the credit ends soon.
func (d *Director) warn(ctx context.Context, u store.User, soon bool) error {
	apps, err := d.store.Applications(ctx, u.ID)
	if err != nil {
		return err
	}
	for _, a := range apps {
		if a.State != api.Running || soon == (a.Reason == nearlyUp) {
			continue
		}
		reason := "its manager answers"
		if soon {
			reason = nearlyUp
			d.c.Log.Warn("credits are nearly used up", "user", u.Name, "app", a.ID)
		}
		err := d.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.MoveApplication(ctx, &a, api.Running, reason) })
		if err != nil && api.CodeOf(err) != api.CodeConflict {
			return err
		}
	}
	return nil
}
