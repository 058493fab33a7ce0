package store

import (
	"context"
	"database/sql"
	"time"
)

// Secret is a value that a service needs and that is kept sealed.
type Secret struct {
	Name    string    `json:"name"`
	Value   string    `json:"value"` // sealed
	Shown   bool      `json:"shown"` // its owner has seen it, or has set it
	Changed time.Time `json:"changed"`
}

// Secrets lists the secrets of a service by name.
func (v View) Secrets(ctx context.Context, application, service int64) ([]Secret, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT name, value, shown, changed FROM service_secret WHERE application = ? AND service = ? ORDER BY name`, application, service)
	return scanAll(rows, err, func(r *sql.Rows) (Secret, error) {
		var s Secret
		var changed int64
		err := r.Scan(&s.Name, &s.Value, &s.Shown, &changed)
		s.Changed = timeOf(changed)
		return s, err
	})
}

// PutSecret stores a secret in the place of the one of that name. The service's
// manager is told.
func (t *Tx) PutSecret(ctx context.Context, application, service int64, s Secret) error {
	if s.Changed.IsZero() {
		s.Changed = t.now
	}
	_, err := t.exec(ctx, `INSERT INTO service_secret (application, service, name, value, shown, changed) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (application, service, name) DO UPDATE SET value = excluded.value, shown = excluded.shown, changed = excluded.changed`,
		application, service, s.Name, s.Value, s.Shown, micros(s.Changed))
	t.Bump(application)
	return err
}

// ShowSecret marks a value as shown, and reports whether it was not before.
// Of two who ask at once, one gets it.
func (t *Tx) ShowSecret(ctx context.Context, application, service int64, name string) (bool, error) {
	n, err := t.exec(ctx, `UPDATE service_secret SET shown = 1 WHERE application = ? AND service = ? AND name = ? AND shown = 0`, application, service, name)
	return n == 1, err
}
