package lxc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"nutshell/cloud"
)

// errEnded says that a process whose mounts were wanted is no more.
var errEnded = errors.New("it has ended")

// among runs do in the mount namespace of a process.
func among(p cloud.Process, do func() error) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", p.PID))
	if err != nil || !p.Alive() {
		if err == nil {
			_ = ns.Close()
		}
		return errEnded
	}
	defer func() { _ = ns.Close() }()
	return onThread(func() error {
		// A thread that shares its root and directory with others may not move.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("leave the other threads: %w", err)
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("enter the mounts of process %d: %w", p.PID, err)
		}
		return do()
	})
}

// onThread runs do on a thread of its own, that ends with it. The first
// thread of the process is left alone: it cannot end, and what it sees counts
// as what the process sees.
func onThread(do func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			result <- onThread(do) // elsewhere, as this thread is taken
			return
		}
		result <- do() // still locked at its end, so the thread ends too
	}()
	return <-result
}

// Volumes appear in a directory of their own beside the root file system, in
// the mount namespace of the container's monitor. The container's /media is a
// slave of it: what is mounted or unmounted here follows there.

func (d *driver) mediaAt(name string) string { return filepath.Join(d.stage(), "media", name) }

// shown reports whether something is mounted at the name.
func (d *driver) shown(monitor cloud.Process, name string) bool {
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", monitor.PID))
	return err == nil && monitor.Alive() && strings.Contains(string(mounts), " "+d.mediaAt(name)+" ")
}

// show puts a mount into a running container.
func (d *driver) show(monitor cloud.Process, name string, mount *os.File) error {
	at := d.mediaAt(name)
	return among(monitor, func() error {
		if err := unix.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%w: the instance was started by a nutshell without volumes: stop and start it", cloud.ErrInvalid)
			}
			return &fs.PathError{Op: "mkdir", Path: at, Err: err}
		}
		if err := unix.MoveMount(int(mount.Fd()), "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return errors.Join(fmt.Errorf("mount at %s: %w", at, err), unix.Rmdir(at))
		}
		return nil
	})
}

// hide takes it away; unix.EBUSY while something in the container uses it.
func (d *driver) hide(monitor cloud.Process, name string) error {
	at := d.mediaAt(name)
	return among(monitor, func() error {
		if err := unix.Unmount(at, unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
			return &fs.PathError{Op: "umount", Path: at, Err: err}
		}
		// The kernel takes away what is mounted there in other namespaces, too.
		if err := unix.Rmdir(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &fs.PathError{Op: "rmdir", Path: at, Err: err}
		}
		return nil
	})
}
