package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"nutshell/roles/api"
)

// Enter adds lines to a user's ledger, in order, changes the credit by them and
// tells of it once. It returns the credit after them.
func (t *Tx) Enter(ctx context.Context, user int64, entries ...api.LedgerEntry) (int64, error) {
	u, err := t.User(ctx, strconv.FormatInt(user, 10))
	if err != nil || len(entries) == 0 {
		return u.Credit, err
	}
	for _, e := range entries {
		u.Credit += e.Amount
		if _, err := t.exec(ctx, `INSERT INTO ledger (user, time, amount, balance, kind, reason, actor, application, service, instance) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			user, micros(t.now), e.Amount, u.Credit, e.Kind, e.Reason, e.Actor, e.Application, e.Service, e.Instance); err != nil {
			return 0, err
		}
	}
	if _, err := t.exec(ctx, `UPDATE user SET credit = ? WHERE id = ?`, u.Credit, user); err != nil {
		return 0, err
	}
	return u.Credit, t.event(ctx, "user", u.ID, 0, 0, u.Name, u.User)
}

// Ledger lists a user's ledger, newest first, from before an entry on (0: from
// the newest).
func (v View) Ledger(ctx context.Context, user, before int64, limit int) ([]api.LedgerEntry, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT id, time, amount, balance, kind, reason, actor, application, service, instance FROM ledger
		WHERE user = ?1 AND (?2 = 0 OR id < ?2) ORDER BY id DESC LIMIT ?3`, user, before, limit)
	return scanAll(rows, err, func(r *sql.Rows) (api.LedgerEntry, error) {
		var e api.LedgerEntry
		var at int64
		err := r.Scan(&e.ID, &at, &e.Amount, &e.Balance, &e.Kind, &e.Reason, &e.Actor, &e.Application, &e.Service, &e.Instance)
		e.Time = timeOf(at)
		return e, err
	})
}

// Meter is what an instance has cost so far. Its times are of the clock of
// running time, not of the day.
type Meter struct {
	Instance                   string
	User, Application, Service int64
	Began                      time.Time // zero: a credit is held for it, and it has not started yet
	Paused                     time.Time // zero: it runs
	Hours                      int64     // that are paid, counted from Began
}

// Meters lists the meters of a user, or of everybody for user 0.
func (v View) Meters(ctx context.Context, user int64) ([]Meter, error) {
	return v.meters(ctx, `? IN (0, user)`, user)
}

func (v View) meters(ctx context.Context, where string, args ...any) ([]Meter, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT instance, user, application, service, began, paused, hours FROM charge WHERE `+where+` ORDER BY user, application, service, instance`, args...)
	return scanAll(rows, err, func(r *sql.Rows) (Meter, error) {
		var m Meter
		var began, paused int64
		err := r.Scan(&m.Instance, &m.User, &m.Application, &m.Service, &began, &paused, &m.Hours)
		m.Began, m.Paused = timeOf(began), timeOf(paused)
		return m, err
	})
}

// Meter finds the meter of an instance; ok is false if it has none.
func (v View) Meter(ctx context.Context, instance string) (m Meter, ok bool, err error) {
	found, err := v.meters(ctx, `instance = ?`, instance)
	if err != nil || len(found) == 0 {
		return m, false, err
	}
	return found[0], true, nil
}

// SaveMeter stores a new or changed meter.
func (t *Tx) SaveMeter(ctx context.Context, m Meter) error {
	_, err := t.exec(ctx, `INSERT INTO charge (instance, user, application, service, began, paused, hours) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (instance) DO UPDATE SET began = excluded.began, paused = excluded.paused, hours = excluded.hours`,
		m.Instance, m.User, m.Application, m.Service, micros(m.Began), micros(m.Paused), m.Hours)
	return err
}

// DeleteMeter forgets the meter of an instance that is gone.
func (t *Tx) DeleteMeter(ctx context.Context, instance string) error {
	_, err := t.exec(ctx, `DELETE FROM charge WHERE instance = ?`, instance)
	return err
}

// Hold is credits that wait for instances of a service which were asked for.
type Hold struct {
	Application, Service, User, Credits int64
}

// Holds lists the holds of a user, or of everybody for user 0.
func (v View) Holds(ctx context.Context, user int64) ([]Hold, error) {
	return v.holds(ctx, `? IN (0, user)`, user)
}

// ApplicationHolds lists the holds for instances of an application.
func (v View) ApplicationHolds(ctx context.Context, application int64) ([]Hold, error) {
	return v.holds(ctx, `application = ?`, application)
}

func (v View) holds(ctx context.Context, where string, args ...any) ([]Hold, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT application, service, user, credits FROM hold WHERE `+where+` ORDER BY application, service`, args...)
	return scanAll(rows, err, func(r *sql.Rows) (Hold, error) {
		var h Hold
		return h, r.Scan(&h.Application, &h.Service, &h.User, &h.Credits)
	})
}

// AddHold makes a hold larger, or smaller; at nothing it is gone.
func (t *Tx) AddHold(ctx context.Context, h Hold) error {
	if _, err := t.exec(ctx, `INSERT INTO hold (application, service, user, credits) VALUES (?, ?, ?, ?)
		ON CONFLICT (application, service) DO UPDATE SET credits = credits + excluded.credits`, h.Application, h.Service, h.User, h.Credits); err != nil {
		return err
	}
	_, err := t.exec(ctx, `DELETE FROM hold WHERE application = ? AND service = ? AND credits <= 0`, h.Application, h.Service)
	return err
}

// Quota reads a user's own bounds; ok is false where they have none, and those
// of the installation count.
func (v View) Quota(ctx context.Context, user int64) (q api.Quota, ok bool, err error) {
	var text string
	err = v.q.QueryRowContext(ctx, `SELECT quota FROM user WHERE id = ?`, user).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return q, false, api.NotFoundf("there is no such user")
	}
	if err != nil || text == "{}" {
		return q, false, storeError(err)
	}
	return q, true, json.Unmarshal([]byte(text), &q)
}

// SetQuota stores a user's own bounds.
func (t *Tx) SetQuota(ctx context.Context, user int64, q api.Quota) error {
	_, err := t.exec(ctx, `UPDATE user SET quota = ? WHERE id = ?`, text(q), user)
	return err
}

// Used counts what a user has of what quotas bound. Instances are those of
// applications that are wanted to run, and those that credits are held for.
func (v View) Used(ctx context.Context, user int64) (api.Quota, error) {
	var q api.Quota
	err := v.q.QueryRowContext(ctx, `SELECT
		(SELECT count(*) FROM application WHERE owner = ?1 AND binned = ''),
		(SELECT count(*) FROM instance i JOIN application a ON a.id = i.application WHERE a.owner = ?1 AND a.desired = ?2 AND i.state <> ?3)
			+ (SELECT coalesce(sum(credits), 0) FROM hold WHERE user = ?1),
		(SELECT coalesce(sum(bytes), 0) FROM volume WHERE owner = ?1 AND state <> 'leaving')`,
		user, api.GoalStarted, api.InstanceLeaving).Scan(&q.Applications, &q.Instances, &q.VolumeBytes)
	return q, storeError(err)
}
