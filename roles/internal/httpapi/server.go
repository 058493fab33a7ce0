// Package httpapi is the director's face: one HTTPS port with the API, its
// OpenAPI document and the user interface. It decodes strictly, finds out who
// asks, keeps permission and time limit beside each path, and gives errors
// one form. What a request means is decided by the handlers in its table; it
// is the only package that knows echo and huma.
package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
	"github.com/labstack/echo/v4"

	"nutshell/roles/api"
)

// Prefix is where the API begins.
const Prefix = "/api/v1"

// maxJSON bounds a JSON body. Archives come through Raw routes.
const maxJSON = 1 << 20

// Config is what New needs.
type Config struct {
	Guard   Guard
	Routes  []Route
	UI      fs.FS // built pages, index.html at its top; nil: none
	Version string
	Log     *slog.Logger
	Now     func() time.Time
	// KeepAlive is how often a silent event stream says that it lives.
	KeepAlive time.Duration
	// Answered, unless nil, is told of each request to a route.
	Answered func(route string, status int, took time.Duration)
	// Wrap, unless nil, stands around everything that is answered over TLS.
	Wrap func(http.Handler) http.Handler
}

// Server answers requests. It is an http.Handler.
type Server struct {
	c    Config
	echo *echo.Echo
	api  huma.API
	ui   *pages
}

// New makes a server and checks its table: every route says who may use it
// and how long it may take.
func New(c Config) (*Server, error) {
	switch {
	case c.Guard == nil:
		return nil, errors.New("httpapi: Guard is required")
	case c.Log == nil || c.Now == nil:
		return nil, errors.New("httpapi: Log and Now are required")
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = 15 * time.Second
	}
	if err := CheckRoutes(c.Routes); err != nil {
		return nil, err
	}
	s := &Server{c: c, echo: echo.New()}
	s.echo.HideBanner, s.echo.HidePort = true, true
	s.echo.HTTPErrorHandler = s.unrouted
	s.api = humaecho.New(s.echo, s.humaConfig())
	for _, r := range c.Routes {
		op := r.operation()
		op.MaxBodyBytes = maxJSON
		r.describe(&op, s.api.OpenAPI().Components.Schemas)
		op.Middlewares = huma.Middlewares{s.enter(r)}
		r.register(s, r, op)
	}
	s.describeErrors()
	// Made when somebody asks: it is half of the work of a start, and few do.
	spec := sync.OnceValues(s.document)
	s.echo.GET(Prefix+"/openapi.json", func(c echo.Context) error {
		b, err := spec()
		if err != nil {
			return fmt.Errorf("httpapi: OpenAPI: %w", err)
		}
		return c.Blob(http.StatusOK, "application/json", b)
	})
	if c.UI != nil {
		var err error
		if s.ui, err = newPages(c.UI); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// CheckRoutes refuses a table in which somebody forgot who may do what, or
// for how long.
func CheckRoutes(routes []Route) error {
	seen := map[string]bool{}
	for _, r := range routes {
		where := "route " + r.Method + " " + r.Path
		switch r.Needs {
		case Public, User, Viewer, Developer, Owner, Admin, Manager, Agent, Node, AnyRole, Renewing:
		default:
			return fmt.Errorf("httpapi: %s: nobody is said to need it (Needs is %q)", where, r.Needs)
		}
		switch {
		case r.Needs == User && strings.Contains(r.Path, "{app}"):
			return fmt.Errorf("httpapi: %s: it is not said what its user must be to the application (Needs is %q)", where, r.Needs)
		case r.Limit <= 0:
			return fmt.Errorf("httpapi: %s has no time limit", where)
		case r.ID == "" || r.Summary == "":
			return fmt.Errorf("httpapi: %s has no id or no summary", where)
		case seen[r.ID] || seen[where]:
			return fmt.Errorf("httpapi: %s (%s) is there twice", where, r.ID)
		}
		seen[r.ID], seen[where] = true, true
	}
	return nil
}

func (s *Server) humaConfig() huma.Config {
	jsonFormat := huma.Format{
		Marshal:   encode,
		Unmarshal: json.Unmarshal,
	}
	return huma.Config{
		OpenAPI: &huma.OpenAPI{OpenAPI: "3.1.0",
			Info: &huma.Info{Title: "Nutshell", Version: s.c.Version, Description: "An elastic Platform-as-a-Service in one file."},
			Components: &huma.Components{SecuritySchemes: map[string]*huma.SecurityScheme{
				"session":     {Type: "apiKey", In: "cookie", Name: SessionCookie, Description: "with the header X-CSRF-Token on everything that changes something"},
				"token":       {Type: "http", Scheme: "bearer"},
				"password":    {Type: "http", Scheme: "basic"},
				"certificate": {Type: "mutualTLS"},
			}}},
		Formats:                      map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{fromHuma},
	}
}

// describeErrors puts the one form of errors into the document.
func (s *Server) describeErrors() {
	doc := s.api.OpenAPI()
	schema := doc.Components.Schemas.Schema(typeOf[problem](), true, "Problem")
	for _, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op != nil {
				op.Responses["default"] = &huma.Response{Description: "Error", Content: map[string]*huma.MediaType{"application/problem+json": {Schema: schema}}}
			}
		}
	}
}

// enter is what happens before a route's handler: its time begins, and who
// asks is found out.
func (s *Server) enter(r Route) func(huma.Context, func(huma.Context)) {
	return func(hc huma.Context, next func(huma.Context)) {
		ec := humaecho.Unwrap(hc)
		req, w := ec.Request(), ec.Response()
		c := callOf(req.Context())
		ctx, cancel := context.WithTimeout(req.Context(), r.Limit)
		defer cancel()
		if s.c.Answered != nil {
			began := time.Now()
			defer func() { s.c.Answered(r.ID, w.Status, time.Since(began)) }()
		}
		control := http.NewResponseController(w)
		late := time.Now().Add(r.Limit + 5*time.Second) // the connection's, a little behind the handler's
		_ = control.SetReadDeadline(late)               // HTTP/2 streams and recorders have none, and then the context is enough
		// Writing is bounded once there is an answer. HTTP/2 breaks a stream off
		// at its deadline, also under a handler that still works: who asked on a
		// busy machine would not learn that it was done.
		w.Before(func() { _ = control.SetWriteDeadline(latest(late, time.Now().Add(writeIdle))) })
		c.from, c.control, c.needs = req, control, r.Needs
		if r.raw {
			c.body = req.Body
		}
		c.key = req.Header.Get("Idempotency-Key")
		err := s.authenticate(ctx, req, r, c)
		if err == nil && len(c.key) > 64 {
			err = &api.Error{Code: api.CodeInvalid, Message: "the Idempotency-Key is longer than 64 bytes"}
		}
		if err != nil {
			s.audit(ctx, r, c, err)
			p := toProblem(ctx, err)
			if p.Code == api.CodeInternal {
				s.c.Log.Error("request failed", "request", c.request, "action", r.ID, "error", err)
			}
			writeProblem(w, p)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		returned := false
		defer func() { // what huma refuses, or panics, is audited here
			if !returned {
				s.audit(ctx, r, c, refused(http.StatusInternalServerError))
				return
			}
			s.audit(ctx, r, c, refused(w.Status))
		}()
		next(huma.WithContext(hc, ctx))
		returned = true
	}
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// ServeHTTP gives each request an id and safe headers, and turns a panic into
// a problem that names the id.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{request: api.NewID(10), remote: remoteOf(r), host: hostOf(r), path: r.URL.Path}
	h := w.Header()
	h.Set("X-Request-Id", c.request)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy", contentPolicy)
	if r.TLS != nil {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	ctx := context.WithValue(r.Context(), callKey{}, c)
	began := s.c.Now()
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p) // net/http's own way to end a connection
		default:
			s.c.Log.Error("panic in a request", "request", c.request, "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			writeProblem(w, toProblem(ctx, fmt.Errorf("panic: %v", p)))
		}
		s.c.Log.Debug("request", "request", c.request, "method", r.Method, "path", r.URL.Path, "remote", c.remote, "took", s.c.Now().Sub(began))
	}()
	r = r.WithContext(ctx)
	if !isAPI(r.URL.Path) && s.ui != nil {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeIdle)) // not that of the connection's last request
		s.ui.ServeHTTP(w, r)
		return
	}
	s.echo.ServeHTTP(w, r)
}

// unrouted answers what echo has no route for.
func (s *Server) unrouted(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	e := api.NotFoundf("there is nothing at %s %s", c.Request().Method, api.Shorten(c.Request().URL.Path))
	var he *echo.HTTPError
	if errors.As(err, &he) && he.Code == http.StatusMethodNotAllowed {
		e.Message = "the method " + c.Request().Method + " is not for this path"
	}
	p := toProblem(c.Request().Context(), e)
	if he != nil && he.Code != http.StatusNotFound {
		p.Status, p.Title = he.Code, http.StatusText(he.Code)
	}
	writeProblem(c.Response(), p)
}
