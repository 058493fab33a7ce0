package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"nutshell/cloud"
	"nutshell/cloud/shelf"
)

// A volume is a directory that appears in an instance by a symbolic link. Its
// size is not enforced: an ordinary user has no means to.

// volumesDir is no instance's name.
const volumesDir = ".volumes"

func (d *driver) openShelf() *shelf.Shelf {
	return shelf.New(shelf.Config{
		Dir: filepath.Join(d.c.Dir, volumesDir), Installation: d.c.Installation, Log: d.log,
		Keeper: keeper{shelf.NewTrees(), d},
		Ready:  d.tidy,
		Hold:   d.hold,
		Exists: func(instance string) bool { _, err := os.Stat(d.recordFile(instance)); return err == nil },
		Notes:  func(string) map[string]string { return map[string]string{"size": "not enforced"} },
	})
}

// hold locks an instance for an order on its volumes.
func (d *driver) hold(ctx context.Context, instance string) (shelf.Holder, func(), error) {
	unlock, err := d.names.Lock(ctx, instance)
	if err != nil {
		return shelf.Holder{}, nil, err
	}
	r, err := d.load(instance)
	if err != nil {
		unlock()
		return shelf.Holder{}, nil, err
	}
	return holder(r), unlock, nil
}

// keeper adds to trees how they appear in instances, and who uses them.
type keeper struct {
	*shelf.Trees
	d *driver
}

func (d *driver) mountDir(instance string) string { return filepath.Join(d.dir(instance), "volumes") }

// Show makes the link, also in an instance that does not run.
func (k keeper) Show(_ context.Context, r shelf.Record) error {
	dir := k.d.mountDir(r.Holder)
	link, data := filepath.Join(dir, r.Mount), shelf.Data(r)
	if to, err := os.Readlink(link); err == nil && to == data {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// A link of a directory that was moved, or an empty directory, makes way;
	// what somebody stored there does not.
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is in the way: %w", link, err)
	}
	return os.Symlink(data, link)
}

// Hide removes the link when no program uses the data.
func (k keeper) Hide(ctx context.Context, r shelf.Record) error {
	if err := k.Idle(ctx, r); err != nil {
		return err
	}
	link := filepath.Join(k.d.mountDir(r.Holder), r.Mount)
	if to, err := os.Readlink(link); err != nil || to != shelf.Data(r) {
		return nil // not there already
	}
	return os.Remove(link)
}

// Idle looks for programs that use the data.
func (k keeper) Idle(_ context.Context, r shelf.Record) error {
	if users := k.d.usersOf(shelf.Data(r)); len(users) > 0 {
		return fmt.Errorf("%w: processes %v have files of volume %s open", cloud.ErrInUse, users, r.Name)
	}
	return nil
}

// Copy wants the volume at rest: file after file is copied, and what programs
// write meanwhile would be half in it.
func (k keeper) Copy(ctx context.Context, r shelf.Record, to string) (int64, error) {
	if r.Holder != "" {
		i, err := k.d.load(r.Holder)
		if err != nil {
			return 0, err
		}
		if k.d.leader(i).Alive() {
			return 0, fmt.Errorf("%w: instance %s runs: stop it, or detach the volume", cloud.ErrInUse, r.Holder)
		}
	}
	if err := k.Idle(ctx, r); err != nil {
		return 0, err
	}
	return k.Trees.Copy(ctx, r, to)
}

// usersOf finds the processes that have something below dir open or as their
// working directory, and those of instances that have it mapped only: to look
// for that everywhere takes long. Those of other users are seen by root only.
func (d *driver) usersOf(dir string) (pids []int) {
	within := func(path string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
	for pid := range processes() {
		// We ourselves look into volumes to add up sizes.
		if pid != os.Getpid() && (opens(pid, within) || d.ours(pid) && maps(pid, within)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func opens(pid int, within func(string) bool) bool {
	links := []string{procPath(pid, "cwd"), procPath(pid, "exe")}
	if fds, err := os.ReadDir(procPath(pid, "fd")); err == nil {
		for _, fd := range fds {
			links = append(links, procPath(pid, "fd", fd.Name()))
		}
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && within(to) {
			return true
		}
	}
	return false
}

func maps(pid int, within func(string) bool) bool {
	list, err := os.ReadFile(procPath(pid, "maps"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(list)) {
		// Address, rights, offset, device and inode stand before the path.
		if at := strings.IndexByte(line, '/'); at > 0 && within(strings.TrimSuffix(line[at:], "\n")) {
			return true
		}
	}
	return false
}

// reshow makes the links that a director did not come to make.
func (d *driver) reshow(ctx context.Context) {
	records, err := d.records()
	if err != nil {
		return // the order itself says why
	}
	for _, r := range records {
		held, err := d.Held(r.Name)
		for _, v := range held {
			err = errors.Join(err, keeper{d: d}.Show(ctx, v))
		}
		if err != nil {
			d.log.Warn("volume does not appear in its instance", "instance", r.Name, "error", err)
		}
	}
}

// volumeDirs are where an instance stores beside its own directory.
func (d *driver) volumeDirs(instance string) []string {
	held, err := d.Held(instance)
	if err != nil {
		d.log.Warn("volumes not readable", "instance", instance, "error", err)
	}
	dirs := make([]string, 0, len(held))
	for _, r := range held {
		dirs = append(dirs, shelf.Data(r))
	}
	return dirs
}
