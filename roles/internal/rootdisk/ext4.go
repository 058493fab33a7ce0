package rootdisk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ext4Resize is EXT4_IOC_RESIZE_FS of the kernel's ext4.h: _IOW('f', 16, __u64).
const ext4Resize = 0x40086610

// growExt4 grows the mounted root file system to a number of blocks.
func (d Disk) growExt4(blocks uint64) (bool, error) {
	part, err := os.Open(d.Partition(d.root))
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
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, root.Fd(), ext4Resize, uintptr(unsafe.Pointer(&blocks))); errno != 0 { //nolint:gosec // ioctl takes it so
		return false, fmt.Errorf("grow the root file system from %d to %d blocks: %w", have, blocks, errno)
	}
	// The kernel leaves out a last group that is too short for its own tables.
	err = unix.Fstatfs(int(root.Fd()), &after)
	return after.Blocks > before.Blocks, err
}
