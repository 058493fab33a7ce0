package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"nutshell/cloud/lxc/order"
)

var errUnmapped = errors.New("the owners of files cannot be mapped")

// assemble mounts the instance's root file system at o.Root. We are in a
// mount namespace of our own, which the container's monitor inherits: nobody
// else sees these mounts, and the kernel takes them away with the monitor.
// So nothing has to be unmounted, not even after a crash.
func assemble(o order.Start) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// The overlay takes relative names of our directory, so that no character
	// of its path needs escaping in the mount's options.
	if err := os.Chdir(o.Dir); err != nil {
		return err
	}
	binary, err := mapped(o.Binary, o.Owner)
	if errors.Is(err, errUnmapped) {
		binary, err = mapped(o.Binary, 0) // it will do when everybody may read it
	}
	if err != nil {
		return err
	}
	// Each mount of a path is opened before the tmpfs covers anything.
	var lowers []int
	for _, l := range o.Lowers {
		fd, err := mapped(l, o.Owner)
		if err != nil {
			return err
		}
		lowers = append(lowers, fd)
	}
	for _, dir := range []string{"upper", "work"} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := os.Chown(dir, o.Owner, o.Owner); err != nil {
			return err
		}
	}
	stage := filepath.Dir(o.Root)
	if err := unix.Mount("nutshell", stage, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=1m"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", stage, err)
	}
	var names []string
	for n, fd := range lowers {
		at := filepath.Join(stage, fmt.Sprintf("l%d", n))
		if err := os.Mkdir(at, 0o755); err != nil {
			return err
		}
		if err := unix.MoveMount(fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mount layer %s: %w", o.Lowers[n], err)
		}
		_ = unix.Close(fd)
		names = append(names, at)
	}
	slices.Reverse(names) // overlayfs wants the topmost first
	if err := os.Mkdir(o.Root, 0o755); err != nil {
		return err
	}
	options := "lowerdir=" + strings.Join(names, ":") + ",upperdir=upper,workdir=work"
	if err := unix.Mount("nutshell", o.Root, "overlay", 0, options); err != nil {
		if o.Owner > 0 && errors.Is(err, unix.EINVAL) {
			err = fmt.Errorf("%w: %w", errUnmapped, err) // before Linux 5.19 overlayfs refuses mapped layers
		}
		return fmt.Errorf("mount overlay %s: %w", options, err)
	}
	for _, at := range names { // the overlay holds its own
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", at, err)
		}
	}
	media, err := shelve(stage, o.Volumes)
	if err != nil {
		return err
	}
	return furnish(o, binary, media)
}

// shelve mounts the volumes in a directory beside the root file system, and
// returns a mount of that directory for the container, to which what is
// mounted and unmounted here later spreads, but not the other way.
func shelve(stage string, volumes []string) (int, error) {
	at := filepath.Join(stage, order.Media)
	if err := os.Mkdir(at, 0o755); err != nil {
		return 0, err
	}
	if err := unix.Mount(at, at, "", unix.MS_BIND, ""); err != nil {
		return 0, fmt.Errorf("mount %s: %w", at, err)
	}
	if err := unix.Mount("", at, "", unix.MS_SHARED, ""); err != nil {
		return 0, fmt.Errorf("share %s: %w", at, err)
	}
	for n, name := range volumes {
		dir, fd := filepath.Join(at, name), order.MountFD+n
		if err := os.Mkdir(dir, 0o755); err != nil {
			return 0, err
		}
		if err := unix.MoveMount(fd, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return 0, fmt.Errorf("mount volume %s: %w", name, err)
		}
		_ = unix.Close(fd) // an open mount is one in use
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, at, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", at, err)
	}
	attr := unix.MountAttr{Propagation: unix.MS_SLAVE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return 0, fmt.Errorf("follow %s: %w", at, err)
	}
	return fd, nil
}

// mapped opens a tree for mounting elsewhere, read-only, in which root's
// files belong to owner: the user namespace at order.UsersFD says so.
func mapped(path string, owner int) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if owner > 0 {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = order.UsersFD
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		if owner > 0 {
			err = fmt.Errorf("%w: %w", errUnmapped, err)
		}
		return 0, fmt.Errorf("map %s: %w", path, err)
	}
	return fd, nil
}

// furnish puts the binary and the files into the root file system. What an
// instance left there when it ran before is hostile: os.Root keeps us inside
// whatever links it made.
func furnish(o order.Start, binary, media int) error {
	root, err := os.OpenRoot(o.Root)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	f := furnisher{root, o.Owner}
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "root", "var/lib/nutshell", "usr/bin"} {
		if err := f.dir(dir); err != nil {
			return err
		}
	}
	if st, err := root.Lstat("usr/bin/nutshell"); err != nil || !st.Mode().IsRegular() {
		if err := f.write(order.File{Path: "usr/bin/nutshell", Mode: 0o755}); err != nil {
			return err
		}
	}
	at, err := root.Open("usr/bin/nutshell")
	if err != nil {
		return err
	}
	defer func() { _ = at.Close() }()
	if err := unix.MoveMount(binary, "", int(at.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s: %w", o.Binary, err)
	}
	if st, err := root.Lstat(order.Media); err == nil && !st.IsDir() {
		if err := root.Remove(order.Media); err != nil { // a link that an instance left
			return err
		}
	}
	if err := f.dir(order.Media); err != nil {
		return err
	}
	below, err := root.Open(order.Media)
	if err != nil {
		return err
	}
	defer func() { _ = below.Close() }()
	if err := unix.MoveMount(media, "", int(below.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount /%s: %w", order.Media, err)
	}
	_ = unix.Close(media)
	for _, file := range o.Files {
		if err := f.write(file); err != nil {
			return fmt.Errorf("write %s in the instance: %w", file.Path, err)
		}
	}
	return nil
}

// furnisher makes files that belong to the container's root.
type furnisher struct {
	root  *os.Root
	owner int
}

func (f furnisher) dir(path string) error {
	if path == "." {
		return nil
	}
	if st, err := f.root.Stat(path); err == nil {
		if !st.IsDir() {
			return fmt.Errorf("/%s of the instance is not a directory", path)
		}
		return nil
	}
	// A link that leads nowhere, or out of the root, is of no use to anybody.
	if st, err := f.root.Lstat(path); err == nil && st.Mode()&fs.ModeSymlink != 0 {
		if err := f.root.Remove(path); err != nil {
			return err
		}
	}
	if err := f.dir(filepath.Dir(path)); err != nil {
		return err
	}
	mode := fs.FileMode(0o755)
	if path == "tmp" {
		mode = 0o777 | fs.ModeSticky
	}
	if err := f.root.Mkdir(path, 0o755); err != nil {
		return err
	}
	return errors.Join(f.root.Lchown(path, f.owner, f.owner), f.root.Chmod(path, mode))
}

func (f furnisher) write(file order.File) error {
	if err := f.dir(filepath.Dir(file.Path)); err != nil {
		return err
	}
	if err := f.root.RemoveAll(file.Path); err != nil {
		return err
	}
	w, err := f.root.OpenFile(file.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(file.Data)
	return errors.Join(err, w.Chown(f.owner, f.owner), w.Chmod(fs.FileMode(file.Mode)), w.Close())
}
