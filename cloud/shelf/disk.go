package shelf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"nutshell/cloud"
)

// reserve of a disk stays free, for logs, records and what runs beside us.
const (
	reserveBytes = 1 << 30
	reserveShare = 20 // at most this part of the disk
)

// Room refuses what the disk of dir has no room for, saying both numbers.
func Room(dir string, bytes int64) error {
	var d unix.Statfs_t
	if err := unix.Statfs(dir, &d); err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	free := int64(d.Bavail) * d.Frsize                                  //nolint:gosec // file systems are smaller
	reserve := min(reserveBytes, int64(d.Blocks)*d.Frsize/reserveShare) //nolint:gosec // file systems are smaller
	if bytes > free-reserve {
		return fmt.Errorf("%w: %s are asked for, and %s are free on the disk of %s, of which %s stay free: make room, or ask for less",
			cloud.ErrQuota, size(bytes), size(free), dir, size(reserve))
	}
	return nil
}

func size(bytes int64) string {
	if bytes < 1<<30 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

// full says of an error that means a full disk that it does.
func full(err error) error {
	if (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) && !errors.Is(err, cloud.ErrQuota) {
		return fmt.Errorf("%w: the disk is full: %w", cloud.ErrQuota, err)
	}
	return err
}

// syncDir makes names in a directory outlive a loss of power.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) {
		err = nil // this file system has nothing to do for it
	}
	return errors.Join(err, f.Close())
}

// RemoveAll is os.RemoveAll, also of directories that their owner, who is us,
// has closed to himself.
func RemoveAll(dir string) error {
	// Nothing is closed to root, whom a link put in a directory's place could lead astray.
	if err := os.RemoveAll(dir); err == nil || !errors.Is(err, fs.ErrPermission) || os.Geteuid() == 0 {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if e != nil && e.IsDir() {
			// WalkDir reports a directory before it reads it.
			_ = os.Chmod(path, 0o700) //nolint:gosec // with our own rights, on what we are about to remove
		}
		return nil
	})
	return os.RemoveAll(dir)
}
