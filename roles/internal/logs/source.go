package logs

import (
	"bytes"
	"errors"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"nutshell/roles/api"
)

const (
	nearby   = 64 << 10 // how far is looked for the time of a line that has none
	markLine = 256      // bytes of the first line by which a file is known
	markText = 24       // bytes of a line by which it is known
	restTime = time.Second
)

// segment is one file of a log.
type segment struct {
	f    *os.File
	size int64
	mark string // of its first line; empty: it has none yet
}

// source is a log that was opened: its files, the oldest first.
type source struct {
	log      Log
	segs     []segment
	rec      recogniser
	written  time.Time // last
	fallback int64     // time of lines before any that tells one
}

// place is where in a source.
type place struct {
	seg int
	off int64
}

func (p place) before(o place) bool { return p.seg < o.seg || p.seg == o.seg && p.off < o.off }

// open opens a log. One that does not exist yet is empty.
func open(l Log) (*source, error) {
	s := &source{log: l, rec: recogniser{zone: time.Local, now: time.Now()}}
	for _, path := range []string{l.Path + ".1", l.Path} {
		if err := s.add(path); err != nil {
			s.close()
			return nil, err
		}
	}
	if len(s.segs) == 2 && s.doubled() { // just being rotated
		_ = s.segs[0].f.Close()
		s.segs = s.segs[1:]
	}
	s.fallback = s.written.UnixNano()
	if len(s.segs) > 0 {
		if at, _, ok := s.firstTimed(0, 0, nearby); ok {
			s.fallback = at
		}
	}
	return s, nil
}

func (s *source) add(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &api.Error{Code: api.CodeUnavailable, Op: "read", Object: "log " + s.log.Name, Err: errors.Unwrap(err)}
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		_ = f.Close()
		return err
	}
	first := make([]byte, markLine)
	n, _ := f.ReadAt(first, 0)
	g := segment{f: f, size: st.Size()}
	if end := bytes.IndexByte(first[:n], '\n'); end >= 0 {
		g.mark = hashOf(first[:end])
	} else if n == markLine {
		g.mark = hashOf(first)
	}
	if time.Since(st.ModTime()) < restTime { // its last line may be half written
		g.size = wholeLines(f, g.size)
	}
	s.written = st.ModTime()
	s.segs = append(s.segs, g)
	return nil
}

// wholeLines is where the last whole line ends.
func wholeLines(f *os.File, size int64) int64 {
	b := make([]byte, min(size, nearby))
	n, _ := f.ReadAt(b, size-int64(len(b)))
	if i := bytes.LastIndexByte(b[:n], '\n'); i >= 0 {
		return size - int64(len(b)) + int64(i) + 1
	}
	return size
}

// doubled reports whether the older file is a copy of the beginning of the
// newer one.
func (s *source) doubled() bool {
	old, now := s.segs[0], s.segs[1]
	if old.mark != now.mark || old.size > now.size {
		return false
	}
	n := min(old.size, 256)
	a, b := make([]byte, n), make([]byte, n)
	if _, err := old.f.ReadAt(a, old.size-n); err != nil {
		return false
	}
	_, err := now.f.ReadAt(b, old.size-n)
	return err == nil && bytes.Equal(a, b)
}

func (s *source) close() {
	for _, g := range s.segs {
		_ = g.f.Close()
	}
}

func hashOf(b []byte) string {
	h := fnv.New32a()
	_, _ = h.Write(b)
	return strconv.FormatUint(uint64(h.Sum32()), 36)
}

func (s *source) key() string { return s.log.Instance + "~" + s.log.Name }

func (s *source) beginning() place { return place{} }

func (s *source) end() place {
	if len(s.segs) == 0 {
		return place{}
	}
	return place{len(s.segs) - 1, s.segs[len(s.segs)-1].size}
}

// read reads from a file what there is of a stretch.
func (s *source) read(seg int, from, to int64) []byte {
	to = min(to, s.segs[seg].size)
	if to <= from {
		return nil
	}
	b := make([]byte, to-from)
	n, err := s.segs[seg].f.ReadAt(b, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	return b[:n]
}

// firstTimed finds the first line at or behind from, which is where a line
// begins or anywhere in one, that tells its time.
func (s *source) firstTimed(seg int, from, to int64) (at, off int64, ok bool) {
	b := s.read(seg, from, to)
	i := 0
	if from > 0 {
		if i = bytes.IndexByte(b, '\n') + 1; i == 0 {
			return 0, 0, false
		}
	}
	for i < len(b) {
		end := bytes.IndexByte(b[i:], '\n')
		if end < 0 {
			end = len(b) - i
		}
		if h := s.rec.head(b[i : i+end]); h.timed {
			return h.at, from + int64(i), true
		}
		i += end + 1
	}
	return 0, 0, false
}

// seek finds the place behind the last line whose time is before t, or not
// after t where inclusive. Lines are taken to be nearly in order.
func (s *source) seek(t int64, inclusive bool) place {
	passed := func(at int64) bool { return at > t || at == t && !inclusive }
	for seg := len(s.segs) - 1; seg >= 0; seg-- {
		at, _, ok := s.firstTimed(seg, 0, min(s.segs[seg].size, nearby))
		if !ok {
			at = s.fallback
		}
		if passed(at) {
			continue
		}
		if !ok {
			return place{seg, s.segs[seg].size}
		}
		return place{seg, s.seekIn(seg, passed)}
	}
	return place{}
}

func (s *source) seekIn(seg int, passed func(int64) bool) int64 {
	lo, hi := int64(0), s.segs[seg].size
	for hi-lo > nearby {
		mid := (lo + hi) / 2
		at, off, ok := s.firstTimed(seg, mid, min(hi, mid+nearby))
		if !ok || passed(at) {
			hi = mid
			continue
		}
		lo = off
	}
	// The end of the last entry that is not passed, a little behind hi too:
	// neighbours are often not quite in order.
	to := min(hi+nearby, s.segs[seg].size)
	b := s.read(seg, lo, to)
	best, open := lo, false
	for i := 0; i < len(b); {
		end := bytes.IndexByte(b[i:], '\n')
		if end < 0 {
			end = len(b) - i
		}
		if h := s.rec.head(b[i : i+end]); h.timed {
			if !passed(h.at) {
				open = true
			} else if open {
				best, open = lo+int64(i), false
			}
		}
		i += end + 1
	}
	if open { // nothing passed behind it: its entry goes on to the end of what was read
		return to
	}
	return best
}

// find finds the line of an id. Its file may be the older one by now.
func (s *source) find(p api.LogPlace) (place, bool) {
	for seg := len(s.segs) - 1; seg >= 0; seg-- {
		g := s.segs[seg]
		if g.mark != p.File || p.Offset >= g.size {
			continue
		}
		if p.Mark == "" || p.Mark == s.markAt(seg, p.Offset) {
			return place{seg, p.Offset}, true
		}
	}
	return place{}, false
}

func (s *source) markAt(seg int, off int64) string {
	b := s.read(seg, off, off+markText)
	return markOf(b)
}

// markOf knows a line by its first letters; one whose end is not there yet may
// become another.
func markOf(b []byte) string {
	b = b[:min(len(b), markText)]
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		b = b[:i]
	} else if len(b) < markText {
		return ""
	}
	return hashOf(b)
}

// behind is where the line that begins at p ends.
func (s *source) behind(p place) place {
	for off := p.off; off < s.segs[p.seg].size; off += nearby {
		b := s.read(p.seg, off, off+nearby)
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			return place{p.seg, off + int64(i) + 1}
		}
	}
	return place{p.seg, s.segs[p.seg].size}
}

// from is where a cursor points to in this source. after is whether lines
// behind the cursor are wanted.
func (s *source) from(c api.LogPlace, after bool) place {
	if c.File != "" && c.Source() == s.key() {
		if p, ok := s.find(c); ok {
			if after {
				p = s.behind(p)
			}
			return p
		}
	}
	if c.File == "" { // a time: older lines end before it, newer ones begin with it
		return s.seek(c.Time, false)
	}
	return s.seek(c.Time, s.key() <= c.Source())
}

// bounds are the places between which a query looks.
func (s *source) bounds(q Query) (from, to place) {
	from, to = s.beginning(), s.end()
	if !q.Since.IsZero() {
		from = s.seek(q.Since.UnixNano(), false)
	}
	if !q.Until.IsZero() {
		to = s.seek(q.Until.UnixNano(), true)
	}
	return from, to
}
