package lxc

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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
	return filepath.Join("nutshell-"+d.tag, name)
}

// pivot is where a monitor goes to remove its own control group.
func (d *driver) pivot() string { return d.cgroup("") + ".pivot" }

// controllers says which limits the machine's control groups can keep.
type controllers struct {
	v2   bool            // version 2 only; else version 1 with or without 2 beside it
	has  map[string]bool // memory, cpu, pids
	swap bool            // swap can be limited, and there is some
}

// controls looks at the control groups that are mounted at dir.
func controls(dir string) controllers {
	c := controllers{has: map[string]bool{}}
	limitOf := map[string]string{"memory": "memory.limit_in_bytes", "cpu": "cpu.cfs_quota_us", "pids": "pids.max"}
	if b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers")); err == nil {
		c.v2 = true
		for name := range strings.FieldsSeq(string(b)) {
			c.has[name] = true
		}
	} else {
		for name, limit := range limitOf {
			_, err := os.Stat(filepath.Join(dir, name, limit))
			_, errNoLimit := os.Stat(filepath.Join(dir, name, "cgroup.procs")) // pids.max is not in the root group
			c.has[name] = err == nil || name == "pids" && errNoLimit == nil
		}
	}
	swaps, err := os.ReadFile("/proc/swaps")
	c.swap = err == nil && strings.Count(string(swaps), "\n") > 1 && c.has["memory"]
	if !c.v2 && c.swap {
		_, err := os.Stat(filepath.Join(dir, "memory", "memory.memsw.limit_in_bytes"))
		c.swap = err == nil
	}
	return c
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

// removeIdleCgroups removes groups, with those below them, unless something
// is in them: what uses them removes them in turn.
func removeIdleCgroups(groups ...string) error {
	var errs []error
	for _, h := range hierarchies() {
		for _, g := range groups {
			if err := removeCgroup(filepath.Join(h, g)); err != nil && !errors.Is(err, syscall.EBUSY) && !errors.Is(err, syscall.ENOTEMPTY) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// removeBareCgroup removes a group that has none below it: those of instances
// that are being launched are bare too for a moment, and must stay.
func removeBareCgroup(group string) error {
	var errs []error
	for _, h := range hierarchies() {
		err := syscall.Rmdir(filepath.Join(h, group))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EBUSY) && !errors.Is(err, syscall.ENOTEMPTY) {
			errs = append(errs, &fs.PathError{Op: "rmdir", Path: filepath.Join(h, group), Err: err})
		}
	}
	return errors.Join(errs...)
}
