package gitserver

import (
	"bufio"
	"context"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
)

const (
	maxDepth = 4095     // of a chain of deltas, as git has it
	maxHeld  = 32 << 20 // bytes of bases in memory; further ones lie in files
)

// resolve makes every delta's object once, so that its name is known. Each
// tree of deltas is walked from its root, depth first: only the bases on the
// way are there at any time.
func (x *indexer) resolve(ctx context.Context) error {
	children := make(map[int32][]int32)
	for i := range x.entries {
		if b := x.entries[i].base; b >= 0 {
			children[b] = append(children[b], int32(i))
		}
	}
	named := make(map[plumbing.Hash][]int32)
	for i, h := range x.bases {
		named[h] = append(named[h], i)
	}
	w := &deltaWalk{x: x, children: children, named: named, in: bufio.NewReaderSize(nil, 16<<10)}
	w.delta.in = bufio.NewReaderSize(nil, 4<<10)
	for i := range x.entries {
		if x.entries[i].kind == 0 || x.entries[i].base != -1 {
			continue // a delta, perhaps one that is resolved by now
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := w.from(int32(i)); err != nil {
			return err
		}
	}
	for i := range x.entries {
		if x.entries[i].kind == 0 {
			return damaged("it holds deltas without their bases; push again with --no-thin")
		}
	}
	return nil
}

type deltaWalk struct {
	x        *indexer
	children map[int32][]int32
	named    map[plumbing.Hash][]int32
	in       *bufio.Reader
	unpack   unpacker
	delta    delta
}

// step is one base on the way.
type step struct {
	kind plumbing.ObjectType
	body *content
	next []int32
}

func (w *deltaWalk) next(i int32) []int32 {
	h := w.x.entries[i].hash
	list := append(w.children[i], w.named[h]...)
	delete(w.named, h) // a second copy of the object need not be a base again
	return list
}

func (w *deltaWalk) from(root int32) (err error) {
	next := w.next(root)
	if len(next) == 0 {
		return nil
	}
	e := &w.x.entries[root]
	body, err := w.x.room(e.size)
	if err != nil {
		return err
	}
	way := []step{{e.kind, body, next}}
	defer func() {
		for _, s := range way {
			w.x.release(s.body)
		}
	}()
	if err := w.x.inflate.inflate(w.at(e), body, e.size); err != nil {
		return err
	}
	if err := body.done(); err != nil {
		return err
	}
	for len(way) > 0 {
		last := &way[len(way)-1]
		if len(last.next) == 0 {
			w.x.release(last.body)
			way = way[:len(way)-1]
			continue
		}
		i := last.next[0]
		last.next = last.next[1:]
		if w.x.entries[i].kind != 0 {
			continue
		}
		body, err := w.make(i, *last)
		if err != nil {
			w.x.release(body)
			return err
		}
		next := w.next(i)
		if len(next) == 0 {
			w.x.release(body)
			continue
		}
		if len(way) > maxDepth {
			w.x.release(body)
			return damaged("a chain of deltas is longer than %d", maxDepth)
		}
		way = append(way, step{last.kind, body, next})
	}
	return nil
}

func (w *deltaWalk) at(e *entry) *bufio.Reader {
	st, err := w.x.file.Stat()
	if err != nil {
		w.in.Reset(errReader{err})
		return w.in
	}
	w.in.Reset(io.NewSectionReader(w.x.file, e.data, st.Size()-e.data))
	return w.in
}

type errReader struct{ error }

// Read fails.
func (r errReader) Read([]byte) (int, error) { return 0, r.error }

// make makes a delta's object of its base, and looks at it.
func (w *deltaWalk) make(i int32, base step) (*content, error) {
	e, in := &w.x.entries[i], w.at(&w.x.entries[i])
	var body *content
	err := w.unpack.read(w.x.inflate, in, e.size, func(packed io.Reader) (err error) {
		body, err = w.apply(packed, base, i)
		return err
	})
	return body, err
}

// apply gives back what has to be released even if it fails.
func (w *deltaWalk) apply(packed io.Reader, base step, i int32) (*content, error) {
	e, d := &w.x.entries[i], &w.delta
	d.in.Reset(packed)
	want, size, err := d.sizes()
	if err != nil {
		return nil, err
	}
	if want != base.body.size {
		return nil, damaged("a delta is of another base")
	}
	if err := w.x.count(size); err != nil {
		return nil, err
	}
	if base.kind != plumbing.BlobObject && size > maxMeta {
		return nil, tooLarge("a directory in it is larger than %s", bytesText(maxMeta), "")
	}
	body, err := w.x.room(size)
	if err != nil {
		return nil, err
	}
	sum := plumbing.NewHasher(base.kind, size)
	if err := d.apply(base.body, io.MultiWriter(body, sum), size); err != nil {
		return body, err
	}
	if err := body.done(); err != nil {
		return body, err
	}
	e.kind, e.hash = base.kind, sum.Sum()
	w.x.byHash[e.hash] = i
	if e.kind == plumbing.BlobObject {
		return body, nil
	}
	b, err := body.whole()
	if err != nil {
		return body, err
	}
	return body, w.x.needs.note(e.kind, b)
}

// room makes room for a base, in memory while there is enough of it.
func (x *indexer) room(size int64) (*content, error) {
	c, err := newContent(x.dir, size, x.held+size > maxHeld)
	if err == nil && c.file == nil {
		x.held += size
	}
	return c, err
}

func (x *indexer) release(c *content) {
	if c != nil && c.file == nil {
		x.held -= c.size
	}
	c.close()
}
