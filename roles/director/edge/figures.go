package edge

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nutshell/roles/api"
)

// bounds of the histogram of latency, in seconds.
var bounds = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// figures count what the edge did.
type figures struct {
	refused  atomic.Uint64 // connections for which there was no room
	services sync.Map      // key → *counts
}

// key names a service; 0/0 counts requests for names that nobody has.
type key struct{ application, service int64 }

type counts struct {
	class   [6]atomic.Uint64 // by the first digit of the status
	buckets [12]atomic.Uint64
	micros  atomic.Int64
	bytes   atomic.Int64
}

func newFigures() *figures { return &figures{} }

func (f *figures) of(k key) *counts {
	if c, ok := f.services.Load(k); ok {
		return c.(*counts)
	}
	c, _ := f.services.LoadOrStore(k, &counts{})
	return c.(*counts)
}

func (c *counts) add(status int, took time.Duration, bytes int64) {
	c.class[min(status/100, 5)].Add(1)
	if status == http.StatusSwitchingProtocols {
		return // how long a chat was open says nothing of how quick we are
	}
	i, _ := slices.BinarySearch(bounds, took.Seconds())
	c.buckets[i].Add(1)
	c.micros.Add(took.Microseconds())
	c.bytes.Add(bytes)
}

// Figures are the edge's counters since it began.
func (e *Edge) Figures() []api.Sample {
	list := []api.Sample{
		{Name: "nutshell_edge_connections", Value: float64(e.gate.count())},
		{Name: "nutshell_edge_refused_connections_total", Value: float64(e.figures.refused.Load())},
		{Name: "nutshell_edge_retries_total", Value: float64(e.outward.tries.Load())},
	}
	e.figures.services.Range(func(k, v any) bool {
		list = append(list, v.(*counts).samples(k.(key))...)
		return true
	})
	slices.SortStableFunc(list, func(a, b api.Sample) int {
		return cmp.Or(cmp.Compare(a.Labels["application"], b.Labels["application"]), cmp.Compare(a.Labels["service"], b.Labels["service"]))
	})
	return list
}

func (c *counts) samples(k key) []api.Sample {
	labels := func(more ...string) map[string]string {
		m := map[string]string{"application": strconv.FormatInt(k.application, 10), "service": strconv.FormatInt(k.service, 10)}
		for i := 0; i+1 < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	var list []api.Sample
	for class := range c.class {
		if n := c.class[class].Load(); n > 0 {
			list = append(list, api.Sample{Name: "nutshell_edge_requests_total", Labels: labels("code", strconv.Itoa(class)+"xx"), Value: float64(n)})
		}
	}
	sum := uint64(0)
	for i := range c.buckets {
		sum += c.buckets[i].Load()
		le := "+Inf"
		if i < len(bounds) {
			le = strconv.FormatFloat(bounds[i], 'g', -1, 64)
		}
		list = append(list, api.Sample{Name: "nutshell_edge_request_seconds_bucket", Labels: labels("le", le), Value: float64(sum)})
	}
	return append(list,
		api.Sample{Name: "nutshell_edge_request_seconds_sum", Labels: labels(), Value: float64(c.micros.Load()) / 1e6},
		api.Sample{Name: "nutshell_edge_request_seconds_count", Labels: labels(), Value: float64(sum)},
		api.Sample{Name: "nutshell_edge_sent_bytes_total", Labels: labels(), Value: float64(c.bytes.Load())})
}

// record writes the access log and counts.
func (e *Edge) record(rec *recorder, r *http.Request, v *visit, began time.Time) {
	took := time.Since(began)
	status := rec.status
	if status == 0 {
		status = http.StatusSwitchingProtocols // the connection was handed over
		if r.Header.Get("Upgrade") == "" {
			status = statusGone // broken off before anything was answered
		}
	}
	k := key{}
	if v.site != nil {
		k = key{v.site.Application, v.site.Service}
	}
	e.figures.of(k).add(status, took, rec.bytes)
	line := fmt.Sprintf("%s %s - [%s] %s %d %d %s %s %.3f\n", field(r.Host), v.client, began.Format("02/Jan/2006:15:04:05 -0700"),
		quoted(r.Method+" "+r.RequestURI+" "+r.Proto), status, rec.bytes, quoted(r.Referer()), quoted(r.UserAgent()), took.Seconds())
	if _, err := e.c.AccessLog.Write([]byte(line)); err != nil {
		e.c.Log.Debug("access log not written", "error", err)
	}
}

// quoted is a field of the log that cannot end early or steer a terminal.
func quoted(s string) string {
	if s == "" {
		return `"-"`
	}
	return strconv.QuoteToASCII(s[:min(len(s), 2048)])
}

// field is one without blanks.
func field(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == '"' {
			return '?'
		}
		return r
	}, s[:min(len(s), 300)])
}
