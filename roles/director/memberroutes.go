package director

import (
	"context"
	"net/http"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// memberRoutes are those of members of applications.
func (d *Director) memberRoutes() []httpapi.Route {
	const (
		members = "/applications/{app}/members"
		member  = members + "/{user}"
		owner   = "/applications/{app}/owner"
	)
	return []httpapi.Route{
		httpapi.On(http.MethodGet, members, "application.members", httpapi.Viewer, short, "Who may use an application, and as what", d.listMembers),
		httpapi.On(http.MethodPut, member, "application.set_member", httpapi.Owner, short, "Let somebody in, or change what they may do", d.setMember),
		httpapi.On(http.MethodDelete, member, "application.remove_member", httpapi.Viewer, short, "Take an application away from somebody, or leave it", d.removeMember),
		httpapi.On(http.MethodPut, owner, "application.hand_over", httpapi.Owner, short, "Offer an application to a new owner", d.handOver),
		httpapi.On(http.MethodPost, owner, "application.take_over", httpapi.Viewer, short, "Take over an application that was offered to you", d.takeOver),
		httpapi.On(http.MethodDelete, owner, "application.keep", httpapi.Viewer, short, "Take back or decline the offer of an application", d.keepOwner),
	}
}

// MemberPath names a member of an application in a path.
type MemberPath struct {
	App  string `path:"app"`
	User string `path:"user"`
}

// listMembers has the owner before the others.
func (d *Director) listMembers(ctx context.Context, in *ApplicationPath) ([]api.Member, error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return nil, err
	}
	owner, err := d.store.User(ctx, a.Owner)
	if err != nil {
		return nil, err
	}
	rows, err := d.store.Members(ctx, a.ID)
	list := []api.Member{{User: owner.Name, Name: store.FullName(owner.FirstName, owner.LastName), Access: api.AccessOwner, Pays: true, Since: a.Created}}
	for _, m := range rows {
		list = append(list, m.Member)
	}
	return list, err
}

func (d *Director) setMember(ctx context.Context, in *struct {
	MemberPath
	Body api.SetMember
}) (api.Member, error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return api.Member{}, err
	}
	var m store.Member
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		u, err := t.User(ctx, in.User)
		if err != nil {
			return err
		}
		if a, err = t.ApplicationByID(ctx, a.ID); err != nil {
			return err
		}
		if u.ID == a.OwnerID {
			return &api.Error{Code: api.CodeConflict, Op: "change", Object: "member " + u.Name, Message: "it is " + u.Name + "'s own application", Hint: "hand it over to somebody else first"}
		}
		if m, _, err = t.Member(ctx, a.ID, u.ID); err != nil {
			return err
		}
		m.Application, m.User, m.Access, m.By = a.ID, u.ID, in.Body.Access, httpapi.Who(ctx).User.Name
		m, err = t.PutMember(ctx, m)
		return err
	})
	return m.Member, err
}

// removeMember takes the application away from somebody; one who only views it
// may leave.
func (d *Director) removeMember(ctx context.Context, in *MemberPath) (httpapi.None, error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return httpapi.None{}, err
	}
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		missing := api.NotFoundf("application %s has no member %s", a.Name, api.Shorten(in.User))
		u, err := t.User(ctx, in.User)
		if err == nil && u.ID != httpapi.Who(ctx).User.ID {
			err = enough(a, api.AccessOwner)
		}
		if api.CodeOf(err) == api.CodeNotFound {
			return missing
		}
		if err != nil {
			return err
		}
		if u.ID == a.OwnerID {
			return &api.Error{Code: api.CodeConflict, Op: "remove", Object: "member " + u.Name, Message: "it is " + u.Name + "'s own application", Hint: "hand it over to somebody else first"}
		}
		m, ok, err := t.Member(ctx, a.ID, u.ID)
		if err != nil {
			return err
		}
		if !ok {
			return missing
		}
		return t.DeleteMember(ctx, m)
	})
}
