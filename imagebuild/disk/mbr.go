package disk

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	diskfs "github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/partition/mbr"
)

// Card is a disk with the old kind of table, as boards with a card slot start
// from: a FAT32 partition first, the root file system behind it. All parts
// begin at multiples of 4 MiB, which cards erase at once.
type Card struct {
	Bytes     int64 // of the whole; 0: what is needed
	BootBytes int64 // of the FAT32 partition, a multiple of 4 MiB
	Boot      []BootFile
	Root      string // file with the root file system
	ID        uint32 // of the disk
	Time      time.Time
}

// Places on a card, in bytes. Between NoteAt and BootAt is room that belongs to
// no partition.
const (
	NoteAt = 1 * mib
	BootAt = 4 * mib
)

// RootAt is where the root file system begins.
func (c Card) RootAt() int64 { return BootAt + c.BootBytes }

// WriteCard makes the card at path and returns its size in bytes. Holes stay
// holes.
func WriteCard(ctx context.Context, file string, c Card) (size int64, err error) {
	root, err := os.Open(c.Root)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	info, err := root.Stat()
	if err != nil {
		return 0, err
	}
	size = c.RootAt() + (info.Size()+BootAt-1)/BootAt*BootAt
	if c.Bytes != 0 && c.Bytes < size {
		return 0, fmt.Errorf("make card %s: %d bytes are too few, %d are needed", file, c.Bytes, size)
	}
	size = max(size, c.Bytes)
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	if err := c.partition(file, size, info.Size()); err != nil {
		return 0, fmt.Errorf("make card %s: %w", file, err)
	}
	out, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	id := make([]byte, 4)
	binary.LittleEndian.PutUint32(id, c.ID)
	if _, err := out.WriteAt(id, 440); err != nil {
		return 0, err
	}
	if err := copySparse(ctx, out, c.RootAt(), root); err != nil {
		return 0, fmt.Errorf("make card %s: %w", file, err)
	}
	return size, nil
}

func (c Card) partition(file string, size, rootBytes int64) (err error) {
	img, err := diskfs.Create(file, size, diskfs.SectorSizeDefault)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	part := func(index int, at, bytes int64, kind mbr.Type) *mbr.Partition {
		return &mbr.Partition{Index: index, Type: kind, Start: uint32(at / sector), Size: uint32(bytes / sector)} //nolint:gosec // both are below 2 TiB
	}
	boot := part(1, BootAt, c.BootBytes, mbr.Fat32LBA)
	boot.Bootable = true
	if err := img.Partition(&mbr.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector, Partitions: []*mbr.Partition{boot, part(2, c.RootAt(), rootBytes, mbr.Linux)}}); err != nil {
		return err
	}
	return withTime(c.Time, func() error { return writeFAT(img, 1, BootLabel, c.Boot) })
}

// FATSums reads a FAT32 file system that is a file of this machine, and returns
// the SHA-256 of each of its files in hexadecimal, by absolute path.
func FATSums(file string) (sums map[string]string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	err = soundFAT(f, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	err = guarded(func() (err error) {
		sums, err = fatSums(file)
		return err
	})
	return sums, err
}

func fatSums(file string) (map[string]string, error) {
	img, err := diskfs.Open(file, diskfs.WithOpenMode(diskfs.ReadOnly))
	if err != nil {
		return nil, err
	}
	defer func() { _ = img.Close() }()
	fs, err := img.GetFilesystem(0)
	if err != nil {
		return nil, err
	}
	if fs.Type() != filesystem.TypeFat32 {
		return nil, errors.New("this is no FAT32")
	}
	sums := map[string]string{}
	var walk func(dir string, depth int) error
	walk = func(dir string, depth int) error {
		if depth > mostDirs {
			return errors.New("directories lie too deep in each other")
		}
		entries, err := fs.ReadDir(fatPath(dir))
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			switch {
			case e.Name() == "." || e.Name() == "..":
				continue
			case e.IsDir():
				err = walk(name, depth+1)
			default:
				sums[name], err = fatSum(fs, name)
			}
			if err != nil {
				return fmt.Errorf("read %s: %w", name, err)
			}
		}
		return nil
	}
	return sums, walk("/", 0)
}

// fatPath is a path as the library's reading half wants it: relative.
func fatPath(name string) string {
	if name == "/" {
		return "."
	}
	return name[1:]
}

func fatSum(fs filesystem.FileSystem, name string) (string, error) {
	f, err := fs.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
