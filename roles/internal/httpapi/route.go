package httpapi

import (
	"context"
	"io"
	"net/http"
	"reflect"
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
	AnyRole   Needs = "role"    // mTLS, manager or agent
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
	register func(s *Server, r Route, op huma.Operation)
}

// On makes a route of a handler that takes In (path, query and header
// parameters by tags, JSON in a field named Body) and answers Out as JSON. In
// must be a struct; Out is any JSON type (204
// for a nil pointer), JSON, None, Either, *Stream, *Events or *Socket.
func On[In, Out any](method, path, id string, needs Needs, limit time.Duration, summary string, h func(context.Context, *In) (Out, error)) Route {
	r := Route{ID: id, Method: method, Path: path, Needs: needs, Limit: limit, Summary: summary, status: http.StatusOK}
	switch any(*new(Out)).(type) {
	case None:
		r.status = http.StatusNoContent
		r.register = func(s *Server, r Route, op huma.Operation) {
			huma.Register(s.api, op, func(ctx context.Context, in *In) (*bare, error) {
				_, err := h(ctx, in)
				return &bare{Cookie: cookieOf(ctx)}, s.finish(ctx, r, err)
			})
		}
	case encoded:
		r.register = func(s *Server, r Route, op huma.Operation) {
			of := any(*new(Out)).(encoded).of()
			op.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{"application/json": {Schema: s.api.OpenAPI().Components.Schemas.Schema(of, true, of.Name())}}}}
			huma.Register(s.api, op, func(ctx context.Context, in *In) (*written, error) {
				out, err := h(ctx, in)
				if err := s.finish(ctx, r, err); err != nil {
					return nil, err
				}
				return &written{Type: "application/json", Body: any(out).(encoded).bytes()}, nil
			})
		}
	case *Stream:
		r.register = func(s *Server, r Route, op huma.Operation) {
			op.Responses = map[string]*huma.Response{"200": {Description: "the bytes", Content: map[string]*huma.MediaType{"application/octet-stream": {}, "text/plain": {}}}}
			huma.Register(s.api, op, func(ctx context.Context, in *In) (*huma.StreamResponse, error) {
				out, err := h(ctx, in)
				if err := s.finish(ctx, r, err); err != nil {
					return nil, err
				}
				return s.stream(any(out).(*Stream)), nil
			})
		}
	case *Events:
		r.register = func(s *Server, r Route, op huma.Operation) {
			event := s.api.OpenAPI().Components.Schemas.Schema(typeOf[api.Event](), true, "Event") // the data of each
			op.Responses = map[string]*huma.Response{"200": {Description: "server-sent events", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: event}}}}
			huma.Register(s.api, op, func(ctx context.Context, in *In) (*huma.StreamResponse, error) {
				out, err := h(ctx, in)
				if err := s.finish(ctx, r, err); err != nil {
					return nil, err
				}
				return s.events(any(out).(*Events)), nil //nolint:contextcheck // huma hands the context to the stream itself
			})
		}
	case *Socket:
		r.audited = true
		r.register = func(s *Server, r Route, op huma.Operation) { registerSocket(s, r, op, h) }
	case Either:
		r.status = http.StatusAccepted
		r.register = func(s *Server, r Route, op huma.Operation) {
			registry := s.api.OpenAPI().Components.Schemas
			op.Responses = map[string]*huma.Response{}
			for status, v := range map[string]*huma.Schema{"202": registry.Schema(typeOf[api.Operation](), true, "Operation"), "200": registry.Schema(typeOf[api.Service](), true, "Service")} {
				op.Responses[status] = &huma.Response{Description: "accepted, or done at once", Content: map[string]*huma.MediaType{"application/json": {Schema: v}}}
			}
			huma.Register(s.api, op, func(ctx context.Context, in *In) (*answer[any], error) {
				out, err := h(ctx, in)
				if err := s.finish(ctx, r, err); err != nil {
					return nil, err
				}
				e := any(out).(Either)
				if e.Operation != nil {
					return &answer[any]{Status: http.StatusAccepted, Body: e.Operation}, nil
				}
				return &answer[any]{Status: http.StatusOK, Body: e.Service}, nil
			})
		}
	default:
		r.register = func(s *Server, r Route, op huma.Operation) {
			huma.Register(s.api, op, func(ctx context.Context, in *In) (*answer[Out], error) {
				out, err := h(ctx, in)
				if err := s.finish(ctx, r, err); err != nil {
					return nil, err
				}
				a := &answer[Out]{Status: r.status, Cookie: cookieOf(ctx), Body: out}
				if v := reflect.ValueOf(out); v.Kind() == reflect.Pointer && v.IsNil() {
					a.Status = http.StatusNoContent // nothing new, say
				}
				return a, nil
			})
		}
	}
	return r
}

// answer is what huma turns into a response.
type answer[T any] struct {
	Status int
	Cookie string `header:"Set-Cookie"`
	Body   T
}

// bare is an answer without a body.
type bare struct {
	Cookie string `header:"Set-Cookie"`
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

// written is what huma sends as it is.
type written struct {
	Type string `header:"Content-Type"`
	Body []byte
}

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
	case Manager, Agent, AnyRole, Renewing:
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
