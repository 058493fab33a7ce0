package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestExamine(t *testing.T) {
	dir := t.TempDir()
	if err := Examine(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	s, err := Open(t.Context(), dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := Examine(t.Context(), dir); err != nil {
		t.Errorf("beside its owner: %v", err)
	}
	if got := Owner(dir); got != os.Getpid() {
		t.Errorf("owner %d, want %d", got, os.Getpid())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Examine(t.Context(), dir); err != nil {
		t.Errorf("closed: %v", err)
	}
	if got := Owner(dir); got != 0 {
		t.Errorf("owner %d of what nobody has open", got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "nutshell.db-*")); len(left) > 0 {
		t.Errorf("examining left %v", left)
	}
	path := filepath.Join(dir, "nutshell.db")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat("no page ", 1024)), 3*4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Examine(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged: %v", err)
	}
	if err := os.WriteFile(path+"-wal", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Examine(t.Context(), dir); !errors.Is(err, ErrUnclean) {
		t.Errorf("not closed in order: %v", err)
	}
	if err := os.WriteFile(path, []byte("<html>"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Examine(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "not a database") {
		t.Errorf("another file: %v", err)
	}
}
