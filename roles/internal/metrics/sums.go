package metrics

import (
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// sums makes the coarse level of the fine one: of each series a value for
// every five minutes, and of each counter the sum over the instances of its
// service. A sum counts what was added, so instances may come and go.
type sums struct {
	slot   int64 // which five minutes are being collected; 0: none yet
	series map[string]*one
	totals map[string]*total
}

// one is one series of one instance.
type one struct {
	row   row // the last
	sum   float64
	n     int
	at    time.Time
	fresh bool // something came since the last flush
}

// total is a counter of a service.
type total struct {
	row   row
	at    time.Time
	fresh bool
}

func newSums() *sums { return &sums{series: map[string]*one{}, totals: map[string]*total{}} }

// due reports whether the five minutes are over, and which time they get.
func (s *sums) due(now time.Time) (bool, int64) {
	slot := now.UnixMilli() / coarseEvery.Milliseconds()
	before := s.slot
	s.slot = slot
	if before == 0 || before == slot {
		return false, 0
	}
	return true, min((before+1)*coarseEvery.Milliseconds(), now.UnixMilli())
}

func (s *sums) add(rows []row, now time.Time) {
	for _, r := range rows {
		key := string(r.labels.Bytes(nil))
		o := s.series[key]
		if o == nil {
			o = &one{}
			s.series[key] = o
		} else if r.counter {
			s.grow(o.row, r, now)
		}
		o.row, o.at, o.fresh = r, now, true
		o.sum += r.value
		o.n++
	}
}

// grow adds what a counter gained to the sum of its service. One that fell
// began anew.
func (s *sums) grow(before, now row, at time.Time) {
	l := labels.NewBuilder(now.labels).Del("instance").Labels()
	key := string(l.Bytes(nil))
	t := s.totals[key]
	if t == nil {
		t = &total{row: row{labels: l, counter: true}}
		s.totals[key] = t
	}
	t.at, t.fresh = at, true
	if now.counts == nil {
		gained := now.value - before.value
		if gained < 0 {
			gained = now.value
		}
		t.row.value += gained
		return
	}
	gained := now.counts.ToFloat(nil)
	if before.counts != nil {
		old := before.counts.ToFloat(nil)
		if histogram.FloatBucketsMatch(old.CustomValues, gained.CustomValues) && !gained.DetectReset(old) {
			if less, err := gained.Sub(old); err == nil {
				gained = less
			}
		}
	}
	if t.row.sum == nil || !histogram.FloatBucketsMatch(t.row.sum.CustomValues, gained.CustomValues) {
		t.row.sum = gained // other bounds: an agent of another version; begin anew
		return
	}
	if more, err := t.row.sum.Add(gained); err == nil {
		t.row.sum = more
	}
}

// flush returns the rows of the coarse level, and begins the next.
func (s *sums) flush() []row {
	var rows []row
	for _, o := range s.series {
		if !o.fresh {
			continue
		}
		r := o.row
		if !r.counter {
			r.value = o.sum / float64(o.n)
		}
		o.sum, o.n, o.fresh = 0, 0, false
		rows = append(rows, r)
	}
	for _, t := range s.totals {
		if !t.fresh {
			continue
		}
		r := t.row
		if r.sum != nil {
			r.sum = r.sum.Copy().Compact(0)
		}
		t.fresh = false
		rows = append(rows, r)
	}
	return rows
}

func (s *sums) forget(now time.Time) {
	for key, o := range s.series {
		if now.Sub(o.at) > forgetAfter {
			delete(s.series, key)
		}
	}
	for key, t := range s.totals {
		if now.Sub(t.at) > forgetAfter {
			delete(s.totals, key)
		}
	}
}
