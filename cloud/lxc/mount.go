package lxc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"nutshell/cloud"
)

// lockImage waits until nobody else mounts or repairs the image. A repair goes
// on when the director dies, and holds the lock until its end.
func lockImage(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%s is being repaired or copied: %w", path, ctx.Err()), f.Close())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// repair runs a program on an image that is not mounted, such as e2fsck, which
// puts in order what a crash left. What it cannot mend without loss is for
// people.
func repair(ctx context.Context, f *os.File, name string, args ...string) error {
	path, err := program(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fileSystemTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append(args, f.Name())...)
	cmd.ExtraFiles = []*os.File{f} // keeps the lock
	out, err := cmd.CombinedOutput()
	const corrected = 1
	if err == nil || name == "e2fsck" && cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == corrected {
		return nil
	}
	return fmt.Errorf("the file system is damaged: restore a snapshot or a backup, or run e2fsck %s by hand: %s: %w: %s",
		f.Name(), name, err, strings.TrimSpace(string(out)))
}

// mountImage returns a mount of the image that is nowhere yet: it goes when
// the file is closed, and the loop device goes with the last mount. A file
// system that is smaller than the image grows.
func mountImage(ctx context.Context, path string) (*os.File, error) {
	lock, err := lockImage(ctx, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Close() }()
	st, err := lock.Stat()
	if err != nil {
		return nil, err
	}
	loop, err := findLoop(lock)
	if err != nil {
		return nil, err
	}
	if loop != nil {
		defer func() { _ = loop.Close() }()
		return shareMount(loop, st.Size())
	}
	return freshMount(ctx, lock, st.Size())
}

// shareMount mounts once more what is mounted already.
func shareMount(loop *os.File, size int64) (*os.File, error) {
	if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return nil, fmt.Errorf("size of %s: %w", loop.Name(), err)
	}
	s, err := readSuperblock(loop) // the device's: what is in the image may be older
	if err != nil {
		return nil, err
	}
	m, err := mountDevice(loop.Name())
	if err != nil || !s.short(size) {
		return m, err
	}
	if err := growMounted(m, size); err != nil {
		_ = m.Close()
		if errors.Is(err, unix.EPERM) {
			return nil, fmt.Errorf("%w: without CAP_SYS_RESOURCE a volume grows only while nothing uses it: its instance has to be stopped and started", cloud.ErrInUse)
		}
		return nil, err
	}
	return m, nil
}

// freshMount mounts an image that is not mounted; lock is it, locked.
func freshMount(ctx context.Context, lock *os.File, size int64) (*os.File, error) {
	s, err := readSuperblock(lock)
	if err != nil {
		return nil, err
	}
	if s.dirty {
		if err := repair(ctx, lock, "e2fsck", "-p"); err != nil {
			return nil, err
		}
	}
	for {
		loop, err := bindLoop(lock.Name())
		if err != nil {
			return nil, err
		}
		m, err := mountDevice(loop.Name())
		_ = loop.Close()
		if err != nil {
			return nil, err
		}
		// A directory of ext4's own confuses programs that want an empty one.
		_ = unix.Unlinkat(int(m.Fd()), "lost+found", unix.AT_REMOVEDIR)
		if !s.short(size) {
			return m, nil
		}
		if err = growMounted(m, size); err == nil {
			return m, nil
		}
		_ = m.Close()
		if !errors.Is(err, unix.EPERM) {
			return nil, err
		}
		// The kernel wants CAP_SYS_RESOURCE for it; a program on a file does not.
		if err := growAtRest(ctx, lock); err != nil {
			return nil, err
		}
		s.blocks = size / imageBlock // or as far as it can grow
	}
}

// growAtRest makes the file system as large as its image.
func growAtRest(ctx context.Context, lock *os.File) error {
	if err := awaitIdle(ctx, lock.Name(), flushTime); err != nil {
		return err
	}
	if err := repair(ctx, lock, "e2fsck", "-f", "-p"); err != nil {
		return err
	}
	return repair(ctx, lock, "resize2fs")
}

func mountDevice(device string) (*os.File, error) {
	context, err := unix.Fsopen("ext4", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("%w: open ext4: %w", errNoImages, err)
	}
	defer func() { _ = unix.Close(context) }()
	err = unix.FsconfigSetString(context, "source", device)
	if err == nil {
		err = unix.FsconfigCreate(context)
	}
	if err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			err = fmt.Errorf("%w: %w", errNoImages, err)
		}
		return nil, fmt.Errorf("mount %s: %w%s", device, err, reasons(context))
	}
	fd, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", device, err)
	}
	return os.NewFile(uintptr(fd), device), nil
}

// reasons are the kernel's own words, if it says any.
func reasons(context int) string {
	b := make([]byte, 1024)
	n, err := unix.Read(context, b)
	if err != nil || n <= 0 {
		return ""
	}
	return ": " + strings.TrimSpace(string(b[:n]))
}

// ioctlResize is EXT4_IOC_RESIZE_FS, with which resize2fs works too.
const ioctlResize = 0x40086610

func growMounted(m *os.File, bytes int64) error {
	fd, err := unix.Openat(int(m.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the file system: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	blocks := uint64(bytes / imageBlock)                                                                             //nolint:gosec // sizes are positive
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlResize, uintptr(unsafe.Pointer(&blocks))); e != 0 { //nolint:gosec // the kernel reads a number
		return fmt.Errorf("grow the file system to %d bytes: %w", bytes, e)
	}
	return nil
}
