package logs

import (
	"context"
	"os"
	"slices"
	"time"

	"nutshell/roles/api"
)

const (
	lookEvery  = 250 * time.Millisecond
	aliveEvery = 10 * time.Second
	// overlap is how far before its cursor a stream that was broken off begins
	// again: many daemons tell their times by the second.
	overlap = 2 * time.Second
	// mostNews bounds what is told of one log at a time; what is behind is left
	// for the next look.
	mostNews = 2000
)

// tail is where the following of a log stands.
type tail struct {
	log  Log
	mark string
	off  int64
	size int64 // and time of the file when it was looked at last
	mod  time.Time
}

// Follow tells a page of the newest lines, or of those behind the cursor
// After, and then what is written, until ctx ends or tell fails. list may tell
// of more logs later.
func Follow(ctx context.Context, list func() []Log, q Query, tell func(api.LogNews) error) error {
	if err := q.Check(); err != nil {
		return err
	}
	m, err := q.matcher()
	if err != nil {
		return err
	}
	tails := map[string]*tail{}
	page, err := begin(ctx, list(), q, tails)
	if err != nil {
		return err
	}
	if err := tell(api.LogNews{Page: &page}); err != nil {
		return err
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	told := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var news []api.LogLine
		for _, l := range list() {
			key := l.Instance + "~" + l.Name
			if !q.Wants(l.Instance, l.Name) {
				continue
			}
			if tails[key] == nil {
				tails[key] = &tail{log: l}
			}
			news = append(news, tails[key].more(ctx, m, q)...)
		}
		slices.SortStableFunc(news, func(a, b api.LogLine) int { return order(placeOf(a), placeOf(b)) })
		for i := range news {
			if err := tell(api.LogNews{Line: &news[i]}); err != nil {
				return err
			}
			told = time.Now()
		}
		if time.Since(told) > aliveEvery {
			told = time.Now()
			if err := tell(api.LogNews{}); err != nil {
				return err
			}
		}
	}
}

func placeOf(l api.LogLine) api.LogPlace {
	p, _ := api.ParseLogPlace(l.ID) // ids are made by ourselves
	return p
}

// begin reads the first page and notes where each log ended then.
func begin(ctx context.Context, list []Log, q Query, tails map[string]*tail) (api.LogPage, error) {
	pages, ends := make([]api.LogPage, len(list)), make([]*tail, len(list))
	scanned, silent := each(ctx, list, q, func(i int, s *source, m *matcher, b *budget) {
		t := &tail{log: list[i]}
		ends[i] = t
		if e := s.end(); len(s.segs) > 0 {
			t.mark, t.off = s.segs[e.seg].mark, e.off
		}
		asked := q
		if c, err := api.ParseLogPlace(q.After); err == nil && c.Source() != s.key() {
			asked.After = api.LogPlace{Time: c.Time - overlap.Nanoseconds()}.Encode()
		}
		pages[i], _ = s.page(b, m, asked) // only pages up to a line can fail
	})
	for _, t := range ends {
		if t != nil {
			tails[t.log.Instance+"~"+t.log.Name] = t
		}
	}
	page := Merge(pages, q)
	page.Scanned, page.Silent = scanned, append(page.Silent, silent...)
	return page, ctx.Err()
}

// more are the lines that were written since the last look.
func (t *tail) more(ctx context.Context, m *matcher, q Query) []api.LogLine {
	st, err := os.Stat(t.log.Path)
	if err != nil || st.Size() == t.size && st.ModTime().Equal(t.mod) && time.Since(t.mod) > 2*restTime {
		return nil
	}
	t.size, t.mod = st.Size(), st.ModTime()
	s, err := open(t.log)
	if err != nil || len(s.segs) == 0 {
		return nil
	}
	defer s.close()
	long := longest
	if q.Whole {
		long = wholeLine
	}
	from := s.goOn(t.mark, t.off)
	var lines []api.LogLine
	b := &budget{ctx: ctx, until: time.Now().Add(time.Second), bytes: mostWindow}
	stop := s.ahead(b, m, from, s.end(), func(f found) bool {
		f.key = s.time(f)
		lines = append(lines, s.line(m, f, long))
		from = s.behind(place{f.seg, f.off})
		return len(lines) < mostNews
	})
	switch {
	case stop == nil:
		from = s.end()
	case len(lines) < mostNews:
		from = s.behind(*stop)
	}
	if stop != nil {
		t.mod = time.Time{} // look again
	}
	t.mark, t.off = s.segs[from.seg].mark, from.off
	return lines
}

// goOn is where to go on in a log that ended at off of a file: that may have
// become the older one.
func (s *source) goOn(mark string, off int64) place {
	last := len(s.segs) - 1
	for seg := last; seg >= 0; seg-- {
		if s.segs[seg].mark == mark && off <= s.segs[seg].size {
			return place{seg, off}
		}
	}
	if mark == "" && off <= s.segs[last].size { // its first line has been ended since
		return place{last, off}
	}
	return place{last, 0}
}
