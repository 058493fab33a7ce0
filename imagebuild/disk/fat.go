package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bounds of a FAT32 file system of ours.
const (
	mostFAT  = 64 << 20 // bytes of one table
	mostDirs = 16       // within each other
)

// soundFAT looks at a file system of anybody's before a library follows what it
// says: that it is FAT32, and that no chain of clusters leads back to itself,
// which would be followed for ever.
func soundFAT(r io.ReaderAt, at int64) error {
	head := make([]byte, sector)
	if _, err := r.ReadAt(head, at); err != nil {
		return err
	}
	le := binary.LittleEndian
	reserved, small, each := le.Uint16(head[14:]), le.Uint16(head[22:]), le.Uint32(head[36:])
	switch {
	case head[510] != 0x55 || head[511] != 0xaa || small != 0 || each == 0:
		return errors.New("this is no FAT32")
	case le.Uint16(head[11:]) != sector || head[13] == 0 || head[16] == 0 || int64(each)*sector > mostFAT:
		return errors.New("this FAT32 is not as ours are")
	}
	table := make([]byte, int64(each)*sector)
	if _, err := r.ReadAt(table, at+int64(reserved)*sector); err != nil {
		return err
	}
	clusters := uint32(len(table) / 4) //nolint:gosec // bounded above
	trip := make([]uint32, clusters)   // on which trip a cluster was met; 0: on none yet
	for start := uint32(2); start < clusters; start++ {
		c := start
		for c >= 2 && c < clusters && trip[c] == 0 {
			trip[c] = start
			c = le.Uint32(table[c*4:]) & 0x0fff_ffff
		}
		if c >= 2 && c < clusters && trip[c] == start {
			return fmt.Errorf("the chain of cluster %d leads back to itself", start)
		}
	}
	return nil
}

// guarded turns a panic over what a file says into an error.
func guarded(look func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it cannot be read: %v", p)
		}
	}()
	return look()
}
