package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"nutshell/roles/api"
)

// problem is an api.Error as problem+json (RFC 9457).
type problem struct {
	fields
	Status  int    `json:"status"`
	Title   string `json:"title"`
	Request string `json:"request,omitempty"` // id, to be found in the director's log
}

// fields is api.Error under a name that leaves room for its method Error.
type fields = api.Error

// problem is an error of huma, by which it knows the status.
var (
	_ huma.StatusError       = (*problem)(nil)
	_ huma.HeadersError      = (*problem)(nil)
	_ huma.ContentTypeFilter = (*problem)(nil)
)

// GetStatus is the HTTP status.
func (p *problem) GetStatus() int { return p.Status }

// GetHeaders says when to try again, for clients that do so by themselves.
func (p *problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	return h
}

// ContentType is that of all errors.
func (p *problem) ContentType(string) string { return "application/problem+json" }

// toProblem turns any error into what is sent. What is not an api.Error is a
// bug of ours: its text goes to the log and not to the client.
func toProblem(ctx context.Context, err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	var known *api.Error
	switch {
	case errors.As(err, &known):
		known = api.AsError(err)
	case errors.Is(err, context.DeadlineExceeded):
		known = &api.Error{Code: api.CodeDeadline, Message: "the request took longer than it may"}
		if c := callOf(ctx); c != nil && c.from != nil && changes(c.from.Method) {
			known.Hint = "it may have been done all the same: look before you send it again"
		}
	case errors.Is(err, context.Canceled):
		known = &api.Error{Code: api.CodeCancelled, Message: "the request was given up"}
	default:
		known = &api.Error{Code: api.CodeInternal, Message: "something went wrong inside Nutshell", Hint: "its log has the request's id"}
	}
	out := &problem{fields: *known, Status: known.Code.Status(), Title: http.StatusText(known.Code.Status())}
	if c := callOf(ctx); c != nil {
		out.Request = c.request
	}
	return out
}

// finish is where each route's outcome passes: audit, log, and the form of
// errors.
func (s *Server) finish(ctx context.Context, r Route, err error) error {
	c := callOf(ctx)
	s.audit(ctx, r, c, err)
	if err == nil {
		return nil
	}
	p := toProblem(ctx, err)
	if p.Code == api.CodeInternal {
		s.c.Log.Error("request failed", "request", p.Request, "action", r.ID, "error", err)
	}
	return p
}

func (s *Server) audit(ctx context.Context, r Route, c *call, err error) {
	if c == nil || c.audited || !c.guessed && (r.quiet || !changes(r.Method) && !r.audited) {
		return
	}
	c.audited = true
	e := api.AuditEntry{Actor: c.User.Name, From: c.remote, Action: r.ID, Object: strings.TrimPrefix(c.path, Prefix), Result: "ok"}
	switch {
	case c.Identity.Role != "":
		e.Actor = c.Identity.String()
	case e.Actor == "":
		e.Actor = c.actor
	}
	if err != nil {
		e.Result = string(toProblem(ctx, err).Code)
	}
	e.Actor, e.Object = bounded(e.Actor), bounded(e.Object) // strangers fill these
	s.c.Guard.Audit(context.WithoutCancel(ctx), e)
}

func bounded(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

// refused is what a status says of a request that did not get as far as its
// handler.
func refused(status int) error {
	for _, code := range []api.Code{api.CodeInvalid, api.CodeTooLarge, api.CodeNotFound, api.CodeDeadline} {
		if code.Status() == status {
			return &api.Error{Code: code}
		}
	}
	if status >= 400 && status < 500 {
		return &api.Error{Code: api.CodeInvalid}
	}
	return &api.Error{Code: api.CodeInternal}
}

// fromHuma is a transformer that gives huma's own complaints (a body that is
// no JSON, an unknown field, a wrong parameter) the form of all errors.
func fromHuma(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	e := api.Error{Code: api.CodeInvalid, Message: m.Detail}
	switch m.Status {
	case http.StatusRequestEntityTooLarge:
		e.Code = api.CodeTooLarge
	case http.StatusInternalServerError:
		e.Code = api.CodeInternal
	case http.StatusNotFound:
		e.Code = api.CodeNotFound
	}
	var said []string
	for _, d := range m.Errors {
		field := strings.TrimPrefix(strings.TrimPrefix(d.Location, "body"), ".")
		if field != "" {
			e.Fields = append(e.Fields, field)
			said = append(said, api.Shorten(field)+": "+d.Message)
		} else {
			said = append(said, d.Message)
		}
	}
	if len(said) > 0 {
		e.Message = strings.Join(said, "; ")
	}
	p := &problem{fields: e, Status: m.Status, Title: http.StatusText(m.Status)}
	if c := callOf(ctx.Context()); c != nil {
		p.Request = c.request
	}
	return p, nil
}

// writeProblem answers outside of huma.
func writeProblem(w http.ResponseWriter, p *problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	if p.Code == api.CodeUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="nutshell"`) // not Basic: browsers would ask in a window of their own
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client has gone if this fails
}
