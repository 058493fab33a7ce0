package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"

	"nutshell/roles/api"
)

// keepEvents is how many events a client that was away can still catch up
// with; one that was away longer reads everything again.
const keepEvents = 10000

// event stores an event in the transaction of the change that it tells of. One
// of an application is also for all who may see that when they read it.
func (t *Tx) event(ctx context.Context, typ string, owner, application, service int64, object string, data any) error {
	return t.insertEvent(ctx, false, typ, owner, application, service, object, data)
}

// personal stores an event that is for one user alone.
func (t *Tx) personal(ctx context.Context, typ string, user, application, service int64, object string, data any) error {
	return t.insertEvent(ctx, true, typ, user, application, service, object, data)
}

func (t *Tx) insertEvent(ctx context.Context, personal bool, typ string, owner, application, service int64, object string, data any) error {
	sent, err := api.Encode(data)
	if err != nil {
		return storeError(err)
	}
	var id int64
	err = t.tx.QueryRowContext(ctx, `INSERT INTO event (time, type, owner, application, service, object, data, personal) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
		micros(t.now), typ, owner, application, service, object, string(sent), personal).Scan(&id)
	if t.first == 0 {
		t.first = id
	}
	if err == nil && id%500 == 0 {
		_, err = t.exec(ctx, `DELETE FROM event WHERE id <= ?`, id-keepEvents)
	}
	return err
}

// Tell sends the event of a service (0: of the application), as it is now,
// though its row has not changed: its operation has ended. What is gone has
// told so itself.
func (t *Tx) Tell(ctx context.Context, application, service int64) error {
	var err error
	if service == 0 {
		err = t.applicationEvent(ctx, "application", Application{Application: api.Application{ID: application}})
	} else {
		var s Service
		if s, err = t.ServiceByID(ctx, application, service); err == nil {
			err = t.serviceEvent(ctx, s)
		}
	}
	if api.CodeOf(err) == api.CodeNotFound {
		return nil
	}
	return err
}

// Events lists what a user may see after an id, oldest first. all adds what is
// of everybody; what one user alone is told is left out.
func (v View) Events(ctx context.Context, user int64, all bool, after int64, limit int) ([]api.Event, error) {
	return v.EventsFor(ctx, user, all, all, after, limit)
}

// EventsFor is Events that also tells an administrator what is nobody's: nodes.
func (v View) EventsFor(ctx context.Context, user int64, admin, all bool, after int64, limit int) ([]api.Event, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT id, time, type, application, service, object, data FROM event
		WHERE id > ?2 AND (owner = ?1 OR (NOT personal AND (?3 OR (?5 AND owner = 0) OR `+visible+`))) ORDER BY id LIMIT ?4`, user, after, all, limit, admin)
	list, err := scanAll(rows, err, func(r *sql.Rows) (api.Event, error) {
		var e api.Event
		var at int64
		var data string
		err := r.Scan(&e.ID, &at, &e.Type, &e.Application, &e.Service, &e.Object, &data)
		e.Time, e.Data = timeOf(at), json.RawMessage(data)
		return e, err
	})
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Type != "application" || user == 0 {
			continue
		}
		if err := v.tellAccess(ctx, user, &list[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// tellAccess says in the event of an application what its reader is to it,
// which is not the same for all.
func (v View) tellAccess(ctx context.Context, user int64, e *api.Event) error {
	var a api.Application
	if err := json.Unmarshal(e.Data, &a); err != nil {
		return err
	}
	var err error
	if a.Access, err = v.Access(ctx, a.ID, user); err != nil {
		return err
	}
	if a.Offered, err = v.offered(ctx, a.ID, user); err != nil {
		return err
	}
	e.Data, err = api.Encode(a)
	return err
}

// EventRange tells the ids of the oldest and the newest event that is kept.
func (v View) EventRange(ctx context.Context) (oldest, newest int64, err error) {
	err = v.q.QueryRowContext(ctx, `SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM event`).Scan(&oldest, &newest)
	return oldest, newest, storeError(err)
}

// InsertAudit stores that somebody asked for a change.
func (t *Tx) InsertAudit(ctx context.Context, a api.AuditEntry) error {
	_, err := t.exec(ctx, `INSERT INTO audit (time, actor, remote, action, object, result) VALUES (?, ?, ?, ?, ?, ?)`,
		micros(t.now), a.Actor, a.From, a.Action, a.Object, a.Result)
	return err
}

// change stores a line of the history of an application or service.
func (t *Tx) change(ctx context.Context, application, service int64, state api.State, reason string) error {
	if t.because != "" {
		reason += " (" + t.because + ")"
	}
	_, err := t.exec(ctx, `INSERT INTO change (application, service, time, state, reason) VALUES (?, ?, ?, ?, ?)`,
		application, service, micros(t.now), state, reason)
	return err
}

// History lists the states of a service (0: of the application), oldest first.
func (v View) History(ctx context.Context, application, service int64) ([]api.Change, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT time, state, reason FROM
		(SELECT * FROM change WHERE application = ? AND service = ? ORDER BY id DESC LIMIT 500) ORDER BY id`, application, service)
	return scanAll(rows, err, func(r *sql.Rows) (api.Change, error) {
		var c api.Change
		var at int64
		err := r.Scan(&at, &c.State, &c.Reason)
		c.Time = timeOf(at)
		return c, err
	})
}

// Meta reads a fact about the installation, "" if it is not known.
func (v View) Meta(ctx context.Context, key string) (string, error) {
	var value string
	err := v.q.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = ?`, key).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return value, storeError(err)
}

// SetMeta stores a fact about the installation.
func (t *Tx) SetMeta(ctx context.Context, key, value string) error {
	_, err := t.exec(ctx, `INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, key, value)
	return err
}
