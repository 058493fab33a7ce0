package store

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"nutshell/roles/api"
)

// serviceCache keeps the services' rows in memory, and as they are sent,
// because lists of many are asked for often: reading ten thousand from SQLite
// takes a quarter of a second and encoding them 40 ms. There is no other writer
// than this process, so it knows what has become stale.
type serviceCache struct {
	mu     sync.Mutex
	loaded bool
	byApp  map[int64][]*cachedService
	order  []int64 // applications, ascending

	staleMu sync.Mutex
	stale   map[serviceKey]bool
}

// serviceKey names a service; service 0 means all of the application.
type serviceKey struct{ application, service int64 }

// cachedService is one row, and its JSON without an operation once somebody
// has asked for that.
type cachedService struct {
	Service
	json []byte
}

func cached(s Service) *cachedService {
	s.Operation = "" // it comes and goes without a change of the row
	return &cachedService{Service: s}
}

func (c *serviceCache) spoil(touched map[serviceKey]bool) {
	c.staleMu.Lock()
	defer c.staleMu.Unlock()
	if c.stale == nil {
		c.stale = map[serviceKey]bool{}
	}
	for key := range touched {
		c.stale[key] = true
	}
}

// take returns what is stale and calls it fresh; it must be read after that,
// so that a change in between spoils it again.
func (c *serviceCache) take() map[serviceKey]bool {
	c.staleMu.Lock()
	defer c.staleMu.Unlock()
	stale := c.stale
	c.stale = nil
	return stale
}

func (c *serviceCache) refresh(ctx context.Context, v View) error {
	stale := c.take()
	// Not the asker's context: half a refresh would cost the next one a whole.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	err := c.load(ctx, v, stale)
	c.loaded = err == nil
	return err
}

func (c *serviceCache) load(ctx context.Context, v View, stale map[serviceKey]bool) error {
	if c.loaded && len(stale) == 0 {
		return nil
	}
	if !c.loaded {
		rows, err := v.Services(ctx, Selection{})
		if err != nil {
			return err
		}
		c.byApp = map[int64][]*cachedService{}
		for _, s := range rows {
			c.byApp[s.Application] = append(c.byApp[s.Application], cached(s))
		}
	} else {
		for _, key := range merge(stale) {
			rows, err := v.services(ctx, `s.application = ?1 AND (?2 = 0 OR s.id = ?2) ORDER BY s.id`, key.application, key.service)
			if err != nil {
				return err
			}
			c.replace(key, rows)
		}
	}
	c.order = c.order[:0]
	for id := range c.byApp {
		c.order = append(c.order, id)
	}
	slices.Sort(c.order)
	return nil
}

// merge names the whole application where many of its services are stale:
// one query for each would take longer than one for all.
func merge(stale map[serviceKey]bool) []serviceKey {
	const many = 20
	count := map[int64]int{}
	for key := range stale {
		count[key.application]++
	}
	var keys []serviceKey
	for key := range stale {
		if count[key.application] <= many {
			keys = append(keys, key)
		}
	}
	for application, n := range count {
		if n > many {
			keys = append(keys, serviceKey{application, 0})
		}
	}
	return keys
}

// replace puts fresh rows in the place of those that a key names.
func (c *serviceCache) replace(key serviceKey, rows []Service) {
	list := slices.DeleteFunc(c.byApp[key.application], func(s *cachedService) bool { return key.service == 0 || s.ID == key.service })
	if len(list) == 0 {
		list = make([]*cachedService, 0, len(rows))
	}
	for _, s := range rows { // in order, so that each goes to the end of many
		at, _ := slices.BinarySearchFunc(list, s.ID, func(o *cachedService, id int64) int { return int(o.ID - id) })
		list = slices.Insert(list, at, cached(s))
	}
	if c.byApp[key.application] = list; len(list) == 0 {
		delete(c.byApp, key.application)
	}
}

// each calls f with the services of a selection, in the order of ids, and with
// the operation under way on each.
func (s *Store) each(ctx context.Context, c Selection, f func(*cachedService, string) error) error {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	if err := s.cache.refresh(ctx, s.View); err != nil {
		return err
	}
	active, err := s.active(ctx)
	if err != nil {
		return err
	}
	var shared map[int64]bool
	if c.User != 0 {
		if shared, err = s.shared(ctx, c.User); err != nil {
			return err
		}
	}
	apps, count := s.cache.order, 0
	if c.Application != 0 {
		apps = []int64{c.Application}
	}
	for _, app := range apps {
		rows := s.cache.byApp[app]
		if len(rows) == 0 || app < c.AfterApp || (c.User != 0 && rows[0].OwnerID != c.User && !shared[app]) {
			continue
		}
		for _, row := range rows {
			if app == c.AfterApp && row.ID <= c.AfterID {
				continue
			}
			if err := f(row, active[[2]int64{app, row.ID}]); err != nil {
				return err
			}
			if count++; count == c.Limit {
				return nil
			}
		}
	}
	return nil
}

// Services lists services by application and id, from memory. What they hold
// is shared: change copies only.
func (s *Store) Services(ctx context.Context, c Selection) ([]Service, error) {
	list := []Service{}
	err := s.each(ctx, c, func(row *cachedService, operation string) error {
		one := row.Service
		one.Operation = operation
		list = append(list, one)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// ServicesJSON is Services as the JSON array that is sent. Unless it is nil,
// change may change each before that and says whether it did.
func (s *Store) ServicesJSON(ctx context.Context, c Selection, change func(*api.Service) bool) ([]byte, error) {
	b := bytes.NewBufferString("[")
	err := s.each(ctx, c, func(row *cachedService, operation string) error {
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		if row.json == nil {
			var err error
			if row.json, err = api.Encode(row.Service.Service); err != nil {
				return err
			}
		}
		one := row.Service.Service
		one.Operation = operation
		if changed := change != nil && change(&one); !changed && operation == "" {
			b.Write(row.json)
			return nil
		}
		other, err := api.Encode(one)
		b.Write(other)
		return err
	})
	b.WriteByte(']')
	return b.Bytes(), err
}
