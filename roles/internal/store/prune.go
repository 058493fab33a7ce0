package store

import (
	"context"
	"fmt"
	"time"
)

// How much of the past is kept. docs/operate says so too.
const (
	keepMostRecent    = 1000 // operations of each application, however old
	keepChanges       = 1000 // lines of history of each application and service
	keepRevisions     = 100  // of each service
	keepIdempotencies = 7 * 24 * time.Hour
)

// Keep is how long the past is kept: audit, and operations that have ended.
type Keep struct{ Audit, Operations time.Duration }

// Prune forgets what nobody will ask for any more and tells how many rows that
// were. Operations that have not ended, and all that is wanted or observed
// now, stay.
func (t *Tx) Prune(ctx context.Context, keep Keep) (int64, error) {
	before := func(age time.Duration) int64 { return micros(t.now.Add(-age)) }
	var sum int64
	for _, q := range []struct {
		what, query string
		args        []any
	}{
		{"audit", `DELETE FROM audit WHERE time < ?`, []any{before(keep.Audit)}},
		// Of an application that is gone, nothing is kept for its number's sake.
		{"operations", `DELETE FROM operation WHERE state NOT IN ('pending', 'running') AND ended < ?1 AND seq NOT IN
			(SELECT seq FROM (SELECT o.seq, row_number() OVER (PARTITION BY o.application ORDER BY o.seq DESC) AS n
				FROM operation o JOIN application a ON a.id = o.application) WHERE n <= ?2)`, []any{before(keep.Operations), keepMostRecent}},
		{"history", `DELETE FROM change WHERE id IN
			(SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY application, service ORDER BY id DESC) AS n FROM change) WHERE n > ?)`, []any{keepChanges}},
		{"revisions", `DELETE FROM revision WHERE EXISTS (SELECT 1 FROM service s WHERE s.application = revision.application AND s.id = revision.service AND number <= s.revision - ?)`, []any{keepRevisions}},
		{"idempotency keys", `DELETE FROM idempotency WHERE created < ? OR operation NOT IN (SELECT id FROM operation)`, []any{before(keepIdempotencies)}},
	} {
		n, err := t.exec(ctx, q.query, q.args...)
		if err != nil {
			return sum, fmt.Errorf("prune %s: %w", q.what, err)
		}
		sum += n
	}
	return sum, nil
}
