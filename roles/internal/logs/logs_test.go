package logs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
)

// start is when the logs of tests begin.
var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// write makes a log of lines and says that it has rested.
func write(t testing.TB, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

func slogLine(n int, level, text string) string {
	return fmt.Sprintf("time=%s level=%s msg=%q", start.Add(time.Duration(n)*time.Second).Format("2006-01-02T15:04:05.000Z"), level, text)
}

func page(t *testing.T, logs []Log, q Query) api.LogPage {
	t.Helper()
	p, err := Page(t.Context(), logs, q)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func texts(lines []api.LogLine) (list []string) {
	for _, l := range lines {
		list = append(list, l.Text)
	}
	return list
}

// three are logs of an agent, of a daemon that tells seconds, and of one that
// tells no times; two have been turned over.
func three(t *testing.T) []Log {
	dir := t.TempDir()
	var a1, a2, b1, b2, c []string
	for i := range 300 {
		a1 = append(a1, slogLine(i, "INFO", fmt.Sprintf("a %d", i)))
		a2 = append(a2, slogLine(300+i, "WARN", fmt.Sprintf("a %d", 300+i)))
		for _, x := range []*[]string{&b1, &b2} {
			n := i
			if x == &b2 {
				n += 300
			}
			*x = append(*x, start.Add(time.Duration(n)*time.Second).Format("[02-Jan-2006 15:04:05] ")+fmt.Sprintf("ERROR: b %d", n), "  at some place")
		}
		c = append(c, fmt.Sprintf("plain %d", i))
	}
	write(t, filepath.Join(dir, "a.log.1"), a1...)
	write(t, filepath.Join(dir, "a.log"), a2...)
	write(t, filepath.Join(dir, "b.log.1"), b1...)
	write(t, filepath.Join(dir, "b.log"), b2...)
	write(t, filepath.Join(dir, "c.log"), c...)
	var list []Log
	for _, n := range []string{"a.log", "b.log", "c.log"} {
		list = append(list, Log{Service: "web", Instance: "i1", Name: n, Path: filepath.Join(dir, n)})
	}
	return append(list, Log{Service: "web", Instance: "i1", Name: "missing.log", Path: filepath.Join(dir, "missing.log")})
}

// Going back page by page from the end, and forward from the beginning, shows
// every line once, in the order of each file and by time.
func TestPagesBothWays(t *testing.T) {
	logs := three(t)
	for _, limit := range []int{1, 7, 200, 5000} {
		q := Query{Limit: limit}
		if limit == 1 {
			q.Log = "b.log"
		}
		var back []api.LogLine
		for n := 0; ; n++ {
			p := page(t, logs, q)
			back = append(slices.Clone(p.Lines), back...)
			if !p.More {
				break
			}
			if q.Before = p.Before; n > 3000 {
				t.Fatal("there is no end")
			}
		}
		q = Query{Limit: limit, Log: q.Log, After: "1980-01-01T00:00:00Z"}
		var ahead []api.LogLine
		for {
			p := page(t, logs, q)
			ahead = append(ahead, p.Lines...)
			if !p.More {
				break
			}
			q.After = p.After
		}
		want := 600 + 1200 + 300
		if q.Log != "" {
			want = 1200
		}
		if len(back) != want || len(ahead) != want {
			t.Errorf("limit %d: got %d lines back and %d ahead, want %d", limit, len(back), len(ahead), want)
		}
		if !slices.Equal(texts(back), texts(ahead)) {
			t.Errorf("limit %d: back and ahead differ", limit)
		}
		last, seen := time.Time{}, map[string]bool{}
		for _, l := range back {
			if seen[l.ID] {
				t.Fatalf("limit %d: %q is there twice", limit, l.Text)
			}
			seen[l.ID] = true
			if l.At != nil {
				if l.At.Before(last) {
					t.Fatalf("limit %d: %q is before its time", limit, l.Text)
				}
				last = *l.At
			}
			if strings.HasPrefix(l.Text, "  at") && (l.Level != api.LogError || l.At == nil) {
				t.Fatalf("%q has not got level and time of the line before: %+v", l.Text, l)
			}
		}
	}
}

func TestFilters(t *testing.T) {
	logs := three(t)
	for _, c := range []struct {
		name string
		q    Query
		n    int
	}{
		{"text", Query{Search: "A 31"}, 11}, // 31, 310-319: capitals do not matter
		{"text-in-lines-that-go-on", Query{Search: "some place", Log: "b.log"}, 600},
		{"regex", Query{Regex: `a (1|2)\d\b`}, 20},
		{"regex-and-level", Query{Regex: `a (1|31)\d\b`, Level: api.LogWarn}, 10},
		{"level-keeps-traces", Query{Level: api.LogError}, 1200},
		{"level-of-silent-lines", Query{Level: api.LogInfo, Log: "c.log"}, 300},
		{"since", Query{Since: start.Add(590 * time.Second), Log: "a.log"}, 10},
		{"until", Query{Until: start.Add(9 * time.Second), Log: "a.log"}, 10},
		{"range-over-rotation", Query{Since: start.Add(290 * time.Second), Until: start.Add(309 * time.Second), Log: "b.log"}, 40},
		{"other-instance", Query{Instance: "i2"}, 0},
		{"nothing", Query{Search: "no such text"}, 0},
		{"unicode", Query{Search: "é"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.q.Limit = 5000
			p := page(t, logs, c.q)
			if len(p.Lines) != c.n || p.More {
				t.Errorf("got %d lines (more: %v), want %d", len(p.Lines), p.More, c.n)
			}
			c.q.Since = cmpTime(c.q.Since, start.Add(-time.Hour))
			c.q.Until = cmpTime(c.q.Until, time.Now())
			c.q.Buckets = 10
			counts, err := Count(t.Context(), logs, c.q)
			if err != nil || counts.Total != int64(c.n) || !counts.Whole {
				t.Errorf("counted %d (whole: %v, %v), want %d", counts.Total, counts.Whole, err, c.n)
			}
		})
	}
	for _, bad := range []Query{{Regex: "("}, {Search: "a", Regex: "b"}, {Level: "loud"}, {Before: "x"}, {Before: "2026-01-01T00:00:00Z", After: "2026-01-01T00:00:00Z"}, {Limit: 5001},
		{Since: start, Until: start.Add(-1)}, {Search: strings.Repeat("x", 1001)}} {
		if _, err := Page(t.Context(), logs, bad); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%+v: got %v, want it refused", bad, err)
		}
	}
	again, err := Parse(Query{Service: "s", Instance: "i", Log: "l", Search: "a&b", Level: "warn", Since: start, Until: start, At: "a~b~1~c~d~e", Limit: 3, Buckets: 2, Whole: true}.Values())
	if err != nil || again.Search != "a&b" || !again.Since.Equal(start) || again.Limit != 3 || !again.Whole || again.At != "a~b~1~c~d~e" {
		t.Errorf("a query that travelled: %+v, %v", again, err)
	}
}

func cmpTime(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}

// A place holds when the log is turned over, and says so when its line is gone.
func TestPlaceOutlivesRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.log")
	logs := []Log{{Instance: "i", Name: "x.log", Path: path}}
	lines := func(from string) (l []string) {
		for i := range 100 {
			l = append(l, slogLine(i, "INFO", from+fmt.Sprint(i)))
		}
		return l
	}
	write(t, path, lines("one ")...)
	p := page(t, logs, Query{Search: "one 42"})
	id := p.Lines[0].ID
	check := func(want string) {
		t.Helper()
		p := page(t, logs, Query{At: id, Limit: 3})
		if got := p.Lines[len(p.Lines)-1].Text; !strings.Contains(got, want) || len(p.Lines) != 3 {
			t.Errorf("got %q, want %q", texts(p.Lines), want)
		}
		p = page(t, logs, Query{After: id, Limit: 1})
		if !strings.Contains(p.Lines[0].Text, "43") {
			t.Errorf("behind it stands %q", p.Lines[0].Text)
		}
	}
	check("one 42")
	turn := func(from string) {
		b, _ := os.ReadFile(path)
		_ = os.WriteFile(path+".1", b, 0o600)
		write(t, path, lines(from)...)
	}
	turn("two ")
	check("one 42")
	turn("three ")
	_, err := Page(t.Context(), logs, Query{At: id})
	if e := api.AsError(err); e.Code != api.CodeNotFound || !strings.Contains(e.Message, "went with its old file") {
		t.Errorf("got %v, want that the line is gone", err)
	}
	if p := page(t, logs, Query{Before: id}); len(p.Lines) == 0 {
		t.Error("a cursor whose line is gone does not lead to its time")
	}
}

// While a log is being turned over, no line is there twice.
func TestHalfRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	write(t, path, slogLine(1, "INFO", "a"), slogLine(2, "INFO", "b"))
	write(t, path+".1", slogLine(1, "INFO", "a"))
	if p := page(t, []Log{{Name: "x", Path: path}}, Query{}); len(p.Lines) != 2 {
		t.Errorf("got %q", texts(p.Lines))
	}
}

func TestHarmless(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                            "plain",
		"a\tb\r":                           "a\tb",
		"\x1b[31mred\x1b[0m \x1b]0;t\x07x": "red x",
		"bell\x07 nul\x00":                 "bell\ufffd nul\ufffd",
		"bad \xff utf":                     "bad \ufffd utf",
		"turn \u202e around":               "turn \ufffd around",
		"line\u2028end":                    "line\ufffdend",
		"héllo 日本 🙂":                       "héllo 日本 🙂",
		"<img src=x onerror=alert(1)>":     "<img src=x onerror=alert(1)>", // text: whoever shows it as such is safe
	} {
		if got, _ := Clean([]byte(in), 1000); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	text, cut := Clean([]byte(strings.Repeat("é", 100)), 33)
	if text != strings.Repeat("é", 16) || cut != 168 {
		t.Errorf("cut in the middle of a letter: %q and %d", text, cut)
	}
	path := filepath.Join(t.TempDir(), "x.log")
	write(t, path, "a 🙂 \x1b[1mNeed\x1b[0mle é", strings.Repeat("x", 3<<20)+"needle", "end needle")
	p := page(t, []Log{{Name: "x", Path: path}}, Query{Search: "needle"})
	if len(p.Lines) != 3 || p.Lines[1].Cut != 3<<20+6-longest || len(p.Lines[1].Text) != longest {
		t.Fatalf("got %d lines", len(p.Lines))
	}
	if m := p.Lines[0].Matches; len(m) != 1 || m[0] != [2]int{5, 11} {
		t.Errorf("marked %v, want 5 to 11 in units of UTF-16", m)
	}
}

// Clocks that jump neither lose lines nor show them twice.
func TestClockJumps(t *testing.T) {
	dir := t.TempDir()
	var a, b []string
	for i := range 3000 {
		n := i
		if i == 1000 {
			n = 100_000
		}
		if i > 2000 {
			n = i - 500
		}
		a = append(a, slogLine(n, "INFO", fmt.Sprintf("a %d", i)))
		b = append(b, slogLine(i, "INFO", fmt.Sprintf("b %d", i)))
	}
	write(t, filepath.Join(dir, "a"), a...)
	write(t, filepath.Join(dir, "b"), b...)
	logs := []Log{{Name: "a", Path: filepath.Join(dir, "a")}, {Name: "b", Path: filepath.Join(dir, "b")}}
	seen := map[string]bool{}
	for q := (Query{Limit: 100}); ; {
		p := page(t, logs, q)
		for _, l := range p.Lines {
			seen[l.Text] = true
		}
		if !p.More {
			break
		}
		q.Before = p.Before
	}
	if len(seen) != 6000 {
		t.Errorf("saw %d of 6000 lines", len(seen))
	}
}

func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	write(t, path, slogLine(1, "INFO", "old"), slogLine(2, "ERROR", "oops"))
	logs := []Log{{Name: "x", Path: path}, {Name: "later", Path: path + "-later"}}
	ctx, stop := context.WithCancel(t.Context())
	news := make(chan api.LogNews, 100)
	done := make(chan error, 1)
	go func() {
		done <- Follow(ctx, func() []Log { return logs }, Query{Level: api.LogError}, func(n api.LogNews) error {
			news <- n
			return nil
		})
	}()
	take := func(want string) {
		t.Helper()
		select {
		case n := <-news:
			if n.Line == nil || !strings.Contains(n.Line.Text, want) {
				t.Fatalf("got %+v, want %q", n, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%q was not told", want)
		}
	}
	first := <-news
	if first.Page == nil || len(first.Page.Lines) != 1 {
		t.Fatalf("got %+v, want a page with the line that is there", first)
	}
	add := func(path, text string) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	add(path, slogLine(3, "INFO", "quiet")+"\n"+slogLine(4, "ERROR", "three")[:30])
	add(path, slogLine(4, "ERROR", "three")[30:]+"\n")
	take("three")
	add(path, "  trace of three\n")
	take("trace")
	b, _ := os.ReadFile(path)
	_ = os.WriteFile(path+".1", append(b, slogLine(5, "ERROR", "just before")+"\n"...), 0o600)
	_ = os.WriteFile(path, []byte(slogLine(6, "ERROR", "new file")+"\n"), 0o600)
	take("just before")
	take("new file")
	add(path+"-later", slogLine(7, "ERROR", "new log")+"\n")
	take("new log")
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSourcesAndSilence(t *testing.T) {
	logs := append(three(t), Log{Name: "dir", Path: t.TempDir()})
	s := Sources(t.Context(), logs)
	if len(s.Sources) != 5 || s.Sources[0].First == nil || !s.Sources[0].First.Equal(start) || s.Sources[0].Bytes < 30_000 || s.Sources[3].Last != nil {
		t.Errorf("got %+v", s)
	}
	logs[0].Path += "/under-a-file"
	p := page(t, logs, Query{Limit: 10})
	if len(p.Silent) != 1 || p.Silent[0].Log != "a.log" || len(p.Lines) != 10 {
		t.Errorf("a log that cannot be read: %+v", p.Silent)
	}
}

// BenchmarkMillion looks for a text in 1,000,000 lines, 100 MB, as grep -c
// does.
func BenchmarkMillion(b *testing.B) {
	path := filepath.Join(b.TempDir(), "big.log")
	var t bytes.Buffer
	for i := range 1_000_000 {
		fmt.Fprintf(&t, "time=%s level=INFO msg=\"request served\" path=/shop/%d status=200 took=12ms\n", start.Add(time.Duration(i)*time.Millisecond).Format("2006-01-02T15:04:05.000Z"), i)
	}
	if err := os.WriteFile(path, t.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	logs := []Log{{Name: "big.log", Path: path}}
	whole := Query{Since: start, Until: start.Add(time.Hour), Buckets: 60}
	for name, q := range map[string]Query{"text": {Search: "shop/99999"}, "regex": {Regex: `shop/9+ status`}, "level": {Level: api.LogWarn}, "all": {}} {
		b.Run("count-"+name, func(b *testing.B) {
			for b.Loop() {
				w := whole
				w.Search, w.Regex, w.Level = q.Search, q.Regex, q.Level
				if c, err := Count(b.Context(), logs, w); err != nil || !c.Whole {
					b.Fatal(c.Whole, err)
				}
			}
			b.SetBytes(int64(t.Len()))
		})
	}
	b.Run("page-at-end", func(b *testing.B) {
		for b.Loop() {
			if p, err := Page(b.Context(), logs, Query{Limit: 500}); err != nil || len(p.Lines) != 500 {
				b.Fatal(err)
			}
		}
	})
	b.Run("page-at-time", func(b *testing.B) {
		for b.Loop() {
			if p, err := Page(b.Context(), logs, Query{Limit: 500, Before: start.Add(500 * time.Second).Format(time.RFC3339)}); err != nil || len(p.Lines) != 500 {
				b.Fatal(err)
			}
		}
	})
	grep, err := exec.LookPath("grep")
	if err != nil {
		b.Skip("no grep to compare with")
	}
	for name, args := range map[string][]string{"text": {"-c", "-i", "-F", "shop/99999"}, "regex": {"-c", "-E", "shop/9+ status"}} {
		b.Run("grep-"+name, func(b *testing.B) {
			for b.Loop() {
				if _, err := exec.CommandContext(b.Context(), grep, append(args, path)...).Output(); err != nil { // into /dev/null it stops early
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(t.Len()))
		})
	}
}
