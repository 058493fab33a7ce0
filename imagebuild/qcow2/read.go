package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Read hands over each cluster that holds something, with its place on the
// disk, and returns the capacity in bytes. It reads what Write writes, and says
// of other files that they are others.
func Read(r io.ReaderAt, each func(at int64, data []byte) error) (capacity int64, err error) {
	h := make([]byte, headerBytes)
	if _, err := r.ReadAt(h, 0); err != nil {
		return 0, fmt.Errorf("read qcow2: %w", err)
	}
	be := binary.BigEndian
	capacity = int64(be.Uint64(h[24:])) //nolint:gosec // bounded below
	tables := be.Uint32(h[36:])
	switch {
	case string(h[:4]) != "QFI\xfb":
		return 0, errors.New("this is no qcow2: it does not begin with QFI")
	case be.Uint32(h[4:]) != 3 || be.Uint32(h[20:]) != clusterBits || be.Uint64(h[72:]) != otherMethod || h[104] != zstdMethod || be.Uint64(h[8:]) != 0:
		return 0, errors.New("this qcow2 was not written by Nutshell")
	case capacity <= 0 || capacity > 1<<44 || int64(tables) != (capacity+cluster*perTable-1)/(cluster*perTable):
		return 0, errors.New("this qcow2 says a size that no disk of ours has")
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<20))
	if err != nil {
		return 0, err
	}
	defer z.Close()
	first := make([]byte, tables*8)
	if _, err := r.ReadAt(first, int64(be.Uint64(h[40:]))); err != nil { //nolint:gosec // a wrong place cannot be read
		return 0, fmt.Errorf("read qcow2: table: %w", err)
	}
	table := make([]byte, cluster)
	for i := range int64(tables) {
		at := be.Uint64(first[i*8:]) &^ copied
		if at == 0 {
			continue
		}
		if _, err := r.ReadAt(table, int64(at)); err != nil { //nolint:gosec // as above
			return 0, fmt.Errorf("read qcow2: table %d: %w", i, err)
		}
		for j := range int64(perTable) {
			entry := be.Uint64(table[j*8:])
			if entry == 0 {
				continue
			}
			place := (i*perTable + j) * cluster
			data, err := read(r, z, entry)
			if err != nil {
				return 0, fmt.Errorf("read qcow2: cluster at %d: %w", place, err)
			}
			if err := each(place, data); err != nil {
				return 0, err
			}
		}
	}
	return capacity, nil
}

// read returns a cluster by its entry.
func read(r io.ReaderAt, z *zstd.Decoder, entry uint64) ([]byte, error) {
	if entry&compressed == 0 {
		data := make([]byte, cluster)
		_, err := r.ReadAt(data, int64(entry&^copied)) //nolint:gosec // a wrong place cannot be read
		return data, err
	}
	entry &^= compressed | copied
	at := int64(entry & (1<<sectorsShift - 1)) // the mask bounds it
	sectors := int64(entry >> sectorsShift)
	small := make([]byte, (sectors+1)*sector-at%sector)
	n, err := r.ReadAt(small, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	// What follows belongs to the next cluster: only the first frame counts.
	var h zstd.Header
	if err := h.Decode(small[:n]); err != nil {
		return nil, err
	}
	end, err := frameEnd(small[:n], h)
	if err != nil {
		return nil, err
	}
	data, err := z.DecodeAll(small[:end], nil)
	if err == nil && len(data) != cluster {
		err = fmt.Errorf("it holds %d bytes", len(data))
	}
	return data, err
}

// frameEnd walks over the blocks of a frame without a checksum, see RFC 8878.
func frameEnd(b []byte, h zstd.Header) (int, error) {
	at := h.HeaderSize
	for {
		if at+3 > len(b) {
			return 0, io.ErrUnexpectedEOF
		}
		block := int(b[at]) | int(b[at+1])<<8 | int(b[at+2])<<16
		size := block >> 3
		if block>>1&3 == 1 { // one byte, repeated
			size = 1
		}
		at += 3 + size
		if at > len(b) {
			return 0, io.ErrUnexpectedEOF
		}
		if block&1 == 1 {
			return at, nil
		}
	}
}
