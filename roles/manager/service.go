package manager

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/logfile"
	"nutshell/services"
)

const (
	observeTime  = 5 * time.Second
	lookEvery    = time.Second
	firstRetry   = time.Second
	longestRetry = 15 * time.Second
)

// service is one service's loop.
type service struct {
	m     *Manager
	id    int64
	kind  services.Kind
	half  services.Manager
	log   *slog.Logger
	logTo *logfile.File
	wake  chan struct{}
	loop  chan struct{} // full while the loop works, or rests for a stream
	ended context.CancelFunc
	crew  *crew

	mu      sync.Mutex
	desired api.DesiredService
	state   api.State
	reason  string
	health  services.Health
	offers  offers
	bound   []api.Binding     // what instances are told of siblings
	mounts  map[string]string // users' volumes that instances were told of

	// Owned by whoever fills loop.
	converged string        // fingerprint of what was made so
	delay     time.Duration // before the next try after a failure
	notBefore time.Time
	sick      time.Time // since when it does not serve though converged; zero: it does
	step      func(name string)
}

func newService(m *Manager, kind services.Kind, d api.DesiredService) *service {
	s := &service{m: m, id: d.Service.ID, kind: kind, wake: make(chan struct{}, 1), loop: make(chan struct{}, 1), desired: d, state: d.Service.State, reason: d.Service.Reason,
		delay: firstRetry, crew: newCrew(m), step: func(string) {}}
	s.health.Serving = d.Service.Serving
	s.health.URLs = d.Service.URLs
	s.log = m.c.Log.With("service", d.Service.ID)
	if f, err := logfile.Open(s.logFile(), logfile.MaxBytes); err != nil {
		s.log.Error("service has no log of its own", "error", err)
	} else {
		s.logTo = f
		s.log = f.Logger(nil, slog.LevelInfo)
	}
	s.half = kind.Manager(host{s})
	return s
}

func (s *service) logFile() string {
	return filepath.Join(s.m.c.Dir, "log", fmt.Sprintf("service-%d.log", s.id))
}

// want takes what is wanted now and wakes the loop.
func (s *service) want(d api.DesiredService) {
	s.mu.Lock()
	s.desired = d
	s.mu.Unlock()
	s.crew.want(d.Instances, d.Patience)
	s.poke()
}

// poke wakes the loop.
func (s *service) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *service) wanted() api.DesiredService {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.desired
}

func (s *service) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	s.ended = cancel
	s.mu.Unlock()
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case s.loop <- struct{}{}:
			s.pass(ctx)
			<-s.loop
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-s.wake:
		}
	}
	if s.logTo != nil {
		_ = s.logTo.Close()
	}
}

func (s *service) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		s.ended()
	}
}

// pass looks once and does what is to do.
func (s *service) pass(ctx context.Context) {
	d := s.wanted()
	s.crew.look(ctx)
	if d.Service.Desired == api.GoalStopped {
		s.down(ctx, d)
		return
	}
	have, lost := s.crew.sort(s.m.c.Now())
	got, _ := s.gets()
	print := fingerprint(d, have, offering(got))
	if d.Operation == nil && len(lost) == 0 && print == s.converged && !s.untold(d, have) {
		s.observe(ctx)
		return
	}
	if s.mustWait(len(have)) {
		return
	}
	if d.Operation == nil && s.m.c.Now().Before(s.notBefore) {
		return
	}
	s.up(ctx, d, have, lost)
}

// observe looks whether what was made so still serves. Daemons that crash are
// restarted by their agents; what does not heal within seconds is configured
// anew.
func (s *service) observe(ctx context.Context) {
	// An instance whose machine lost its power lets its callers wait for ever.
	look, cancel := context.WithTimeout(ctx, observeTime)
	defer cancel()
	health, err := s.half.Observe(look)
	if err != nil {
		health = services.Health{Problem: err.Error()}
	} else {
		s.collect()
	}
	now := s.m.c.Now()
	if health.Ready {
		s.sick = time.Time{}
		s.delay = firstRetry
		s.become(api.Running, serves(health), &health)
		return
	}
	if s.sick.IsZero() {
		s.sick = now
	}
	if now.Sub(s.sick) > 3*time.Second {
		s.log.Warn("service does not serve; configuring it anew", "problem", health.Problem)
		s.become(api.Adapting, health.Problem, nil)
		s.converged, s.sick = "", now
	}
}

// serves says that a service does, and what is not as it should be beside that.
func serves(h services.Health) string {
	if h.Problem == "" {
		return "serves"
	}
	return "serves; " + h.Problem
}

// become sets the state and tells the director when it is another one.
func (s *service) become(state api.State, reason string, health *services.Health) {
	s.mu.Lock()
	changed := s.state != state || s.reason != reason
	s.state, s.reason = state, reason
	if health != nil {
		changed = changed || health.Serving != s.health.Serving || len(health.URLs) != len(s.health.URLs)
		s.health = *health
	}
	s.mu.Unlock()
	if changed {
		s.log.Info("state", "state", string(state), "reason", reason)
		s.m.tell()
	}
}

func (s *service) current() api.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *service) report() api.Report {
	instances := s.crew.reports()
	s.mu.Lock()
	defer s.mu.Unlock()
	urls := s.health.URLs
	if urls == nil || s.state == api.Stopped {
		urls = []string{}
	}
	return api.Report{Service: s.id, State: s.state, Reason: s.reason, Serving: s.health.Serving, URLs: urls, Instances: instances}
}

// fingerprint changes whenever something must be made so again.
func fingerprint(d api.DesiredService, have []api.Instance, got []api.Binding) string {
	var ids []string
	var weights []map[string]int
	for _, i := range have {
		ids = append(ids, i.ID+"@"+i.Address)
		weights = append(weights, i.Weights)
	}
	code := ""
	if d.Code != nil {
		code = d.Code.ID + d.Code.SHA256
	}
	b, _ := json.Marshal([]any{d.Service.Parts, d.Service.Settings, code, d.Retry, ids, weights, d.Environment, d.Front, d.Secrets, got}) // always encodes
	return fmt.Sprintf("%x", sha256.Sum256(b))
}
