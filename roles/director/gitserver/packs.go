package gitserver

import (
	"bufio"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
)

const cacheBytes = 16 << 20 // of small objects that are bases of others

// pack is one open pack. It can be read after its file was removed.
type pack struct {
	name  string
	file  *os.File
	size  int64
	index *idxfile.MemoryIndex
	order []int64 // where objects begin, sorted; made when needed
}

// place is where an object lies.
type place struct {
	pack   *pack
	offset int64
}

// objects reads the objects of a repository as its packs were when it was
// opened. One goroutine uses it.
type objects struct {
	ctx     context.Context
	dir     string // for large objects that must be there as a whole
	packs   []*pack
	inflate inflaters
	in      *bufio.Reader
	unpack  unpacker
	delta   delta

	cached map[place]*list.Element
	recent *list.List // of *cachedObject, latest first
	held   int64
}

type cachedObject struct {
	at   place
	kind plumbing.ObjectType
	body *content
}

// objects opens the packs of a repository.
func (r *repository) objects(ctx context.Context) (*objects, error) {
	r.lock.Lock() // so that packs that are being put together are not missed
	defer r.lock.Unlock()
	return r.lockedObjects(ctx)
}

// lockedObjects is objects for who has the lock.
func (r *repository) lockedObjects(ctx context.Context) (*objects, error) {
	o := &objects{ctx: ctx, dir: filepath.Join(r.dir, "incoming"), in: bufio.NewReaderSize(nil, 16<<10), cached: map[place]*list.Element{}, recent: list.New()}
	o.delta.in = bufio.NewReaderSize(nil, 4<<10)
	dir := filepath.Join(r.dir, "objects/pack")
	names, err := filepath.Glob(filepath.Join(dir, "*.idx"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		p, err := openPack(strings.TrimSuffix(name, ".idx"))
		if err != nil {
			o.close()
			return nil, err
		}
		o.packs = append(o.packs, p)
	}
	slices.SortFunc(o.packs, func(a, b *pack) int { return int(min(1, max(-1, b.size-a.size))) }) // most is found in the largest
	return o, nil
}

func openPack(base string) (*pack, error) {
	f, err := os.Open(base + ".idx")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	p := &pack{name: base, index: idxfile.NewMemoryIndex()}
	if err := idxfile.NewDecoder(bufio.NewReaderSize(f, 256<<10)).Decode(p.index); err != nil {
		return nil, fmt.Errorf("read %s.idx: %w", filepath.Base(base), err)
	}
	if p.file, err = os.Open(base + ".pack"); err != nil {
		return nil, err
	}
	st, err := p.file.Stat()
	if err != nil {
		_ = p.file.Close()
		return nil, err
	}
	p.size = st.Size()
	return p, nil
}

func (o *objects) close() {
	for _, p := range o.packs {
		_ = p.file.Close()
	}
}

// find tells where an object lies: the same place each time.
func (o *objects) find(h plumbing.Hash) (place, bool) {
	for _, p := range o.packs {
		if at, err := p.index.FindOffset(h); err == nil {
			return place{p, at}, true
		}
	}
	return place{}, false
}

func (o *objects) has(h plumbing.Hash) bool {
	_, ok := o.find(h)
	return ok
}

// head reads the head of an object and leaves in at its packed bytes.
func (o *objects) head(at place) (entry, baseRef, error) {
	raw := io.NewSectionReader(at.pack.file, at.offset, at.pack.size-at.offset)
	o.in.Reset(raw)
	e, base, err := readHeader(o.in, func() int64 {
		n, _ := raw.Seek(0, io.SeekCurrent) // never fails
		return at.offset + n - int64(o.in.Buffered())
	})
	return e, base, notWhole(err)
}

func (o *objects) base(at place, b baseRef) (place, error) {
	if b.back > 0 {
		return place{at.pack, at.offset - b.back}, nil
	}
	off, err := at.pack.index.FindOffset(b.hash)
	if err != nil {
		return place{}, fmt.Errorf("the base %s is missing in %s", b.hash, filepath.Base(at.pack.name))
	}
	return place{at.pack, off}, nil
}

// kindOf is what an object is, without reading it.
func (o *objects) kindOf(h plumbing.Hash) (plumbing.ObjectType, bool, error) {
	at, ok := o.find(h)
	if !ok {
		return 0, false, nil
	}
	for {
		e, b, err := o.head(at)
		if err != nil || !e.kind.IsDelta() {
			return e.kind, true, err
		}
		if at, err = o.base(at, b); err != nil {
			return 0, true, err
		}
	}
}

// content is the whole of an object. The caller closes it.
func (o *objects) content(h plumbing.Hash) (plumbing.ObjectType, *content, error) {
	at, ok := o.find(h)
	if !ok {
		return 0, nil, fmt.Errorf("the object %s is missing", h)
	}
	if err := o.ctx.Err(); err != nil {
		return 0, nil, context.Cause(o.ctx)
	}
	return o.contentAt(at)
}

func (o *objects) contentAt(at place) (plumbing.ObjectType, *content, error) {
	var deltas []place // from the object wanted down to the first that is whole
	var kind plumbing.ObjectType
	var body *content
	for {
		if c, ok := o.cached[at]; ok {
			o.recent.MoveToFront(c)
			kind, body = c.Value.(*cachedObject).kind, c.Value.(*cachedObject).body
			break
		}
		e, b, err := o.head(at)
		if err != nil {
			return 0, nil, err
		}
		if e.kind.IsDelta() {
			deltas = append(deltas, at)
			if at, err = o.base(at, b); err != nil {
				return 0, nil, err
			}
			continue
		}
		if body, err = newContent(o.dir, e.size, false); err != nil {
			return 0, nil, err
		}
		if err := errors.Join(o.inflate.inflate(o.in, body, e.size), body.done()); err != nil {
			body.close()
			return 0, nil, err
		}
		kind = e.kind
		o.keep(at, kind, body)
		break
	}
	for _, at := range slices.Backward(deltas) {
		next, err := o.patch(at, body)
		body.close()
		if err != nil {
			next.close()
			return 0, nil, err
		}
		body = next
		o.keep(at, kind, body)
	}
	return kind, body, nil
}

// patch makes the object of a delta.
func (o *objects) patch(at place, base *content) (*content, error) {
	e, _, err := o.head(at)
	if err != nil {
		return nil, err
	}
	var body *content
	err = o.unpack.read(&o.inflate, o.in, e.size, func(packed io.Reader) error {
		body, err = o.apply(packed, base)
		return err
	})
	return body, err
}

func (o *objects) apply(packed io.Reader, base *content) (*content, error) {
	o.delta.in.Reset(packed)
	want, size, err := o.delta.sizes()
	if err != nil {
		return nil, err
	}
	if want != base.size {
		return nil, damaged("a delta is of another base")
	}
	body, err := newContent(o.dir, size, false)
	if err != nil {
		return nil, err
	}
	if err := o.delta.apply(base, body, size); err != nil {
		return body, err
	}
	return body, body.done()
}

// keep remembers small objects: many others are deltas of them.
func (o *objects) keep(at place, kind plumbing.ObjectType, c *content) {
	if c.file != nil || c.size > cacheBytes/16 || o.cached[at] != nil {
		return
	}
	o.cached[at] = o.recent.PushFront(&cachedObject{at, kind, c})
	for o.held += c.size; o.held > cacheBytes; {
		oldest := o.recent.Remove(o.recent.Back()).(*cachedObject)
		delete(o.cached, oldest.at)
		o.held -= oldest.body.size
	}
}

// meta is a commit, tag or tree.
func (o *objects) meta(h plumbing.Hash, kind plumbing.ObjectType) ([]byte, error) {
	got, c, err := o.content(h)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if got != kind {
		return nil, fmt.Errorf("the object %s is a %s, not a %s", h, got, kind)
	}
	return c.whole()
}

func (o *objects) commit(h plumbing.Hash) (commit, error) {
	b, err := o.meta(h, plumbing.CommitObject)
	if err != nil {
		return commit{}, err
	}
	return parseCommit(b)
}

// file is a file of a commit, about to be read once.
type file struct {
	size  int64
	write func(io.Writer) error
	close func()
}

// file opens a file. Only one that lies there as a delta is held as a whole.
func (o *objects) file(h plumbing.Hash) (file, error) {
	at, ok := o.find(h)
	if !ok {
		return file{}, fmt.Errorf("the object %s is missing", h)
	}
	e, _, err := o.head(at)
	if err != nil {
		return file{}, err
	}
	if !e.kind.IsDelta() {
		return file{size: e.size, close: func() {}, write: func(w io.Writer) error {
			if _, _, err := o.head(at); err != nil { // others may have read meanwhile
				return err
			}
			return o.inflate.inflate(o.in, w, e.size)
		}}, nil
	}
	_, c, err := o.content(h)
	if err != nil {
		return file{}, err
	}
	return file{size: c.size, close: c.close, write: func(w io.Writer) error {
		_, err := io.Copy(w, c.reader())
		return err
	}}, nil
}

// end is where the object behind the one at an offset begins.
func (p *pack) end(offset int64) (int64, error) {
	if p.order == nil {
		all, err := p.index.Entries()
		if err != nil {
			return 0, err
		}
		for {
			e, err := all.Next()
			if err != nil {
				break // io.EOF: that were all
			}
			p.order = append(p.order, int64(e.Offset)) //nolint:gosec // offsets of files
		}
		slices.Sort(p.order)
	}
	i := sort.Search(len(p.order), func(i int) bool { return p.order[i] > offset })
	if i == len(p.order) {
		return p.size - trailer, nil
	}
	return p.order[i], nil
}
