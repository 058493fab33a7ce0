package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrUnclean is a database that nobody has open and that was not closed in
// order: only its next owner can read it, and mends it then.
var ErrUnclean = errors.New("the director was not stopped in order; its next start mends the database, ask again then")

// Examine reads the database in dir through without changing anything, beside
// a director that has it open, too. It returns an error that says what is
// broken, fs.ErrNotExist where there is none, ctx's error where the time was
// too short.
func Examine(ctx context.Context, dir string) error {
	path := filepath.Join(dir, "nutshell.db")
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	head := make([]byte, 16)
	n, _ := f.Read(head)
	_ = f.Close()
	if n == 0 {
		return fmt.Errorf("%s: %w", path, fs.ErrNotExist) // was made, and nothing written yet
	}
	if string(head[:n]) != "SQLite format 3\x00" {
		return fmt.Errorf("%s is not a database", path)
	}
	options := "?mode=ro&_pragma=busy_timeout(300)"
	_, walErr := os.Stat(path + "-wal")
	_, shmErr := os.Stat(path + "-shm")
	switch {
	case errors.Is(walErr, fs.ErrNotExist):
		options = "?mode=ro&immutable=1" // nobody has it open; this way nothing is made beside it
	case errors.Is(shmErr, fs.ErrNotExist):
		return ErrUnclean
	}
	db, err := sql.Open("sqlite", "file:"+path+options)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	var have int
	if err := db.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&have); err != nil {
		return examined(ctx, path, err)
	}
	known, err := fs.Glob(migrations, "migrations/*.sql")
	if err == nil && have > len(known) {
		return fmt.Errorf("%s is at version %d, this program knows %d: use a newer nutshell", path, have, len(known))
	}
	var verdict string
	if err := db.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&verdict); err != nil {
		return examined(ctx, path, err)
	}
	if verdict != "ok" {
		return fmt.Errorf("%s is damaged: %s", path, strings.ReplaceAll(verdict, "\n", " "))
	}
	return nil
}

func examined(ctx context.Context, path string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s is too large to be read through in so short a time: %w", path, ctx.Err())
	}
	return fmt.Errorf("%s: %w", path, err)
}

// Owner is the process that has dir's database open, 0 for none and where it
// cannot be told.
func Owner(dir string) int {
	f, err := os.Open(filepath.Join(dir, "nutshell.lock"))
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	return ownerOf(f)
}
