package logfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTurnsOverAndLosesNothingRecent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "a.log")
	l, err := Open(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 39) + "\n"
	for range 5 {
		if _, err := l.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	now, _ := os.ReadFile(path)
	old, _ := os.ReadFile(path + ".1")
	if len(now) != 40 || len(old) != 80 {
		t.Errorf("got %d and %d bytes, want 40 and 80", len(now), len(old))
	}
	if l, err = Open(path, 100); err != nil || l.size != 40 {
		t.Errorf("size after opening again: %d, %v", l.size, err)
	}
	_ = l.Close()
}
