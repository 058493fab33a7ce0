package gitserver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // packs end with one
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
)

// Bounds of a pack that are not a matter of taste.
const (
	maxObjects  = 2_000_000
	maxMeta     = 64 << 20  // bytes of a commit, tag or tree
	maxUnpacked = 128 << 30 // bytes of all objects: a few bytes of delta can make a gigabyte
	trailer     = sha1.Size
)

// entry is one object of a pack that comes in.
type entry struct {
	hash   plumbing.Hash
	offset int64
	data   int64 // where its packed bytes begin
	size   int64 // unpacked; of a delta: the delta's
	crc    uint32
	kind   plumbing.ObjectType // of a delta: zero until it is resolved
	base   int32               // entry that it is a delta of; -1: none, -2: in bases
}

// indexer takes a pack in, looks at every object in it and makes its index.
type indexer struct {
	dir     string // for everything that must not stay if it fails
	limits  Limits
	inflate *inflaters

	file    *os.File
	entries []entry
	byHash  map[plumbing.Hash]int32
	bases   map[int32]plumbing.Hash // of deltas that name their base
	needs   needs
	sum     plumbing.Hash
	index   *idxfile.MemoryIndex
	held    int64 // bytes of bases in memory
	all     int64 // bytes of all objects so far
}

// takeIn reads a pack from in and leaves in as it stands behind it.
func (x *indexer) takeIn(ctx context.Context, in *bufio.Reader) error {
	var err error
	if x.file, err = os.Create(filepath.Join(x.dir, "pack")); err != nil {
		return err
	}
	out := &packFile{ctx: ctx, file: x.file, limit: x.limits.Push}
	tee := bufio.NewReaderSize(io.TeeReader(in, out), 64<<10)
	at := func() int64 { return out.n - int64(tee.Buffered()) }
	if err := x.readEntries(ctx, tee, at); err != nil {
		return err
	}
	end := at()
	if _, err := io.CopyN(io.Discard, tee, trailer); err != nil {
		return notWhole(err)
	}
	if tee.Buffered() > 0 {
		return damaged("something follows its end")
	}
	if err := x.check(end); err != nil {
		return err
	}
	if err := x.resolve(ctx); err != nil {
		return err
	}
	return x.makeIndex()
}

func (x *indexer) close() {
	if x.file != nil {
		_ = x.file.Close()
	}
}

// packFile is the pack on our disk. It refuses what is too much.
type packFile struct {
	ctx      context.Context
	file     *os.File
	n, limit int64
	looked   int64
}

// Write appends.
func (f *packFile) Write(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, context.Cause(f.ctx)
	}
	if f.n+int64(len(p)) > f.limit {
		return 0, tooLarge("the push is larger than %s", bytesText(f.limit), "git.max_push_bytes")
	}
	if f.n == 0 || f.n-f.looked > 8<<20 {
		f.looked = f.n
		if err := roomLeft(f.file.Name()); err != nil {
			return 0, err
		}
	}
	n, err := f.file.Write(p)
	f.n += int64(n)
	return n, err
}

// readEntries reads every object once. Those that are no deltas are known
// then.
func (x *indexer) readEntries(ctx context.Context, in *bufio.Reader, at func() int64) error {
	var head [12]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return notWhole(err)
	}
	count := binary.BigEndian.Uint32(head[8:])
	if string(head[:4]) != "PACK" || binary.BigEndian.Uint32(head[4:]) != 2 {
		return damaged("it does not begin as a pack")
	}
	if count > maxObjects {
		return tooLarge("the push has more than %s objects", fmt.Sprint(maxObjects), "")
	}
	x.byHash, x.bases, x.needs = map[plumbing.Hash]int32{}, map[int32]plumbing.Hash{}, needs{}
	var meta bytes.Buffer
	for n := range int32(count) {
		e, base, err := readHeader(in, at)
		if err != nil {
			return notWhole(err)
		}
		if err := x.count(e.size); err != nil {
			return err
		}
		switch e.kind {
		case plumbing.CommitObject, plumbing.TreeObject, plumbing.TagObject:
			if e.size > maxMeta {
				return tooLarge("a directory in it is larger than %s", bytesText(maxMeta), "")
			}
			meta.Reset()
			if err := x.inflate.inflate(in, &meta, e.size); err != nil {
				return err
			}
			e.hash = plumbing.ComputeHash(e.kind, meta.Bytes())
			err = x.needs.note(e.kind, meta.Bytes())
		case plumbing.BlobObject:
			sum := plumbing.NewHasher(e.kind, e.size)
			err = x.inflate.inflate(in, sum, e.size)
			e.hash = sum.Sum()
		case plumbing.OFSDeltaObject:
			if e.base = x.entryAt(e.offset - base.back); e.base < 0 {
				return damaged("a delta has its base where no object is")
			}
			e.kind = 0
			err = x.inflate.inflate(in, io.Discard, e.size)
		default:
			x.bases[n], e.base, e.kind = base.hash, -2, 0
			err = x.inflate.inflate(in, io.Discard, e.size)
		}
		if err != nil {
			return err
		}
		if e.kind != 0 {
			e.base, x.byHash[e.hash] = -1, n
		}
		x.entries = append(x.entries, e)
	}
	return nil
}

// count refuses a file that is too large, and files that are together.
func (x *indexer) count(size int64) error {
	if size > x.limits.File {
		return tooLarge("a file in it has "+bytesText(size)+", more than %s", bytesText(x.limits.File), "git.max_file_bytes")
	}
	if x.all += size; x.all > maxUnpacked {
		return tooLarge("all in it has more than %s", bytesText(maxUnpacked), "")
	}
	return nil
}

// baseRef says of what a delta is one.
type baseRef struct {
	back int64 // so many bytes before it in the same pack
	hash plumbing.Hash
}

// readHeader reads the head of an object in a pack; at tells where in stands.
func readHeader(in *bufio.Reader, at func() int64) (entry, baseRef, error) {
	var base baseRef
	e := entry{offset: at()}
	b, err := in.ReadByte()
	if err != nil {
		return e, base, err
	}
	e.kind, e.size = plumbing.ObjectType(b>>4&7), int64(b&15) // three bits
	for shift := 4; b >= 0x80; shift += 7 {
		if b, err = in.ReadByte(); err != nil {
			return e, base, err
		}
		if shift > 53 {
			return e, base, damaged("an object's size is too large")
		}
		e.size |= int64(b&0x7f) << shift
	}
	switch e.kind {
	case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
	case plumbing.OFSDeltaObject:
		if b, err = in.ReadByte(); err != nil {
			return e, base, err
		}
		for base.back = int64(b & 0x7f); b >= 0x80; {
			if b, err = in.ReadByte(); err != nil {
				return e, base, err
			}
			if base.back > 1<<48 {
				return e, base, damaged("a delta's base is too far away")
			}
			base.back = (base.back+1)<<7 | int64(b&0x7f)
		}
	case plumbing.REFDeltaObject:
		if _, err = io.ReadFull(in, base.hash[:]); err != nil {
			return e, base, err
		}
	default:
		return e, base, damaged("an object is of a kind that does not exist: %d", e.kind)
	}
	e.data = at()
	return e, base, nil
}

// entryAt finds the object that begins at an offset.
func (x *indexer) entryAt(offset int64) int32 {
	lo, hi := 0, len(x.entries)
	for lo < hi {
		mid := (lo + hi) / 2
		if x.entries[mid].offset < offset {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(x.entries) && x.entries[lo].offset == offset {
		return int32(lo)
	}
	return -1
}

// check compares the pack's sum and makes that of each object.
func (x *indexer) check(end int64) error {
	in := bufio.NewReaderSize(io.NewSectionReader(x.file, 0, end+trailer), 256<<10)
	sum := sha1.New() //nolint:gosec // it is git's
	if _, err := io.CopyN(sum, in, 12); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for i := range x.entries {
		left := end - x.entries[i].offset
		if i+1 < len(x.entries) {
			left = x.entries[i+1].offset - x.entries[i].offset
		}
		for left > 0 {
			part := buf[:min(left, int64(len(buf)))]
			if _, err := io.ReadFull(in, part); err != nil {
				return err
			}
			_, _ = sum.Write(part) // never fails
			x.entries[i].crc = crc32.Update(x.entries[i].crc, crc32.IEEETable, part)
			left -= int64(len(part))
		}
	}
	if _, err := io.ReadFull(in, x.sum[:]); err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), x.sum[:]) {
		return damaged("its checksum is wrong")
	}
	return nil
}

func (x *indexer) makeIndex() error {
	w := &idxfile.Writer{}
	if err := w.OnHeader(uint32(len(x.entries))); err != nil { //nolint:gosec // at most maxObjects
		return err
	}
	for _, e := range x.entries {
		w.Add(e.hash, uint64(e.offset), e.crc) //nolint:gosec // offsets are positive
	}
	if err := w.OnFooter(x.sum); err != nil {
		return err
	}
	var err error
	if x.index, err = w.Index(); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(x.dir, "idx"))
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(f, 64<<10)
	_, err = idxfile.NewEncoder(out).Encode(x.index)
	return errors.Join(err, out.Flush(), f.Sync(), f.Close(), x.file.Sync())
}

// keep moves pack and index into a repository. The index comes last: without
// one, git and we take no notice of a pack.
func (x *indexer) keep(dir string) error {
	if len(x.entries) == 0 {
		return nil
	}
	place := filepath.Join(dir, "objects/pack", "pack-"+x.sum.String())
	for _, suffix := range []string{"pack", "idx"} {
		if err := os.Chmod(filepath.Join(x.dir, suffix), 0o400); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(x.dir, suffix), place+"."+suffix); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(place))
}

// size is the size of the pack.
func (x *indexer) size() int64 {
	st, err := x.file.Stat()
	if err != nil {
		return 0
	}
	return st.Size()
}
