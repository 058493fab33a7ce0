package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"nutshell/roles/api"
)

// Revision is what a service was asked to be after a change of that.
type Revision struct {
	Number   int64
	Time     time.Time
	By, Why  string
	Settings json.RawMessage
	// Environment has sealed text in the place of secrets' values.
	Environment []api.Variable
	Script      string
	Parts       map[string]int
}

// Revisions lists the revisions of a service that are kept, oldest first. A
// service that never changed has none.
func (v View) Revisions(ctx context.Context, application, service int64) ([]Revision, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT number, time, by, why, settings, environment, script, parts FROM revision WHERE application = ? AND service = ? ORDER BY number`, application, service)
	return scanAll(rows, err, func(r *sql.Rows) (Revision, error) {
		var n Revision
		var at int64
		var settings, environment, parts string
		if err := r.Scan(&n.Number, &at, &n.By, &n.Why, &settings, &environment, &n.Script, &parts); err != nil {
			return n, err
		}
		n.Time, n.Settings = timeOf(at), json.RawMessage(settings)
		if err := json.Unmarshal([]byte(environment), &n.Environment); err != nil {
			return n, err
		}
		return n, json.Unmarshal([]byte(parts), &n.Parts)
	})
}

// By says who makes the changes that follow, and by what.
func (t *Tx) By(actor, why string) { t.by, t.why = actor, why }

// revise keeps what a service is asked to be, unless it is as before, and
// first what it was asked to be at its beginning.
func (t *Tx) revise(ctx context.Context, s Service) error {
	now := []any{string(s.Settings), text(append([]api.Variable{}, s.Environment...)), s.Script, text(s.Parts)}
	var old [4]string
	var number, created int64
	err := t.tx.QueryRowContext(ctx, `SELECT settings, environment, script, parts, revision, created FROM service WHERE application = ? AND id = ?`, s.Application, s.ID).
		Scan(&old[0], &old[1], &old[2], &old[3], &number, &created)
	if err != nil || now[0] == old[0] && now[1] == old[1] && now[2] == old[2] && now[3] == old[3] {
		return err
	}
	const insert = `INSERT OR IGNORE INTO revision (application, service, number, time, by, why, settings, environment, script, parts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	if number == 1 {
		if _, err := t.exec(ctx, insert, s.Application, s.ID, number, created, "", "", old[0], old[1], old[2], old[3]); err != nil {
			return err
		}
	}
	if _, err := t.exec(ctx, insert, append([]any{s.Application, s.ID, number + 1, micros(t.now), t.by, t.why}, now...)...); err != nil {
		return err
	}
	_, err = t.exec(ctx, `UPDATE service SET revision = ? WHERE application = ? AND id = ?`, number+1, s.Application, s.ID)
	return err
}
