package php

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"nutshell/roles/api"
	"nutshell/services/web"
	"nutshell/services/web/session"
)

// sessions is the part of a backend that keeps what PHP calls sessions.
type sessions struct {
	store *session.Store

	mu       sync.Mutex
	instance string
	backends []session.Peer // as the last configuration had them
	former   []session.Peer
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

// wanted is what PHP-FPM shall be, with a session store that is ready for it.
func (p *pager) wanted(ctx context.Context, c web.Config) (wanted, error) {
	w := wanted{handler: "files", savePath: p.fpm.files()}
	var err error
	if w.settings, err = parseSettings(c.Settings); err != nil {
		return w, err
	}
	if w.environment, err = web.Environment(p.m, c.Environment); err != nil {
		return w, err
	}
	p.mu.Lock()
	m := session.Membership{Self: session.Peer{Instance: p.instance, Address: p.m.Address(), Port: p.m.Port(session.Port)}, Members: slices.Clone(p.backends), Former: slices.Clone(p.former), Limit: bytesOf(w.SessionSpace)}
	p.mu.Unlock()
	if found, _ := filepath.Glob("/usr/lib/php/*/redis.so"); len(found) == 0 { // the pattern is well formed
		if len(m.Members) > 1 {
			return w, &api.Error{Code: api.CodeUnavailable, Op: "share sessions", Object: "PHP", Message: "its extension redis is not installed", Hint: "install Debian's package php-redis: apt-get install php-redis"}
		}
		p.m.Log().Warn("sessions stay on this instance", "hint", "apt-get install php-redis")
		return w, nil
	}
	if err := p.fpm.prepare(); err != nil { // makes the directory of sockets
		return w, err
	}
	w.handler, w.savePath = "redis", "unix://"+p.store.Socket()
	return w, p.store.Ensure(ctx, m)
}

// storeSocket is where PHP finds its sessions, or empty where they are files.
func (p *pager) storeSocket() string {
	if !p.store.Running() {
		return ""
	}
	return p.store.Socket()
}

// end is the end of a backend here. Others take over its sessions, unless the
// whole instance stops to run again later.
func (p *pager) end(ctx context.Context) error {
	p.mu.Lock()
	stopping := p.stopping
	others := slices.DeleteFunc(slices.Clone(p.backends), func(b session.Peer) bool { return b.Instance == p.instance })
	p.mu.Unlock()
	if stopping {
		return p.store.Stop(ctx)
	}
	return p.store.HandOver(ctx, others)
}
