package java

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"sync"

	"nutshell/roles/api"
	"nutshell/services/web"
	"nutshell/services/web/session"
)

// sessions is the part of a backend that keeps what servlets call sessions.
// Tomcat writes each one to the store of its instance when a request has
// changed it; the stores of all backends keep copies for each other.
type sessions struct {
	store *session.Store

	mu       sync.Mutex
	instance string
	backends []session.Peer // as the last configuration had them
	former   []session.Peer // leave, and hand over what they have
	stopping bool
}

// told takes note of who shares the sessions, before anything is changed.
func (s *sessions) told(c api.AgentConfig) error {
	var conf web.Config
	if err := json.Unmarshal(c.Config, &conf); err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instance, s.backends, s.former, s.stopping = c.Instance.ID, stores(conf.Backends), stores(conf.Former), false
	return nil
}

// stores are those of the backends.
func stores(backends []web.Peer) []session.Peer {
	var list []session.Peer
	for _, b := range backends {
		list = append(list, session.Peer{Instance: b.Instance, Address: b.Address, Port: api.RealPort(b.Address, session.Port)})
	}
	return list
}

func (s *sessions) closing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
}

// ensureStore runs the store, if sessions are shared, and returns its socket.
func (p *pager) ensureStore(ctx context.Context, s settings) (socket string, err error) {
	if !s.ShareSessions {
		return "", p.store.Stop(ctx)
	}
	p.mu.Lock()
	m := session.Membership{Self: session.Peer{Instance: p.instance, Address: p.m.Address(), Port: p.m.Port(session.Port)}, Members: slices.Clone(p.backends), Former: slices.Clone(p.former), Limit: storeLimit(p.memory)}
	p.mu.Unlock()
	if err := p.tomcats.prepare(); err != nil { // makes the directory of sockets
		return "", err
	}
	return p.store.Socket(), p.store.Ensure(ctx, m)
}

// endStore is the end of a backend here. Others take over its sessions, unless
// the whole instance stops to run again later.
func (p *pager) endStore(ctx context.Context) error {
	p.mu.Lock()
	stopping := p.stopping
	others := slices.DeleteFunc(slices.Clone(p.backends), func(b session.Peer) bool { return b.Instance == p.instance })
	p.mu.Unlock()
	if stopping {
		return p.store.Stop(ctx)
	}
	return p.store.HandOver(ctx, others)
}

// storeLimit bounds what sessions take of an instance.
func storeLimit(memory int64) int64 {
	if memory <= 0 {
		return 256 << 20
	}
	return max(memory/8, 16<<20)
}

var notInRoute = regexp.MustCompile(`[^A-Za-z0-9_-]`)

// route is how this instance is named at the end of session ids, so that
// proxies send those who have a session to where it is in memory.
func (s *sessions) route() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return notInRoute.ReplaceAllString(s.instance, "-")
}
