package lxc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Loop devices make a block device of an image. They are bound so that the
// kernel frees them with the last mount: no crash of ours leaves one behind.

// findLoop returns the loop device that has the image, nil if there is none.
// Two on one image would each have a file system of their own on it, and
// destroy it.
func findLoop(image *os.File) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(image.Fd()), &st); err != nil {
		return nil, err
	}
	bound, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, b := range bound {
		// Devices of others are left alone: even to open one can make a stir.
		if path, err := os.ReadFile(b); err != nil || !strings.HasSuffix(strings.TrimSpace(string(path)), imageFile) {
			continue
		}
		f, err := openDevice(filepath.Base(filepath.Dir(filepath.Dir(b))), os.O_RDONLY)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) {
			continue // gone since
		}
		if err != nil {
			return nil, err
		}
		info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
		if err == nil && info.Device == st.Dev && info.Inode == st.Ino {
			return f, nil
		}
		_ = f.Close()
	}
	return nil, nil
}

// openDevice opens /dev/loopN, which it makes where nobody else does.
func openDevice(name string, flag int) (*os.File, error) {
	path := "/dev/" + name
	f, err := os.OpenFile(path, flag|unix.O_CLOEXEC, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	b, err := os.ReadFile(filepath.Join("/sys/block", name, "dev"))
	if err != nil {
		return nil, err
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(b), "%d:%d", &major, &minor); err != nil {
		return nil, err
	}
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))); err != nil && !errors.Is(err, unix.EEXIST) { //nolint:gosec // the kernel's number of a device
		return nil, &fs.PathError{Op: "mknod", Path: path, Err: err}
	}
	return os.OpenFile(path, flag|unix.O_CLOEXEC, 0)
}

// bindLoop gives the image a loop device.
func bindLoop(path string) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoImages, err)
	}
	defer func() { _ = control.Close() }()
	// Opened anew: the device keeps the open file, and with it any lock on it.
	image, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = image.Close() }()
	for range 100 { // somebody else may be faster
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("%w: free loop device: %w", errNoImages, err)
		}
		f, err := openDevice(fmt.Sprintf("loop%d", n), os.O_RDWR)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoImages, err)
		}
		// Direct: the data is not kept in memory twice.
		err = configure(f, image, unix.LO_FLAGS_AUTOCLEAR|unix.LO_FLAGS_DIRECT_IO)
		if errors.Is(err, unix.EINVAL) {
			err = configure(f, image, unix.LO_FLAGS_AUTOCLEAR)
		}
		if err == nil {
			return f, nil
		}
		_ = f.Close()
		if !errors.Is(err, unix.EBUSY) {
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) || errors.Is(err, syscall.ENOSYS) {
				err = fmt.Errorf("%w: %w", errNoImages, err)
			}
			return nil, fmt.Errorf("bind loop device to %s: %w", path, err)
		}
	}
	return nil, fmt.Errorf("bind loop device to %s: all that were free got another file", path)
}

func configure(loop, image *os.File, flags uint32) error {
	c := unix.LoopConfig{Fd: uint32(image.Fd()), Size: imageBlock, Info: unix.LoopInfo64{Flags: flags}} //nolint:gosec // a descriptor fits
	copy(c.Info.File_name[:len(c.Info.File_name)-1], image.Name())
	return unix.IoctlLoopConfigure(int(loop.Fd()), &c)
}
