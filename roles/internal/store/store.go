// Package store keeps the director's rows in one SQLite database and is the
// only place with SQL. One connection writes and several read; a change and
// the events that tell of it are one transaction, and whoever waits is woken
// after the commit. It knows rows, not rules: what may happen is decided in
// roles/director.
package store

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver named "sqlite"

	"nutshell/roles/api"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is an open database. Reading methods are those of View.
type Store struct {
	View
	writer, readers *sql.DB
	lock            *os.File
	now             func() time.Time

	mu        sync.Mutex
	changed   chan struct{}   // closed and replaced after each commit
	revisions map[int64]int64 // of applications, as committed
	cache     serviceCache
}

// Open opens or creates the database in dir and brings its tables up to date.
// It fails when another process has it open.
func Open(ctx context.Context, dir string, now func() time.Time) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{lock: lock, now: now, changed: make(chan struct{}), revisions: map[int64]int64{}}
	if err := s.open(ctx, filepath.Join(dir, "nutshell.db")); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("open store in %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, path string) error {
	// SQLite gives its -wal and -shm the mode of the database, so that one must
	// be private before it is opened: others may pass through the directory.
	if err := private(path); err != nil {
		return err
	}
	var err error
	// The busy timeout comes first: switching to WAL already needs the lock. What was confirmed outlives a power cut: hence FULL.
	const pragmas = "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&_pragma=temp_store(MEMORY)"
	if s.writer, err = sql.Open("sqlite", "file:"+path+pragmas+"&_txlock=immediate"); err != nil {
		return err
	}
	s.writer.SetMaxOpenConns(1) // SQLite has one write lock: queue here instead of failing with SQLITE_BUSY
	if err := s.migrate(ctx); err != nil {
		return err
	}
	if s.readers, err = sql.Open("sqlite", "file:"+path+pragmas+"&_pragma=query_only(1)"); err != nil {
		return err
	}
	s.readers.SetMaxOpenConns(4)
	s.readers.SetMaxIdleConns(4)
	s.View = View{q: s.readers}
	rows, err := s.readers.QueryContext(ctx, `SELECT id, revision FROM application`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id, revision int64
		if err := rows.Scan(&id, &revision); err != nil {
			return err
		}
		s.revisions[id] = revision
	}
	return rows.Err()
}

// private makes the database if it is not there and takes it away from other
// accounts, with what an earlier director may have left open to them.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Chmod(path+suffix, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// migrate runs the numbered files that this database has not seen yet, each
// in its own transaction. There is no way back, and a database from a newer
// program is refused.
func (s *Store) migrate(ctx context.Context) error {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	sort.Strings(names)
	var have int
	if err := s.writer.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&have); err != nil {
		return err
	}
	if have > len(names) {
		return fmt.Errorf("the database is at version %d, this program knows %d: use a newer nutshell", have, len(names))
	}
	for i, name := range names[have:] {
		number, err := strconv.Atoi(strings.SplitN(filepath.Base(name), "_", 2)[0])
		if err != nil || number != have+i+1 {
			return fmt.Errorf("migration %s is not number %d", name, have+i+1)
		}
		text, err := migrations.ReadFile(name)
		if err != nil {
			return err
		}
		tx, err := s.writer.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if _, err = tx.ExecContext(ctx, string(text)); err == nil {
			_, err = tx.ExecContext(ctx, `PRAGMA user_version = `+strconv.Itoa(number))
		}
		if err != nil {
			_ = tx.Rollback()
			return fmt.Errorf("migration %s: %w", name, err)
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
	}
	return nil
}

// Close closes the database and lets another process have it.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.readers, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	errs = append(errs, s.lock.Close())
	return errors.Join(errs...)
}

// Changed returns a channel that is closed at the next commit. Take it
// before reading, so that no change falls between.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Revision is the committed revision of an application, 0 if there is none.
// It does not touch the disk, so that many managers may wait for theirs.
func (s *Store) Revision(application int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revisions[application]
}

// Write runs fn in one transaction, commits it if fn returns nil and then
// wakes all who wait. Writers queue; fn must not wait for anything outside.
func (s *Store) Write(ctx context.Context, fn func(*Tx) error) error {
	inner, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return storeError(err)
	}
	tx := &Tx{View: View{q: inner}, tx: inner, now: s.now().UTC().Truncate(time.Microsecond), bumped: map[int64]bool{}, touched: map[serviceKey]bool{}}
	if err := fn(tx); err != nil {
		_ = inner.Rollback()
		return storeError(err)
	}
	revisions, err := tx.bump(ctx)
	if err != nil {
		_ = inner.Rollback()
		return storeError(err)
	}
	if err := inner.Commit(); err != nil {
		_ = inner.Rollback()
		return storeError(err)
	}
	s.cache.spoil(tx.touched)
	s.wake(revisions)
	for _, f := range tx.after {
		f()
	}
	return nil
}

func (s *Store) wake(revisions map[int64]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range revisions {
		s.revisions[id] = r
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// querier is what a database and a transaction have in common.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// View reads, outside of any transaction or inside a Tx.
type View struct{ q querier }

// Snapshot runs fn on one state of the database: what several reads tell fits
// together, whatever is written meanwhile.
func (s *Store) Snapshot(ctx context.Context, fn func(View) error) error {
	tx, err := s.readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return storeError(err)
	}
	defer func() { _ = tx.Rollback() }()
	return storeError(fn(View{q: tx}))
}

// Tx is a transaction under way. It reads what it has written.
type Tx struct {
	View
	tx      *sql.Tx
	now     time.Time
	bumped  map[int64]bool
	touched map[serviceKey]bool // services whose rows changed
	because string
	first   int64  // event of this transaction; 0: none yet
	by, why string // of revisions
	after   []func()
}

// Now is the one time of all that the transaction writes.
func (t *Tx) Now() time.Time { return t.now }

// Bump marks an application as changed in a way that its manager must see.
func (t *Tx) Bump(application int64) { t.bumped[application] = true }

// Because adds what made them to the lines of history that follow.
func (t *Tx) Because(what string) { t.because = what }

// After has f called once the transaction is committed, and not if it fails.
func (t *Tx) After(f func()) { t.after = append(t.after, f) }

func (t *Tx) bump(ctx context.Context) (map[int64]int64, error) {
	revisions := map[int64]int64{}
	for id := range t.bumped {
		var r int64
		err := t.tx.QueryRowContext(ctx, `UPDATE application SET revision = revision + 1 WHERE id = ? RETURNING revision`, id).Scan(&r)
		if err != nil && !errors.Is(err, sql.ErrNoRows) { // no row: deleted in this transaction
			return nil, err
		}
		revisions[id] = r
	}
	return revisions, nil
}

func (t *Tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	r, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// storeError gives what SQLite says the code that clients understand.
func storeError(err error) error {
	var known *api.Error
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case strings.Contains(err.Error(), "database or disk is full"):
		return &api.Error{Code: api.CodeNoSpace, Op: "write", Object: "the director's database", Message: "the disk is full", Hint: "free some space in its data directory", Err: err}
	}
	return fmt.Errorf("store: %w", err)
}

func isUnique(err error) bool {
	return err != nil && strings.Contains(err.Error(), "UNIQUE constraint failed")
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func timeOf(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// text is v as JSON text; v is always one of our own types.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("store: " + err.Error()) // a bug: a type that is no JSON
	}
	return string(b)
}

// scanAll collects rows; the result is never nil, so that lists are never
// null on the wire.
func scanAll[T any](rows *sql.Rows, err error, scan func(*sql.Rows) (T, error)) ([]T, error) {
	if err != nil {
		return nil, storeError(err)
	}
	defer func() { _ = rows.Close() }()
	list := []T{}
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, storeError(err)
		}
		list = append(list, v)
	}
	return list, storeError(rows.Err())
}

// one returns the single row of a list, or not_found.
func one[T any](list []T, err error, missing func() error) (T, error) {
	var none T
	if err != nil {
		return none, err
	}
	if len(list) == 0 {
		return none, missing()
	}
	return list[0], nil
}
