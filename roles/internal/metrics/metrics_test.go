package metrics

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nutshell/roles/api"
)

func begin() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// run adds what workers measure, every 15 s for a while.
func run(s *Store, c *clock, d time.Duration, rate float64, workers ...*worker) {
	r := rand.New(rand.NewPCG(1, 2))
	for end := c.t.Add(d); c.t.Before(end); {
		c.t = c.t.Add(fineEvery)
		var list []api.Measured
		for _, w := range workers {
			list = append(list, w.measure(r, 3, fineEvery.Seconds(), rate))
		}
		s.Add(1, list)
	}
}

// graph asks for one line of one graph.
func graph(t *testing.T, s *Store, q Query, id, name string) api.Series {
	t.Helper()
	q.Application, q.Service = 1, 3
	graphs, err := s.Graphs(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range graphs {
		for _, l := range g.Series {
			if g.ID == id && l.Name == name {
				return l
			}
		}
	}
	return api.Series{}
}

// flat checks that a line has points, all about as high.
func flat(t *testing.T, what string, l api.Series, want float64) {
	t.Helper()
	if len(l.Points) < 3 {
		t.Fatalf("%s: %d points", what, len(l.Points))
	}
	for _, p := range l.Points {
		if math.Abs(p[1]-want) > 0.1*want {
			t.Errorf("%s: %v at %v, want %v", what, p[1], time.Unix(int64(p[0]), 0).UTC(), want)
		}
	}
}

func TestGraphs(t *testing.T) {
	c := &clock{begin()}
	s := open(t, t.TempDir(), c)
	a, b := &worker{id: "a", part: "proxy"}, &worker{id: "b", part: "proxy"}
	run(s, c, 10*time.Minute, 100, a, b)
	last := Query{Since: c.t.Add(-9 * time.Minute), Until: c.t}
	flat(t, "requests", graph(t, s, last, "requests", "proxy"), 200)
	flat(t, "errors", graph(t, s, last, "errors", "5xx"), 2)
	flat(t, "cpu", graph(t, s, last, "cpu", "mean"), 30)
	flat(t, "the busiest", graph(t, s, last, "cpu", "highest"), 30)
	flat(t, "php", graph(t, s, last, "php", "active"), 6)
	each := last
	each.ByInstance = true
	flat(t, "requests of one", graph(t, s, each, "requests", "a proxy"), 100)
	// An instance that is gone stays in history and weighs no more.
	run(s, c, 10*time.Minute, 100, b)
	flat(t, "requests of the other", graph(t, s, Query{Since: c.t.Add(-9 * time.Minute), Until: c.t}, "requests", "proxy"), 100)
	flat(t, "requests of one that is gone", graph(t, s, each, "requests", "a proxy"), 100)
	if l := graph(t, s, Query{Since: c.t.Add(-9 * time.Minute), Until: c.t, ByInstance: true}, "requests", "a proxy"); len(l.Points) > 0 {
		t.Errorf("one that is gone has %d points", len(l.Points))
	}
	// A counter that began anew is no burst and no gap.
	a = &worker{id: "b", part: "proxy"}
	run(s, c, 10*time.Minute, 100, a)
	flat(t, "requests over a restart", graph(t, s, Query{Since: c.t.Add(-12 * time.Minute), Until: c.t}, "requests", "proxy"), 100)
	// Silence is a gap.
	c.t = c.t.Add(10 * time.Minute)
	run(s, c, 10*time.Minute, 100, a)
	quiet := c.t.Add(-20 * time.Minute)
	for _, p := range graph(t, s, Query{Since: c.t.Add(-30 * time.Minute), Until: c.t}, "memory", "mean").Points {
		if at := time.Unix(int64(p[0]), 0); at.After(quiet.Add(time.Minute)) && at.Before(quiet.Add(10*time.Minute)) {
			t.Errorf("a point at %v, when nothing was measured", at.UTC())
		}
	}
	// Others see nothing of it.
	for _, q := range []Query{{Application: 2, Service: 3}, {Application: 1, Service: 4}} {
		q.Since, q.Until = c.t.Add(-time.Hour), c.t
		if graphs, err := s.Graphs(t.Context(), q); err != nil || len(graphs) != 0 {
			t.Errorf("another service has %d graphs, %v", len(graphs), err)
		}
	}
	if _, err := s.Graphs(t.Context(), Query{Since: c.t, Until: c.t.Add(-time.Hour)}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("until before since: %v", err)
	}
}

// The coarse level says what the fine one says, over days in which instances
// come and go.
func TestCoarse(t *testing.T) {
	c := &clock{begin()}
	s := open(t, t.TempDir(), c)
	for i := range 4 {
		run(s, c, 7*time.Hour, 10, &worker{id: string(rune('a' + i)), part: "proxy"}, &worker{id: string(rune('p' + i)), part: "proxy"})
	}
	q := Query{Since: c.t.Add(-27 * time.Hour), Until: c.t.Add(-15 * time.Minute)}
	flat(t, "requests", graph(t, s, q, "requests", "proxy"), 20)
	flat(t, "memory", graph(t, s, q, "memory", "mean"), 1.05e8)
	fine := graph(t, s, Query{Since: c.t.Add(-2 * time.Hour), Until: c.t}, "latency", "p95").Points
	coarse := graph(t, s, q, "latency", "p95").Points
	if len(fine) == 0 || len(coarse) == 0 {
		t.Fatalf("latency has %d and %d points", len(fine), len(coarse))
	}
	for _, p := range coarse { // the time of a page changes with each look, so means alone are alike
		if p[1] < 0.005 || p[1] > 0.5 {
			t.Errorf("p95 is %v", p[1])
		}
	}
}

// copyOf is a directory as a process that was killed leaves it.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestKilled(t *testing.T) {
	c := &clock{begin()}
	dir := t.TempDir()
	s := open(t, dir, c)
	w := &worker{id: "a", part: "proxy"}
	run(s, c, 3*time.Hour, 100, w)
	again := open(t, copyOf(t, dir), c) // s was never closed
	run(again, c, 5*time.Minute, 100, w)
	flat(t, "requests", graph(t, again, Query{Since: c.t.Add(-3 * time.Hour), Until: c.t}, "requests", "proxy"), 100)
}

// Whatever is broken, the store opens, keeps what is whole, and takes more.
func TestBroken(t *testing.T) {
	c := &clock{begin()}
	good := t.TempDir()
	s := open(t, good, c)
	w := &worker{id: "a", part: "proxy"}
	run(s, c, 13*time.Hour, 100, w)
	if err := s.fine.db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	blocks, err := filepath.Glob(filepath.Join(good, "fine", "01*"))
	if err != nil || len(blocks) < 2 {
		t.Fatalf("blocks: %v %v", blocks, err)
	}
	block := filepath.Base(blocks[0])
	spoil := func(t *testing.T, path string) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := len(b) / 3; i < len(b)/3+200 && i < len(b); i++ {
			b[i] ^= 0x5a
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []struct {
		name  string
		do    func(t *testing.T, dir string)
		aside bool
	}{
		{"no-meta", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "fine", block, "meta.json")) }, true},
		{"empty-meta", func(t *testing.T, dir string) { os.Truncate(filepath.Join(dir, "fine", block, "meta.json"), 0) }, true},
		{"short-index", func(t *testing.T, dir string) { os.Truncate(filepath.Join(dir, "fine", block, "index"), 10) }, true},
		{"spoilt-index", func(t *testing.T, dir string) { spoil(t, filepath.Join(dir, "fine", block, "index")) }, true},
		{"spoilt-chunks", func(t *testing.T, dir string) { spoil(t, filepath.Join(dir, "fine", block, "chunks", "000001")) }, true},
		{"spoilt-log", func(t *testing.T, dir string) {
			logs, err := filepath.Glob(filepath.Join(dir, "fine", "wal", "0*"))
			if err != nil || len(logs) == 0 {
				t.Fatal("no log")
			}
			spoil(t, logs[len(logs)-1])
		}, false}, // cut off where it is spoilt
		{"file-in-the-way", func(t *testing.T, dir string) {
			os.RemoveAll(filepath.Join(dir, "fine", "wal"))
			os.WriteFile(filepath.Join(dir, "fine", "wal"), []byte("x"), 0o600)
		}, true},
		{"file-for-directory", func(t *testing.T, dir string) {
			os.RemoveAll(filepath.Join(dir, "fine"))
			os.WriteFile(filepath.Join(dir, "fine"), []byte("x"), 0o600)
		}, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := copyOf(t, good)
			x.do(t, dir)
			c := &clock{c.t}
			w := *w
			w.buckets = append([]float64(nil), w.buckets...)
			s := open(t, dir, c)
			run(s, c, 5*time.Minute, 100, &w)
			q := Query{Application: 1, Service: 3, Since: c.t.Add(-13 * time.Hour), Until: c.t.Add(-2 * time.Hour)}
			if _, err := s.Graphs(t.Context(), q); err != nil { // found only now, and mended
				if api.CodeOf(err) != api.CodeUnavailable {
					t.Fatal(err)
				}
				t.Log(err)
			}
			if _, err := s.Graphs(t.Context(), q); err != nil {
				t.Errorf("the second time: %v", err)
			}
			flat(t, "requests now", graph(t, s, Query{Since: c.t.Add(-3 * time.Minute), Until: c.t}, "requests", "proxy"), 100)
			aside, err := filepath.Glob(filepath.Join(dir, "fine-set-aside-*"))
			if err != nil || x.aside != (len(aside) == 1) {
				t.Errorf("set aside: %v %v", aside, err)
			}
		})
	}
}

// A clock that is set back an hour leaves no hole; one that was far ahead is
// believed again after a while.
func TestClock(t *testing.T) {
	c := &clock{begin()}
	dir := t.TempDir()
	s := open(t, dir, c)
	w := &worker{id: "a", part: "proxy"}
	run(s, c, 30*time.Minute, 100, w)
	c.t = c.t.Add(-20 * time.Minute)
	run(s, c, 40*time.Minute, 100, w)
	if l := graph(t, s, Query{Since: c.t.Add(-45 * time.Minute), Until: c.t}, "memory", "mean"); len(l.Points) < 150 {
		t.Errorf("%d points after the clock was set back a little", len(l.Points))
	}
	now := c.t
	c.t = c.t.AddDate(1, 0, 0)
	run(s, c, 10*time.Minute, 100, w)
	c.t = now
	run(s, c, 5*time.Minute, 100, w)
	if s.fine.refuse.IsZero() {
		t.Fatal("a value from before a year is taken")
	}
	s.fine.refuse, s.coarse.refuse = s.fine.refuse.Add(-2*patience), s.coarse.refuse.Add(-2*patience) // as if that went on for long
	run(s, c, 10*time.Minute, 100, w)
	if !s.fine.refuse.IsZero() || !s.coarse.refuse.IsZero() {
		t.Error("values are still refused")
	}
	flat(t, "requests after the year was taken back", graph(t, s, Query{Since: c.t.Add(-8 * time.Minute), Until: c.t}, "requests", "proxy"), 100)
}

// What a manager must not be able to do: other names, other services' labels,
// endless series, nonsense.
func TestHostile(t *testing.T) {
	c := &clock{begin()}
	s := open(t, t.TempDir(), c)
	bad := []api.Sample{{Name: "up", Value: 1}, {Name: "nutshell_" + strings.Repeat("x", 100), Value: 1}, {Name: "nutshell_memory_bytes", Value: math.NaN()},
		{Name: "nutshell_memory_bytes", Value: 1, Labels: map[string]string{"instance": "other"}}, {Name: "nutshell_memory_bytes", Value: 1, Labels: map[string]string{"service": "9"}},
		{Name: "nutshell_memory_bytes", Value: 1, Labels: map[string]string{"__name__": "up"}}, {Name: "nutshell_memory_bytes", Value: 1, Labels: map[string]string{"part": strings.Repeat("x", 1000)}},
		{Name: "nutshell_memory_bytes", Value: 1, Labels: map[string]string{"part": "\xff"}}, {Name: "nutshell_http_seconds_bucket", Value: 5, Labels: map[string]string{"le": "x"}},
		{Name: "nutshell_http_seconds_bucket", Value: 5, Labels: map[string]string{"le": "1"}}, {Name: "nutshell_http_seconds_bucket", Value: 3, Labels: map[string]string{"le": "2"}}, {Name: "nutshell_http_seconds_count", Value: -1}}
	for range 5 {
		c.t = c.t.Add(fineEvery)
		s.Add(1, []api.Measured{{Instance: "a", Service: 3, Samples: bad}, {Instance: "", Service: 3, Samples: bad}, {Instance: "\xff", Service: 3, Samples: bad}})
	}
	for i := range 3000 {
		c.t = c.t.Add(time.Millisecond)
		s.Add(1, []api.Measured{{Instance: "a", Service: 3, Samples: []api.Sample{{Name: "nutshell_memory_bytes", Value: 1, Labels: map[string]string{"part": "p" + time.Duration(i).String()}}}}})
	}
	if n := s.fine.db.Head().NumSeries(); n > mostSeries {
		t.Errorf("%d series of one instance", n)
	}
	var b strings.Builder
	if err := Text(&b, NewOwn(), nil, append(s.Latest(), Latest{Measured: api.Measured{Instance: "\xff\"\n", Samples: bad}})); err != nil {
		t.Error(err)
	}
	if strings.Contains(b.String(), "\nup ") {
		t.Error("a foreign name is told")
	}
}

func TestText(t *testing.T) {
	c := &clock{begin()}
	s := open(t, t.TempDir(), c)
	run(s, c, time.Minute, 100, &worker{id: "a", part: "proxy"})
	latest := s.Latest()
	if len(latest) != 1 {
		t.Fatalf("%d instances", len(latest))
	}
	latest[0].ApplicationName, latest[0].ServiceName = `sh"op`, "php"
	own := NewOwn()
	own.Request("health", 200, 0.002)
	var b strings.Builder
	if err := Text(&b, own, []api.Sample{{Name: "nutshell_operations", Labels: map[string]string{"state": "done"}, Value: 7}}, latest); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`nutshell_http_requests_total{application="sh\"op",class="2xx",instance="a",part="proxy",service="php"} 5400`,
		`nutshell_http_seconds_bucket{application="sh\"op",instance="a",part="proxy",service="php",le="+Inf"} 6000`,
		`nutshell_http_seconds_count{application="sh\"op",instance="a",part="proxy",service="php"} 6000`,
		`# TYPE nutshell_http_seconds histogram`, `# TYPE nutshell_memory_bytes gauge`, `# TYPE nutshell_http_requests_total counter`,
		`nutshell_api_requests_total{code="200",route="health"} 1`, `nutshell_operations{state="done"} 7`, "go_goroutines ",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("there is no %s", want)
		}
	}
	c.t = c.t.Add(2 * time.Minute)
	if n := len(s.Latest()); n != 0 {
		t.Errorf("%d instances are told of that have been silent for long", n)
	}
}

// A full disk loses what is measured meanwhile, and nothing else; not even a
// start on it does.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a small file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
		t.Skip("no file system can be mounted here: " + err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	fill := func() {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 4<<20), 0o600); err == nil {
			t.Fatal("the disk is not full")
		}
	}
	c := &clock{begin()}
	data := filepath.Join(dir, "metrics")
	s := open(t, data, c)
	w := &worker{id: "a", part: "proxy"}
	run(s, c, 2*time.Hour, 100, w)
	fill()
	for range 4 {
		run(s, c, time.Hour, 100, w)
		s.fine.db.ForceHeadMMap() // as each minute
		if err := s.fine.db.Compact(t.Context()); err != nil {
			t.Log(err)
		}
	}
	if l := graph(t, s, Query{Since: begin(), Until: begin().Add(2 * time.Hour)}, "requests", "proxy"); len(l.Points) < 100 {
		t.Errorf("%d points of before the disk was full", len(l.Points))
	}
	if err := s.Close(); err != nil {
		t.Log(err)
	}
	again := open(t, data, c) // on a disk that is still full
	run(again, c, 5*time.Minute, 100, w)
	if aside, _ := filepath.Glob(data + "/*aside*"); len(aside) > 0 {
		t.Errorf("set aside: %v", aside)
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	again.fine.tried, again.coarse.tried = time.Time{}, time.Time{} // a minute later
	run(again, c, 10*time.Minute, 100, w)
	flat(t, "requests once there is room", graph(t, again, Query{Since: c.t.Add(-8 * time.Minute), Until: c.t}, "requests", "proxy"), 100)
	if l := graph(t, again, Query{Since: begin(), Until: begin().Add(2 * time.Hour)}, "requests", "proxy"); len(l.Points) < 100 {
		t.Errorf("%d points of before the disk was full, after a start on it", len(l.Points))
	}
}
