package services

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// short makes a directory below which names are short, wherever TMPDIR is.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "nutshell-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestShortDirs(t *testing.T) {
	base := short(t)
	if got, hold, err := ShortDir(base, ""); err != nil || got != base || hold.Close() != nil {
		t.Errorf("got %s, %v: a short name needs no other", got, err)
	}
	long := filepath.Join(base, strings.Repeat("long/", 20), "run")
	if err := os.MkdirAll(long, 0o700); err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(base, "s")
	dir, hold, err := ShortDir(long, at)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, strings.Repeat("n", socketsName)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(long, strings.Repeat("n", socketsName))); err != nil {
		t.Errorf("the socket is not in the directory itself: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	f, err := os.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		t.Error("nobody holds a lock, so that the link would be tidied away")
	}
	if again, second, err := ShortDir(long, at); err != nil || again != dir || second.Close() != nil {
		t.Errorf("a second time: %s, %v", again, err)
	}
	if err := hold.Close(); err != nil {
		t.Error(err)
	}
	// It moved, as a restored directory does.
	other := filepath.Join(base, strings.Repeat("else/", 20))
	if again, hold, err := ShortDir(other, at); err != nil || again != dir || hold.Close() != nil {
		t.Errorf("moved: %s, %v", again, err)
	}
	if to, err := os.Readlink(dir); err != nil || to != other {
		t.Errorf("it leads to %s, %v", to, err)
	}
}

func TestShortDirOfSomebodyElseIsRefused(t *testing.T) {
	base := short(t)
	long := filepath.Join(base, strings.Repeat("long/", 20))
	at := filepath.Join(base, "s")
	if err := os.Symlink(base, at); err != nil {
		t.Fatal(err)
	}
	if got, _, err := ShortDir(long, at); err == nil || !strings.Contains(err.Error(), "is not ours") {
		t.Errorf("got %s, %v", got, err)
	}
	if got, _, err := ShortDir(long, long); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("got %s, %v", got, err)
	}
}
