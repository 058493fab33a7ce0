package store

import (
	"context"
	"database/sql"
	"time"
)

// Setting is a setting of the installation that somebody changed.
type Setting struct {
	Key, Value, By string
	Changed        time.Time
}

// Settings lists those that were changed.
func (v View) Settings(ctx context.Context) ([]Setting, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT key, value, by, changed FROM setting ORDER BY key`)
	return scanAll(rows, err, func(r *sql.Rows) (Setting, error) {
		var s Setting
		var changed int64
		err := r.Scan(&s.Key, &s.Value, &s.By, &changed)
		s.Changed = timeOf(changed)
		return s, err
	})
}

// PutSetting stores a setting; an empty value forgets it.
func (t *Tx) PutSetting(ctx context.Context, s Setting) error {
	if s.Value == "" {
		_, err := t.exec(ctx, `DELETE FROM setting WHERE key = ?`, s.Key)
		return err
	}
	_, err := t.exec(ctx, `INSERT INTO setting (key, value, by, changed) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO UPDATE SET value = ?2, by = ?3, changed = ?4`,
		s.Key, s.Value, s.By, micros(t.now))
	return err
}
