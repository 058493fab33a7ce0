package mysql

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"nutshell/roles/api"
)

func splitAll(r io.Reader, plain bool) (list []string, lines []int, err error) {
	s := newSplitter(r, 1<<20)
	s.plain = plain
	for {
		st, err := s.next()
		if errors.Is(err, io.EOF) {
			return list, lines, nil
		}
		if err != nil {
			return list, lines, err
		}
		list, lines = append(list, string(st.text)), append(lines, st.line)
	}
}

func TestSplit(t *testing.T) {
	for name, c := range map[string]struct {
		in    string
		want  []string
		lines []int
		plain bool
	}{
		"nothing":              {"", nil, nil, false},
		"blanks-and-comments":  {" \n-- a; b\n# c;\n/* d; */\n;;", nil, nil, false},
		"two":                  {"A;\n\nB ;", []string{"A", "B"}, []int{1, 3}, false},
		"no-end":               {"A;\nB", []string{"A", "B"}, []int{1, 2}, false},
		"quotes":               {`A ';' ";" ` + "`;`" + `; B`, []string{`A ';' ";" ` + "`;`", "B"}, []int{1, 1}, false},
		"doubled":              {`A 'it''s;'; B`, []string{`A 'it''s;'`, "B"}, []int{1, 1}, false},
		"escaped":              {`A 'it\'s;\\'; B`, []string{`A 'it\'s;\\'`, "B"}, []int{1, 1}, false},
		"escape-in-backticks":  {"A `x\\`; B", []string{"A `x\\`", "B"}, []int{1, 1}, false},
		"no-escapes":           {`A 'x\'; B`, []string{`A 'x\'`, "B"}, []int{1, 1}, true},
		"minus-is-no-comment":  {"A 1--1;\nB 2-1", []string{"A 1--1", "B 2-1"}, []int{1, 2}, false},
		"comment-within":       {"A -- x;\n1; B /* ; */ 2; C", []string{"A -- x;\n1", "B /* ; */ 2", "C"}, []int{1, 2, 2}, false},
		"quote-in-a-comment":   {"A /* don't */; B -- don't\n; C", []string{"A /* don't */", "B -- don't", "C"}, []int{1, 1, 2}, false},
		"carried-out-comments": {"/*!40101 SET x='a;' */;\n/*M!100100 B*/;", []string{"/*!40101 SET x='a;' */", "/*M!100100 B*/"}, []int{1, 2}, false},
		"delimiter":            {"DELIMITER ;;\nA; B ;;\ndelimiter ;\nC;", []string{"A; B", "C"}, []int{2, 4}, false},
		"delimiter-in-quotes":  {"DELIMITER //\nA '//' 7/8//\nDELIMITER ;\nB", []string{"A '//' 7/8", "B"}, []int{2, 4}, false},
		"not-a-command":        {"delimited; DELIMITERX;", []string{"delimited", "DELIMITERX"}, []int{1, 1}, false},
		"lines-in-strings":     {"A 'x\ny\n';\nB", []string{"A 'x\ny\n'", "B"}, []int{1, 4}, false},
		"crlf":                 {"A;\r\nDELIMITER $$\r\nB;$$\r\n", []string{"A", "B;"}, []int{1, 3}, false},
		"client-commands":      {"\\! id\n; source x;", []string{"\\! id", "source x"}, []int{1, 2}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{"whole": strings.NewReader(c.in), "by-bytes": iotest.OneByteReader(strings.NewReader(c.in)), "data-with-eof": iotest.DataErrReader(strings.NewReader(c.in))} {
				got, lines, err := splitAll(r, c.plain)
				if err != nil || !reflect.DeepEqual(got, c.want) || !reflect.DeepEqual(lines, c.lines) {
					t.Errorf("%s: got %q at %v, %v; want %q at %v", how, got, lines, err, c.want, c.lines)
				}
			}
		})
	}
}

func TestSplitRefuses(t *testing.T) {
	broken := errors.New("connection broken")
	for name, c := range map[string]struct {
		r    io.Reader
		want string
	}{
		"ends-in-quotes":  {strings.NewReader("A;\nB 'x\ny"), "line 2"},
		"too-long":        {strings.NewReader("A;\nB '" + strings.Repeat("x", 2<<20)), "line 2"},
		"long-comment":    {strings.NewReader("A /* " + strings.Repeat("x", 2<<20)), "line 1"},
		"bad-delimiter":   {strings.NewReader("A;\nDELIMITER '\nB"), "line 2"},
		"delimiter-alone": {strings.NewReader("DELIMITER  \nB"), "line 1"},
		"broken-off":      {io.MultiReader(strings.NewReader("A;B"), iotest.ErrReader(broken)), "connection broken"},
	} {
		got, _, err := splitAll(c.r, false)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, c.want)
		}
		if name != "broken-off" && api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%s: code %q", name, api.CodeOf(err))
		}
	}
}

// A dump of any size passes through the memory of its longest statement.
func TestSplitIsFlat(t *testing.T) {
	line := "INSERT INTO t VALUES (1,'" + strings.Repeat("x", 1000) + "');\n"
	s := newSplitter(&repeated{text: line, left: 50_000}, 1<<20)
	n := 0
	for {
		st, err := s.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n++; st.line != n {
			t.Fatalf("statement %d is said to be at line %d", n, st.line)
		}
	}
	if n != 50_000 || cap(s.buf) > 4<<20 {
		t.Errorf("%d statements, buffer of %d bytes", n, cap(s.buf))
	}
}

type repeated struct {
	text string
	left int
	rest string
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.rest == "" {
		if r.left == 0 {
			return 0, io.EOF
		}
		r.left--
		r.rest = r.text
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func BenchmarkSplit(b *testing.B) {
	line := "INSERT INTO t VALUES (1,'" + strings.Repeat("x", 100_000) + "');\n"
	b.SetBytes(int64(len(line)))
	s := newSplitter(&repeated{text: line, left: b.N}, 1<<20)
	for {
		if _, err := s.next(); err != nil {
			return
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("A;'x\\';DELIMITER //\nB//", false)
	f.Add("/*!1 A*/;-- x\n#", true)
	f.Fuzz(func(t *testing.T, in string, plain bool) {
		a, _, errA := splitAll(strings.NewReader(in), plain)
		b, _, errB := splitAll(iotest.OneByteReader(strings.NewReader(in)), plain)
		if !reflect.DeepEqual(a, b) || (errA == nil) != (errB == nil) {
			t.Errorf("whole %q %v, by bytes %q %v", a, errA, b, errB)
		}
	})
}
