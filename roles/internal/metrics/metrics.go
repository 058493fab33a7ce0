// Package metrics keeps what instances measured, for weeks, and answers graphs
// of it. It is the only user of Prometheus' time series database. It does not
// measure, and history is never a reason not to start: what cannot be read is
// set aside with a warning.
//
// There are two levels of it. The fine one holds what was posted, every 15 s,
// for three days. The coarse one holds a value every five minutes for as long
// as the configuration says, and for each service the sums of its instances,
// so that a month of many instances is drawn from a handful of series.
package metrics

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql"

	"nutshell/roles/api"
)

const (
	fineEvery    = 15 * time.Second
	fineKeep     = 3 * 24 * time.Hour
	coarseEvery  = 5 * time.Minute
	freshFor     = time.Minute // the last word of an instance counts for so long
	forgetAfter  = 15 * time.Minute
	queryTime    = 10 * time.Second
	queries      = 2 // at once; each uses a core
	querySamples = 20_000_000
)

// Config is what Open needs. Zero sizes and times get defaults.
type Config struct {
	Dir       string        // made when it is not there
	Retention time.Duration // of the coarse level; default 30 days
	MaxBytes  int64         // of both levels; default 1 GiB
	Now       func() time.Time
	Log       *slog.Logger
}

// Store is the history.
type Store struct {
	c            Config
	fine, coarse *level
	engine       *promql.Engine
	slots        chan struct{} // as many as queries may run at once

	mu     sync.Mutex // guards what follows, and keeps writes in order
	last   map[string]*seen
	sums   *sums
	closed bool
}

// seen is what an instance posted last.
type seen struct {
	application int64
	measured    api.Measured
	at          time.Time
	series      map[string]bool // names of all series that it ever had
}

// Open opens the history, or begins one.
func Open(c Config) (*Store, error) {
	if c.Dir == "" || c.Now == nil || c.Log == nil {
		return nil, errors.New("metrics: Dir, Now and Log are required")
	}
	if c.Retention == 0 {
		c.Retention = 30 * 24 * time.Hour
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 1 << 30
	}
	s := &Store{c: c, last: map[string]*seen{}, sums: newSums(), slots: make(chan struct{}, queries)}
	s.engine = promql.NewEngine(promql.EngineOpts{MaxSamples: querySamples, Timeout: queryTime, LookbackDelta: time.Minute})
	s.fine = &level{dir: filepath.Join(c.Dir, "fine"), block: 2 * time.Hour, largest: 18 * time.Hour, keep: min(fineKeep, c.Retention), bytes: c.MaxBytes / 2, now: c.Now, log: c.Log}
	s.coarse = &level{dir: filepath.Join(c.Dir, "coarse"), block: 12 * time.Hour, largest: 108 * time.Hour, keep: c.Retention, bytes: c.MaxBytes / 2, now: c.Now, log: c.Log}
	for _, l := range []*level{s.fine, s.coarse} {
		l.open()
	}
	return s, nil
}

// Close writes what is not written yet. Nothing may be added afterwards.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.coarse.append(s.sums.flush(), s.c.Now().UnixMilli())
	return errors.Join(s.fine.close(), s.coarse.close())
}

// Add takes what instances of an application measured just now. What is not
// well formed is left out: the poster is not trusted.
func (s *Store) Add(application int64, list []api.Measured) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	now := s.c.Now()
	var rows []row
	for _, m := range list {
		before := s.last[m.Instance]
		if before == nil || before.application != application {
			before = &seen{application: application, series: map[string]bool{}}
			s.last[m.Instance] = before
		}
		fresh, dropped := rowsOf(application, m, before.series)
		if dropped > 0 {
			s.c.Log.Debug("figures left out", "instance", m.Instance, "count", dropped)
		}
		rows = append(rows, fresh...)
		before.measured, before.at = m, now
	}
	s.fine.append(rows, now.UnixMilli())
	if due, at := s.sums.due(now); due {
		s.coarse.append(s.sums.flush(), at)
		s.forget(now)
	}
	s.sums.add(rows, now)
}

// forget drops instances that have not been heard of for long.
func (s *Store) forget(now time.Time) {
	for id, l := range s.last {
		if now.Sub(l.at) > forgetAfter {
			delete(s.last, id)
		}
	}
	s.sums.forget(now)
}

// Latest is what the instances that are there measured last.
func (s *Store) Latest() []Latest {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Latest
	now := s.c.Now()
	for _, l := range s.last {
		if now.Sub(l.at) <= freshFor {
			list = append(list, Latest{Application: l.application, Measured: l.measured})
		}
	}
	return list
}

// Latest is the last word of an instance.
type Latest struct {
	Application int64
	Measured    api.Measured
	// Names are put in by who knows them: application and service.
	ApplicationName, ServiceName string
}

// slot waits until a query may run.
func (s *Store) slot(ctx context.Context) (release func(), err error) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
