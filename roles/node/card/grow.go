package card

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sectorBytes = 512
	unit        = 4 << 20 / sectorBytes // sectors that cards erase at once
	rootNumber  = 2                     // the partition that grows
	ext4Block   = 4096
)

// disk is a block device by its kernel name: mmcblk0, vda.
type disk string

func (d disk) path() string { return "/dev/" + string(d) }

// partition is the device of a partition.
func (d disk) partition(n int) string {
	if last := d[len(d)-1]; last >= '0' && last <= '9' {
		return fmt.Sprintf("%sp%d", d.path(), n)
	}
	return fmt.Sprintf("%s%d", d.path(), n)
}

// rootDisk finds the disk on whose second partition a directory is.
func rootDisk(dir string) (disk, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", err
	}
	sys, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return "", fmt.Errorf("%s is on no disk: %w", dir, err)
	}
	b, err := os.ReadFile(filepath.Join(sys, "partition"))
	if err != nil {
		return "", fmt.Errorf("%s is on no partition: %w", dir, err)
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || n != rootNumber {
		return "", fmt.Errorf("%s is on partition %s, not on %d", dir, strings.TrimSpace(string(b)), rootNumber)
	}
	return disk(filepath.Base(filepath.Dir(sys))), nil
}

// grow makes partition and file system as large as the card and returns the
// card's size in bytes, or 0 if they were. Each step is done only when it is
// missing, and none leaves anything that the next start could not read: the
// table changes in one sector, and the kernel grows ext4 through its journal.
func grow(d disk) (int64, error) {
	f, err := os.OpenFile(d.path(), os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	var size uint64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size))); errno != 0 {
		return 0, fmt.Errorf("ask for the size of %s: %w", d.path(), errno)
	}
	head := make([]byte, sectorBytes)
	if _, err := f.ReadAt(head, 0); err != nil {
		return 0, err
	}
	next, start, sectors, err := grownTable(head, size)
	if err != nil {
		return 0, err
	}
	if next != nil {
		if _, err := f.WriteAt(next, 0); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	if err := tellKernel(f, d, start, sectors); err != nil {
		return 0, fmt.Errorf("tell the kernel of the larger partition: %w", err)
	}
	grown, err := growExt4(d, uint64(sectors)*sectorBytes/ext4Block)
	if err != nil || !grown {
		return 0, err
	}
	return int64(size), nil //nolint:gosec // no card has 2^63 bytes
}

// grownTable is the first sector with partition 2 up to the end of a disk of
// size bytes; nil: it is. It is pure.
func grownTable(head []byte, size uint64) (next []byte, start, sectors uint32, err error) {
	le := binary.LittleEndian
	if head[510] != 0x55 || head[511] != 0xaa {
		return nil, 0, 0, errors.New("the card has no table of partitions")
	}
	entry := func(n int) []byte { return head[446+16*(n-1) : 446+16*n] }
	root := entry(rootNumber)
	start, sectors = le.Uint32(root[8:]), le.Uint32(root[12:])
	switch {
	case root[4] != 0x83 || start == 0 || sectors == 0:
		return nil, 0, 0, errors.New("partition 2 is not the root file system")
	case entry(3)[4] != 0 || entry(4)[4] != 0:
		return nil, start, sectors, nil // somebody made use of the rest of the card
	case le.Uint32(entry(1)[8:]) >= start:
		return nil, 0, 0, errors.New("the partitions are in another order")
	}
	whole := min(size/sectorBytes, math.MaxUint32)
	if whole < uint64(start)+uint64(sectors) {
		return nil, 0, 0, errors.New("the card is smaller than its table says")
	}
	most := uint32((whole - uint64(start)) / unit * unit) //nolint:gosec // bounded above
	if most <= sectors {
		return nil, start, sectors, nil
	}
	next = append([]byte{}, head...)
	le.PutUint32(next[446+16+12:], most)
	return next, start, most, nil
}

// tellKernel makes the kernel know the size that a partition in use has got.
func tellKernel(f *os.File, d disk, start, sectors uint32) error {
	b, err := os.ReadFile(filepath.Join("/sys/class/block", filepath.Base(d.partition(rootNumber)), "size"))
	if err != nil {
		return err
	}
	if known, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil && known == uint64(sectors) {
		return nil
	}
	part := unix.BlkpgPartition{Start: int64(start) * sectorBytes, Length: int64(sectors) * sectorBytes, Pno: rootNumber}
	arg := unix.BlkpgIoctlArg{Op: unix.BLKPG_RESIZE_PARTITION, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return errno
	}
	return nil
}

// ext4Resize is EXT4_IOC_RESIZE_FS of the kernel's ext4.h: _IOW('f', 16, __u64).
const ext4Resize = 0x40086610

// growExt4 grows the mounted root file system to a number of blocks.
func growExt4(d disk, blocks uint64) (bool, error) {
	part, err := os.Open(d.partition(rootNumber))
	if err != nil {
		return false, err
	}
	super := make([]byte, 1024)
	_, err = part.ReadAt(super, 1024)
	if err = errors.Join(err, part.Close()); err != nil {
		return false, err
	}
	le := binary.LittleEndian
	if le.Uint16(super[0x38:]) != 0xef53 || le.Uint32(super[0x18:]) != 2 {
		return false, errors.New("the root file system is no ext4 with blocks of 4096 bytes")
	}
	have := uint64(le.Uint32(super[0x4:])) | uint64(le.Uint32(super[0x150:]))<<32
	if have >= blocks {
		return false, nil
	}
	root, err := os.Open("/")
	if err != nil {
		return false, err
	}
	defer func() { _ = root.Close() }()
	var before, after unix.Statfs_t
	if err := unix.Fstatfs(int(root.Fd()), &before); err != nil {
		return false, err
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, root.Fd(), ext4Resize, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return false, fmt.Errorf("grow the root file system from %d to %d blocks: %w", have, blocks, errno)
	}
	// The kernel leaves out a last group that is too short for its own tables.
	err = unix.Fstatfs(int(root.Fd()), &after)
	return after.Blocks > before.Blocks, err
}
