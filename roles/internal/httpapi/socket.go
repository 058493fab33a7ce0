package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"

	"nutshell/roles/api"
)

// stillEvery is how often somebody with an open socket is looked at again.
const stillEvery = 3 * time.Second

// Socket is an answer that takes the connection over, as a WebSocket does.
// Only pages of this same host may ask for one, and no token that may only
// read: what goes through it is not seen here.
type Socket struct {
	// Still says why the asker may not go on. It is asked every few seconds,
	// after who asks was found out anew; nil: nothing more to say.
	Still func(ctx context.Context) error
	// Serve has the connection until it returns. ctx ends when the asker may not
	// go on, or the route's time is up; its cause, an api.Error, says why.
	Serve func(ctx context.Context, w http.ResponseWriter, r *http.Request) error
}

// upgradeRequest refuses requests that must not become a socket. Browsers send
// no header of ours with a WebSocket, so that it is the origin which tells our
// pages from others; they send it always.
func upgradeRequest(ctx context.Context) error {
	c := callOf(ctx)
	switch origin := c.from.Header.Get("Origin"); {
	case c.ReadOnly:
		return &api.Error{Code: api.CodeForbidden, Message: "this token may only read", Hint: "make a token with the scope write"}
	case origin == "" && c.Session != "":
		return &api.Error{Code: api.CodeForbidden, Message: "the header Origin is missing", Hint: "use a browser, or a token in place of the session"}
	case origin != "" && !sameHost(origin, c.from.Host):
		return &api.Error{Code: api.CodeForbidden, Message: "a page of " + api.Shorten(origin) + " may not open this"}
	}
	return nil
}

func sameHost(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == "https" && strings.EqualFold(u.Host, host)
}

func isUpgrade(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && strings.Contains(strings.ToLower(r.Header.Get("Connection")), "upgrade")
}

// wantsUpgrade refuses what is no WebSocket, when all else is in order. A
// browser does not show its page the answer to a refused upgrade; a page may ask
// again without it to learn the reason.
func wantsUpgrade(ctx context.Context) error {
	c := callOf(ctx)
	if isUpgrade(c.from) {
		return nil
	}
	c.audited = true // nothing was opened
	return &api.Error{Code: api.CodeInvalid, Message: "this is a WebSocket", Hint: "ask for it with the headers Upgrade and Connection, over HTTP/1.1"}
}

// socket serves one, and keeps in the audit how it ended and how long it took.
func (s *Server) socket(hc huma.Context, r Route, out *Socket) {
	w, ctx := humaecho.Unwrap(hc).Response(), hc.Context()
	c := callOf(ctx)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watchAsker(watching, r, c, out.Still, cancel)
	}()
	began := s.c.Now()
	err := out.Serve(ctx, w, c.from)
	stop()
	<-watched
	e := api.AuditEntry{Actor: c.User.Name, From: c.remote, Action: r.ID + ".end", Result: "ok",
		Object: bounded(strings.TrimPrefix(c.path, Prefix)) + " after " + s.c.Now().Sub(began).Round(time.Second).String()}
	if err != nil {
		e.Result = string(toProblem(ctx, err).Code)
	}
	s.c.Guard.Audit(context.WithoutCancel(ctx), e)
}

// watchAsker ends a socket whose asker may not have it any more: signed out,
// the token revoked, the role taken away.
func (s *Server) watchAsker(ctx context.Context, r Route, was *call, still func(context.Context) error, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(stillEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := &call{request: was.request, remote: was.remote, host: was.host, path: was.path, from: was.from}
		asking := context.WithValue(ctx, callKey{}, now)
		err := s.authenticate(asking, was.from, r, now)
		if err == nil && still != nil {
			err = still(asking)
		}
		switch api.CodeOf(err) { //nolint:exhaustive // anything else is a weakness of ours, and no reason to throw people out
		case api.CodeUnauthorized, api.CodeForbidden, api.CodeNotFound, api.CodeUnavailable, api.CodeConflict:
			if ctx.Err() == nil {
				cancel(err)
			}
			return
		}
	}
}
