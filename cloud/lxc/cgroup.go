package lxc

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const cgroupDir = "/sys/fs/cgroup"

// unified reports whether the machine has control groups of version 2 only.
func unified() bool {
	_, err := os.Stat(filepath.Join(cgroupDir, "cgroup.controllers"))
	return err == nil
}

// cgroup is the control group of an instance, or of all for "", relative to
// each hierarchy's root.
func (d *driver) cgroup(name string) string {
	return filepath.Join("nutshell-"+d.c.Installation, name)
}

// hierarchies are the directories in which a control group may have a part.
func hierarchies() []string {
	if unified() {
		return []string{cgroupDir}
	}
	list, _ := filepath.Glob(filepath.Join(cgroupDir, "*", "cgroup.procs"))
	for i, p := range list {
		list[i] = filepath.Dir(p)
	}
	return list
}

// removeCgroups removes a control group from all hierarchies. Right after the
// last process ended the kernel may still say busy.
func removeCgroups(ctx context.Context, group string) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		var errs []error
		for _, h := range hierarchies() {
			errs = append(errs, removeCgroup(filepath.Join(h, group)))
		}
		err := errors.Join(errs...)
		if err == nil || !errors.Is(err, syscall.EBUSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// removeCgroup removes a control group with those below it. Its files go with
// the directory.
func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// sweepCgroups removes the groups of instances that exist no longer, and our
// own when nothing is in it. A group with processes in it stays.
func sweepCgroups(ours string, names map[string]bool) error {
	var errs []error
	for _, h := range hierarchies() {
		entries, err := os.ReadDir(filepath.Join(h, ours))
		if err != nil {
			continue // there is none here
		}
		left := false
		for _, e := range entries {
			if !e.IsDir() {
				continue
			}
			if names[e.Name()] {
				left = true
				continue
			}
			if err := removeCgroup(filepath.Join(h, ours, e.Name())); err != nil {
				left = true
				errs = append(errs, err)
			}
		}
		if !left {
			errs = append(errs, removeCgroup(filepath.Join(h, ours)))
		}
	}
	return errors.Join(errs...)
}

// removeEmptyCgroup removes a group if there is none below it.
func removeEmptyCgroup(group string) error {
	var errs []error
	for _, h := range hierarchies() {
		err := syscall.Rmdir(filepath.Join(h, group))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EBUSY) && !errors.Is(err, syscall.ENOTEMPTY) {
			errs = append(errs, &fs.PathError{Op: "rmdir", Path: filepath.Join(h, group), Err: err})
		}
	}
	return errors.Join(errs...)
}
