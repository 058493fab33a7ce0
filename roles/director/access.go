package director

import (
	"context"
	"fmt"
	"strconv"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// rank orders what people can be to an application: each may do what those
// below may.
func rank(a api.Access) int {
	switch a {
	case api.AccessOwner:
		return 3
	case api.AccessDeveloper:
		return 2
	case api.AccessViewer:
		return 1
	}
	return 0
}

// needed is what the route under way needs its user to be. Where it does not
// say so, the most.
func needed(ctx context.Context) api.Access {
	switch httpapi.Needed(ctx) { //nolint:exhaustive // the others say nothing about an application
	case httpapi.Viewer:
		return api.AccessViewer
	case httpapi.Developer:
		return api.AccessDeveloper
	}
	return api.AccessOwner
}

// seer is the user whose things are looked for; 0 for an administrator, who
// sees all.
func seer(ctx context.Context) int64 {
	p := httpapi.Who(ctx)
	if p.User.Admin {
		return 0
	}
	return p.User.ID
}

// application finds the application that a route is about. What its user may
// not see is not there; what its user may see but not do is forbidden.
func (d *Director) application(ctx context.Context, ref string) (store.Application, error) {
	return d.applicationFor(ctx, ref, needed(ctx))
}

func (d *Director) applicationFor(ctx context.Context, ref string, least api.Access) (store.Application, error) {
	p := httpapi.Who(ctx)
	a, err := d.store.Application(ctx, p.User.ID, ref)
	if p.User.Admin && api.CodeOf(err) == api.CodeNotFound {
		if id, e := strconv.ParseInt(ref, 10, 64); e == nil {
			a, err = d.store.ApplicationByID(ctx, id)
		}
	}
	if err != nil {
		return a, err
	}
	if p.User.Admin {
		a.Access = api.AccessOwner
	}
	return a, enough(a, least)
}

// enough refuses what needs more than the asker is to an application.
func enough(a store.Application, least api.Access) error {
	if rank(a.Access) >= rank(least) {
		return nil
	}
	return tooLow(fmt.Sprintf("application %s", a.Name), a.Access, least, a.Owner)
}

// tooLow says what somebody is, what they should be, and who can make them so.
func tooLow(object string, is, least api.Access, owner string) error {
	return &api.Error{Code: api.CodeForbidden, Object: object, Message: fmt.Sprintf("you are %s there, and this is for %s", oneOf(is), oneOf(least)),
		Hint: "ask " + owner + ", who owns the application, to make you that"}
}

func oneOf(a api.Access) string {
	switch a {
	case api.AccessOwner:
		return "an owner"
	case api.AccessDeveloper:
		return "a developer"
	case api.AccessViewer:
		return "a viewer"
	}
	return "nobody"
}

// thing is something that belongs to an application but is found by an id of
// its own, perhaps when the application is gone.
type thing struct {
	name        string
	application int64
	owner       int64
}

// entitled refuses what needs more than the asker is to a thing's application.
// That the asker may see it is known already.
func (d *Director) entitled(ctx context.Context, of thing, least api.Access) error {
	p := httpapi.Who(ctx)
	if p.User.Admin || of.owner == p.User.ID {
		return nil
	}
	is, err := d.store.Access(ctx, of.application, p.User.ID)
	if err != nil || rank(is) >= rank(least) {
		return err
	}
	owner, err := d.store.User(ctx, strconv.FormatInt(of.owner, 10))
	if err != nil {
		return err
	}
	return tooLow(of.name, is, least, owner.Name)
}

// destroys reports whether an operation of a kind deletes what cannot be made
// again, which is for owners only.
func destroys(kind string) bool {
	switch kind {
	case applicationDelete, applicationRetire, serviceDelete, serviceRetire:
		return true
	}
	return false
}
