package lxc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/cloud"
)

// An image is a file that holds an ext4 file system. Its space is set aside
// when it is made: neither can a volume outgrow it, nor can the rest of the
// machine take it away.

const (
	imageBlock = 4096
	// fileSystemTime bounds what mkfs and fsck may take. A repair of a large
	// volume takes minutes, and must not be given up halfway.
	fileSystemTime = time.Hour
)

// errNoImages says that this machine cannot mount images: volumes are then
// directories.
var errNoImages = errors.New("images cannot be mounted here")

// program finds what Debian keeps in /usr/sbin, which may not be in our PATH.
func program(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin"} {
		if path := filepath.Join(dir, name); unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is missing: apt-get install e2fsprogs", name)
}

// makeImage makes a file system of so many bytes.
func makeImage(ctx context.Context, path string, bytes int64) error {
	mkfs, err := program("mkfs.ext4")
	if err != nil {
		return fmt.Errorf("%w: %w", errNoImages, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := setAside(f, bytes); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fileSystemTime)
	defer cancel()
	// No part is kept for root: root of an instance has no right to it. Small
	// ones get as many inodes for their size as large ones. The file reads as
	// zeros, so that tables need not be written.
	args := []string{
		"-q", "-F", "-b", fmt.Sprint(imageBlock), "-i", "16384", "-m", "0", "-e", "remount-ro",
		"-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1", path,
	}
	out, err := exec.CommandContext(ctx, mkfs, args...).CombinedOutput()
	if err != nil && ctx.Err() == nil {
		// Before e2fsprogs 1.47 the last option is unknown.
		args[len(args)-2] = "nodiscard,lazy_itable_init=1,lazy_journal_init=1"
		out, err = exec.CommandContext(ctx, mkfs, args...).CombinedOutput()
	}
	if err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return f.Sync()
}

// setAside makes a file at least so large, with room on the disk for all of
// it where the file system can promise that.
func setAside(f *os.File, bytes int64) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	var fsys unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fsys); err != nil {
		return err
	}
	if fsys.Type != unix.TMPFS_MAGIC { // there it would take memory
		err := unix.Fallocate(int(f.Fd()), 0, 0, max(bytes, st.Size()))
		if !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	if st.Size() >= bytes {
		return nil
	}
	return f.Truncate(bytes)
}

// superblock is what we read of ext4's.
type superblock struct {
	blocks, free, overhead int64
	dirty                  bool // not unmounted in order, or with known errors
}

// readSuperblock tells of an image that is not mounted.
func readSuperblock(f *os.File) (superblock, error) {
	b := make([]byte, 1024)
	if _, err := f.ReadAt(b, 1024); err != nil {
		return superblock{}, fmt.Errorf("file system of %s: %w", f.Name(), err)
	}
	at16 := func(i int) uint16 { return binary.LittleEndian.Uint16(b[i:]) }
	at32 := func(i int) int64 { return int64(binary.LittleEndian.Uint32(b[i:])) }
	if at16(0x38) != 0xEF53 {
		return superblock{}, fmt.Errorf("%s holds no ext4 file system", f.Name())
	}
	const clean, hasErrors, needsRecovery = 1, 2, 4
	s := superblock{
		blocks: at32(0x4) | at32(0x150)<<32, free: at32(0xC) | at32(0x158)<<32, overhead: at32(0x248),
		dirty: at16(0x3A)&clean == 0 || at16(0x3A)&hasErrors != 0 || at32(0x60)&needsRecovery != 0,
	}
	return s, nil
}

// short says that the file system could be larger in an image of so many
// bytes. Up to a group's own tables may be too little for one more group.
func (s superblock) short(bytes int64) bool {
	const group, tables = 8 * imageBlock, 2048
	gap := bytes/imageBlock - s.blocks
	return gap > tables || gap > 0 && s.blocks%group != 0
}

// growImage makes the image so large, mounted or not.
func growImage(ctx context.Context, path string, bytes int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = setAside(f, bytes)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	m, err := mountImage(ctx, path)
	if err != nil {
		return err
	}
	return m.Close()
}

// dataBytes is what an image takes if its holes are left out.
func dataBytes(f *os.File) (total int64, err error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	for at := int64(0); at < st.Size(); {
		start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return 0, err
		}
		if at, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE); err != nil {
			return 0, err
		}
		total += at - start
	}
	_, err = f.Seek(0, io.SeekStart)
	return total, err
}

// How long a file system may take to come down after its last user has gone.
// When a container ends, what it wrote last has still to be written down.
const (
	flushTime  = time.Minute
	detachTime = 5 * time.Second // an unmount has written it down already
)

// awaitIdle waits until no loop device has the image.
func awaitIdle(ctx context.Context, path string, patience time.Duration) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for end, wait := time.Now().Add(patience), time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		loop, err := findLoop(f)
		if err != nil || loop == nil {
			return err
		}
		name := loop.Name()
		_ = loop.Close()
		if time.Now().After(end) {
			return fmt.Errorf("%w: %s is still mounted by way of %s", cloud.ErrInUse, path, name)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
