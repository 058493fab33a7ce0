package web

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"nutshell/roles/api"
	"nutshell/services"
	"nutshell/services/web/session"
)

// Sessions are what a backend keeps of visitors: the store of this instance,
// and the stores of all backends, which keep copies for each other.
type Sessions struct {
	Store *session.Store
	m     services.Machine

	mu       sync.Mutex
	instance string
	backends []session.Peer // as the last configuration had them
	former   []session.Peer // leave, and hand over what they have
	stopping bool
}

// NewSessions makes the sessions of a backend. tool is the kind's tool that
// runs a store; dir is where its socket is.
func NewSessions(m services.Machine, tool, dir string) *Sessions {
	return &Sessions{m: m, Store: session.NewStore(m, tool, dir)}
}

func (s *Sessions) told(c api.AgentConfig) error {
	var conf Config
	if err := json.Unmarshal(c.Config, &conf); err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instance, s.backends, s.former, s.stopping = c.Instance.ID, stores(conf.Backends), stores(conf.Former), false
	return nil
}

func stores(backends []Peer) []session.Peer {
	var list []session.Peer
	for _, b := range backends {
		list = append(list, session.Peer{Instance: b.Instance, Address: b.Address, Port: api.RealPort(b.Address, session.Port)})
	}
	return list
}

// Instance is this instance's id, as the last configuration had it.
func (s *Sessions) Instance() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.instance
}

// Members is how many backends share the sessions.
func (s *Sessions) Members() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.backends)
}

// Ensure runs the store here; sessions take at most limit bytes of it.
func (s *Sessions) Ensure(ctx context.Context, limit int64) error {
	s.mu.Lock()
	m := session.Membership{Self: session.Peer{Instance: s.instance, Address: s.m.Address(), Port: s.m.Port(session.Port)},
		Members: slices.Clone(s.backends), Former: slices.Clone(s.former), Limit: limit}
	s.mu.Unlock()
	return s.Store.Ensure(ctx, m)
}

// End is the end of a backend here. Others take over its sessions, unless the
// whole instance stops to run again later.
func (s *Sessions) End(ctx context.Context) error {
	s.mu.Lock()
	stopping := s.stopping
	others := slices.DeleteFunc(slices.Clone(s.backends), func(b session.Peer) bool { return b.Instance == s.instance })
	s.mu.Unlock()
	if stopping {
		return s.Store.Stop(ctx)
	}
	return s.Store.HandOver(ctx, others)
}

// SharingAgent is an Agent whose backends share sessions: these must be told
// before and after everything else.
type SharingAgent struct {
	*Agent
	Sessions *Sessions
}

// Apply implements services.Agent.
func (a *SharingAgent) Apply(ctx context.Context, c api.AgentConfig) error {
	if err := a.Sessions.told(c); err != nil {
		return err
	}
	return a.Agent.Apply(ctx, c)
}

// Close implements services.Agent. The instance may run again.
func (a *SharingAgent) Close(ctx context.Context) error {
	a.Sessions.mu.Lock()
	a.Sessions.stopping = true
	a.Sessions.mu.Unlock()
	return a.Agent.Close(ctx)
}
