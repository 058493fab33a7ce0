package ova

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ReadVMDK reads a stream-optimised VMDK from its beginning to its end and
// hands over each grain that holds something, with its place in bytes. It
// checks what an importer relies on: markers, tables that agree with the
// grains, a directory, a footer. It returns the capacity in bytes.
func ReadVMDK(r io.Reader, grain func(at int64, data []byte) error) (capacity int64, err error) {
	v := &reader{r: r, wanted: map[uint64]uint32{}}
	head, err := v.read(sector)
	if err != nil {
		return 0, err
	}
	if err := checkHeader(head); err != nil {
		return 0, err
	}
	v.capacity = binary.LittleEndian.Uint64(head[12:])
	if _, err := v.read((overhead - 1) * sector); err != nil {
		return 0, err
	}
	for !v.ended {
		if err := v.next(grain); err != nil {
			return 0, fmt.Errorf("VMDK, sector %d: %w", v.at, err)
		}
	}
	if len(v.wanted) > 0 {
		return 0, fmt.Errorf("VMDK: %d grains stand in no table", len(v.wanted))
	}
	return int64(v.capacity) * sector, nil //nolint:gosec // checkHeader bounds it
}

func checkHeader(b []byte) error {
	le := binary.LittleEndian
	switch {
	case string(b[:4]) != "KDMV":
		return errors.New("this is no VMDK: it does not begin with KDMV")
	case le.Uint32(b[4:]) != 3 || le.Uint32(b[8:])&(1<<16|1<<17) != 1<<16|1<<17 || le.Uint16(b[77:]) != 1:
		return errors.New("this VMDK is not a stream-optimised one")
	case string(b[73:77]) != "\n \r\n":
		return errors.New("this VMDK was changed on its way: it was sent as text")
	case le.Uint64(b[20:]) != grainSectors || le.Uint32(b[44:]) != tableEntries || le.Uint64(b[64:]) != overhead:
		return errors.New("this VMDK has grains or tables of another size than ours")
	case le.Uint64(b[12:]) == 0 || le.Uint64(b[12:]) > 1<<40/sector:
		return errors.New("this VMDK says a size that no disk of ours has")
	}
	return nil
}

type reader struct {
	r         io.Reader
	at        uint64            // sector
	capacity  uint64            // sectors
	wanted    map[uint64]uint32 // grains that no table has named yet, by index
	tables    []uint32          // where they began
	last      int64             // grain before, none: -1 after begin
	begun     bool
	directory uint64
	footer    bool
	ended     bool
}

func (v *reader) read(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(v.r, b); err != nil {
		return nil, fmt.Errorf("the file ends too early: %w", err)
	}
	v.at += uint64(n / sector) //nolint:gosec // what was read is not negative
	return b, nil
}

// mostAnnounced is how many sectors a directory has that names all tables of
// 1 TiB, four times over: nothing else that is announced is as long.
const mostAnnounced = 1 << 10

// next reads one grain, or one marker with what it announces.
func (v *reader) next(grain func(int64, []byte) error) error {
	at := v.at
	b, err := v.read(sector)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	value, size := le.Uint64(b), le.Uint32(b[8:])
	if size > 0 {
		return v.grain(at, value, size, b, grain)
	}
	if value > mostAnnounced {
		return errors.New("a marker announces too much")
	}
	if kind := le.Uint32(b[12:]); kind == markEnd {
		if !v.footer {
			return errors.New("there is no footer")
		}
		v.ended = true
		return nil
	} else if b, err = v.read(int(value) * sector); err != nil {
		return err
	} else if kind == markTable && len(b) == tableBytes {
		return v.table(at+1, b)
	} else if kind == markDirectory {
		v.directory = at + 1
		return v.checkDirectory(b)
	} else if kind == markFooter && len(b) == sector {
		if err := checkHeader(b); err != nil {
			return err
		}
		if le.Uint64(b[56:]) != v.directory || v.directory == 0 {
			return errors.New("the footer names another directory")
		}
		v.footer = true
		return nil
	}
	return errors.New("unknown marker")
}

func (v *reader) grain(at, lba uint64, size uint32, first []byte, tell func(int64, []byte) error) error {
	index := lba / grainSectors
	switch {
	case lba%grainSectors != 0 || lba >= v.capacity:
		return errors.New("a grain lies outside of the disk")
	case v.begun && int64(index) <= v.last: //nolint:gosec // the capacity is bounded
		return errors.New("grains are not in order")
	case size > 2*grainBytes:
		return errors.New("a grain is larger than it can be")
	case len(v.wanted) >= tableEntries:
		return errors.New("grains without a table")
	}
	v.begun, v.last = true, int64(index) //nolint:gosec // as above
	b := first[12:]
	if rest := int(size) - len(b); rest > 0 {
		more, err := v.read((rest + sector - 1) / sector * sector)
		if err != nil {
			return err
		}
		b = append(bytes.Clone(b), more...)
	}
	z, err := zlib.NewReader(bytes.NewReader(b[:size]))
	if err != nil {
		return fmt.Errorf("grain %d: %w", index, err)
	}
	data := make([]byte, grainBytes)
	if _, err := io.ReadFull(z, data); err != nil {
		return fmt.Errorf("grain %d: %w", index, err)
	}
	if n, err := z.Read(make([]byte, 1)); n != 0 || err != io.EOF { // its checksum is looked at here
		return fmt.Errorf("grain %d is too long or damaged: %w", index, err)
	}
	v.wanted[index] = uint32(at)         //nolint:gosec // 2 TiB at most
	return tell(int64(lba)*sector, data) //nolint:gosec // as above
}

// table takes the grains that it names from those that wait for one.
func (v *reader) table(at uint64, b []byte) error {
	found := uint64(0)
	for i := range uint64(tableEntries) {
		n := binary.LittleEndian.Uint32(b[i*4:])
		if n == 0 {
			continue
		}
		index := uint64(v.last)/tableEntries*tableEntries + i //nolint:gosec // there was a grain
		if !v.begun || v.wanted[index] != n {
			return fmt.Errorf("a table names sector %d for grain %d, which is not there", n, index)
		}
		delete(v.wanted, index)
		found++
	}
	if found == 0 {
		return errors.New("a table is empty")
	}
	v.tables = append(v.tables, uint32(at)) //nolint:gosec // 2 TiB at most
	return nil
}

func (v *reader) checkDirectory(b []byte) error {
	next := 0
	for i := 0; i < len(b); i += 4 {
		n := binary.LittleEndian.Uint32(b[i:])
		if n == 0 {
			continue
		}
		if next >= len(v.tables) || v.tables[next] != n {
			return fmt.Errorf("the directory names a table at sector %d, which is not there", n)
		}
		next++
	}
	if next != len(v.tables) {
		return errors.New("the directory does not name all tables")
	}
	return nil
}
