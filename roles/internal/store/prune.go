package store

import (
	"context"
	"fmt"
	"time"
)

// How much of the past is kept. docs/operate says so too.
const (
	keepAudit         = 90 * 24 * time.Hour
	keepOperations    = 30 * 24 * time.Hour // all that ended since
	keepMostRecent    = 1000                // and so many of each application, however old
	keepChanges       = 1000                // lines of history of each application and service
	keepIdempotencies = 7 * 24 * time.Hour
)

// Prune forgets what nobody will ask for any more and tells how many rows that
// were. Operations that have not ended, and all that is wanted or observed
// now, stay.
func (t *Tx) Prune(ctx context.Context) (int64, error) {
	before := func(age time.Duration) int64 { return micros(t.now.Add(-age)) }
	var sum int64
	for _, q := range []struct {
		what, query string
		args        []any
	}{
		{"audit", `DELETE FROM audit WHERE time < ?`, []any{before(keepAudit)}},
		// Of an application that is gone, nothing is kept for its number's sake.
		{"operations", `DELETE FROM operation WHERE state NOT IN ('pending', 'running') AND ended < ?1 AND seq NOT IN
			(SELECT seq FROM (SELECT o.seq, row_number() OVER (PARTITION BY o.application ORDER BY o.seq DESC) AS n
				FROM operation o JOIN application a ON a.id = o.application) WHERE n <= ?2)`, []any{before(keepOperations), keepMostRecent}},
		{"history", `DELETE FROM change WHERE id IN
			(SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY application, service ORDER BY id DESC) AS n FROM change) WHERE n > ?)`, []any{keepChanges}},
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
