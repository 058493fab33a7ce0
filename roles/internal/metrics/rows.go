package metrics

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/convertnhcb"

	"nutshell/roles/api"
)

const (
	mostSeries  = 400 // of one instance in its whole life: a label with ever new values must not fill the disk
	mostLabels  = 8
	mostLetters = 64
)

var (
	goodName  = regexp.MustCompile(`^nutshell_[a-z][a-z0-9_]{0,62}$`)
	goodLabel = regexp.MustCompile(`^[a-z][a-z_]{0,31}$`)
)

// row is one value of one series: a number, or a whole histogram.
type row struct {
	labels  labels.Labels
	value   float64
	counts  *histogram.Histogram
	sum     *histogram.FloatHistogram // of several
	counter bool
}

// rowsOf makes rows of samples. Histograms, which come as one sample for each
// bucket, become one row: Prometheus' native form with their own bounds.
func rowsOf(application int64, m api.Measured, known map[string]bool) (rows []row, dropped int) {
	if m.Instance == "" || len(m.Instance) > mostLetters || !utf8.ValidString(m.Instance) {
		return nil, len(m.Samples)
	}
	b := labels.NewScratchBuilder(mostLabels + 4)
	histograms := map[string]*convertnhcb.TempHistogram{}
	of := map[string]labels.Labels{}
	for _, x := range m.Samples {
		name, piece := pieceOf(x)
		if !goodName.MatchString(name) || math.IsNaN(x.Value) || math.IsInf(x.Value, 0) || len(x.Labels) > mostLabels {
			dropped++
			continue
		}
		b.Reset()
		b.Add(labels.MetricName, name)
		b.Add("application", strconv.FormatInt(application, 10))
		b.Add("service", strconv.FormatInt(m.Service, 10))
		b.Add("instance", m.Instance)
		if !addLabels(&b, x.Labels) {
			dropped++
			continue
		}
		b.Sort()
		l := b.Labels()
		key := string(l.Bytes(nil))
		if !known[key] && len(known) >= mostSeries {
			dropped++
			continue
		}
		known[key] = true
		if piece == "" {
			rows = append(rows, row{labels: l, value: x.Value, counter: strings.HasSuffix(name, "_total")})
			continue
		}
		h := histograms[key]
		if h == nil {
			fresh := convertnhcb.NewTempHistogram()
			h, histograms[key], of[key] = &fresh, &fresh, l
		}
		if !put(h, piece, x) {
			dropped++
		}
	}
	keys := make([]string, 0, len(histograms))
	for key := range histograms {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		counts, _, err := histograms[key].Convert()
		if err != nil || counts == nil || counts.Validate() != nil { // the counts go down from bucket to bucket, say
			dropped++
			continue
		}
		rows = append(rows, row{labels: of[key], counts: counts, counter: true})
	}
	return rows, dropped
}

// pieceOf says which histogram a sample is a piece of, and which piece.
func pieceOf(x api.Sample) (name, piece string) {
	for _, p := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(x.Name, p); ok && strings.HasSuffix(base, "_seconds") {
			return base, p
		}
	}
	return x.Name, ""
}

func put(h *convertnhcb.TempHistogram, piece string, x api.Sample) bool {
	switch piece {
	case "_bucket":
		le, err := strconv.ParseFloat(x.Labels["le"], 64)
		return err == nil && !math.IsNaN(le) && h.SetBucketCount(le, x.Value) == nil
	case "_sum":
		return h.SetSum(x.Value) == nil
	}
	return h.SetCount(x.Value) == nil
}

func addLabels(b *labels.ScratchBuilder, list map[string]string) bool {
	for k, v := range list {
		switch {
		case k == "le":
			continue
		case !goodLabel.MatchString(k) || len(v) > mostLetters || !utf8.ValidString(v) || k == "application" || k == "service" || k == "instance":
			return false
		}
		b.Add(k, v)
	}
	return true
}
