package metrics

import (
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"nutshell/roles/api"
)

// TextType is the media type of what Text writes.
const TextType = "text/plain; version=0.0.4; charset=utf-8"

// Own are the figures of the process itself: its runtime, and the requests
// that it answered.
type Own struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// NewOwn begins to count.
func NewOwn() *Own {
	o := &Own{registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "nutshell_api_requests_total", Help: "Requests answered, by route and status."}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "nutshell_api_seconds", Help: "Time to answer requests, by route.",
			Buckets: []float64{0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30}}, []string{"route"})}
	o.registry.MustRegister(o.requests, o.seconds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return o
}

// Request counts one answered request.
func (o *Own) Request(route string, status int, seconds float64) {
	o.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	o.seconds.WithLabelValues(route).Observe(seconds)
}

// Text writes figures in Prometheus' text form: the process' own (own may be
// nil), further ones, and the last of instances.
func Text(w io.Writer, own *Own, more []api.Sample, latest []Latest) error {
	from := prometheus.Gatherers{}
	if own != nil {
		from = append(from, own.registry)
	}
	r := prometheus.NewRegistry()
	if err := r.Register(told{more, latest}); err != nil {
		return err
	}
	from = append(from, r)
	families, err := from.Gather() // what is not well formed is an error beside the rest
	if len(families) == 0 && err != nil {
		return err
	}
	e := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := e.Encode(f); err != nil {
			return err
		}
	}
	return nil
}

// told is a collector of what was told by others.
type told struct {
	more   []api.Sample
	latest []Latest
}

// Describe implements prometheus.Collector: nobody knows beforehand.
func (t told) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (t told) Collect(to chan<- prometheus.Metric) {
	c := collected{to: to, seen: map[string]bool{}}
	c.samples(t.more, nil)
	for _, l := range t.latest {
		of := map[string]string{"instance": l.Measured.Instance}
		if l.ApplicationName != "" {
			of["application"], of["service"] = l.ApplicationName, l.ServiceName
		}
		c.samples(l.Measured.Samples, of)
	}
}

type collected struct {
	to   chan<- prometheus.Metric
	seen map[string]bool // what was sent: the same again would spoil everything
}

// pieces are the samples of one histogram.
type pieces struct {
	name    string
	labels  map[string]string
	count   uint64
	sum     float64
	buckets map[float64]uint64
}

func (c collected) samples(list []api.Sample, of map[string]string) {
	histograms := map[string]*pieces{}
	var order []string
	for _, x := range list {
		name, piece := pieceOf(x)
		if !goodName.MatchString(name) || math.IsNaN(x.Value) {
			continue
		}
		all := map[string]string{}
		for k, v := range x.Labels {
			if k != "le" && model.LabelName(k).IsValid() && model.LabelValue(v).IsValid() {
				all[k] = v
			}
		}
		for k, v := range of {
			all[k] = v
		}
		keys, values := split(all)
		if piece == "" {
			kind := prometheus.GaugeValue
			if strings.HasSuffix(name, "_total") {
				kind = prometheus.CounterValue
			}
			m, err := prometheus.NewConstMetric(prometheus.NewDesc(name, help(name), keys, nil), kind, x.Value, values...)
			c.send(m, err, name, keys, values)
			continue
		}
		key := name + "\xff" + strings.Join(append(keys, values...), "\xff")
		p := histograms[key]
		if p == nil {
			p = &pieces{name: name, labels: all, buckets: map[float64]uint64{}}
			histograms[key] = p
			order = append(order, key)
		}
		switch le, err := strconv.ParseFloat(x.Labels["le"], 64); {
		case piece == "_sum":
			p.sum = x.Value
		case piece == "_count":
			p.count = uint64(max(x.Value, 0))
		case err == nil && !math.IsNaN(le):
			p.buckets[le] = uint64(max(x.Value, 0))
		}
	}
	for _, key := range order {
		p := histograms[key]
		keys, values := split(p.labels)
		delete(p.buckets, math.Inf(1)) // the count says it
		m, err := prometheus.NewConstHistogram(prometheus.NewDesc(p.name, help(p.name), keys, nil), p.count, p.sum, p.buckets, values...)
		c.send(m, err, p.name, keys, values)
	}
}

func (c collected) send(m prometheus.Metric, err error, name string, keys, values []string) {
	key := name + "\xff" + strings.Join(append(slices.Clone(keys), values...), "\xff")
	if err != nil || c.seen[key] {
		return
	}
	c.seen[key] = true
	c.to <- m
}

func split(labels map[string]string) (keys, values []string) {
	for k := range labels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		values = append(values, labels[k])
	}
	return keys, values
}

func help(name string) string {
	words := strings.TrimPrefix(name, "nutshell_")
	return "Nutshell: " + strings.ReplaceAll(words, "_", " ") + "."
}
