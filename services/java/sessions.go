package java

import (
	"context"
	"regexp"
)

// ensureStore runs the store of sessions, if they are shared, and returns its
// socket. Tomcat writes a session there when a request has changed it.
func (p *pager) ensureStore(ctx context.Context, s settings) (socket string, err error) {
	if !s.ShareSessions {
		return "", p.sessions.Store.Stop(ctx)
	}
	if err := p.tomcats.prepare(); err != nil { // makes the directory of sockets
		return "", err
	}
	return p.sessions.Store.Socket(), p.sessions.Ensure(ctx, storeLimit(p.memory))
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
func (p *pager) route() string { return notInRoute.ReplaceAllString(p.sessions.Instance(), "-") }
