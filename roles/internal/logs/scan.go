package logs

import (
	"bytes"
	"time"

	"nutshell/roles/api"
)

const (
	firstWindow = 64 << 10
	mostWindow  = 4 << 20
	mostLine    = 16 << 20 // a line longer than this counts as several
)

// found is one line of a source, as it lies in what was read.
type found struct {
	seg  int
	off  int64
	line []byte
	head head // with what it takes from lines before it
	key  int64
}

// entry carries time and level from the first line of an entry to those that
// go on.
type entry struct {
	head  head
	level api.LogLevel // of the line before, in logs without times
}

// next is what a line tells, or takes from those before it.
func (e *entry) next(h head, line []byte) head {
	if h.timed {
		e.head = h
		return h
	}
	goesOn := len(line) == 0 || line[0] == ' ' || line[0] == '\t'
	if e.head.timed {
		if !goesOn && h.level != "" && (e.head.level == "" || h.level.Rank() > e.head.level.Rank()) {
			e.head.level = h.level // Java's own format tells the level in the second line
		}
		return head{at: e.head.at, timed: true, level: e.head.level}
	}
	if !goesOn {
		e.level = h.level
	}
	return head{level: e.level}
}

// carried is the entry to which the line at off belongs, if it goes on.
func (s *source) carried(seg int, off int64) entry {
	for seg >= 0 {
		from := max(0, off-nearby)
		b := s.read(seg, from, off)
		i := 0
		if from > 0 {
			i = bytes.IndexByte(b, '\n') + 1
		}
		var e entry
		for i < len(b) {
			end := bytes.IndexByte(b[i:], '\n')
			if end < 0 {
				end = len(b) - i
			}
			e.next(s.rec.head(b[i:i+end]), b[i:i+end])
			i += end + 1
		}
		if e.head.timed || from > 0 || seg == 0 {
			return e
		}
		seg--
		off = s.segs[seg].size
	}
	return entry{}
}

// lines visits the lines of data, which begins at off, and stops when visit
// says so.
func (s *source) lines(seg int, off int64, data []byte, visit func(found) bool) {
	e := entry{}
	begun := false
	for i := 0; i < len(data); {
		end := bytes.IndexByte(data[i:], '\n')
		if end < 0 {
			end = len(data) - i
		}
		line := data[i : i+end]
		h := s.rec.head(line)
		if !begun && !h.timed {
			e = s.carried(seg, off)
		}
		begun = true
		if !visit(found{seg: seg, off: off + int64(i), line: line, head: e.next(h, line)}) {
			return
		}
		i += end + 1
	}
}

// matching visits the lines of data that match.
func (s *source) matching(m *matcher, seg int, off int64, data []byte, visit func(found) bool) {
	if !m.plain() || bytes.IndexByte(data, escape) >= 0 {
		s.lines(seg, off, data, func(f found) bool {
			if m.rank > 0 && f.head.level.Rank() < m.rank || !m.matches(f.line) {
				return true
			}
			return visit(f)
		})
		return
	}
	// Text alone is looked for in all of it at once; only lines that have it are
	// looked at.
	small := m.lower(data)
	for i := 0; i < len(data); {
		at := bytes.Index(small[i:], m.needle)
		if at < 0 {
			return
		}
		from := bytes.LastIndexByte(data[:i+at], '\n') + 1
		end := bytes.IndexByte(data[i+at:], '\n')
		if end < 0 {
			end = len(data) - i - at
		}
		end += i + at
		line := data[from:end]
		if bytes.Contains(small[from:end], m.needle) { // it may have been found over the end of a line
			f := found{seg: seg, off: off + int64(from), line: line, head: s.rec.head(line)}
			if !f.head.timed {
				f.head = s.within(seg, off, data, from, line, f.head)
			}
			if !visit(f) {
				return
			}
		}
		i = end + 1
	}
}

// within finds the entry of a line that goes on, in data or before it.
func (s *source) within(seg int, off int64, data []byte, at int, line []byte, own head) head {
	var h head
	to := at
	for n := 0; to > 0 && at-to < nearby; n++ {
		from := bytes.LastIndexByte(data[:to-1], '\n') + 1
		if h = s.rec.head(data[from : to-1]); h.timed {
			e := entry{}
			s.walk(data[from:at], &e)
			return e.next(own, line)
		}
		to = from
	}
	e := s.carried(seg, off+int64(at))
	return e.next(own, line)
}

func (s *source) walk(b []byte, e *entry) {
	for i := 0; i < len(b); {
		end := bytes.IndexByte(b[i:], '\n')
		if end < 0 {
			end = len(b) - i
		}
		e.next(s.rec.head(b[i:i+end]), b[i:i+end])
		i += end + 1
	}
}

// time is that by which a line is merged with others.
func (s *source) time(f found) int64 {
	if f.head.timed {
		return f.head.at
	}
	return s.fallback
}

// back collects the last lines that match before to, at most limit, oldest
// first. reached is the place down to which all was looked at, nil for all.
func (s *source) back(b *budget, m *matcher, from, to place, limit int) (lines []found, reached *place) {
	window := int64(firstWindow)
	for p := to; from.before(p); {
		if b.spent() {
			return lines, &p
		}
		if p.off == 0 {
			p = place{p.seg - 1, s.segs[p.seg-1].size}
			continue
		}
		low := int64(0)
		if p.seg == from.seg {
			low = from.off
		}
		start := max(low, p.off-window)
		data := s.read(p.seg, start, p.off)
		b.spend(len(data))
		if start > low { // begin with a whole line
			i := bytes.IndexByte(data, '\n') + 1
			if (i == 0 || i == len(data)) && window < mostLine {
				window *= 4
				continue
			}
			data, start = data[i:], start+int64(i)
		}
		var here []found
		s.matching(m, p.seg, start, data, func(f found) bool {
			here = append(here, f)
			if len(here) >= 2*limit {
				here = append(here[:0], here[len(here)-limit:]...)
			}
			return true
		})
		lines = append(here, lines...)
		if len(lines) >= limit {
			lines = lines[len(lines)-limit:]
			return lines, &place{lines[0].seg, lines[0].off}
		}
		p.off = start
		window = min(window*2, mostWindow)
	}
	return lines, nil
}

// ahead visits the lines that match from from to to, oldest first. reached is
// the last line that was looked at, nil where that is the end.
func (s *source) ahead(b *budget, m *matcher, from, to place, visit func(found) bool) (reached *place) {
	window := int64(firstWindow)
	var last place
	for p := from; p.before(to); {
		high := s.segs[p.seg].size
		if p.seg == to.seg {
			high = to.off
		}
		if p.off >= high {
			p = place{p.seg + 1, 0}
			continue
		}
		if b.spent() {
			return &last
		}
		data := s.read(p.seg, p.off, min(high, p.off+window))
		if len(data) == 0 { // cut off by a rotation this moment
			p = place{p.seg, high}
			continue
		}
		b.spend(len(data))
		if p.off+int64(len(data)) < high {
			i := bytes.LastIndexByte(data, '\n') + 1
			if i == 0 && window < mostLine {
				window *= 4
				continue
			}
			if i > 0 {
				data = data[:i]
			}
		}
		stopped := false
		s.matching(m, p.seg, p.off, data, func(f found) bool {
			stopped = !visit(f)
			return !stopped
		})
		last = place{p.seg, p.off + int64(bytes.LastIndexByte(data[:len(data)-1], '\n')) + 1}
		if stopped {
			return &last
		}
		p.off += int64(len(data))
		window = min(window*2, mostWindow)
	}
	return nil
}

// line makes a line as it is told.
func (s *source) line(m *matcher, f found, limit int) api.LogLine {
	l := api.LogLine{ID: s.id(f).Encode(), Level: f.head.level, Service: s.log.Service, Instance: s.log.Instance, Log: s.log.Name}
	l.Text, l.Cut = Clean(f.line, limit)
	if f.head.timed {
		at := time.Unix(0, f.head.at).UTC()
		l.At = &at
	}
	if m != nil && !m.any() {
		l.Matches = m.marks(l.Text)
	}
	return l
}

func (s *source) id(f found) api.LogPlace {
	mark := ""
	if len(f.line) >= markText {
		mark = markOf(f.line)
	} else if f.off+int64(len(f.line)) < s.segs[f.seg].size {
		mark = hashOf(f.line)
	}
	return api.LogPlace{Time: f.key, File: s.segs[f.seg].mark, Offset: f.off, Mark: mark, Instance: s.log.Instance, Log: s.log.Name}
}
