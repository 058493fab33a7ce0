package plan

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"nutshell/roles/api"
)

// suffix ends the names of directories that work is done in.
const suffix = ".building"

// Work is a directory beside the results for all that is made on the way. It
// is locked by the process that works in it: what a killed one left is removed
// by the next that works beside it.
type Work struct {
	Dir  string // exists, and is empty at first
	out  string
	lock *os.File
}

// Begin makes the directory for results called name in the directory out, and
// clears what killed builds left there. A build of the same name that is under
// way is a conflict.
func Begin(out, name string) (*Work, error) {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	if err := sweep(out); err != nil {
		return nil, err
	}
	w := &Work{Dir: filepath.Join(out, "."+name+suffix), out: out}
	err := os.Mkdir(w.Dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil, &api.Error{Code: api.CodeConflict, Op: "build image", Object: name, Message: "it is being built by another process", Hint: "wait for it, or write somewhere else with --out"}
	}
	if err != nil {
		return nil, err
	}
	if w.lock, err = os.Open(w.Dir); err != nil {
		return nil, errors.Join(err, os.Remove(w.Dir))
	}
	if err := syscall.Flock(int(w.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", w.Dir, err), w.End())
	}
	return w, nil
}

// sweep removes directories of work that nobody holds.
func sweep(out string) error {
	left, err := filepath.Glob(filepath.Join(out, ".*"+suffix))
	if err != nil {
		return err
	}
	for _, dir := range left {
		f, err := os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			err = os.RemoveAll(dir)
		} else if errors.Is(err, syscall.EWOULDBLOCK) {
			err = nil // somebody works in it
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("remove what an unfinished build left: %w", err)
		}
	}
	return nil
}

// Path is a place in the directory.
func (w *Work) Path(elem ...string) string {
	return filepath.Join(append([]string{w.Dir}, elem...)...)
}

// Need refuses to go on where less than these bytes are free.
func (w *Work) Need(bytes int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(w.Dir, &st); err != nil {
		return fmt.Errorf("ask for free space in %s: %w", w.out, err)
	}
	return enough(w.out, bytes, int64(st.Bavail)*int64(st.Bsize)) //nolint:gosec,unconvert // disks are smaller; of 32 bits on small machines
}

func enough(dir string, need, free int64) error {
	if free >= need {
		return nil
	}
	const mb = 1 << 20
	return &api.Error{Code: api.CodeNoSpace, Op: "build image", Message: fmt.Sprintf("needs %d MB of free disk, %s has %d MB", need/mb, dir, free/mb),
		Hint: "free some space, or write to another disk with --out"}
}

// Full turns the error of a disk that was full, this process's or that of a
// program it ran, into one that says what to do. Others are returned as they are.
func (w *Work) Full(err error) error {
	if err == nil || !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) && !strings.Contains(err.Error(), unix.ENOSPC.Error()) &&
		!strings.Contains(err.Error(), "No space left on device") || api.CodeOf(err) == api.CodeNoSpace {
		return err
	}
	return &api.Error{Code: api.CodeNoSpace, Op: "build image", Message: "the disk of " + w.out + " became full on the way, and what was begun is removed",
		Hint: "free some space, or write to another disk with --out", Err: unix.ENOSPC}
}

// Publish moves finished files to where results are, in the order given. The
// last is the one that makes the others believed, so an old one goes first.
func (w *Work) Publish(names ...string) error {
	if len(names) == 0 {
		return nil
	}
	for _, n := range names {
		if strings.ContainsRune(n, filepath.Separator) {
			return fmt.Errorf("publish %s: it lies deeper", n)
		}
		if err := syncFile(w.Path(n)); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(w.out, names[len(names)-1])); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, n := range names {
		if err := os.Rename(w.Path(n), filepath.Join(w.out, n)); err != nil {
			return err
		}
	}
	return syncFile(w.out)
}

func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// End removes the directory with all that is left in it.
func (w *Work) End() error {
	err := os.RemoveAll(w.Dir)
	if w.lock != nil {
		err = errors.Join(err, w.lock.Close())
	}
	return err
}
