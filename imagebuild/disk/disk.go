// Package disk makes bootable disks as files: GPT, a FAT32 partition with the
// kernel and GRUB for BIOS and EFI, and an ext4 root. It needs no loop device,
// no mount and no root; the same input gives the same bytes.
package disk

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	diskfs "github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/disk"
	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"nutshell/imagebuild/sparse"
)

const (
	mib    = 1 << 20
	sector = 512

	biosAt = 1 * mib
	biosOf = 1 * mib
	bootAt = 4 * mib
)

// Labels by which the boot loader and the kernel find the partitions.
const (
	BootLabel = "NUTBOOT"
	RootLabel = "nutshell"
)

// BootFile is one file of the boot partition.
type BootFile struct {
	Path string // absolute
	Data []byte
}

// Disk describes what Write makes.
type Disk struct {
	BootBytes int64 // of the boot partition
	Boot      []BootFile
	Root      string // file with the root file system
	GUID      string // of the disk; those of the partitions derive from it
	Grub      Grub
	Time      time.Time // that the files of the boot partition bear
}

// Grub is GRUB as it lies on a disk.
type Grub struct {
	Sector []byte // boot.img
	Core   []byte // core.img for BIOS
	EFI    []byte // BOOTX64.EFI
}

//go:embed early.cfg
var earlyConfig []byte

// MakeGrub makes GRUB's images of its modules.
func MakeGrub(ctx context.Context, tools *Tools, work string) (Grub, error) {
	var g Grub
	early := filepath.Join(work, "early.cfg")
	if err := os.WriteFile(early, earlyConfig, 0o600); err != nil {
		return g, err
	}
	both := []string{"part_gpt", "part_msdos", "fat", "search", "search_label", "normal", "linux", "configfile", "loadenv", "echo", "serial", "terminal", "test", "boot", "ls"}
	image := func(format, modules string, more ...string) ([]byte, error) {
		dir, err := tools.Path(modules)
		if err != nil {
			return nil, err
		}
		out := filepath.Join(work, format)
		cmd, err := tools.Command(ctx, "grub-mkimage", append(append([]string{"-d", dir, "-O", format, "-o", out, "-c", early, "-p", "/grub"}, both...), more...)...)
		if err != nil {
			return nil, err
		}
		if err := run(cmd); err != nil {
			return nil, err
		}
		return os.ReadFile(out)
	}
	boot, err := tools.Path("usr/lib/grub/i386-pc/boot.img")
	if err != nil {
		return g, err
	}
	if g.Sector, err = os.ReadFile(boot); err != nil {
		return g, err
	}
	if g.Core, err = image("i386-pc", "usr/lib/grub/i386-pc", "biosdisk"); err != nil {
		return g, err
	}
	g.EFI, err = image("x86_64-efi", "usr/lib/grub/x86_64-efi", "efi_gop", "all_video")
	return g, err
}

// Write makes the disk at path and returns its size in bytes. Holes stay holes.
func Write(ctx context.Context, file string, d Disk) (size int64, err error) {
	root, err := os.Open(d.Root)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	info, err := root.Stat()
	if err != nil {
		return 0, err
	}
	rootAt := int64(bootAt) + d.BootBytes
	size = rootAt + info.Size() + mib // the second table is at the end
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	if err := d.partition(file, size, rootAt, info.Size()); err != nil {
		return 0, fmt.Errorf("make disk %s: %w", file, err)
	}
	out, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := d.Grub.embed(out); err != nil {
		return 0, fmt.Errorf("make disk %s: %w", file, err)
	}
	if err := copySparse(ctx, out, rootAt, root); err != nil {
		return 0, fmt.Errorf("make disk %s: %w", file, err)
	}
	return size, nil
}

// partition writes both tables and the boot partition.
func (d Disk) partition(file string, size, rootAt, rootBytes int64) (err error) {
	img, err := diskfs.Create(file, size, diskfs.SectorSizeDefault)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	part := func(index int, at, bytes int64, kind gpt.Type, name string) *gpt.Partition {
		return &gpt.Partition{Index: index, Start: uint64(at / sector), End: uint64((at+bytes)/sector) - 1, Type: kind, Name: name, GUID: d.GUID[:len(d.GUID)-1] + fmt.Sprint(index)} //nolint:gosec // places on a disk are positive
	}
	table := &gpt.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector, ProtectiveMBR: true, GUID: d.GUID, Partitions: []*gpt.Partition{
		part(1, biosAt, biosOf, gpt.BIOSBoot, "bios"), part(2, bootAt, d.BootBytes, gpt.EFISystemPartition, "boot"), part(3, rootAt, rootBytes, gpt.LinuxFilesystem, "root")}}
	if err := img.Partition(table); err != nil {
		return err
	}
	return withTime(d.Time, func() error {
		return writeFAT(img, 2, BootLabel, append([]BootFile{{"/EFI/BOOT/BOOTX64.EFI", d.Grub.EFI}}, d.Boot...))
	})
}

// withTime makes go-diskfs give files this time: it asks the environment, and
// nothing else. So a process makes one disk at a time.
func withTime(at time.Time, do func() error) (err error) {
	const key = "SOURCE_DATE_EPOCH"
	before, had := os.LookupEnv(key)
	if err := os.Setenv(key, strconv.FormatInt(at.Unix(), 10)); err != nil {
		return err
	}
	defer func() {
		if had {
			err = errors.Join(err, os.Setenv(key, before))
		} else {
			err = errors.Join(err, os.Unsetenv(key))
		}
	}()
	return do()
}

// writeFAT makes a FAT32 in a partition and puts files into it.
func writeFAT(img *disk.Disk, partition int, label string, files []BootFile) (err error) {
	boot, err := img.CreateFilesystem(disk.FilesystemSpec{Partition: partition, FSType: filesystem.TypeFat32, VolumeLabel: label, Reproducible: true})
	if err != nil {
		return err
	}
	made := map[string]bool{"/": true}
	var mkdir func(string) error
	mkdir = func(dir string) error {
		if made[dir] {
			return nil
		}
		made[dir] = true
		if err := mkdir(path.Dir(dir)); err != nil {
			return err
		}
		return boot.Mkdir(dir)
	}
	for _, f := range files {
		if err := mkdir(path.Dir(f.Path)); err != nil {
			return err
		}
		w, err := boot.OpenFile(f.Path, os.O_CREATE|os.O_RDWR)
		if err != nil {
			return err
		}
		if _, err = w.Write(f.Data); err == nil {
			err = w.Close()
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
	}
	return boot.Close()
}

// embed writes GRUB's code to where the BIOS looks: the first sector, which
// loads the core from a partition of its own. Places are those of GRUB's
// boot/i386/pc: the core's sector at 0x5c, its drive at 0x64, and the block
// list at the end of the core's first sector.
func (g Grub) embed(out *os.File) error {
	if len(g.Sector) < 440 || len(g.Core) < sector || len(g.Core) > biosOf {
		return fmt.Errorf("GRUB's images have sizes that cannot be: %d and %d bytes", len(g.Sector), len(g.Core))
	}
	le := binary.LittleEndian
	first := append([]byte{}, g.Sector[:440]...) // what follows belongs to the table
	le.PutUint64(first[0x5c:], biosAt/sector)
	first[0x64] = 0xff                    // the drive that the BIOS names
	first[0x66], first[0x67] = 0x90, 0x90 // also where the BIOS names a strange one
	core := append([]byte{}, g.Core...)
	le.PutUint64(core[500:], biosAt/sector+1)
	le.PutUint16(core[508:], uint16((len(core)+sector-1)/sector-1)) //nolint:gosec // bounded above
	_, err := out.WriteAt(first, 0)
	if err == nil {
		_, err = out.WriteAt(core, biosAt)
	}
	return err
}

// copySparse copies what is neither a hole nor zero.
func copySparse(ctx context.Context, out io.WriterAt, at int64, in *os.File) error {
	extents, err := sparse.Extents(in)
	if err != nil {
		return err
	}
	buf := make([]byte, mib)
	for _, e := range extents {
		for from, end := e.At, e.At+e.Length; from < end; {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			n, err := in.ReadAt(buf[:min(mib, end-from)], from)
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if n == 0 {
				return io.ErrUnexpectedEOF
			}
			if !zero(buf[:n]) {
				if _, err := out.WriteAt(buf[:n], at+from); err != nil {
					return err
				}
			}
			from += int64(n)
		}
	}
	return nil
}

func zero(b []byte) bool {
	for len(b) >= 8 {
		if binary.NativeEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
