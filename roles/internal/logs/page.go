package logs

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"nutshell/roles/api"
)

// each opens the logs that the query wants, a few at a time, and hands them
// on. What cannot be read is told.
func each(ctx context.Context, list []Log, q Query, do func(i int, s *source, m *matcher, b *budget)) (scanned int64, silent []api.LogSilent) {
	until := time.Now().Add(AnswerTime)
	var mu sync.Mutex
	var wait sync.WaitGroup
	slots := make(chan struct{}, min(4, runtime.GOMAXPROCS(0)))
	for i, l := range list {
		if !q.Wants(l.Instance, l.Name) {
			continue
		}
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			b := &budget{ctx: ctx, until: until, bytes: AnswerBytes}
			m, err := q.matcher()
			var s *source
			if err == nil {
				s, err = open(l)
			}
			if err == nil {
				defer s.close()
				do(i, s, m, b)
			}
			mu.Lock()
			defer mu.Unlock()
			scanned += b.scanned
			if err != nil {
				silent = append(silent, api.LogSilent{Service: l.Service, Instance: l.Instance, Log: l.Name, Message: api.AsError(err).Error()})
			}
		})
	}
	wait.Wait()
	return scanned, silent
}

// Page reads the lines that a query wants of some logs.
func Page(ctx context.Context, list []Log, q Query) (api.LogPage, error) {
	if err := q.Check(); err != nil {
		return api.LogPage{}, err
	}
	pages := make([]api.LogPage, len(list))
	var missing error
	scanned, silent := each(ctx, list, q, func(i int, s *source, m *matcher, b *budget) {
		page, err := s.page(b, m, q)
		if err != nil {
			missing = err // of one source at most: that of the line
		}
		pages[i] = page
	})
	if missing != nil {
		return api.LogPage{}, missing
	}
	if err := ctx.Err(); err != nil {
		return api.LogPage{}, &api.Error{Code: api.CodeCancelled, Op: "read", Object: "logs", Err: err}
	}
	page := Merge(pages, q)
	page.Scanned, page.Silent = scanned, append(page.Silent, silent...)
	return page, nil
}

// page is what one source gives.
func (s *source) page(b *budget, m *matcher, q Query) (api.LogPage, error) {
	long := longest
	if q.Whole {
		long = wholeLine
	}
	from, to := s.bounds(q)
	var lines []found
	var reached *place
	var page api.LogPage
	cursor := api.LogPlace{Time: 1<<63 - 1}
	switch {
	case q.After != "":
		cursor, _ = api.ParseLogPlace(q.After)
		if p := s.from(cursor, true); from.before(p) {
			from = p
		}
		stop := s.ahead(b, m, from, to, func(f found) bool {
			lines = append(lines, f)
			return len(lines) < q.limit()
		})
		if reached = stop; stop != nil && len(lines) >= q.limit() {
			last := lines[len(lines)-1]
			reached = &place{last.seg, last.off}
		}
		cursor.Time = 1<<63 - 1
	case q.At != "":
		cursor, _ = api.ParseLogPlace(q.At)
		p, ok := s.from(cursor, true), true
		if cursor.Source() == s.key() && cursor.File != "" {
			if p, ok = s.find(cursor); ok {
				p = s.behind(p)
			}
		}
		if !ok {
			return page, gone(cursor)
		}
		if p.before(to) {
			to = p
		}
		lines, reached = s.back(b, m, from, to, q.limit())
	default:
		if q.Before != "" {
			cursor, _ = api.ParseLogPlace(q.Before)
			if p := s.from(cursor, false); p.before(to) {
				to = p
			}
		}
		lines, reached = s.back(b, m, from, to, q.limit())
	}
	key := cursor.Time
	for i := len(lines) - 1; i >= 0; i-- { // by the time of no line behind: the order of the file holds
		key = min(key, s.time(lines[i]))
		lines[i].key = key
	}
	page.Lines = make([]api.LogLine, len(lines))
	for i, f := range lines {
		page.Lines[i] = s.line(m, f, long)
	}
	if reached == nil {
		return page, nil
	}
	page.More = true
	cut := s.id(s.lineAt(*reached)).Encode()
	switch {
	case len(lines) > 0 && q.forward() && lines[len(lines)-1].off == reached.off:
		cut = page.Lines[len(lines)-1].ID
	case len(lines) > 0 && !q.forward() && lines[0].off == reached.off:
		cut = page.Lines[0].ID
	}
	if q.forward() {
		page.After = cut
	} else {
		page.Before = cut
	}
	return page, nil
}

// gone says that a line is no longer there.
func gone(p api.LogPlace) error {
	return &api.Error{Code: api.CodeNotFound, Object: "line of " + api.Shorten(p.Log), Message: "the log of " + p.Instance + " was turned over since, and the line went with its old file", Hint: "each log keeps its newest lines: one older file beside the present one"}
}

// lineAt is the line that begins at a place, for its id.
func (s *source) lineAt(p place) found {
	to := min(s.behind(p).off, p.off+nearby)
	f := found{seg: p.seg, off: p.off, key: s.fallback}
	s.lines(p.seg, p.off, s.read(p.seg, p.off, to), func(l found) bool {
		f = l
		f.key = s.time(l)
		return false
	})
	return f
}

// order is by time, then by source; a source's own lines stay as they are.
func order(a, b api.LogPlace) int {
	return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Source(), b.Source()))
}

// Merge makes one page of those of several sources or peers. Lines that lie
// beyond what all of them looked at are left for the next.
func Merge(pages []api.LogPage, q Query) api.LogPage {
	type placed struct {
		api.LogLine
		place api.LogPlace
	}
	out := api.LogPage{Lines: []api.LogLine{}, Silent: []api.LogSilent{}}
	var edge *api.LogPlace // beyond which not all have looked
	var edgeID string
	var all []placed
	for _, p := range pages {
		out.Scanned += p.Scanned
		out.Silent = append(out.Silent, p.Silent...)
		for _, l := range p.Lines {
			at, _ := api.ParseLogPlace(l.ID) // ids are made by ourselves
			all = append(all, placed{l, at})
		}
		id := p.Before
		if q.forward() {
			id = p.After
		}
		if !p.More || id == "" {
			continue
		}
		at, _ := api.ParseLogPlace(id)
		if edge == nil || !q.forward() && order(at, *edge) > 0 || q.forward() && order(at, *edge) < 0 {
			edge, edgeID = &at, id
		}
	}
	if edge != nil {
		all = slices.DeleteFunc(all, func(l placed) bool {
			if q.forward() {
				return order(l.place, *edge) > 0
			}
			return order(l.place, *edge) < 0
		})
	}
	slices.SortStableFunc(all, func(a, b placed) int { return order(a.place, b.place) })
	cut := len(all) > q.limit()
	switch {
	case cut && q.forward():
		all = all[:q.limit()]
	case cut:
		all = all[len(all)-q.limit():]
	}
	for _, l := range all {
		out.Lines = append(out.Lines, l.LogLine)
	}
	out.More = cut || edge != nil
	n := len(out.Lines)
	if q.forward() {
		out.After, out.Before = q.After, q.After
		switch {
		case !cut && edge != nil:
			out.After = edgeID
		case n > 0:
			out.After = out.Lines[n-1].ID
		}
		if n > 0 {
			out.Before = out.Lines[0].ID
		}
		return out
	}
	if out.More {
		if out.Before = edgeID; cut {
			out.Before = out.Lines[0].ID
		}
	}
	switch {
	case n > 0:
		out.After = out.Lines[n-1].ID
	case q.At != "":
		out.After = q.At
	case q.Before != "":
		out.After = q.Before
	}
	return out
}
