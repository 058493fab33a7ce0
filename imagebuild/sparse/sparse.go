// Package sparse finds the parts of a file that hold something, so that a disk
// of 20 GB with half a gigabyte in it is read as half a gigabyte.
package sparse

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Extent is a part of a file, in bytes.
type Extent struct{ At, Length int64 }

// Extents lists the parts that are no holes, in order. Where the file system
// knows no holes, the whole file is one.
func Extents(f *os.File) ([]Extent, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	var list []Extent
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // only a hole is left
		}
		if errors.Is(err, unix.EINVAL) {
			return []Extent{{0, size}}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("find data in %s: %w", f.Name(), err)
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return nil, fmt.Errorf("find holes in %s: %w", f.Name(), err)
		}
		list = append(list, Extent{data, hole - data})
		at = hole
	}
	return list, nil
}
