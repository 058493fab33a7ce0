package store

import (
	"context"
	"database/sql"
	"io/fs"
	"path/filepath"
	"sort"
	"testing"

	"nutshell/roles/api"
)

// Who had credits before there were ledgers has them as the first line.
func TestBalancesAreBroughtForward(t *testing.T) {
	dir := t.TempDir()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "nutshell.db"))
	if err != nil {
		t.Fatal(err)
	}
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(names)
	statements := []string{}
	for _, name := range names[:5] { // all before 006_data.sql
		b, err := migrations.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		statements = append(statements, string(b))
	}
	for _, q := range append(statements, `PRAGMA user_version = 5`,
		`INSERT INTO user (name, email, password, first_name, last_name, affiliation, admin, credit, created) VALUES ('ann', '', '', '', '', '', 0, 37, 1)`) {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	defer s.Close()
	u, err := s.User(t.Context(), "ann")
	if err != nil || u.Credit != 37 {
		t.Fatalf("got %+v, %v", u, err)
	}
	list, err := s.Ledger(t.Context(), u.ID, 0, 10)
	if err != nil || len(list) != 1 || list[0].Amount != 37 || list[0].Balance != 37 || list[0].Reason != "balance brought forward" || list[0].Time.Year() < 2020 {
		t.Errorf("got %+v, %v", list, err)
	}
}

func TestLedgerMetersAndHolds(t *testing.T) {
	s := fresh(t)
	a, _ := shop(t, s)
	write(t, s, func(ctx context.Context, tx *Tx) error {
		left, err := tx.Enter(ctx, a.OwnerID, api.LedgerEntry{Amount: 5, Kind: "grant"}, api.LedgerEntry{Amount: -2, Kind: "hold", Application: a.ID})
		if err != nil || left != 3 {
			t.Errorf("left %d, %v", left, err)
		}
		m := Meter{Instance: "a1-s1-x", User: a.OwnerID, Application: a.ID, Service: 1}
		if err := tx.SaveMeter(ctx, m); err != nil {
			return err
		}
		m.Began, m.Hours = tx.Now(), 1
		if err := tx.SaveMeter(ctx, m); err != nil {
			return err
		}
		if got, ok, err := tx.Meter(ctx, m.Instance); err != nil || !ok || got != m {
			t.Errorf("got %+v, %v, %v", got, ok, err)
		}
		for _, n := range []int64{2, -1} {
			if err := tx.AddHold(ctx, Hold{Application: a.ID, Service: 1, User: a.OwnerID, Credits: n}); err != nil {
				return err
			}
		}
		if got, err := tx.Holds(ctx, 0); err != nil || len(got) != 1 || got[0].Credits != 1 {
			t.Errorf("got %+v, %v", got, err)
		}
		if err := tx.AddHold(ctx, Hold{Application: a.ID, Service: 1, User: a.OwnerID, Credits: -1}); err != nil {
			return err
		}
		if got, err := tx.ApplicationHolds(ctx, a.ID); err != nil || len(got) != 0 {
			t.Errorf("an empty hold stays: %+v, %v", got, err)
		}
		return nil
	})
	// An old row that somebody has in hand does not bring an old credit back.
	u, err := s.User(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	u.Credit, u.FirstName = 1000, "Ann"
	write(t, s, func(ctx context.Context, tx *Tx) error { return tx.SaveUser(ctx, u) })
	if u, err = s.User(t.Context(), "ann"); err != nil || u.Credit != 3 || u.FirstName != "Ann" {
		t.Errorf("got %+v, %v", u, err)
	}
	if _, ok, err := s.Quota(t.Context(), u.ID); ok || err != nil {
		t.Errorf("a quota that nobody has set: %v, %v", ok, err)
	}
	write(t, s, func(ctx context.Context, tx *Tx) error { return tx.SetQuota(ctx, u.ID, api.Quota{Applications: 1}) })
	if q, ok, err := s.Quota(t.Context(), u.ID); !ok || err != nil || q.Applications != 1 {
		t.Errorf("got %+v, %v, %v", q, ok, err)
	}
}
