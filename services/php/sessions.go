package php

import (
	"context"
	"path/filepath"

	"nutshell/roles/api"
	"nutshell/services"
	"nutshell/services/web"
)

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
	if found, _ := filepath.Glob("/usr/lib/php/*/redis.so"); len(found) == 0 { // the pattern is well formed
		if p.sessions.Members() > 1 {
			return w, &api.Error{Code: api.CodeUnavailable, Op: "share sessions", Object: "PHP", Message: "its extension redis is not installed", Hint: "install Debian's package php-redis: apt-get install php-redis"}
		}
		p.m.Log().Warn("sessions stay on this instance", "hint", "apt-get install php-redis")
		return w, nil
	}
	if err := p.fpm.prepare(); err != nil { // makes the directory of sockets
		return w, err
	}
	w.handler, w.savePath = "redis", "unix://"+p.sessions.Store.Socket()
	return w, p.sessions.Ensure(ctx, services.Bytes(w.SessionSpace))
}

// storeSocket is where PHP finds its sessions, or empty where they are files.
func (p *pager) storeSocket() string {
	if !p.sessions.Store.Running() {
		return ""
	}
	return p.sessions.Store.Socket()
}
