package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"nutshell/roles/api"
)

func count(t *testing.T, s *Store, query string, args ...any) (n int) {
	t.Helper()
	if err := s.readers.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPrune(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s, err := Open(t.Context(), t.TempDir(), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a, v := shop(t, s)
	// operations inserts n that end at once, on an application that is there or is not.
	operations := func(name string, application int64, n int, key string, state api.OperationState) {
		write(t, s, func(ctx context.Context, tx *Tx) error {
			for i := range n {
				o := Operation{User: a.OwnerID, Operation: api.Operation{ID: fmt.Sprint(name, i), Application: application, Service: v.ID, State: api.OperationPending}}
				if _, err := tx.InsertOperation(ctx, o, a.OwnerID, key); err != nil {
					return err
				}
				if o.State = state; state.Final() {
					o.Ended = &now
					if err := tx.SaveOperation(ctx, o); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	audit := func(action string) {
		write(t, s, func(ctx context.Context, tx *Tx) error { return tx.InsertAudit(ctx, api.AuditEntry{Action: action}) })
	}
	operations("old", a.ID, 150, "", api.OperationDone)
	operations("gone", a.ID+1, 10, "", api.OperationFailed)
	operations("stuck", a.ID+2, 1, "", api.OperationRunning)
	audit("old")
	now = now.Add(60 * 24 * time.Hour)
	audit("middle")
	now = now.Add(20 * 24 * time.Hour)
	operations("keyed", a.ID, 1, "old", api.OperationDone)
	now = now.Add(8 * 24 * time.Hour)
	operations("recent", a.ID, 899, "", api.OperationDone)
	operations("new", a.ID, 1, "new", api.OperationDone)
	now = now.Add(3 * 24 * time.Hour)
	write(t, s, func(ctx context.Context, tx *Tx) error {
		for i := range 600 {
			err := errors.Join(tx.change(ctx, a.ID, 0, api.Running, fmt.Sprint(i)), tx.change(ctx, a.ID, v.ID, api.Running, fmt.Sprint(i)), tx.change(ctx, a.ID, v.ID, api.Adapting, fmt.Sprint(i)))
			if err != nil {
				return err
			}
		}
		return nil
	})
	write(t, s, func(ctx context.Context, tx *Tx) error {
		n, err := tx.Prune(ctx, Keep{Audit: 90 * 24 * time.Hour, Operations: 30 * 24 * time.Hour})
		// one of the audit, 51 + 10 operations, 1 + 1200 - 1000 lines, one key
		if want := int64(1 + 51 + 10 + 201 + 1); n != want {
			t.Errorf("%d rows went, want %d", n, want)
		}
		return err
	})
	for _, want := range []struct {
		what, query string
		n           int
	}{
		{"audit", `SELECT count(*) FROM audit WHERE action = 'middle'`, 1},
		{"operations of the application", `SELECT count(*) FROM operation WHERE application = 1`, 1000},
		{"the oldest of them", `SELECT count(*) FROM operation WHERE id = 'old51'`, 1},
		{"operations of one that is gone", `SELECT count(*) FROM operation WHERE id LIKE 'gone%'`, 0},
		{"an operation that has not ended", `SELECT count(*) FROM operation WHERE id LIKE 'stuck%'`, 1},
		{"the service's history", `SELECT count(*) FROM change WHERE service = 1`, 1000},
		{"the newest line of it", `SELECT count(*) FROM change WHERE service = 1 AND reason = '599'`, 2},
		{"the application's history", `SELECT count(*) FROM change WHERE service = 0`, 601},
		{"keys", `SELECT count(*) FROM idempotency WHERE key = 'new'`, 1},
	} {
		if got := count(t, s, want.query); got != want.n {
			t.Errorf("%s: %d rows, want %d", want.what, got, want.n)
		}
	}
	write(t, s, func(ctx context.Context, tx *Tx) error {
		n, err := tx.Prune(ctx, Keep{Audit: 90 * 24 * time.Hour, Operations: 30 * 24 * time.Hour})
		if n != 0 {
			t.Errorf("%d more rows went the second time", n)
		}
		return err
	})
}
