package store

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"nutshell/roles/api"
)

// AuditFilter chooses lines of the audit. Zero fields choose all.
type AuditFilter struct {
	Actor, Action, Result string // Action whole, or what stands before its dot; Result "refused": all but ok
	Object                string // the beginning of a path
	// Of are paths: only lines on one of them, or below.
	Of           []string
	Since, Until time.Time
	Before       int64 // id: only older ones
	Limit        int   // 0: all
}

// Audit lists what was asked for, newest first.
func (v View) Audit(ctx context.Context, f AuditFilter) ([]api.AuditEntry, error) {
	where := []string{`1`}
	var args []any
	add := func(query string, values ...any) { where, args = append(where, query), append(args, values...) }
	if f.Actor != "" {
		add(`actor = ?`, f.Actor)
	}
	if f.Action != "" {
		add(`(action = ? OR substr(action, 1, ?) = ?)`, f.Action, len(f.Action)+1, f.Action+".")
	}
	switch f.Result {
	case "":
	case "refused":
		add(`result <> 'ok'`)
	default:
		add(`result = ?`, f.Result)
	}
	if f.Object != "" {
		add(`substr(object, 1, ?) = ?`, len(f.Object), f.Object)
	}
	if len(f.Of) > 0 {
		var any []string
		for _, path := range f.Of {
			any = append(any, `object = ? OR substr(object, 1, ?) = ?`)
			args = append(args, path, len(path)+1, path+"/")
		}
		where = append(where, "("+strings.Join(any, " OR ")+")")
	}
	if !f.Since.IsZero() {
		add(`time >= ?`, micros(f.Since))
	}
	if !f.Until.IsZero() {
		add(`time < ?`, micros(f.Until))
	}
	if f.Before > 0 {
		add(`id < ?`, f.Before)
	}
	if f.Limit <= 0 {
		f.Limit = -1
	}
	rows, err := v.q.QueryContext(ctx, `SELECT id, time, actor, remote, action, object, result FROM audit WHERE `+strings.Join(where, " AND ")+` ORDER BY id DESC LIMIT ?`, append(args, f.Limit)...) // only our own words are put together
	return scanAll(rows, err, func(r *sql.Rows) (api.AuditEntry, error) {
		var a api.AuditEntry
		var at int64
		err := r.Scan(&a.ID, &at, &a.Actor, &a.From, &a.Action, &a.Object, &a.Result)
		a.Time = timeOf(at)
		return a, err
	})
}
