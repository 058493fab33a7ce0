package logs

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	escape = 0x1b
	// longest is how much of a line is shown.
	longest = 8 << 10
	// wholeLine is how much of it is given where it shall not be cut.
	wholeLine = 64 << 10
)

// stripColours takes terminal sequences out of a line.
func stripColours(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); {
		if b[i] != escape {
			out = append(out, b[i])
			i++
			continue
		}
		i += sequence(b[i:])
	}
	return out
}

// sequence is the length of the terminal sequence at the beginning of b.
func sequence(b []byte) int {
	if len(b) < 2 {
		return 1
	}
	switch b[1] {
	case '[': // up to a letter
		for i := 2; i < len(b); i++ {
			if b[i] >= 0x40 && b[i] <= 0x7e {
				return i + 1
			}
			if b[i] < 0x20 || b[i] > 0x7e {
				return i
			}
		}
		return len(b)
	case ']', 'P', '_', '^', 'X': // up to BEL or ESC \
		for i := 2; i < len(b); i++ {
			if b[i] == 7 {
				return i + 1
			}
			if b[i] == escape {
				return min(i+2, len(b))
			}
		}
		return len(b)
	}
	return 2
}

// Clean makes the text of a line harmless: no colours, no control characters,
// no letters that turn others around, nothing that is not UTF-8. At most limit
// bytes of it are taken; cut is how many were left out.
func Clean(line []byte, limit int) (text string, cut int64) {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if len(line) > limit {
		cut = int64(len(line) - limit)
		line = line[:limit]
		for n := 0; n < utf8.UTFMax-1 && len(line) > 0; n++ { // no half letters
			if r, size := utf8.DecodeLastRune(line); r != utf8.RuneError || size != 1 {
				break
			}
			line = line[:len(line)-1]
			cut++
		}
	}
	if bytes.IndexByte(line, escape) >= 0 {
		line = stripColours(line)
	}
	if harmless(line) {
		return string(line), cut
	}
	var b strings.Builder
	b.Grow(len(line))
	for len(line) > 0 {
		r, size := utf8.DecodeRune(line)
		line = line[size:]
		if r != '\t' && dangerous(r) {
			r = utf8.RuneError
		}
		b.WriteRune(r)
	}
	return b.String(), cut
}

func harmless(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c >= 0x7f {
			return false
		}
	}
	return true
}

// dangerous are control characters, and those that change the direction of
// text or the end of lines.
func dangerous(r rune) bool {
	return unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x2028 || r == 0x2029 || r == 0x200e || r == 0x200f || r == 0xfeff
}
