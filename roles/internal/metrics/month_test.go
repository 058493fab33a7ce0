package metrics

import (
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"nutshell/roles/api"
)

// clock is a time that tests set.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func open(t *testing.T, dir string, c *clock) *Store {
	t.Helper()
	s, err := Open(Config{Dir: dir, Now: c.now, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// bounds of a histogram as web agents send them.
func bounds() []float64 {
	var list []float64
	for b := 0.001; b < 60; b *= 1.5 {
		list = append(list, b)
	}
	return list
}

// worker is an instance that has work: rate requests a second.
type worker struct {
	id, part string
	requests [4]float64
	buckets  []float64
	count    float64
	cpu      float64
}

func (w *worker) measure(r *rand.Rand, service int64, span, rate float64) api.Measured {
	b := bounds()
	if w.buckets == nil {
		w.buckets = make([]float64, len(b))
	}
	n := float64(int(rate * span))
	for i, share := range []float64{0.9, 0.06, 0.03, 0.01} {
		w.requests[i] += n * share
	}
	w.count += n
	at := 5 + r.IntN(6)
	for i := range b {
		w.buckets[i] += math.Floor(n * min(1, max(0, float64(i-at+4)/8)))
	}
	w.cpu += span * 0.3
	m := api.Measured{Instance: w.id, Service: service, Parts: []string{w.part}}
	add := func(name string, v float64, labels ...string) {
		x := api.Sample{Name: name, Value: v, Labels: map[string]string{}}
		for i := 0; i < len(labels); i += 2 {
			x.Labels[labels[i]] = labels[i+1]
		}
		m.Samples = append(m.Samples, x)
	}
	add("nutshell_cpu_seconds_total", w.cpu)
	add("nutshell_memory_bytes", 1e8+r.Float64()*1e7)
	add("nutshell_disk_bytes", 5e8)
	add("nutshell_processes", 12)
	for i, class := range []string{"2xx", "3xx", "4xx", "5xx"} {
		add("nutshell_http_requests_total", w.requests[i], "part", w.part, "class", class)
	}
	add("nutshell_http_bytes_total", w.count*4000, "part", w.part)
	add("nutshell_http_connections", 10, "part", w.part)
	for i, le := range b {
		add("nutshell_http_seconds_bucket", w.buckets[i], "part", w.part, "le", strconv.FormatFloat(le, 'g', -1, 64))
	}
	add("nutshell_http_seconds_bucket", w.count, "part", w.part, "le", "+Inf")
	add("nutshell_http_seconds_count", w.count, "part", w.part)
	add("nutshell_http_seconds_sum", w.count*0.02, "part", w.part)
	add("nutshell_php_processes", 3, "state", "active")
	add("nutshell_php_processes", 5, "state", "idle")
	add("nutshell_php_queue", 0)
	return m
}

func sizeOf(t *testing.T, dir string) (sum int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// A month of a big service is drawn at once. In full (NUTSHELL_BENCH=1) it is
// 30 days of 50 instances, the last three days every 15 s.
func TestMonth(t *testing.T) {
	const most = 300 * time.Millisecond
	days, instances, fine := 30, 3, time.Hour
	if os.Getenv("NUTSHELL_BENCH") != "" {
		instances, fine = 50, fineKeep
	}
	end := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	c := &clock{end.AddDate(0, 0, -days)}
	dir := t.TempDir()
	s := open(t, dir, c)
	r := rand.New(rand.NewPCG(1, 2))
	var workers []*worker
	for i := range instances {
		part := "backend"
		if i < (instances+4)/5 {
			part = "proxy"
		}
		workers = append(workers, &worker{id: fmt.Sprintf("i%d", i), part: part})
	}
	began := time.Now()
	samples := 0
	for c.t.Before(end) {
		span := coarseEvery
		if end.Sub(c.t) <= fine {
			span = fineEvery
		}
		c.t = c.t.Add(span)
		var list []api.Measured
		for _, w := range workers {
			list = append(list, w.measure(r, 3, span.Seconds(), 20))
			samples += len(list[len(list)-1].Samples)
		}
		if span == fineEvery {
			s.Add(1, list)
			continue
		}
		for _, m := range list { // long ago: the fine level is gone
			rows, dropped := rowsOf(1, m, map[string]bool{})
			if dropped > 0 {
				t.Fatalf("%d samples are not well formed", dropped)
			}
			s.sums.add(rows, c.t)
		}
		s.coarse.append(s.sums.flush(), c.t.UnixMilli())
	}
	for _, l := range []*level{s.fine, s.coarse} {
		if err := l.db.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d samples of %d instances in %v", samples, instances, time.Since(began).Round(time.Millisecond))
	t.Logf("on disk: fine %.1f MB, coarse %.1f MB", float64(sizeOf(t, s.fine.dir))/1e6, float64(sizeOf(t, s.coarse.dir))/1e6)
	for _, q := range []struct {
		span time.Duration
		each bool
	}{{time.Hour, false}, {time.Hour, true}, {24 * time.Hour, false}, {24 * time.Hour, true}, {30 * 24 * time.Hour, false}, {30 * 24 * time.Hour, true}} {
		began := time.Now()
		graphs, err := s.Graphs(t.Context(), Query{Application: 1, Service: 3, Since: end.Add(-q.span), Until: end, ByInstance: q.each})
		took := time.Since(began)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range graphs {
			if g.ID == "requests" && len(g.Series) > 0 && q.span <= fine {
				if n := len(g.Series[0].Points); n < 200 {
					t.Errorf("%v: %d points", q.span, n)
				}
			}
		}
		if len(graphs) != 12 {
			t.Errorf("%d graphs, want 12", len(graphs))
		}
		t.Logf("%d graphs of %v, by instance %v: %v", len(graphs), q.span, q.each, took.Round(time.Millisecond))
		if os.Getenv("NUTSHELL_BENCH") != "" && took > most && !q.each { // elsewhere the machine is busy with other tests
			t.Errorf("graphs of %v took %v, want less than %v", q.span, took, most)
		}
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("memory: %.1f MB of live objects", float64(m.HeapAlloc)/1e6)
}
