package manager

import (
	"context"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"nutshell/roles/api"
)

const (
	measureEvery = 15 * time.Second
	askTime      = 5 * time.Second
	askedAtOnce  = 32
	postedAtOnce = 20 // instances in one post, far below what the director takes
)

// measure asks all agents what they measured and passes it on. What fails is
// a gap in a graph, and nothing else.
func (m *Manager) measure(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(untilMeasured(time.Now(), m.c.Identity.Application)):
		}
		list := m.gather(ctx)
		for len(list) > 0 {
			n := min(len(list), postedAtOnce)
			post, cancel := context.WithTimeout(ctx, reportTime)
			err := m.director.Do(post, http.MethodPost, "/api/v1/manager/measured", list[:n], nil)
			cancel()
			if err != nil && ctx.Err() == nil {
				m.c.Log.Debug("director does not take what was measured", "error", err)
			}
			list = list[n:]
		}
	}
}

// untilMeasured is the time to the next look. Graphs have points at whole
// multiples of measureEvery: what is measured just before one is seen at once.
// Applications are spread over a moment, so that the director is not asked by
// all of them together.
func untilMeasured(now time.Time, application int64) time.Duration {
	const before, moments = 2 * time.Second, 1000
	at := measureEvery - before + time.Duration(application%moments)*time.Millisecond
	wait := (at - now.Sub(now.Truncate(measureEvery))) % measureEvery
	if wait <= 0 {
		wait += measureEvery
	}
	return wait
}

// gather asks all instances at once.
func (m *Manager) gather(ctx context.Context) []api.Measured {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var mu sync.Mutex
	var list []api.Measured
	var g errgroup.Group
	g.SetLimit(askedAtOnce)
	for _, s := range m.list() {
		for _, i := range s.crew.all() {
			if i.Address == "" {
				continue
			}
			g.Go(func() error {
				var got api.Measured
				if err := m.agent(i).Do(ctx, http.MethodGet, "/v1/measured", nil, &got); err != nil {
					return nil //nolint:nilerr // one that is away is looked after elsewhere
				}
				got.Instance, got.Service = i.ID, s.id
				mu.Lock()
				defer mu.Unlock()
				list = append(list, got)
				return nil
			})
		}
	}
	_ = g.Wait() // nobody returns an error
	return list
}
