package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"strconv"
	"time"

	"nutshell/roles/api"
)

// Application is an application with what only the director needs to know.
type Application struct {
	api.Application
	OwnerID  int64
	Revision int64
	Since    time.Time // when its state began
}

// applicationColumns need user ?1, whose access is told; 0: nobody's.
const applicationColumns = `a.id, a.name, a.owner, u.name, a.state, a.desired, a.cloud, a.reason, a.created, a.since, a.revision,
	CASE WHEN a.owner = ?1 THEN 'owner' ELSE coalesce((SELECT access FROM application_member WHERE application = a.id AND user = ?1), '') END,
	EXISTS (SELECT 1 FROM application_member WHERE application = a.id AND user = ?1 AND offered <> '')`

// seen is true for applications that user ?1 owns or is a member of.
const seen = `(a.owner = ?1 OR a.id IN (SELECT application FROM application_member WHERE user = ?1))`

func scanApplication(r *sql.Rows) (Application, error) {
	var a Application
	var created, since int64
	err := r.Scan(&a.ID, &a.Name, &a.OwnerID, &a.Owner, &a.State, &a.Desired, &a.Cloud, &a.Reason, &created, &since, &a.Revision, &a.Access, &a.Offered)
	a.Created, a.Since = timeOf(created), timeOf(since)
	return a, err
}

// applications lists applications with what user ?1 is to each; args begin at ?2.
func (v View) applications(ctx context.Context, user int64, where string, args ...any) ([]Application, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT `+applicationColumns+` FROM application a JOIN user u ON u.id = a.owner WHERE a.binned = '' AND (`+where+`) ORDER BY a.id`, append([]any{user}, args...)...)
	list, err := scanAll(rows, err, scanApplication)
	if err != nil || len(list) == 0 {
		return list, err
	}
	active, err := v.active(ctx)
	if err != nil {
		return nil, err
	}
	managers, err := v.instances(ctx, `service = 0`)
	if err != nil {
		return nil, err
	}
	byApplication := map[int64]*api.Instance{}
	for _, m := range managers {
		if m.State != api.InstanceLeaving {
			byApplication[m.Application] = &m.Instance
		}
	}
	for i := range list {
		list[i].Operation = active[[2]int64{list[i].ID, 0}]
		list[i].Manager = byApplication[list[i].ID]
	}
	return list, nil
}

// Applications lists the applications of a user, or of everybody for owner 0.
func (v View) Applications(ctx context.Context, owner int64) ([]Application, error) {
	return v.applications(ctx, owner, `?1 IN (0, a.owner)`)
}

// SeenApplications lists those that a user owns or is a member of.
func (v View) SeenApplications(ctx context.Context, user int64) ([]Application, error) {
	return v.applications(ctx, user, seen)
}

// StartedApplications lists those whose owner wants them to run.
func (v View) StartedApplications(ctx context.Context) ([]Application, error) {
	return v.applications(ctx, 0, `a.desired = ?2`, api.GoalStarted)
}

// Application finds an application that a user may see by its id, or by its
// name among those that the user owns. User 0 finds any by id.
func (v View) Application(ctx context.Context, user int64, ref string) (Application, error) {
	id, _ := strconv.ParseInt(ref, 10, 64)
	list, err := v.applications(ctx, user, `(a.id = ?2 AND (?1 = 0 OR `+seen+`)) OR (a.name = ?3 AND a.owner = ?1)`, id, ref)
	return one(list, err, func() error {
		return api.NotFoundf("there is no application %s", api.Shorten(ref))
	})
}

// ApplicationByID finds any application.
func (v View) ApplicationByID(ctx context.Context, id int64) (Application, error) {
	return v.Application(ctx, 0, strconv.FormatInt(id, 10))
}

// InsertApplication stores a new application and returns it with its id.
func (t *Tx) InsertApplication(ctx context.Context, a Application) (Application, error) {
	a.Created, a.Since, a.Revision = t.now, t.now, 1
	err := t.tx.QueryRowContext(ctx, `INSERT INTO application (owner, name, state, desired, cloud, reason, created, since) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
		a.OwnerID, a.Name, a.State, a.Desired, a.Cloud, a.Reason, micros(a.Created), micros(a.Since)).Scan(&a.ID)
	if isUnique(err) {
		return a, nameTaken("create", "application", a.Name)
	}
	if err != nil {
		return a, err
	}
	if err := t.change(ctx, a.ID, 0, a.State, a.Reason); err != nil {
		return a, err
	}
	t.Bump(a.ID)
	return a, t.applicationEvent(ctx, "application", a)
}

func nameTaken(op, what, name string) error {
	return &api.Error{Code: api.CodeConflict, Op: op, Object: what + " " + name, Message: "there is one of that name already",
		Hint: "choose another name", Fields: []string{"name"}}
}

// SaveApplication stores name, goal and cloud of an application; its state
// changes by MoveApplication only.
func (t *Tx) SaveApplication(ctx context.Context, a Application) error {
	_, err := t.exec(ctx, `UPDATE application SET name = ?, desired = ?, cloud = ? WHERE id = ?`, a.Name, a.Desired, a.Cloud, a.ID)
	if isUnique(err) {
		return nameTaken("rename", "application", a.Name)
	}
	if err != nil {
		return err
	}
	t.Bump(a.ID)
	return t.applicationEvent(ctx, "application", a)
}

// MoveApplication changes the state, if it is still the one the caller saw and
// the table of moves allows it. Moving to the same state changes its reason.
func (t *Tx) MoveApplication(ctx context.Context, a *Application, next api.State, reason string) error {
	if a.State == next && a.Reason == reason {
		return nil
	}
	if a.State != next {
		if _, err := a.State.To(next); err != nil {
			return err
		}
	}
	n, err := t.exec(ctx, `UPDATE application SET state = ?, reason = ?, since = CASE WHEN state = ? THEN since ELSE ? END WHERE id = ? AND state = ?`,
		next, reason, next, micros(t.now), a.ID, a.State)
	if err != nil {
		return err
	}
	if n == 0 {
		return api.Conflictf("the state of application %s has just changed", a.Name)
	}
	if a.State != next {
		a.Since = t.now
	}
	a.State, a.Reason = next, reason
	if err := t.change(ctx, a.ID, 0, next, reason); err != nil {
		return err
	}
	return t.applicationEvent(ctx, "application", *a)
}

// DeleteApplication removes an application with its services, code versions,
// history and finished operations. Its instances must be gone before.
func (t *Tx) DeleteApplication(ctx context.Context, a Application) error {
	t.touched[serviceKey{a.ID, 0}] = true
	if err := t.farewell(ctx, a); err != nil {
		return err
	}
	for _, q := range []string{`DELETE FROM change WHERE application = ?`, `DELETE FROM application WHERE id = ?`} {
		if _, err := t.exec(ctx, q, a.ID); err != nil {
			return err
		}
	}
	return t.applicationEvent(ctx, "application.deleted", a)
}

func (t *Tx) applicationEvent(ctx context.Context, typ string, a Application) error {
	if typ == "application" {
		full, err := t.ApplicationByID(ctx, a.ID) // with manager and operation as they are now
		if err != nil {
			return err
		}
		a = full
	}
	return t.event(ctx, typ, a.OwnerID, a.ID, 0, strconv.FormatInt(a.ID, 10), a.Application)
}

// NextServiceID takes the next number in an application. No number is used
// twice, so that nothing of a deleted service is mistaken for a new one's.
func (t *Tx) NextServiceID(ctx context.Context, application int64) (int64, error) {
	var id int64
	err := t.tx.QueryRowContext(ctx, `UPDATE application SET last_service = last_service + 1 WHERE id = ? RETURNING last_service`, application).Scan(&id)
	return id, err
}

func list(text string) []string {
	v := []string{}
	if err := json.Unmarshal([]byte(text), &v); err != nil || v == nil {
		return []string{} // written by text(), so it can only be an old null
	}
	return v
}
