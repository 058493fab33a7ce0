package director

import (
	"context"
	"fmt"

	"nutshell/roles/api"
	"nutshell/roles/director/credit"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// stayNobody is stored with an offer after which the old owner is no member.
const stayNobody = "nobody"

func stayed(offered string) api.Access {
	if offered == stayNobody {
		return ""
	}
	return api.Access(offered)
}

// handOver offers an application to somebody, who becomes a viewer of it if
// they were nothing. It is theirs when they take it, because it is paid for
// with their credits; an administrator's word is enough.
func (d *Director) handOver(ctx context.Context, in *struct {
	ApplicationPath
	Body api.HandOver
}) (api.Member, error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return api.Member{}, err
	}
	who := httpapi.Who(ctx).User
	if a.OwnerID != who.ID && !who.Admin {
		return api.Member{}, &api.Error{Code: api.CodeForbidden, Op: "hand over", Object: "application " + a.Name, Message: "only " + a.Owner + ", who pays for it, may do this", Hint: "ask " + a.Owner + ", or an administrator"}
	}
	var out api.Member
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		u, err := t.User(ctx, in.Body.User)
		if err != nil {
			return err
		}
		if a, err = t.ApplicationByID(ctx, a.ID); err != nil {
			return err
		}
		if u.ID == a.OwnerID {
			return &api.Error{Code: api.CodeConflict, Op: "hand over", Object: "application " + a.Name, Message: "it is " + u.Name + "'s already", Fields: []string{"user"}}
		}
		if err := withdraw(ctx, t, a.ID, u.ID); err != nil {
			return err
		}
		m, ok, err := t.Member(ctx, a.ID, u.ID)
		if err != nil {
			return err
		}
		if who.Admin {
			out = api.Member{User: u.Name, Name: store.FullName(u.FirstName, u.LastName), Access: api.AccessOwner, Pays: true, Since: a.Created}
			return d.giveTo(ctx, t, a, u, in.Body.Stay)
		}
		if !ok {
			m.Access = api.AccessViewer
		}
		m.Application, m.User, m.By, m.Offered = a.ID, u.ID, who.Name, string(in.Body.Stay)
		if m.Offered == "" {
			m.Offered = stayNobody
		}
		m, err = t.PutMember(ctx, m)
		out = m.Member
		return err
	})
	return out, err
}

// withdraw takes back what was offered to others than one user.
func withdraw(ctx context.Context, t *store.Tx, application, but int64) error {
	rows, err := t.Members(ctx, application)
	if err != nil {
		return err
	}
	for _, m := range rows {
		if m.Offered == "" || m.User == but {
			continue
		}
		m.Offered = ""
		if _, err := t.PutMember(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func notOffered(a store.Application) error {
	return &api.Error{Code: api.CodeConflict, Op: "take over", Object: "application " + a.Name, Message: "it is not offered to you", Hint: "ask " + a.Owner + " to hand it over"}
}

func (d *Director) takeOver(ctx context.Context, in *ApplicationPath) (api.Application, error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return api.Application{}, err
	}
	who := httpapi.Who(ctx).User
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if a, err = t.ApplicationByID(ctx, a.ID); err != nil {
			return err
		}
		m, _, err := t.Member(ctx, a.ID, who.ID)
		if err != nil {
			return err
		}
		if m.Offered == "" {
			return notOffered(a)
		}
		u, err := t.User(ctx, who.Name)
		if err != nil {
			return err
		}
		if err := d.giveTo(ctx, t, a, u, stayed(m.Offered)); err != nil {
			return err
		}
		a, err = t.ApplicationByID(ctx, a.ID)
		return err
	})
	a.Access = api.AccessOwner
	return d.shown(a), err
}

// keepOwner takes an offer back, or declines it.
func (d *Director) keepOwner(ctx context.Context, in *ApplicationPath) (httpapi.None, error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return httpapi.None{}, err
	}
	who := httpapi.Who(ctx).User
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if rank(a.Access) >= rank(api.AccessOwner) {
			return withdraw(ctx, t, a.ID, 0)
		}
		m, _, err := t.Member(ctx, a.ID, who.ID)
		if err != nil {
			return err
		}
		if m.Offered == "" {
			return notOffered(a)
		}
		m.Offered = ""
		_, err = t.PutMember(ctx, m)
		return err
	})
}

// giveTo makes an application that of another user: what is due is charged to
// the old owner, all that is held and every hour from now on is the new
// owner's, whose credits and quota must allow it.
func (d *Director) giveTo(ctx context.Context, t *store.Tx, a store.Application, to store.User, stay api.Access) error {
	active, err := t.Operations(ctx, store.Filter{Active: true, Application: a.ID, Limit: 1})
	if err != nil {
		return err
	}
	if len(active) > 0 {
		return store.Busy("hand over application "+a.Name, active[0])
	}
	if err := d.settleAccounts(ctx, t, a, to); err != nil {
		return err
	}
	if err := t.HandOver(ctx, a, to.ID, stay, httpapi.Who(ctx).User.Name); err != nil {
		return err
	}
	return d.roomFor(ctx, t, to.ID, api.Quota{Applications: -1, Instances: -1, VolumeBytes: -1})
}

func (d *Director) settleAccounts(ctx context.Context, t *store.Tx, a store.Application, to store.User) error {
	from, err := d.purse(ctx, t, a.OwnerID)
	if err != nil {
		return err
	}
	next, err := d.purse(ctx, t, to.ID)
	if err != nil {
		return err
	}
	all, err := t.Meters(ctx, a.OwnerID)
	if err != nil {
		return err
	}
	why := "application " + a.Name + " was handed over to " + to.Name
	var held, running int64
	for _, row := range all {
		m := credit.Meter(row)
		switch {
		case row.Application != a.ID:
		case m.Held():
			held++
		case m.Runs():
			running++
			if err := from.charge(ctx, m, m.Owed(d.meterTime())); err != nil {
				return err
			}
		}
	}
	holds, err := t.ApplicationHolds(ctx, a.ID)
	if err != nil {
		return err
	}
	for _, h := range holds {
		held += h.Credits
	}
	if need := held + running; next.bound() && next.user.Credit < need { // or it would stop within the hour
		return next.tooLittle(ctx, need, "hand over", fmt.Sprintf("application %s with %s", a.Name, countOf(running, "running instance", "running instances")))
	}
	from.enter(api.LedgerEntry{Amount: held, Kind: entryRefund, Reason: "no longer held: " + why, Application: a.ID})
	next.enter(api.LedgerEntry{Amount: -held, Kind: entryHold, Reason: "held: " + why, Application: a.ID})
	if err := from.close(ctx); err != nil {
		return err
	}
	return next.close(ctx)
}
