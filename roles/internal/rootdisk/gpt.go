package rootdisk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// Places within a GPT header and its entries, by the UEFI specification 5.3.
const (
	gptHeader   = 92
	gptEntry    = 128
	gptEntries  = 128
	gptArray    = gptEntry * gptEntries / sectorBytes // sectors of the list of partitions
	gptPrimary  = 1
	gptFirst    = gptPrimary + 1        // where lists usually are
	gptSecond   = gptFirst + gptArray   // where another has room
	gptAlign    = 1 << 20 / sectorBytes // that partitions end at
	gptAtMine   = 24
	gptAtOther  = 32
	gptAtUsable = 40
	gptAtLast   = 48
	gptAtArray  = 72
	gptAtSum    = 88
)

// protective tells the MBR of a disk with a GPT.
func protective(head []byte) bool {
	return head[510] == 0x55 && head[511] == 0xaa && head[446+4] == 0xee
}

// gpt is the first of a disk's two tables.
type gpt struct {
	header []byte // a sector
	list   []byte // of partitions
}

func readGPT(f file) (gpt, error) {
	le := binary.LittleEndian
	g := gpt{make([]byte, sectorBytes), make([]byte, gptArray*sectorBytes)}
	if _, err := f.ReadAt(g.header, gptPrimary*sectorBytes); err != nil {
		return g, err
	}
	h := g.header
	switch {
	case string(h[:8]) != "EFI PART" || le.Uint32(h[12:]) != gptHeader || headerSum(h) != le.Uint32(h[16:]):
		return g, errors.New("the first GPT is damaged")
	case le.Uint32(h[80:]) != gptEntries || le.Uint32(h[84:]) != gptEntry:
		return g, errors.New("the GPT has another form than ours")
	}
	if _, err := f.ReadAt(g.list, int64(le.Uint64(h[gptAtArray:]))*sectorBytes); err != nil { //nolint:gosec // an impossible place is an error of ReadAt
		return g, err
	}
	if crc32.ChecksumIEEE(g.list) != le.Uint32(h[gptAtSum:]) {
		return g, errors.New("the first GPT's list of partitions is damaged")
	}
	return g, nil
}

func headerSum(h []byte) uint32 {
	b := append([]byte{}, h[:gptHeader]...)
	clear(b[16:20])
	return crc32.ChecksumIEEE(b)
}

// seal puts sums in force.
func (g gpt) seal() {
	binary.LittleEndian.PutUint32(g.header[gptAtSum:], crc32.ChecksumIEEE(g.list))
	binary.LittleEndian.PutUint32(g.header[16:], headerSum(g.header))
}

// growGPT makes a partition, which must be the last one, reach to the end of
// the disk. The new list of partitions lies where the present one is not, so
// that one sector, the header, decides which of them counts.
func growGPT(f file, size uint64, number int) (extent, error) {
	g, err := readGPT(f)
	if err != nil {
		return extent{}, err
	}
	le := binary.LittleEndian
	sectors := size / sectorBytes
	next, root, err := grownGPT(g, sectors, number)
	if err != nil || next.header == nil {
		return root, err
	}
	backup := gpt{append([]byte{}, next.header...), next.list}
	le.PutUint64(backup.header[gptAtMine:], sectors-1)
	le.PutUint64(backup.header[gptAtOther:], gptPrimary)
	le.PutUint64(backup.header[gptAtArray:], sectors-1-gptArray)
	backup.seal()
	for _, step := range []struct {
		sector uint64
		data   []byte
	}{
		{sectors - 1 - gptArray, backup.list}, {sectors - 1, backup.header}, // nobody looks there yet
		{le.Uint64(next.header[gptAtArray:]), next.list}, {gptPrimary, next.header},
	} {
		if _, err := f.WriteAt(step.data, int64(step.sector)*sectorBytes); err != nil { //nolint:gosec // within the disk
			return extent{}, err
		}
		if err := f.Sync(); err != nil {
			return extent{}, err
		}
	}
	return root, growProtective(f, sectors)
}

// grownGPT is the first table with the partition grown; none if it is so
// already. It is pure.
func grownGPT(g gpt, sectors uint64, number int) (next gpt, root extent, err error) {
	le := binary.LittleEndian
	if number < 1 || number > gptEntries {
		return next, root, fmt.Errorf("the root file system is on partition %d", number)
	}
	entry := func(list []byte, n int) []byte { return list[gptEntry*(n-1) : gptEntry*n] }
	mine := entry(g.list, number)
	start, end := le.Uint64(mine[32:]), le.Uint64(mine[40:])
	if start == 0 || end < start || end >= sectors || sectors < 2*gptAlign {
		return next, root, errors.New("the disk is smaller than its GPT says, or the root partition is not in it")
	}
	root = extent{start, end - start + 1}
	lowest := start
	for n := 1; n <= gptEntries; n++ {
		e := entry(g.list, n)
		if used := le.Uint64(e) | le.Uint64(e[8:]); used == 0 {
			continue
		}
		if le.Uint64(e[32:]) > start {
			return next, root, nil // somebody made use of the rest of the disk
		}
		lowest = min(lowest, le.Uint64(e[32:]))
	}
	last := sectors - 1 - gptArray - 1
	to := (last+1)/gptAlign*gptAlign - 1
	if to <= end {
		return next, root, nil
	}
	array := uint64(gptFirst)
	if le.Uint64(g.header[gptAtArray:]) == gptFirst {
		array = gptSecond
	}
	if array+gptArray > lowest {
		return next, root, errors.New("there is no room for a second list of partitions")
	}
	next = gpt{append([]byte{}, g.header...), append([]byte{}, g.list...)}
	le.PutUint64(entry(next.list, number)[40:], to)
	h := next.header
	le.PutUint64(h[gptAtOther:], sectors-1)
	le.PutUint64(h[gptAtUsable:], max(array+gptArray, min(lowest, gptAlign)))
	le.PutUint64(h[gptAtLast:], last)
	le.PutUint64(h[gptAtArray:], array)
	next.seal()
	return next, extent{start, to - start + 1}, nil
}

// growProtective makes the MBR, which only keeps old programs away, say the
// new size.
func growProtective(f file, sectors uint64) error {
	head := make([]byte, sectorBytes)
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(head[446+12:], uint32(min(sectors-1, math.MaxUint32)))
	if _, err := f.WriteAt(head, 0); err != nil {
		return err
	}
	return f.Sync()
}
