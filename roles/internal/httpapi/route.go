package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"nutshell/roles/api"
)

// Needs says who may use a route. There is no default: a route without one
// stops the program from starting.
type Needs string

// The permissions.
const (
	Public Needs = "public"
	User   Needs = "user" // a signed-in user, for what is theirs
	// Viewer, Developer and Owner are what a signed-in user must at least be to
	// the application that the path names, or that the thing it names belongs to.
	Viewer    Needs = "viewer"
	Developer Needs = "developer"
	Owner     Needs = "owner"
	Admin     Needs = "admin"   // a signed-in administrator
	Manager   Needs = "manager" // mTLS, for its own application
	Agent     Needs = "agent"   // mTLS
	Node      Needs = "node"    // mTLS
	AnyRole   Needs = "role"    // mTLS, manager, agent or node
	// Renewing is AnyRole with a certificate that may have just ended.
	Renewing Needs = "renewing"
)

// person reports whether a signed-in user is meant.
func (n Needs) person() bool {
	switch n { //nolint:exhaustive // the others are machines, or anybody
	case User, Viewer, Developer, Owner, Admin:
		return true
	}
	return false
}

// Route is one line of the table: what it is called, who may use it and how
// long it may take.
type Route struct {
	ID      string // of the operation, also the action in the audit: "service.scale"
	Method  string
	Path    string // below /api/v1, with {names}
	Needs   Needs
	Limit   time.Duration
	Summary string

	status   int
	quiet    bool // not worth a line in the audit: a heartbeat
	raw      bool // the body is a stream of bytes, not JSON
	anyQuery bool // the handler reads the query itself
	audited  bool // worth a line in the audit, though it changes nothing by itself
	out      reflect.Type
	register func(s *Server, r Route, op huma.Operation)
}

// On makes a route of a handler that takes In (path, query and header
// parameters by tags, JSON in a field named Body) and answers Out as JSON. In
// must be a struct; Out is any JSON type (204
// for a nil pointer), JSON, None, Either, *Stream, *Events or *Socket.
func On[In, Out any](method, path, id string, needs Needs, limit time.Duration, summary string, h func(context.Context, *In) (Out, error)) Route {
	r := Route{ID: id, Method: method, Path: path, Needs: needs, Limit: limit, Summary: summary, status: http.StatusOK, out: typeOf[Out]()}
	switch any(*new(Out)).(type) {
	case None:
		r.status = http.StatusNoContent
	case Either:
		r.status = http.StatusAccepted
	case *Socket:
		r.audited = true
	}
	// Huma's code is made anew for each pair of types. All routes answer by the
	// same one, which keeps a tenth of the program's size away.
	r.register = func(s *Server, r Route, op huma.Operation) {
		huma.Register(s.api, op, func(ctx context.Context, in *In) (*huma.StreamResponse, error) {
			return s.handle(ctx, r, func() (any, error) { return h(ctx, in) })
		})
	}
	return r
}

// describe puts what a route answers into the document.
func (r Route) describe(op *huma.Operation, schemas huma.Registry) {
	content := func(description, mime string, t reflect.Type, name string) *huma.Response {
		return &huma.Response{Description: description, Content: map[string]*huma.MediaType{mime: {Schema: schemas.Schema(t, true, name)}}}
	}
	status := strconv.Itoa(r.status)
	op.Responses = map[string]*huma.Response{}
	switch out := reflect.Zero(r.out).Interface().(type) {
	case None:
		op.Responses[status] = &huma.Response{Description: http.StatusText(r.status)}
	case encoded:
		op.Responses[status] = content(http.StatusText(r.status), "application/json", out.of(), out.of().Name())
	case *Stream:
		op.Responses[status] = &huma.Response{Description: "the bytes", Content: map[string]*huma.MediaType{"application/octet-stream": {}, "text/plain": {}}}
	case *Events:
		op.Responses[status] = content("server-sent events", "text/event-stream", typeOf[api.Event](), "Event") // the data of each
	case *Socket:
		op.Responses["101"] = &huma.Response{Description: "a WebSocket"}
	case Either:
		op.Responses["202"] = content("accepted, or done at once", "application/json", typeOf[api.Operation](), "Operation")
		op.Responses["200"] = content("accepted, or done at once", "application/json", typeOf[api.Service](), "Service")
	default:
		op.Responses[status] = content(http.StatusText(r.status), "application/json", r.out, r.ID+"Response")
	}
}

// handle calls a route's handler and makes an answer of what it returns.
func (s *Server) handle(ctx context.Context, r Route, h func() (any, error)) (*huma.StreamResponse, error) {
	socket := r.out == typeOf[*Socket]()
	var out any
	var err error
	if socket {
		err = upgradeRequest(ctx)
	}
	if err == nil {
		out, err = h()
	}
	if socket && err == nil {
		err = wantsUpgrade(ctx)
	}
	if err := s.finish(ctx, r, err); err != nil {
		return nil, err
	}
	cookie := cookieOf(ctx)
	switch out := out.(type) {
	case *Stream:
		return s.stream(out), nil //nolint:contextcheck // it has the context of its request
	case *Events:
		return s.events(out), nil //nolint:contextcheck // huma hands the context to the stream itself
	case *Socket:
		return &huma.StreamResponse{Body: func(hc huma.Context) { s.socket(hc, r, out) }}, nil //nolint:contextcheck // as above
	case None:
		return s.sent(r.status, cookie, nil), nil
	case encoded:
		return s.sent(r.status, cookie, out.bytes()), nil
	case Either:
		if out.Operation != nil {
			return s.json(http.StatusAccepted, cookie, out.Operation)
		}
		return s.json(http.StatusOK, cookie, out.Service)
	default:
		if v := reflect.ValueOf(out); v.Kind() == reflect.Pointer && v.IsNil() {
			return s.sent(http.StatusNoContent, cookie, nil), nil // nothing new, say
		}
		return s.json(r.status, cookie, out)
	}
}

func (s *Server) json(status int, cookie string, v any) (*huma.StreamResponse, error) {
	var b bytes.Buffer
	if err := encode(&b, v); err != nil {
		return nil, err
	}
	return s.sent(status, cookie, b.Bytes()), nil
}

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// sent is an answer that is there already; nil: one without a body.
func (s *Server) sent(status int, cookie string, body []byte) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		if cookie != "" {
			hc.AppendHeader("Set-Cookie", cookie)
		}
		if body != nil {
			hc.SetHeader("Content-Type", "application/json")
		}
		hc.SetStatus(status)
		if body != nil {
			_, _ = hc.BodyWriter().Write(body) // the client has gone if this fails
		}
	}}
}

func cookieOf(ctx context.Context) string {
	if c := callOf(ctx); c != nil && c.cookie != nil {
		return c.cookie.String()
	}
	return ""
}

// Status changes the status of success.
func (r Route) Status(status int) Route { r.status = status; return r }

// Quiet leaves the route out of the audit.
func (r Route) Quiet() Route { r.quiet = true; return r }

// Audited has a line in the audit for a route that only reads: what it gives is
// worth to know who had it.
func (r Route) Audited() Route { r.audited = true; return r }

// Raw lets the handler read the body itself, by Body.
func (r Route) Raw() Route { r.raw = true; return r }

// AnyQuery lets the handler read the query itself, by Query: its parameters are
// known only then.
func (r Route) AnyQuery() Route { r.anyQuery = true; return r }

// JSON is a T that the handler has encoded itself, where that is worth it.
type JSON[T any] []byte

type encoded interface {
	of() reflect.Type
	bytes() []byte
}

func (JSON[T]) of() reflect.Type { return typeOf[T]() }

func (j JSON[T]) bytes() []byte { return j }

// None is the answer of a route that answers nothing.
type None struct{}

// Either is the answer of a change that becomes an operation, or is done at
// once and answers the service.
type Either struct {
	Operation *api.Operation
	Service   *api.Service
}

// Stream is an answer that is copied to the client as it comes. Read is
// closed at the end.
type Stream struct {
	Type     string // Content-Type
	Filename string // the client should save it under, if any
	Size     int64  // 0: not known
	// Whole says that an error of Read must not look like the end.
	Whole bool
	Read  io.ReadCloser
}

// Events is an answer that never ends: one server-sent event after another.
type Events struct {
	After   int64 // resume behind this event; below 0: only what comes
	Changed func() <-chan struct{}
	Stop    <-chan struct{} // closed when nothing comes any more
	Next    func(ctx context.Context, after int64) ([]api.Event, error)
}

// changes reports whether a request with this method changes something.
func changes(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

func (r Route) operation() huma.Operation {
	op := huma.Operation{OperationID: r.ID, Method: r.Method, Path: Prefix + r.Path, Summary: r.Summary, DefaultStatus: r.status,
		BodyReadTimeout: -1, Extensions: map[string]any{"x-needs": string(r.Needs)}}
	if tag, _, ok := strings.Cut(r.ID, "."); ok {
		op.Tags = []string{tag}
	}
	switch r.Needs {
	case User, Viewer, Developer, Owner, Admin:
		op.Security = []map[string][]string{{"session": {}}, {"token": {}}, {"password": {}}}
	case Manager, Agent, Node, AnyRole, Renewing:
		op.Security = []map[string][]string{{"certificate": {}}}
	case Public:
		op.Security = []map[string][]string{}
	}
	op.SkipValidateParams = r.anyQuery
	if r.raw {
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	}
	if r.Method == http.MethodPost && r.Needs.person() {
		most := 64
		op.Parameters = append(op.Parameters, &huma.Param{Name: "Idempotency-Key", In: "header",
			Description: "the same key by the same user answers the same operation", Schema: &huma.Schema{Type: "string", MaxLength: &most}})
	}
	return op
}
