package logs

import (
	"context"
	"time"

	"nutshell/roles/api"
)

// Count counts the lines that a query wants over time. Since and Until must be
// given, Buckets too.
func Count(ctx context.Context, list []Log, q Query) (api.LogCounts, error) {
	if err := q.Check(); err != nil {
		return api.LogCounts{}, err
	}
	if q.Since.IsZero() || q.Until.IsZero() || q.Buckets == 0 {
		return api.LogCounts{}, wrong("since", "counting needs since, until and buckets")
	}
	parts := make([]api.LogCounts, len(list))
	scanned, silent := each(ctx, list, q, func(i int, s *source, m *matcher, b *budget) {
		c := emptyCounts(q)
		from, to := s.bounds(q)
		span := max(1, q.Until.Sub(q.Since).Nanoseconds())
		c.Whole = s.ahead(b, m, from, to, func(f found) bool {
			at := (s.time(f) - q.Since.UnixNano()) / max(1, span/int64(q.Buckets))
			c.Buckets[min(max(at, 0), int64(q.Buckets)-1)].Add(f.head.level, 1)
			c.Total++
			return true
		}) == nil
		parts[i] = c
	})
	out := MergeCounts(parts, q)
	out.Scanned, out.Silent = scanned, silent
	if silent == nil {
		out.Silent = []api.LogSilent{}
	}
	return out, nil
}

func emptyCounts(q Query) api.LogCounts {
	c := api.LogCounts{Since: q.Since.UTC(), Until: q.Until.UTC(), Buckets: make([]api.LogCount, q.Buckets), Whole: true, Silent: []api.LogSilent{}}
	for i := range c.Buckets {
		c.Buckets[i].At = c.Since.Add(q.Until.Sub(q.Since) / time.Duration(q.Buckets) * time.Duration(i))
	}
	return c
}

// MergeCounts adds what several sources or peers counted.
func MergeCounts(parts []api.LogCounts, q Query) api.LogCounts {
	out := emptyCounts(q)
	for _, p := range parts {
		if len(p.Buckets) != q.Buckets { // it was not asked
			continue
		}
		for i, b := range p.Buckets {
			o := &out.Buckets[i]
			o.Debug, o.Info, o.Warn, o.Error, o.Other = o.Debug+b.Debug, o.Info+b.Info, o.Warn+b.Warn, o.Error+b.Error, o.Other+b.Other
		}
		out.Total += p.Total
		out.Scanned += p.Scanned
		out.Whole = out.Whole && p.Whole
		out.Silent = append(out.Silent, p.Silent...)
	}
	return out
}

// Sources tells what can be read. What cannot is told, too.
func Sources(ctx context.Context, list []Log) api.LogSources {
	found := make([]*api.LogSource, len(list))
	_, silent := each(ctx, list, Query{}, func(i int, s *source, _ *matcher, _ *budget) {
		l := api.LogSource{Service: s.log.Service, Instance: s.log.Instance, Log: s.log.Name, Description: s.log.Description}
		for _, g := range s.segs {
			l.Bytes += g.size
		}
		if l.Bytes > 0 {
			last := s.written.UTC()
			l.Last = &last
			if at, _, ok := s.firstTimed(0, 0, nearby); ok {
				first := time.Unix(0, at).UTC()
				l.First = &first
			}
		}
		found[i] = &l
	})
	out := api.LogSources{Sources: []api.LogSource{}, Silent: []api.LogSilent{}}
	for _, l := range found {
		if l != nil {
			out.Sources = append(out.Sources, *l)
		}
	}
	out.Silent = append(out.Silent, silent...)
	return out
}
