package lxc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/cloud"
	"nutshell/cloud/shelf"
)

const (
	volumesDir = ".volumes" // no instance's name
	formImage  = "image"
	imageFile  = "image"
)

// volumeForm says how new volumes hold data.
type volumeForm string

const (
	volumesAuto      volumeForm = "auto"      // images, where they can be mounted
	volumesImage     volumeForm = "image"     // images, or no volume
	volumesDirectory volumeForm = "directory" // whose size nothing enforces
)

func (f *volumeForm) set(c cloud.Config) error {
	*f = volumesAuto
	if o, ok := c.Options["volumes"]; ok {
		*f = volumeForm(o)
	}
	switch *f {
	case volumesAuto, volumesImage, volumesDirectory:
		return nil
	}
	return fmt.Errorf("%w: option volumes of cloud %s: %q is not auto, image or directory", cloud.ErrInvalid, c.Name, *f)
}

func image(r shelf.Record) string { return filepath.Join(r.Dir, imageFile) }

func (d *driver) openShelf() *shelf.Shelf {
	return shelf.New(shelf.Config{
		// Private: in a directory an instance could leave a program that becomes
		// root when a user of this machine runs it.
		Dir: filepath.Join(d.c.Dir, volumesDir), Private: true, Installation: d.c.Installation, Log: d.log,
		Keeper: &keeper{trees: shelf.NewTrees(), d: d},
		Ready:  d.tidy,
		Hold:   d.hold,
		Exists: func(instance string) bool { _, err := os.Stat(d.recordFile(instance)); return err == nil },
		Notes: func(form string) map[string]string {
			if form == shelf.FormTree {
				return map[string]string{"size": "not enforced"}
			}
			return nil
		},
	})
}

func holder(r record) shelf.Holder { return shelf.Holder{Name: r.Name, Group: r.Group} }

// hold locks an instance for an order on its volumes.
func (d *driver) hold(ctx context.Context, instance string) (shelf.Holder, func(), error) {
	unlock, err := d.names.Lock(ctx, instance)
	if err != nil {
		return shelf.Holder{}, nil, err
	}
	lock, err := d.lock(ctx, instance)
	if err != nil {
		unlock()
		return shelf.Holder{}, nil, err
	}
	release := func() { _ = lock.Close(); unlock() }
	r, err := d.load(instance)
	if err != nil {
		release()
		return shelf.Holder{}, nil, err
	}
	return holder(r), release, nil
}

// volumeMounts makes a mount of each volume that the instance has, for its
// start. They are nowhere yet, and go when they are closed.
func (d *driver) volumeMounts(ctx context.Context, r record, users *os.File) (names []string, mounts []*os.File, err error) {
	held, err := d.Held(r.Name)
	if err != nil {
		return nil, nil, err
	}
	for _, v := range held {
		m, err := d.volumeMount(ctx, v, r, users)
		if err != nil {
			return names, mounts, fmt.Errorf("volume %s: %w", v.Name, err)
		}
		names, mounts = append(names, v.Mount), append(mounts, m)
	}
	return names, mounts, nil
}

// volumeMount is a mount of a volume for one instance, whose root's files are
// root's on the disk: whichever instance gets it next, under whichever ids,
// finds its own files.
func (d *driver) volumeMount(ctx context.Context, v shelf.Record, r record, users *os.File) (*os.File, error) {
	var m *os.File
	var err error
	if v.Form == formImage {
		m, err = mountImage(ctx, image(v))
	} else {
		m, err = mountTree(shelf.Data(v))
	}
	if err != nil || r.Privileged {
		return m, err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(users.Fd())}
	if err := unix.MountSetattr(int(m.Fd()), "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", errUnmapped, err), m.Close())
	}
	return m, nil
}

// errUnmapped says that this kernel or file system is too old for a volume in
// a container with a user namespace.
var errUnmapped = errors.New("the owners of files in the volume cannot be mapped")

func mountTree(dir string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	m := os.NewFile(uintptr(fd), dir)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return nil, errors.Join(fmt.Errorf("mount %s: %w", dir, err), m.Close())
	}
	return m, nil
}

// reshow lets volumes appear that are their instance's and are not there: a
// director died between the one and the other.
func (d *driver) reshow(ctx context.Context, records []record) {
	for _, r := range records {
		held, err := d.Held(r.Name)
		if err != nil || len(held) == 0 {
			continue
		}
		_, release, err := d.hold(ctx, r.Name)
		if err != nil {
			continue // removed since, or a start goes on, which mounts them
		}
		for _, v := range held {
			if err := (&keeper{d: d}).Show(ctx, v); err != nil {
				d.log.Warn("volume is not mounted in its instance", "volume", v.Name, "instance", r.Name, "error", err)
			}
		}
		release()
	}
}

// keeper keeps volumes in images, or in directories where images cannot be.
type keeper struct {
	trees *shelf.Trees
	d     *driver
}

// Make makes an image, and mounts it once to see that this works here.
func (k *keeper) Make(ctx context.Context, dir string, bytes int64) (string, error) {
	if k.d.form == volumesDirectory {
		return k.trees.Make(ctx, dir, bytes)
	}
	path := filepath.Join(dir, imageFile)
	err := makeImage(ctx, path, bytes)
	if err == nil {
		var m *os.File
		if m, err = mountImage(ctx, path); err == nil {
			err = m.Close()
		}
	}
	if k.d.form == volumesImage && errors.Is(err, errNoImages) {
		return "", fmt.Errorf("%w: %w", cloud.ErrUnavailable, err)
	}
	if !errors.Is(err, errNoImages) {
		return formImage, err
	}
	k.d.unsized.Do(func() {
		k.d.log.Warn("volumes are plain directories, whose size is not enforced", "cause", err)
	})
	if err := os.RemoveAll(path); err != nil {
		return "", err
	}
	return k.trees.Make(ctx, dir, bytes)
}

// processesOf is what runs of a volume's holder.
func (k *keeper) processesOf(ctx context.Context, r shelf.Record) (record, processes, error) {
	if r.Holder == "" {
		return record{}, processes{}, nil
	}
	i, err := k.d.load(r.Holder)
	if err != nil {
		return record{}, processes{}, err
	}
	p, err := k.d.running(ctx, i)
	return i, p, err
}

// Show mounts the volume in a running container. One that does not run gets
// its volumes when it starts.
func (k *keeper) Show(ctx context.Context, r shelf.Record) error {
	i, p, err := k.processesOf(ctx, r)
	if err != nil || !p.Init.Alive() || k.d.shown(p.Monitor, r.Mount) {
		return err
	}
	users, err := k.d.users.namespace(ctx, k.d.tool, i)
	if err != nil {
		return err
	}
	m, err := k.d.volumeMount(ctx, r, i, users)
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }()
	if err := k.d.show(p.Monitor, r.Mount, m); !errors.Is(err, errEnded) {
		return err
	}
	return nil // the instance ended meanwhile
}

// busyTime is how long a program that has just ended may still count.
const busyTime = 300 * time.Millisecond

// Hide unmounts it, also in a container that is about to end.
func (k *keeper) Hide(ctx context.Context, r shelf.Record) error {
	_, p, err := k.processesOf(ctx, r)
	if err != nil || !p.Monitor.Alive() {
		return err
	}
	for end := time.Now().Add(busyTime); ; time.Sleep(5 * time.Millisecond) {
		err = k.d.hide(p.Monitor, r.Mount)
		if !errors.Is(err, unix.EBUSY) {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: programs in %s have files of volume %s open", cloud.ErrInUse, r.Holder, r.Name)
		}
	}
	if errors.Is(err, errEnded) {
		return nil
	}
	if err == nil && r.Form == formImage {
		// A program may have mounts of its own, which still show the volume. Then
		// it stays where it was.
		if err = awaitIdle(ctx, image(r), detachTime); errors.Is(err, cloud.ErrInUse) {
			err = errors.Join(err, k.Show(ctx, r))
		}
	}
	return err
}

// Idle waits until the kernel has let go of an image.
func (k *keeper) Idle(ctx context.Context, r shelf.Record) error {
	if r.Form != formImage {
		return nil
	}
	return awaitIdle(ctx, image(r), flushTime)
}

// Grow makes room in the image and then in its file system.
func (k *keeper) Grow(ctx context.Context, r shelf.Record) error {
	if r.Form != formImage {
		return nil
	}
	return growImage(ctx, image(r), r.Bytes)
}

// Used asks the mounted file system, or reads what it wrote down last.
func (k *keeper) Used(r shelf.Record) int64 {
	if r.Form != formImage {
		return k.trees.Used(r)
	}
	if r.Holder != "" {
		var p processes
		if err := cloud.LoadState(k.d.processFile(r.Holder), &p); err == nil && k.d.shown(p.Monitor, r.Mount) {
			var s unix.Statfs_t
			at := fmt.Sprintf("/proc/%d/root%s", p.Monitor.PID, k.d.mediaAt(r.Mount))
			if err := unix.Statfs(at, &s); err == nil {
				return int64(s.Blocks-s.Bfree) * s.Bsize //nolint:gosec // file systems are smaller
			}
		}
	}
	f, err := os.Open(image(r))
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	s, err := readSuperblock(f)
	if err != nil {
		return 0
	}
	return max(0, s.blocks-s.free-s.overhead) * imageBlock
}
