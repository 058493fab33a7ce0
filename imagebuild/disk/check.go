package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"

	diskfs "github.com/diskfs/go-diskfs"
)

// Partition is one partition of a disk, in bytes.
type Partition struct {
	Name  string `json:"name"`
	At    int64  `json:"at"`
	Bytes int64  `json:"bytes"`
}

// Check looks at a disk as Write makes it: both partition tables with their
// sums, that they say the same and lie within the disk, the files on the boot
// partition, and the root file system as e2fsck sees it, which changes nothing.
func Check(ctx context.Context, tools *Tools, file string, size int64) ([]Partition, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	parts, err := readGPT(f, size)
	if err != nil {
		return nil, err
	}
	if len(parts) != 3 {
		return parts, fmt.Errorf("it has %d partitions, not 3", len(parts))
	}
	err = soundFAT(f, parts[1].At)
	if err == nil {
		err = guarded(func() error { return checkBoot(file) })
	}
	if err != nil {
		return parts, fmt.Errorf("boot partition: %w", err)
	}
	return parts, CheckExt4(ctx, tools, file, parts[2].At)
}

// CheckExt4 has e2fsck look at a file system that begins at a place in a file.
func CheckExt4(ctx context.Context, tools *Tools, file string, at int64) error {
	cmd, err := tools.Command(ctx, "e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", file, at))
	if err != nil {
		return err
	}
	err = run(cmd)
	var status *exec.ExitError
	if errors.As(err, &status) {
		return fmt.Errorf("root file system: %w", err)
	}
	return err
}

// readGPT reads the table at the beginning and the one at the end.
func readGPT(f io.ReaderAt, size int64) ([]Partition, error) {
	first, entries, err := readTable(f, 1)
	if err != nil {
		return nil, fmt.Errorf("partition table: %w", err)
	}
	le := binary.LittleEndian
	last := size/sector - 1
	if got := int64(le.Uint64(first[32:])); got != last { //nolint:gosec // compared only
		return nil, fmt.Errorf("partition table: its copy is said to be at sector %d, the disk ends at %d", got, last)
	}
	_, again, err := readTable(f, last)
	if err != nil {
		return nil, fmt.Errorf("copy of the partition table: %w", err)
	}
	if !bytes.Equal(entries, again) {
		return nil, errors.New("the partition table and its copy differ")
	}
	var parts []Partition
	end := int64(le.Uint64(first[40:])) * sector //nolint:gosec // checked by its sum
	for e := range bytesOf(entries, 128) {
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		p := Partition{At: int64(le.Uint64(e[32:])) * sector} //nolint:gosec // checked below
		p.Bytes = int64(le.Uint64(e[40:])+1)*sector - p.At    //nolint:gosec // as above
		for c := range bytesOf(e[56:], 2) {
			if c[0] != 0 {
				p.Name += string(rune(c[0]))
			}
		}
		if p.At < end || p.Bytes <= 0 || p.At+p.Bytes > last*sector {
			return nil, fmt.Errorf("partition %s lies over another, or outside of the disk", p.Name)
		}
		end = p.At + p.Bytes
		parts = append(parts, p)
	}
	return parts, nil
}

// bytesOf cuts b into pieces of n bytes.
func bytesOf(b []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for ; len(b) >= n; b = b[n:] {
			if !yield(b[:n]) {
				return
			}
		}
	}
}

// readTable reads a header and its entries, and checks their sums.
func readTable(f io.ReaderAt, lba int64) (header, entries []byte, err error) {
	header = make([]byte, sector)
	if _, err := f.ReadAt(header, lba*sector); err != nil {
		return nil, nil, fmt.Errorf("sector %d: %w", lba, err)
	}
	le := binary.LittleEndian
	length := le.Uint32(header[12:])
	if string(header[:8]) != "EFI PART" || length < 92 || length > sector {
		return nil, nil, fmt.Errorf("sector %d holds no table", lba)
	}
	summed := bytes.Clone(header[:length])
	clear(summed[16:20])
	if crc32.ChecksumIEEE(summed) != le.Uint32(header[16:]) {
		return nil, nil, fmt.Errorf("the header at sector %d is damaged: its sum is wrong", lba)
	}
	count, each := le.Uint32(header[80:]), le.Uint32(header[84:])
	if each != 128 || count > 1024 {
		return nil, nil, errors.New("it has entries of another size than ours")
	}
	entries = make([]byte, count*each)
	if _, err := f.ReadAt(entries, int64(le.Uint64(header[72:]))*sector); err != nil { //nolint:gosec // a wrong place cannot be read
		return nil, nil, err
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(header[88:]) {
		return nil, nil, fmt.Errorf("the entries of the table at sector %d are damaged: their sum is wrong", lba)
	}
	return header, entries, nil
}

// bootFiles are what no disk of ours boots without.
var bootFiles = []string{"/EFI/BOOT/BOOTX64.EFI", "/vmlinuz", "/initrd.img", "/grub/grub.cfg"}

// checkBoot reads the files of the boot partition to their ends.
func checkBoot(file string) (err error) {
	img, err := diskfs.Open(file, diskfs.WithOpenMode(diskfs.ReadOnly))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	boot, err := img.GetFilesystem(2)
	if err != nil {
		return err
	}
	for _, name := range bootFiles {
		f, err := boot.OpenFile(name, os.O_RDONLY)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		n, err := io.Copy(io.Discard, f)
		if err != nil || n == 0 {
			return fmt.Errorf("%s holds %d bytes: %w", name, n, err)
		}
	}
	return nil
}
