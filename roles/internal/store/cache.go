package store

import (
	"context"
	"slices"
	"sync"
	"time"
)

// serviceCache keeps the services' rows in memory, because lists of many are
// asked for often and reading them from SQLite takes half a second. There is
// no other writer than this process, so it knows what has become stale.
type serviceCache struct {
	mu     sync.Mutex
	loaded bool
	byApp  map[int64][]Service
	order  []int64 // applications, ascending

	staleMu sync.Mutex
	stale   map[int64]bool
}

func (c *serviceCache) spoil(applications map[int64]bool) {
	c.staleMu.Lock()
	defer c.staleMu.Unlock()
	if c.stale == nil {
		c.stale = map[int64]bool{}
	}
	for id := range applications {
		c.stale[id] = true
	}
}

// take returns what is stale and calls it fresh; it must be read after that,
// so that a change in between spoils it again.
func (c *serviceCache) take() []int64 {
	c.staleMu.Lock()
	defer c.staleMu.Unlock()
	var list []int64
	for id := range c.stale {
		list = append(list, id)
	}
	c.stale = nil
	return list
}

func (c *serviceCache) refresh(ctx context.Context, v View) error {
	stale := c.take()
	// Not the asker's context: half a refresh would cost the next one a whole.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	put := func(rows []Service) {
		for _, s := range rows {
			c.byApp[s.Application] = append(c.byApp[s.Application], s)
		}
	}
	fail := func(err error) error {
		c.loaded = false
		return err
	}
	whole := c.loaded
	if !whole {
		rows, err := v.Services(ctx, Selection{})
		if err != nil {
			return fail(err)
		}
		c.byApp = map[int64][]Service{}
		put(rows)
		c.loaded = true
	} else {
		for _, id := range stale {
			rows, err := v.Services(ctx, Selection{Application: id})
			if err != nil {
				return fail(err)
			}
			delete(c.byApp, id)
			put(rows)
		}
	}
	if len(stale) > 0 || !whole {
		c.order = c.order[:0]
		for id := range c.byApp {
			c.order = append(c.order, id)
		}
		slices.Sort(c.order)
	}
	return nil
}

// Services lists services by application and id, from memory. What they hold
// is shared: change copies only.
func (s *Store) Services(ctx context.Context, c Selection) ([]Service, error) {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	if err := s.cache.refresh(ctx, s.View); err != nil {
		return nil, err
	}
	active, err := s.active(ctx)
	if err != nil {
		return nil, err
	}
	list := []Service{}
	for _, app := range s.cache.order {
		rows := s.cache.byApp[app]
		if len(rows) == 0 || app < c.AfterApp || (c.Application != 0 && app != c.Application) || (c.Owner != 0 && rows[0].OwnerID != c.Owner) {
			continue
		}
		for _, row := range rows {
			if app == c.AfterApp && row.ID <= c.AfterID {
				continue
			}
			row.Operation = active[[2]int64{app, row.ID}]
			if list = append(list, row); len(list) == c.Limit {
				return list, nil
			}
		}
	}
	return list, nil
}
