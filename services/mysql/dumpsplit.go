package mysql

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"nutshell/roles/api"
)

// splitter cuts a dump into statements, as MariaDB's own client does: by a
// delimiter that stands neither in quotes nor in a comment. It knows none of
// that client's commands but DELIMITER. Memory is bounded by the longest
// statement that is allowed.
type splitter struct {
	r     io.Reader
	most  int  // bytes of one statement
	plain bool // a backslash in quotes is a character as any: sql_mode NO_BACKSLASH_ESCAPES

	buf       []byte
	at        int // what is before it was consumed
	ended     error
	line      int // of at, from 1
	bytes     int64
	delimiter []byte
	header    bool // it says that mariadb-dump or mysqldump made it
	completed bool // and that it is complete
}

func newSplitter(r io.Reader, most int) *splitter {
	return &splitter{r: r, most: most, line: 1, delimiter: []byte(";")}
}

// statement is one statement and the line where it begins.
type statement struct {
	text []byte // valid until the next one is asked for
	line int
	// cut says that no delimiter followed: the dump ends with it.
	cut bool
}

const readSize = 256 << 10

// fill reads on. It keeps what was not consumed.
func (s *splitter) fill() {
	if s.at > 0 && (s.at == len(s.buf) || s.at > readSize) {
		s.buf = append(s.buf[:0], s.buf[s.at:]...)
		s.at = 0
	}
	n := len(s.buf)
	if cap(s.buf)-n < readSize {
		grown := make([]byte, n, max(2*cap(s.buf), n+readSize))
		copy(grown, s.buf)
		s.buf = grown
	}
	m, err := s.r.Read(s.buf[n : n+readSize])
	s.buf, s.bytes = s.buf[:n+m], s.bytes+int64(m)
	s.ended = err
}

// need makes n bytes behind position i readable, if there are as many.
func (s *splitter) need(i *int, n int) bool {
	for *i+n > len(s.buf) {
		if s.ended != nil {
			return false
		}
		before := s.at
		s.fill()
		*i -= before - s.at
	}
	return true
}

// consume goes on to i.
func (s *splitter) consume(i int) {
	s.line += bytes.Count(s.buf[s.at:i], []byte("\n"))
	s.at = i
}

// next returns the next statement, io.EOF behind the last one, or why there is
// none.
func (s *splitter) next() (statement, error) {
	if err := s.blank(); err != nil {
		return statement{}, err
	}
	st := statement{line: s.line}
	quote := byte(0)
	for i := s.at; ; {
		if i-s.at > s.most {
			return st, s.refuse(st.line, fmt.Sprintf("this statement is longer than %d MB", s.most>>20), "make the dump again with shorter ones: --net-buffer-length=1M, or without --extended-insert")
		}
		if !s.need(&i, 1) {
			if !errors.Is(s.ended, io.EOF) {
				return st, s.ended
			}
			i = len(s.buf)
			st.text, st.cut = bytes.TrimSpace(s.buf[s.at:i]), true
			s.consume(i)
			if quote != 0 {
				return st, s.refuse(st.line, "it ends in the middle of the statement that begins there: it was broken off", "")
			}
			if len(st.text) == 0 {
				return st, io.EOF
			}
			return st, nil
		}
		c := s.buf[i]
		switch {
		case quote != 0:
			if c == '\\' && quote != '`' && !s.plain {
				i++
				s.need(&i, 1)
			} else if c == quote { // a doubled one ends and begins
				quote = 0
			}
			i++
		case c == s.delimiter[0] && s.need(&i, len(s.delimiter)) && bytes.HasPrefix(s.buf[i:], s.delimiter):
			st.text = bytes.TrimSpace(s.buf[s.at:i])
			s.consume(i + len(s.delimiter))
			return st, nil
		case c == '\'' || c == '"' || c == '`':
			quote = c
			i++
		case c == '#' || c == '-' || c == '/':
			i = s.skip(i)
		default:
			i++
		}
	}
}

// skip goes over a comment at i, or over one byte.
func (s *splitter) skip(i int) int {
	switch end := s.comment(&i); end {
	case "":
		return i + 1
	default:
		for !bytes.HasPrefix(s.buf[i:], []byte(end)) {
			if i++; !s.need(&i, len(end)) {
				return len(s.buf)
			}
			if i-s.at > s.most {
				return i // next refuses it
			}
		}
		return i + len(end)
	}
}

// comment says what ends the comment that begins at i, or "". What servers
// carry out although it looks like a comment is none.
func (s *splitter) comment(i *int) string {
	s.need(i, 4)
	rest := s.buf[*i:]
	switch {
	case rest[0] == '#':
		return "\n"
	case bytes.HasPrefix(rest, []byte("--")) && (len(rest) == 2 || rest[2] <= ' '):
		return "\n"
	case bytes.HasPrefix(rest, []byte("/*")) && !bytes.HasPrefix(rest, []byte("/*!")) && !bytes.HasPrefix(rest, []byte("/*M!")):
		return "*/"
	}
	return ""
}

// blank goes over blanks, comments, empty statements and DELIMITER commands
// before a statement.
func (s *splitter) blank() error {
	for {
		i := s.at
		if !s.need(&i, 1) {
			if errors.Is(s.ended, io.EOF) {
				return io.EOF
			}
			return s.ended
		}
		c := s.buf[i]
		switch {
		case c <= ' ':
			s.consume(i + 1)
		case c == '#' || c == '-' || c == '/':
			end := s.skip(i)
			i = s.at // reading on may have moved it
			if end == i+1 {
				return nil
			}
			if end-i > s.most {
				return s.refuse(s.line, fmt.Sprintf("this comment is longer than %d MB", s.most>>20), "")
			}
			s.remark(s.buf[i:end])
			s.consume(end)
		case s.need(&i, len(s.delimiter)) && bytes.HasPrefix(s.buf[i:], s.delimiter):
			s.consume(i + len(s.delimiter))
		case c|0x20 == 'd' && s.need(&i, 10) && strings.EqualFold(string(s.buf[i:i+9]), "delimiter") && (s.buf[i+9] == ' ' || s.buf[i+9] == '\t'):
			if err := s.command(); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// remark reads what dump programs say of themselves.
func (s *splitter) remark(text []byte) {
	if bytes.HasPrefix(text, []byte("-- MySQL dump")) || bytes.HasPrefix(text, []byte("-- MariaDB dump")) {
		s.header, s.completed = true, false // of several behind each other, the last
	}
	if bytes.HasPrefix(text, []byte("-- Dump completed")) {
		s.completed = true
	}
}

// command carries out DELIMITER.
func (s *splitter) command() error {
	end := s.at
	for s.need(&end, 1) && s.buf[end] != '\n' {
		if end++; end-s.at > 200 {
			break
		}
	}
	fields := strings.Fields(string(s.buf[s.at:end]))
	if len(fields) < 2 || len(fields[1]) > 15 || strings.ContainsAny(fields[1], "\\'\"`") {
		return s.refuse(s.line, "DELIMITER needs one to fifteen characters, and no quotes", "")
	}
	s.delimiter = []byte(fields[1])
	s.consume(end)
	return nil
}

func (s *splitter) refuse(line int, message, hint string) error {
	if hint == "" {
		hint = "what stands before is loaded"
	}
	return &api.Error{Code: api.CodeInvalid, Op: "load dump", Object: fmt.Sprintf("line %d", line), Message: message, Hint: hint}
}
