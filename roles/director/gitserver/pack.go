package gitserver

import (
	"bufio"
	"context"
	"crypto/sha1" //nolint:gosec // packs end with one
	"encoding/binary"
	"hash"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/klauspost/compress/zlib"
)

// packer writes a pack. Packed bytes are taken over as they lie on the disk
// wherever that can be, so that sending costs little more than reading.
type packer struct {
	o    *objects
	out  *bufio.Writer
	sum  hash.Hash
	sent map[plumbing.Hash]bool // what the pack holds
	z    *zlib.Writer
}

// writePack writes the objects of list as a pack.
func (o *objects) writePack(w io.Writer, list []plumbing.Hash) (plumbing.Hash, error) {
	p := &packer{o: o, sum: sha1.New(), sent: make(map[plumbing.Hash]bool, len(list))} //nolint:gosec // it is git's
	p.out = bufio.NewWriterSize(io.MultiWriter(w, p.sum), 64<<10)
	for _, h := range list {
		p.sent[h] = true
	}
	head := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), uint32(len(list))) //nolint:gosec // at most what we took in
	_, _ = p.out.Write(head)                                                                 // the flush tells
	var sum plumbing.Hash
	for _, h := range list {
		if err := o.ctx.Err(); err != nil {
			return sum, context.Cause(o.ctx)
		}
		if err := p.object(h); err != nil {
			return sum, err
		}
	}
	if err := p.out.Flush(); err != nil {
		return sum, err
	}
	copy(sum[:], p.sum.Sum(nil))
	_, err := w.Write(sum[:])
	return sum, err
}

func (p *packer) object(h plumbing.Hash) error {
	at, ok := p.o.find(h)
	if !ok {
		_, _, err := p.o.content(h) // says that it is missing
		return err
	}
	e, b, err := p.o.head(at)
	if err != nil {
		return err
	}
	var base plumbing.Hash
	if e.kind.IsDelta() {
		from, err := p.o.base(at, b)
		if err != nil {
			return err
		}
		if base, err = at.pack.index.FindHash(from.offset); err != nil {
			return err
		}
		// A base that is not in this pack, or of which another copy goes out
		// that may itself be a delta of us, cannot be one.
		if found, _ := p.o.find(base); !p.sent[base] || found != from {
			return p.anew(h)
		}
		e.kind = plumbing.REFDeltaObject
	}
	end, err := at.pack.end(at.offset)
	if err != nil {
		return err
	}
	p.head(e.kind, e.size)
	if e.kind.IsDelta() {
		_, _ = p.out.Write(base[:])
	}
	_, err = io.Copy(p.out, io.NewSectionReader(at.pack.file, e.data, end-e.data))
	return err
}

// anew packs an object that lies there as a delta of what is not sent.
func (p *packer) anew(h plumbing.Hash) error {
	kind, c, err := p.o.content(h)
	if err != nil {
		return err
	}
	defer c.close()
	p.head(kind, c.size)
	if p.z == nil {
		if p.z, err = zlib.NewWriterLevel(p.out, zlib.BestSpeed); err != nil {
			return err
		}
	} else {
		p.z.Reset(p.out)
	}
	if _, err := io.Copy(p.z, c.reader()); err != nil {
		return err
	}
	return p.z.Close()
}

func (p *packer) head(kind plumbing.ObjectType, size int64) {
	b := byte(kind)<<4 | byte(size&15) //nolint:gosec // kinds are below 8
	for size >>= 4; size > 0; size >>= 7 {
		_ = p.out.WriteByte(b | 0x80) // the flush tells
		b = byte(size & 0x7f)
	}
	_ = p.out.WriteByte(b)
}
