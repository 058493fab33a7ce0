package rootdisk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// unit is what cards erase at once, in sectors.
const unit = 4 << 20 / sectorBytes

// grownTable is the first sector of an MBR with its second and last partition
// up to the end of a disk of size bytes; nil: it is. It is pure.
func grownTable(head []byte, size uint64, number int) (next []byte, start, sectors uint32, err error) {
	le := binary.LittleEndian
	if head[510] != 0x55 || head[511] != 0xaa {
		return nil, 0, 0, errors.New("the disk has no table of partitions")
	}
	entry := func(n int) []byte { return head[446+16*(n-1) : 446+16*n] }
	if number != 2 {
		return nil, 0, 0, fmt.Errorf("the root file system is on partition %d, not on 2", number)
	}
	root := entry(number)
	start, sectors = le.Uint32(root[8:]), le.Uint32(root[12:])
	switch {
	case root[4] != 0x83 || start == 0 || sectors == 0:
		return nil, 0, 0, errors.New("partition 2 is not the root file system")
	case entry(3)[4] != 0 || entry(4)[4] != 0:
		return nil, start, sectors, nil // somebody made use of the rest of the disk
	case le.Uint32(entry(1)[8:]) >= start:
		return nil, 0, 0, errors.New("the partitions are in another order")
	}
	whole := min(size/sectorBytes, math.MaxUint32)
	if whole < uint64(start)+uint64(sectors) {
		return nil, 0, 0, errors.New("the disk is smaller than its table says")
	}
	most := uint32((whole - uint64(start)) / unit * unit)
	if most <= sectors {
		return nil, start, sectors, nil
	}
	next = append([]byte{}, head...)
	le.PutUint32(next[446+16+12:], most)
	return next, start, most, nil
}
