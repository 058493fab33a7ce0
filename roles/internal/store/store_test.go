package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nutshell/roles/api"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fresh(t *testing.T) *Store {
	t.Helper()
	s := open(t, t.TempDir())
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func write(t *testing.T, s *Store, fn func(ctx context.Context, tx *Tx) error) {
	t.Helper()
	ctx := context.Background()
	if err := s.Write(ctx, func(tx *Tx) error { return fn(ctx, tx) }); err != nil {
		t.Fatal(err)
	}
}

// shop is a user with an application with a service.
func shop(t *testing.T, s *Store) (a Application, v Service) {
	t.Helper()
	write(t, s, func(ctx context.Context, tx *Tx) error {
		u, err := tx.InsertUser(ctx, User{User: api.User{Name: "ann", Email: "ann@example.org"}, Password: "hash"})
		if err != nil {
			return err
		}
		if a, err = tx.InsertApplication(ctx, Application{OwnerID: u.ID, Application: api.Application{Name: "shop", State: api.Init, Desired: api.GoalStopped}}); err != nil {
			return err
		}
		id, err := tx.NextServiceID(ctx, a.ID)
		if err != nil {
			return err
		}
		v, err = tx.InsertService(ctx, Service{OwnerID: u.ID, Service: api.Service{ID: id, Application: a.ID, Name: "php", Kind: "php", State: api.Init, Desired: api.GoalStopped,
			Parts: map[string]int{"web": 1}, Settings: []byte(`{}`), URLs: []string{}}})
		return err
	})
	return a, v
}

func TestEverythingComesBackAsItWent(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	a, v := shop(t, s)
	began := time.Now().UTC().Truncate(time.Microsecond)
	o := Operation{User: a.OwnerID, Before: []byte(`{"x":1}`), Operation: api.Operation{ID: "op1", Kind: "service.scale", Title: "scale", Actor: "ann", Application: a.ID, Service: v.ID,
		State: api.OperationRunning, Steps: []api.Step{{Name: "one", State: api.OperationDone, Started: &began}}, Progress: 0.5, Request: []byte(`{"add":{}}`), Cancellable: true,
		RetryOf: "op0", Started: &began, Deadline: began.Add(time.Minute)}}
	i := Instance{CloudID: "c1", Instance: api.Instance{ID: "a1-s1-xxxxx", Application: a.ID, Service: v.ID, Cloud: "default", Address: "10.0.0.1", Parts: []string{"web"}, State: api.InstanceBooting, Reason: "r", Weights: map[string]int{"web": 50}}}
	v.Script, v.Remove, v.Retry, v.Previous, v.Version, v.Deleting, v.Parts = "#!/bin/sh", []string{"x"}, 3, "code-a", "code-b", true, map[string]int{"web": 2}
	v.AutoDeploy, v.Keep, v.Environment = true, 7, []api.Variable{{Name: "A", Value: "b"}, {Name: "S", Value: "sealed", Secret: true}}
	v.Serving, v.Reported, v.URLs = "code-a", []string{"http://10.0.0.1/"}, []string{"http://10.0.0.1/"}
	c := api.CodeVersion{ID: "code-b", Filename: "f.zip", Description: "d", Format: "zip", Strip: "top", Bytes: 7, SHA256: strings.Repeat("a", 64), Files: 2, By: "ann"}
	write(t, s, func(ctx context.Context, tx *Tx) error {
		var err1, err2, err3 error
		o, err1 = tx.InsertOperation(ctx, o, a.OwnerID, "key")
		i, err2 = tx.InsertInstance(ctx, i)
		c, err3 = tx.InsertVersion(ctx, v, c)
		err := errors.Join(err1, err2, err3, tx.SaveService(ctx, v), tx.ObserveService(ctx, v), tx.MoveService(ctx, &v, api.Prologue, "why"))
		o.Error, o.Undone = &api.Error{Code: api.CodeQuota, Message: "m", Fields: []string{"f"}}, "undone"
		return errors.Join(err, tx.SaveOperation(ctx, o))
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	defer s.Close()
	ctx := t.Context()
	gotO, err1 := s.Operation(ctx, a.OwnerID, "op1")
	gotV, err2 := s.ServiceByID(ctx, a.ID, v.ID)
	gotI, err3 := s.Instance(ctx, i.ID)
	gotC, err4 := s.Version(ctx, a.ID, v.ID, "code-b")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	v.Operation, c.Current, v.Revision = "op1", true, 2 // its settings were changed once
	for _, pair := range [][2]any{{o, gotO}, {v, gotV}, {i, gotI}, {c, gotC}} {
		if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
			t.Errorf("-went +came: %s", diff)
		}
	}
	if r, err := s.Repeated(ctx, a.OwnerID, "key"); err != nil || r == nil || r.ID != "op1" {
		t.Errorf("idempotency key: %+v %v", r, err)
	}
	if s.Revision(a.ID) != gotRevision(t, s, a.ID) || s.Revision(a.ID) < 2 {
		t.Errorf("revision %d", s.Revision(a.ID))
	}
}

func gotRevision(t *testing.T, s *Store, id int64) int64 {
	t.Helper()
	a, err := s.ApplicationByID(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return a.Revision
}

// TestFilesArePrivate: instances run below the data directory under other
// accounts, so that its mode does not keep them out.
func TestFilesArePrivate(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	check := func(when string) {
		t.Helper()
		for _, name := range []string{"nutshell.db", "nutshell.db-wal", "nutshell.db-shm", "nutshell.lock"} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %s is %v (%v), want -rw-------", when, name, info.Mode(), err)
			}
		}
	}
	shop(t, s)
	check("new")
	for _, name := range []string{"nutshell.db", "nutshell.db-wal", "nutshell.db-shm"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.lock.Close() // a director that was killed leaves all its files
	other := open(t, dir)
	check("left by an earlier one")
	if err := errors.Join(other.Close(), s.writer.Close(), s.readers.Close()); err != nil {
		t.Error(err)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := Open(t.Context(), dir, time.Now)
	if api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("got %v, want a conflict that names process %d", err, os.Getpid())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir)
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "nutshell.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `PRAGMA user_version = 1000`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, time.Now); err == nil || !strings.Contains(err.Error(), "newer nutshell") {
		t.Errorf("got %v", err)
	}
}

func TestStatesAreCompareAndSet(t *testing.T) {
	s := fresh(t)
	_, v := shop(t, s)
	other := v
	write(t, s, func(ctx context.Context, tx *Tx) error { return tx.MoveService(ctx, &v, api.Prologue, "start") })
	err := s.Write(t.Context(), func(tx *Tx) error { return tx.MoveService(t.Context(), &other, api.Prologue, "start") })
	if api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a second start out of INIT: got %v, want conflict", err)
	}
	err = s.Write(t.Context(), func(tx *Tx) error { return tx.MoveService(t.Context(), &v, api.Init, "back") })
	if api.CodeOf(err) != api.CodeConflict {
		t.Errorf("PROLOGUE to INIT: got %v, want conflict", err)
	}
	h, err := s.History(t.Context(), v.Application, v.ID)
	if err != nil || len(h) != 2 || h[1].State != api.Prologue || h[1].Reason != "start" {
		t.Errorf("history %+v %v", h, err)
	}
}

func TestOneOperationPerService(t *testing.T) {
	s := fresh(t)
	a, v := shop(t, s)
	var wg sync.WaitGroup
	results := make(chan error, 10)
	for n := range 10 {
		wg.Go(func() {
			results <- s.Write(context.Background(), func(tx *Tx) error {
				_, err := tx.InsertOperation(context.Background(), Operation{User: a.OwnerID, Operation: api.Operation{ID: fmt.Sprint("op", n), Application: a.ID, Service: v.ID, State: api.OperationPending}}, a.OwnerID, "")
				return err
			})
		})
	}
	wg.Wait()
	close(results)
	won := 0
	for err := range results {
		var e *api.Error
		switch {
		case err == nil:
			won++
		case !errors.As(err, &e) || e.Code != api.CodeConflict || !strings.HasPrefix(e.Related, "op"):
			t.Errorf("got %v, want a conflict that names the first", err)
		}
	}
	if won != 1 {
		t.Errorf("%d operations at once, want 1", won)
	}
}

func TestEventsAreWrittenWithTheirChange(t *testing.T) {
	s := fresh(t)
	a, v := shop(t, s)
	ctx := t.Context()
	_, last, err := s.EventRange(ctx)
	if err != nil {
		t.Fatal(err)
	}
	changed := s.Changed()
	failed := errors.New("no")
	if err := s.Write(ctx, func(tx *Tx) error { return errors.Join(tx.MoveService(ctx, &v, api.Prologue, "x"), failed) }); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	select {
	case <-changed:
		t.Error("woken by a change that was not made")
	default:
	}
	if list, err := s.Events(ctx, a.OwnerID, false, last, 100); err != nil || len(list) != 0 {
		t.Errorf("events of a change that was not made: %v %v", list, err)
	}
	v.State = api.Init
	called := false
	write(t, s, func(ctx context.Context, tx *Tx) error {
		tx.After(func() { called = true })
		return tx.MoveService(ctx, &v, api.Prologue, "x")
	})
	select {
	case <-changed:
	default:
		t.Error("not woken")
	}
	list, err := s.Events(ctx, a.OwnerID, false, last, 100)
	if err != nil || len(list) != 1 || list[0].Type != "service" || !strings.Contains(string(list[0].Data), `"PROLOGUE"`) || !called {
		t.Errorf("events %+v %v", list, err)
	}
	if list, err := s.Events(ctx, a.OwnerID+1, false, 0, 100); err != nil || len(list) != 0 {
		t.Errorf("somebody else sees %v %v", list, err)
	}
}

func TestSecretIsConsumedOnce(t *testing.T) {
	s := fresh(t)
	ctx := t.Context()
	id := api.Identity{Installation: "i", Role: api.RoleManager, Application: 1, Name: "a1-s0-x"}
	write(t, s, func(ctx context.Context, tx *Tx) error {
		return errors.Join(tx.InsertSecret(ctx, "good", id, time.Now().Add(time.Minute)), tx.InsertSecret(ctx, "old", id, time.Now().Add(-time.Minute)))
	})
	for _, try := range []struct {
		name, hash, key string
		want            error
	}{{"first", "good", "k1", nil}, {"other-key", "good", "k2", ErrSecretUsed}, {"same-key", "good", "k1", nil}, {"expired", "old", "k1", ErrSecretExpired}, {"unknown", "x", "k1", ErrSecretUnknown}} {
		t.Run(try.name, func(t *testing.T) {
			err := s.Write(ctx, func(tx *Tx) error {
				got, err := tx.ConsumeSecret(ctx, try.hash, try.key)
				if err == nil && got != id.String() {
					t.Errorf("identity %q", got)
				}
				return err
			})
			if !errors.Is(err, try.want) {
				t.Errorf("got %v, want %v", err, try.want)
			}
		})
	}
}

func TestServiceNumbersAreNotUsedTwice(t *testing.T) {
	s := fresh(t)
	a, v := shop(t, s)
	write(t, s, func(ctx context.Context, tx *Tx) error { return tx.DeleteService(ctx, v) })
	write(t, s, func(ctx context.Context, tx *Tx) error {
		id, err := tx.NextServiceID(ctx, a.ID)
		if id != 2 {
			t.Errorf("got %d, want 2", id)
		}
		return err
	})
}

// TestServicesFromMemory compares what is kept in memory with the tables,
// after each change and after a refresh whose asker had gone.
func TestServicesFromMemory(t *testing.T) {
	s := fresh(t)
	a, v := shop(t, s)
	same := func(when string) {
		t.Helper()
		want, err1 := s.View.Services(t.Context(), Selection{})
		got, err2 := s.Services(t.Context(), Selection{})
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -tables +memory %s", when, diff)
		}
		text, err := s.ServicesJSON(t.Context(), Selection{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		sent, plain := []api.Service{}, []api.Service{}
		if err := json.Unmarshal(text, &sent); err != nil {
			t.Fatalf("%s: %v in %s", when, err, text)
		}
		for _, w := range want {
			plain = append(plain, w.Service)
		}
		if diff := cmp.Diff(plain, sent); diff != "" {
			t.Errorf("%s: -tables +sent %s", when, diff)
		}
	}
	same("at first")
	gone, leave := context.WithCancel(t.Context())
	leave()
	other := v
	write(t, s, func(ctx context.Context, tx *Tx) error {
		b, err := tx.InsertApplication(ctx, Application{OwnerID: a.OwnerID, Application: api.Application{Name: "blog", State: api.Init, Desired: api.GoalStopped}})
		if err != nil {
			return err
		}
		other.Application, other.ID = b.ID, 1
		_, err = tx.InsertService(ctx, other)
		return err
	})
	_, _ = s.Services(gone, Selection{}) // may fail, and must spoil nothing
	same("after a refresh whose asker had gone")
	write(t, s, func(ctx context.Context, tx *Tx) error { return tx.MoveService(ctx, &v, api.Prologue, "x") })
	same("after a move")
	write(t, s, func(ctx context.Context, tx *Tx) error {
		v.Parts, v.Reported = map[string]int{"web": 5}, []string{"u"}
		return errors.Join(tx.SaveService(ctx, v), tx.ObserveService(ctx, v))
	})
	same("after a save")
	o := Operation{User: a.OwnerID, Operation: api.Operation{ID: "op", Application: a.ID, Service: v.ID, State: api.OperationRunning}}
	write(t, s, func(ctx context.Context, tx *Tx) error {
		_, err := tx.InsertOperation(ctx, o, a.OwnerID, "")
		return err
	})
	same("with an operation")
	o.State = api.OperationDone
	write(t, s, func(ctx context.Context, tx *Tx) error { return tx.SaveOperation(ctx, o) })
	same("after the operation")
	write(t, s, func(ctx context.Context, tx *Tx) error { return tx.DeleteService(ctx, v) })
	same("after a deletion")
	write(t, s, func(ctx context.Context, tx *Tx) error {
		b, err := tx.ApplicationByID(ctx, other.Application)
		return errors.Join(err, tx.DeleteApplication(ctx, b))
	})
	same("after all is gone")
}
