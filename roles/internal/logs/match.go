package logs

import (
	"bytes"
	"regexp"
	"strings"
	"unicode/utf8"
)

// mostMatches bounds what is marked in one line.
const mostMatches = 50

// matcher finds what is searched for in lines.
type matcher struct {
	needle []byte // in small letters, where all of it is ASCII
	re     *regexp.Regexp
	rank   int // least, of levels
	small  []byte
}

// matcher of a query. Go's expressions take time linear in the text, so
// that none can hang.
func (q Query) matcher() (*matcher, error) {
	m := &matcher{rank: q.Level.Rank()}
	if q.Level == "" {
		m.rank = 0
	}
	var err error
	switch {
	case q.Regex != "":
		m.re, err = regexp.Compile(q.Regex)
	case q.Search != "" && isASCII(q.Search):
		m.needle = []byte(strings.ToLower(q.Search))
	case q.Search != "":
		m.re, err = regexp.Compile("(?i)" + regexp.QuoteMeta(q.Search))
	}
	if err != nil {
		return nil, wrong("regex", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return m, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// plain reports whether lines can be found without being looked at one by one.
func (m *matcher) plain() bool { return m.needle != nil && m.rank == 0 }

func (m *matcher) any() bool { return m.needle == nil && m.re == nil }

// lower is b in small letters, good until the next call.
func (m *matcher) lower(b []byte) []byte {
	if cap(m.small) < len(b) {
		m.small = make([]byte, len(b))
	}
	s := m.small[:len(b)]
	lowerTo(s, b)
	return s
}

func lowerTo(to, b []byte) {
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		to[i] = c
	}
}

// matches reports whether a line has what is searched for. Colours in the
// middle of it do not matter.
func (m *matcher) matches(line []byte) bool {
	if m.any() {
		return true
	}
	if bytes.IndexByte(line, escape) >= 0 {
		line = stripColours(line)
	}
	if m.needle != nil {
		return bytes.Contains(m.lower(line), m.needle)
	}
	return m.re.Match(line)
}

// marks are where a text has it, in units of UTF-16.
func (m *matcher) marks(text string) [][2]int {
	var found [][]int
	switch {
	case m.needle != nil:
		small := []byte(text) // not m.small, in which a search may be under way
		lowerTo(small, small)
		for at := 0; len(found) < mostMatches; {
			i := bytes.Index(small[at:], m.needle)
			if i < 0 {
				break
			}
			found = append(found, []int{at + i, at + i + len(m.needle)})
			at += i + len(m.needle)
		}
	case m.re != nil:
		found = m.re.FindAllStringIndex(text, mostMatches)
	}
	var marks [][2]int
	at, units := 0, 0
	for _, f := range found {
		units += utf16Length(text[at:f[0]])
		from := units
		units += utf16Length(text[f[0]:f[1]])
		at = f[1]
		if units > from {
			marks = append(marks, [2]int{from, units})
		}
	}
	return marks
}

func utf16Length(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}
