package store

import (
	"context"
	"database/sql"
	"strconv"

	"nutshell/roles/api"
)

// Member is somebody who may use an application that is another's.
type Member struct {
	Application, User int64
	api.Member
	// Offered is what the owner would be after handing the application over to
	// this one; empty: nothing is offered.
	Offered string
}

// visible is true for rows of a table whose column application names one that
// user ?1 is a member of.
const visible = `application IN (SELECT application FROM application_member WHERE user = ?1)`

const memberColumns = `m.application, m.user, u.name, u.first_name, u.last_name, m.access, m.since, m.by, m.offered`

func scanMember(r *sql.Rows) (Member, error) {
	var m Member
	var first, last string
	var since int64
	err := r.Scan(&m.Application, &m.User, &m.Member.User, &first, &last, &m.Access, &since, &m.By, &m.Offered)
	m.Name, m.Since, m.Member.Offered = FullName(first, last), timeOf(since), m.Offered != ""
	return m, err
}

// FullName is a name for people, empty where nobody gave one.
func FullName(first, last string) string {
	if first == "" || last == "" {
		return first + last
	}
	return first + " " + last
}

func (v View) members(ctx context.Context, where string, args ...any) ([]Member, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT `+memberColumns+` FROM application_member m JOIN user u ON u.id = m.user WHERE `+where+` ORDER BY u.name`, args...)
	return scanAll(rows, err, scanMember)
}

// Members lists who may use an application beside its owner, by name.
func (v View) Members(ctx context.Context, application int64) ([]Member, error) {
	return v.members(ctx, `m.application = ?`, application)
}

// Member finds one of them; ok is false if the user is none.
func (v View) Member(ctx context.Context, application, user int64) (m Member, ok bool, err error) {
	found, err := v.members(ctx, `m.application = ? AND m.user = ?`, application, user)
	if err != nil || len(found) == 0 {
		return m, false, err
	}
	return found[0], true, nil
}

// Memberships lists what a user is to applications of others.
func (v View) Memberships(ctx context.Context, user int64) ([]Member, error) {
	return v.members(ctx, `m.user = ?`, user)
}

// offered reports whether an application is offered to a user.
func (v View) offered(ctx context.Context, application, user int64) (bool, error) {
	m, _, err := v.Member(ctx, application, user)
	return m.Offered != "", err
}

// Access is what a user is to an application; empty: nothing. Administrators
// are owners of all.
func (v View) Access(ctx context.Context, application, user int64) (api.Access, error) {
	var is api.Access
	err := v.q.QueryRowContext(ctx, `SELECT coalesce((SELECT 'owner' FROM application WHERE id = ?1 AND owner = ?2), (SELECT 'owner' FROM user WHERE id = ?2 AND admin),
		(SELECT access FROM application_member WHERE application = ?1 AND user = ?2), '')`, application, user).Scan(&is)
	return is, storeError(err)
}

// shared are the applications that a user is a member of.
func (v View) shared(ctx context.Context, user int64) (map[int64]bool, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT application FROM application_member WHERE user = ?`, user)
	m := map[int64]bool{}
	_, err = scanAll(rows, err, func(r *sql.Rows) (struct{}, error) {
		var id int64
		err := r.Scan(&id)
		m[id] = true
		return struct{}{}, err
	})
	return m, err
}

// PutMember stores what somebody is to an application, and tells everybody who
// sees it. To a new one it tells everything that a list would show.
func (t *Tx) PutMember(ctx context.Context, m Member) (Member, error) {
	old, known, err := t.Member(ctx, m.Application, m.User)
	if err != nil {
		return m, err
	}
	if m.Since = t.now; known {
		m.Since = old.Since
	}
	_, err = t.exec(ctx, `INSERT INTO application_member (application, user, access, since, by, offered) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
		ON CONFLICT (application, user) DO UPDATE SET access = ?3, by = ?5, offered = ?6`, m.Application, m.User, m.Access, micros(m.Since), m.By, m.Offered)
	if err != nil {
		return m, err
	}
	if m, _, err = t.Member(ctx, m.Application, m.User); err != nil {
		return m, err
	}
	if err := t.memberEvent(ctx, "member", m); err != nil {
		return m, err
	}
	if known && old.Access == m.Access && old.Offered == m.Offered {
		return m, nil
	}
	return m, t.introduce(ctx, m.Application, m.User, known)
}

// DeleteMember takes an application away from somebody.
func (t *Tx) DeleteMember(ctx context.Context, m Member) error {
	if _, err := t.exec(ctx, `DELETE FROM application_member WHERE application = ? AND user = ?`, m.Application, m.User); err != nil {
		return err
	}
	if err := t.memberEvent(ctx, "member.deleted", m); err != nil {
		return err
	}
	return t.bid(ctx, m.Application, m.User)
}

// HandOver makes an application with all that is accounted for it that of
// another user. The old owner stays as a member, or not at all for "".
func (t *Tx) HandOver(ctx context.Context, a Application, to int64, stay api.Access, by string) error {
	t.touched[serviceKey{a.ID, 0}] = true
	known, err := t.exec(ctx, `DELETE FROM application_member WHERE application = ? AND user = ?`, a.ID, to)
	if err != nil {
		return err
	}
	n, err := t.exec(ctx, `UPDATE application SET owner = ? WHERE id = ? AND owner = ?`, to, a.ID, a.OwnerID)
	if isUnique(err) {
		e := *api.AsError(nameTaken("hand over", "application", a.Name))
		e.Message, e.Hint = "the new owner has an application of that name already", "give it another name first"
		return &e
	}
	if err != nil {
		return err
	}
	if n == 0 {
		return api.Conflictf("application %s has just been handed over", a.Name)
	}
	for _, q := range []string{`UPDATE operation SET user = ? WHERE application = ?`, `UPDATE volume SET owner = ? WHERE application = ?`,
		`UPDATE backup SET owner = ? WHERE application = ?`, `UPDATE charge SET user = ? WHERE application = ?`, `UPDATE hold SET user = ? WHERE application = ?`} {
		if _, err := t.exec(ctx, q, to, a.ID); err != nil {
			return err
		}
	}
	if err := t.Tell(ctx, a.ID, 0); err != nil {
		return err
	}
	if err := t.introduce(ctx, a.ID, to, known > 0); err != nil {
		return err
	}
	if stay == "" {
		return t.bid(ctx, a.ID, a.OwnerID)
	}
	_, err = t.PutMember(ctx, Member{Application: a.ID, User: a.OwnerID, Member: api.Member{Access: stay, By: by}})
	return err
}

func (t *Tx) memberEvent(ctx context.Context, typ string, m Member) error {
	owner, err := t.owner(ctx, m.Application)
	if err != nil {
		return err
	}
	return t.event(ctx, typ, owner, m.Application, 0, m.Member.User, m.Member)
}

// introduce tells one user of an application and, unless they know it, of its
// services and instances, as if they had been made now.
func (t *Tx) introduce(ctx context.Context, application, user int64, known bool) error {
	a, err := t.ApplicationByID(ctx, application)
	if err != nil {
		return err
	}
	if err := t.personal(ctx, "application", user, a.ID, 0, strconv.FormatInt(a.ID, 10), a.Application); err != nil || known {
		return err
	}
	services, err := t.Services(ctx, Selection{Application: application})
	if err != nil {
		return err
	}
	for _, s := range services {
		if err := t.personal(ctx, "service", user, a.ID, s.ID, strconv.FormatInt(s.ID, 10), s.Service); err != nil {
			return err
		}
	}
	instances, err := t.ApplicationInstances(ctx, application)
	if err != nil {
		return err
	}
	for _, i := range instances {
		if err := t.personal(ctx, "instance", user, a.ID, i.Service, i.ID, i.Instance); err != nil {
			return err
		}
	}
	return nil
}

// bid tells one user that an application is not for them any more, unless they
// may still see it.
func (t *Tx) bid(ctx context.Context, application, user int64) error {
	a, err := t.ApplicationByID(ctx, application)
	if err != nil || a.OwnerID == user {
		return err
	}
	return t.personal(ctx, "application.deleted", user, application, 0, strconv.FormatInt(application, 10), a.Application)
}

// farewell tells the members of an application that is about to be deleted
// what this transaction told of it: they are not found by it any more.
func (t *Tx) farewell(ctx context.Context, a Application) error {
	members, err := t.Members(ctx, a.ID)
	if err != nil {
		return err
	}
	for _, m := range members {
		if _, err := t.exec(ctx, `INSERT INTO event (time, type, owner, application, service, object, data, personal)
			SELECT time, type, ?1, application, service, object, data, 1 FROM event WHERE id >= ?2 AND application = ?3 AND NOT personal ORDER BY id`, m.User, t.first, a.ID); err != nil {
			return err
		}
		if err := t.personal(ctx, "application.deleted", m.User, a.ID, 0, strconv.FormatInt(a.ID, 10), a.Application); err != nil {
			return err
		}
	}
	return nil
}
