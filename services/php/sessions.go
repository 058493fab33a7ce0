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
	s.instance, s.backends, s.stopping = c.Instance.ID, nil, false
	for _, b := range conf.Backends {
		s.backends = append(s.backends, session.Peer{Instance: b.Instance, Address: b.Address, Port: api.RealPort(b.Address, session.Port)})
	}
	return nil
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
	if w.environment, err = environment(p.m, c.Environment); err != nil {
		return w, err
	}
	p.mu.Lock()
	m := session.Membership{Self: session.Peer{Instance: p.instance, Address: p.m.Address(), Port: p.m.Port(session.Port)}, Members: slices.Clone(p.backends), Limit: bytesOf(w.SessionSpace)}
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
