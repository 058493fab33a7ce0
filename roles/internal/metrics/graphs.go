package metrics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/tsdb"

	"nutshell/roles/api"
)

const (
	usualPoints = 240
	mostPoints  = 2000
	fineSpan    = 12 * time.Hour // longer graphs are drawn from the coarse level
)

// Query chooses the graphs of a service.
type Query struct {
	Application, Service int64
	Since, Until         time.Time
	Points               int // at most; 0: some
	ByInstance           bool
}

// plan is how a query is answered: from which level, at which times.
type plan struct {
	level        *level
	since, until time.Time
	step, window time.Duration
	selects      *strings.Replacer
}

// Graphs answers the graphs that there is something to draw in. Times at
// which nothing was measured have no points.
func (s *Store) Graphs(ctx context.Context, q Query) ([]api.Graph, error) {
	if !q.Since.Before(q.Until) {
		return nil, &api.Error{Code: api.CodeInvalid, Op: "draw", Object: "graphs", Message: "since is not before until", Fields: []string{"since", "until"}}
	}
	p := s.plan(q)
	release, err := s.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	db, done, err := p.level.reading()
	if err != nil {
		return nil, err
	}
	graphs, err := s.draw(ctx, db, p, q.ByInstance)
	done()
	if unreadable(ctx, err) {
		p.level.heal(err) //nolint:contextcheck // a mended block serves the next one, too
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "read", Object: "history", Message: "a part of it could not be read and was set aside", Hint: "try again", Err: err}
	}
	return graphs, err
}

// unreadable reports whether a query failed for what is on the disk.
func unreadable(ctx context.Context, err error) bool {
	var late promql.ErrQueryTimeout
	var gone promql.ErrQueryCanceled
	var much promql.ErrTooManySamples
	return err != nil && ctx.Err() == nil && !errors.As(err, &late) && !errors.As(err, &gone) && !errors.As(err, &much)
}

func (s *Store) plan(q Query) plan {
	if q.Points <= 0 {
		q.Points = usualPoints
	}
	q.Points = min(q.Points, mostPoints)
	p := plan{level: s.fine, since: q.Since, until: q.Until}
	every, least := fineEvery, 3*fineEvery
	instance, service := `instance!=""`, `instance!=""`
	if span := q.Until.Sub(q.Since); span > fineSpan || s.c.Now().Sub(q.Since) > s.fine.keep {
		p.level, every, least = s.coarse, coarseEvery, 3*coarseEvery
		service = `instance=""`
	}
	span := q.Until.Sub(q.Since)
	p.step = max((span/time.Duration(q.Points)+every-1)/every*every, every)
	p.window = max(p.step, least)
	// Whole multiples, so that a graph that is asked again shows the same.
	p.since = time.UnixMilli(q.Since.UnixMilli() / p.step.Milliseconds() * p.step.Milliseconds()).Add(p.step)
	of := fmt.Sprintf(`application="%d",service="%d",`, q.Application, q.Service)
	p.selects = strings.NewReplacer("$i", of+instance, "$s", of+service, "$w", fmt.Sprintf("%ds", int(p.window.Seconds())))
	return p
}

func (s *Store) draw(ctx context.Context, db *tsdb.DB, p plan, byInstance bool) ([]api.Graph, error) {
	graphs := []api.Graph{}
	for _, f := range figures() {
		lines := f.lines
		if byInstance && f.each != nil {
			lines = f.each
		}
		g := api.Graph{ID: f.id, Title: f.title, Unit: f.unit, Since: p.since, Until: p.until, Step: int(p.step.Seconds()), Series: []api.Series{}}
		for _, l := range lines {
			series, err := s.line(ctx, db, p, l)
			if err != nil {
				return nil, err
			}
			g.Series = append(g.Series, series...)
		}
		if len(g.Series) > 0 {
			graphs = append(graphs, g)
		}
	}
	return graphs, nil
}

func (s *Store) line(ctx context.Context, db *tsdb.DB, p plan, l line) ([]api.Series, error) {
	if p.since.After(p.until) {
		return nil, nil // not one point yet
	}
	q, err := s.engine.NewRangeQuery(ctx, db, nil, p.selects.Replace(l.query), p.since, p.until, p.step)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	defer q.Close()
	matrix, err := q.Exec(ctx).Matrix()
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	if l.spread {
		return spread(matrix), nil
	}
	var list []api.Series
	for _, m := range matrix {
		name, values := l.nameOf(m.Metric)
		if l.quantiles == nil {
			list = appendSeries(list, name, values, len(m.Floats), func(i int) (int64, float64) { return m.Floats[i].T, m.Floats[i].F })
			continue
		}
		for _, of := range l.quantiles {
			full := strings.TrimSpace(name + " " + of.name)
			list = appendSeries(list, full, values, len(m.Histograms), func(i int) (int64, float64) {
				v, _ := promql.HistogramQuantile(of.of, m.Histograms[i].H, "", posrange.PositionRange{})
				return m.Histograms[i].T, v
			})
		}
	}
	slices.SortStableFunc(list, func(a, b api.Series) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// spread makes two lines of many: their mean and the highest of them.
func spread(matrix promql.Matrix) []api.Series {
	sums, counts, highest := map[int64]float64{}, map[int64]float64{}, map[int64]float64{}
	for _, m := range matrix {
		for _, p := range m.Floats {
			if math.IsNaN(p.F) {
				continue
			}
			if counts[p.T] == 0 || p.F > highest[p.T] {
				highest[p.T] = p.F
			}
			sums[p.T] += p.F
			counts[p.T]++
		}
	}
	times := slices.Sorted(maps.Keys(counts))
	list := appendSeries(nil, "mean", nil, len(times), func(i int) (int64, float64) { return times[i], sums[times[i]] / counts[times[i]] })
	return appendSeries(list, "highest", nil, len(times), func(i int) (int64, float64) { return times[i], highest[times[i]] })
}

// nameOf is what a line is called.
func (l line) nameOf(m labels.Labels) (string, map[string]string) {
	var words []string
	values := map[string]string{}
	for _, k := range l.by {
		if v := m.Get(k); v != "" {
			words = append(words, v)
			values[k] = v
		}
	}
	if l.name != "" {
		words = append(words, l.name)
	}
	return strings.Join(words, " "), values
}

// appendSeries adds a line that has points. Digits beyond what is measured
// would only make answers long.
func appendSeries(list []api.Series, name string, values map[string]string, n int, point func(int) (int64, float64)) []api.Series {
	s := api.Series{Name: name, Labels: values, Points: make([][2]float64, 0, n)}
	for i := range n {
		t, v := point(i)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		s.Points = append(s.Points, [2]float64{float64(t) / 1000, short(v)})
	}
	if len(s.Points) == 0 {
		return list
	}
	return append(list, s)
}

// short keeps five digits.
func short(v float64) float64 {
	if math.Abs(v) < 1e-12 {
		return 0
	}
	scale := math.Pow(10, 4-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}
