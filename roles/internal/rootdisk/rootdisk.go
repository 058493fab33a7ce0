// Package rootdisk makes the root file system of a running machine as large as
// its disk: the partition by its table, MBR or GPT, and ext4 by the kernel. It
// needs no program. Power may fail at any moment: each step changes one sector
// that counts, or goes through the journal of ext4, and is done again at the
// next start if it is missing.
package rootdisk

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sectorBytes = 512
	ext4Block   = 4096
)

// Disk is a block device by its kernel name: mmcblk0, vda.
type Disk struct {
	Name string
	root int // number of the partition with the root file system
}

func (d Disk) path() string { return "/dev/" + d.Name }

// Partition is the device of a partition.
func (d Disk) Partition(n int) string {
	if last := d.Name[len(d.Name)-1]; last >= '0' && last <= '9' {
		return fmt.Sprintf("%sp%d", d.path(), n)
	}
	return fmt.Sprintf("%s%d", d.path(), n)
}

// Find finds the disk on one of whose partitions a directory is.
func Find(dir string) (Disk, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return Disk{}, err
	}
	sys, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return Disk{}, fmt.Errorf("%s is on no disk: %w", dir, err)
	}
	b, err := os.ReadFile(filepath.Join(sys, "partition"))
	if err != nil {
		return Disk{}, fmt.Errorf("%s is on no partition: %w", dir, err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return Disk{}, fmt.Errorf("%s is on a partition without a number: %w", dir, err)
	}
	return Disk{filepath.Base(filepath.Dir(sys)), n}, nil
}

// extent is where a partition is, in sectors.
type extent struct{ start, sectors uint64 }

// Grow makes partition and file system as large as the disk and returns the
// disk's size in bytes, or 0 if they were.
func (d Disk) Grow() (int64, error) {
	f, err := os.OpenFile(d.path(), os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	var size uint64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size))); errno != 0 { //nolint:gosec // ioctl takes it so
		return 0, fmt.Errorf("ask for the size of %s: %w", d.path(), errno)
	}
	root, err := growTable(f, size, d.root)
	if err != nil {
		return 0, err
	}
	if err := d.tellKernel(f, root); err != nil {
		return 0, fmt.Errorf("tell the kernel of the larger partition: %w", err)
	}
	grown, err := d.growExt4(root.sectors * sectorBytes / ext4Block)
	if err != nil || !grown {
		return 0, err
	}
	return int64(size), nil
}

// file is a disk that is written in steps.
type file interface {
	ReadAt([]byte, int64) (int, error)
	WriteAt([]byte, int64) (int, error)
	Sync() error
}

// growTable changes the table of partitions, of whichever kind it is.
func growTable(f file, size uint64, number int) (extent, error) {
	head := make([]byte, sectorBytes)
	if _, err := f.ReadAt(head, 0); err != nil {
		return extent{}, err
	}
	if protective(head) {
		return growGPT(f, size, number)
	}
	next, start, sectors, err := grownTable(head, size, number)
	if err == nil && next != nil {
		if _, err = f.WriteAt(next, 0); err == nil {
			err = f.Sync()
		}
	}
	return extent{uint64(start), uint64(sectors)}, err
}

// tellKernel makes the kernel know the size that a partition in use has got.
func (d Disk) tellKernel(f *os.File, root extent) error {
	b, err := os.ReadFile(filepath.Join("/sys/class/block", filepath.Base(d.Partition(d.root)), "size"))
	if err != nil {
		return err
	}
	if known, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil && known == root.sectors {
		return nil
	}
	part := unix.BlkpgPartition{Start: int64(root.start) * sectorBytes, Length: int64(root.sectors) * sectorBytes, Pno: int32(d.root)}    //nolint:gosec // of a table, checked
	arg := unix.BlkpgIoctlArg{Op: unix.BLKPG_RESIZE_PARTITION, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))} //nolint:gosec // ioctl takes it so
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {                       //nolint:gosec // ioctl takes it so
		return errno
	}
	return nil
}
