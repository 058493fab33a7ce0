// Package qcow2 writes disks as QEMU, OpenStack and OpenNebula take them:
// version 3, each cluster compressed with zstd on its own. The same disk gives
// the same bytes. QEMU reads such files since 5.1.
package qcow2

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"nutshell/imagebuild/sparse"
)

// Sizes and bits of the format, see docs/interop/qcow2.rst of QEMU.
const (
	clusterBits = 16
	cluster     = 1 << clusterBits
	perTable    = cluster / 8 // entries of a second-level table
	perCounts   = cluster / 2 // 16-bit reference counts in a cluster
	headerBytes = 112

	copied       = 1 << 63
	compressed   = 1 << 62
	sectorsShift = 62 - (clusterBits - 8) // of the field in a compressed entry that counts sectors
	otherMethod  = 1 << 3                 // an incompatible feature: not deflate
	zstdMethod   = 1
	sector       = 512
)

// writer lays a disk out behind its header: data in the order of the disk, then
// tables, then reference counts.
type writer struct {
	out  *bufio.Writer
	at   int64 // in the file
	refs map[int64]uint16
	err  error
}

// Write writes the disk that raw holds to out, which must be empty. What raw has
// less than capacity bytes is zeros. Progress is told how much of the disk is
// done, 0 to 1.
func Write(ctx context.Context, out *os.File, raw *os.File, capacity int64, progress func(float64)) error {
	if capacity <= 0 || capacity%sector != 0 {
		return fmt.Errorf("a disk of %d bytes is not a multiple of %d", capacity, sector)
	}
	w := &writer{out: bufio.NewWriterSize(out, 1<<20), refs: map[int64]uint16{}}
	w.put(make([]byte, cluster)) // the header comes in the end
	clusters := (capacity + cluster - 1) / cluster
	entries := make([]uint64, clusters)
	if err := w.data(ctx, raw, entries, progress); err != nil {
		return err
	}
	first, firstAt := w.tables(entries)
	countsAt, countClusters := w.counts()
	if err := errors.Join(w.err, w.out.Flush()); err != nil {
		return err
	}
	h := make([]byte, headerBytes)
	be := binary.BigEndian
	copy(h, "QFI\xfb")
	be.PutUint32(h[4:], 3)
	be.PutUint32(h[20:], clusterBits)
	be.PutUint64(h[24:], uint64(capacity))      // positive
	be.PutUint32(h[36:], uint32(len(first)))    //nolint:gosec // counts and places, positive
	be.PutUint64(h[40:], uint64(firstAt))       //nolint:gosec // counts and places, positive
	be.PutUint64(h[48:], uint64(countsAt))      //nolint:gosec // counts and places, positive
	be.PutUint32(h[56:], uint32(countClusters)) //nolint:gosec // small
	be.PutUint64(h[72:], otherMethod)
	be.PutUint32(h[96:], 4) // 2^4 bits for each count
	be.PutUint32(h[100:], headerBytes)
	h[104] = zstdMethod
	_, err := out.WriteAt(h, 0)
	return err
}

// data writes the clusters that hold something, packed behind each other.
func (w *writer) data(ctx context.Context, raw *os.File, entries []uint64, progress func(float64)) error {
	extents, err := sparse.Extents(raw)
	if err != nil {
		return err
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(cluster))
	if err != nil {
		return err
	}
	buf, zero := make([]byte, cluster), make([]byte, cluster)
	next := int64(0)
	for _, e := range extents {
		for next = max(next, e.At/cluster); next*cluster < e.At+e.Length; next++ {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if next >= int64(len(entries)) {
				return errors.New("the disk is larger than it was said to be")
			}
			clear(buf)
			if _, err := raw.ReadAt(buf, next*cluster); err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read disk: %w", err)
			}
			if bytes.Equal(buf, zero) {
				continue
			}
			entries[next] = w.cluster(buf, z)
			progress(float64(next) / float64(len(entries)))
		}
	}
	w.align()
	return w.err
}

// cluster writes one cluster and returns its entry in the table.
func (w *writer) cluster(data []byte, z *zstd.Encoder) uint64 {
	small := z.EncodeAll(data, nil)
	if len(small) >= cluster-sector {
		w.align()
		at := w.at
		w.put(data)
		w.refs[at/cluster]++
		return uint64(at) | copied //nolint:gosec // positive
	}
	at := w.at
	w.put(small)
	last := w.at - 1
	for c := at / cluster; c <= last/cluster; c++ {
		w.refs[c]++
	}
	sectors := last/sector - at/sector                             // beside the first
	return uint64(at) | uint64(sectors)<<sectorsShift | compressed //nolint:gosec // positive
}

// tables writes the second-level tables and the first-level one.
func (w *writer) tables(entries []uint64) (first []uint64, at int64) {
	for from := 0; from < len(entries); from += perTable {
		part := entries[from:min(from+perTable, len(entries))]
		used := false
		for _, e := range part {
			used = used || e != 0
		}
		if !used {
			first = append(first, 0)
			continue
		}
		first = append(first, uint64(w.at)|copied) //nolint:gosec // positive
		w.numbers(part)
	}
	at = w.at
	w.numbers(first)
	return first, at
}

// counts writes how often each cluster of the file is referred to, with those
// that hold the counts themselves.
func (w *writer) counts() (at, tableClusters int64) {
	for c := range w.at / cluster {
		if w.refs[c] == 0 {
			w.refs[c] = 1 // header and tables
		}
	}
	used := w.at / cluster
	blocks := int64(0)
	for { // the counts count themselves
		tableClusters = (blocks*8 + cluster - 1) / cluster
		need := (used + blocks + tableClusters + perCounts - 1) / perCounts
		if need == blocks {
			break
		}
		blocks = need
	}
	start := w.at
	all := make([]byte, blocks*cluster)
	for c := range used + blocks + tableClusters {
		n := w.refs[c]
		if c >= used {
			n = 1
		}
		binary.BigEndian.PutUint16(all[c*2:], n)
	}
	w.put(all)
	table := make([]uint64, blocks)
	for i := range table {
		table[i] = uint64(start + int64(i)*cluster) //nolint:gosec // positive
	}
	at = w.at
	w.numbers(table)
	return at, tableClusters
}

func (w *writer) numbers(list []uint64) {
	b := make([]byte, 0, len(list)*8)
	for _, n := range list {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	w.put(b)
	w.align()
}

func (w *writer) align() {
	if rest := w.at % cluster; rest != 0 {
		w.put(make([]byte, cluster-rest))
	}
}

func (w *writer) put(b []byte) {
	if w.err == nil {
		_, w.err = w.out.Write(b)
	}
	w.at += int64(len(b))
}
