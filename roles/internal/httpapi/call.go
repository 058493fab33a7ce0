package httpapi

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"time"

	"nutshell/roles/api"
)

// SessionCookie is the name of the cookie that holds a session's secret.
const SessionCookie = "nutshell_session"

// Principal is who makes a request. Either User or Identity is set.
type Principal struct {
	User     api.User
	ReadOnly bool         // the token may only read
	Local    bool         // by the file that only the director's own account on its machine can read
	Session  string       // secret of the session, if it came with a cookie
	Token    string       // id of the token, if it came with one
	Password bool         // by name and password with this very request
	CSRF     string       // what such a request must carry when it changes something
	Identity api.Identity // of a manager, agent or node
}

// Guard finds out who somebody is. Unknown or wrong is an error of code
// unauthorized, too many tries one of code too_many_requests.
type Guard interface {
	Session(ctx context.Context, secret string) (Principal, error)
	Token(ctx context.Context, secret string) (Principal, error)
	Password(ctx context.Context, name, password, remote string) (Principal, error)
	// Peer tells whose certificate a connection showed, and whether that
	// instance is still one of ours. Renewing also accepts one that has
	// just ended.
	Peer(ctx context.Context, cs *tls.ConnectionState, renewing bool) (Principal, error)
	// Audit keeps what was asked for and how it ended.
	Audit(ctx context.Context, e api.AuditEntry)
}

// call is one request under way.
type call struct {
	Principal
	request string // id, also in the log
	remote  string
	host    string // the name or address by which the client reached us
	key     string // Idempotency-Key
	body    io.Reader
	from    *http.Request
	control *http.ResponseController
	cookie  *http.Cookie // to set with the answer
	path    string
	needs   Needs  // of the route
	actor   string // for the audit, where nobody is signed in yet
	guessed bool   // a password was sent with the request, and it was wrong
	audited bool
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// Who is the principal of the request that ctx belongs to.
func Who(ctx context.Context) Principal {
	if c := callOf(ctx); c != nil {
		return c.Principal
	}
	return Principal{}
}

// Needed is what the route of the request that ctx belongs to needs; empty
// where there is none.
func Needed(ctx context.Context) Needs {
	if c := callOf(ctx); c != nil {
		return c.needs
	}
	return ""
}

// As makes ctx that of a request by p, for long work that goes on as the user
// who asked for it. body may be nil.
func As(ctx context.Context, p Principal, body io.Reader) context.Context {
	return context.WithValue(ctx, callKey{}, &call{Principal: p, body: body})
}

// Remote is the address that the request came from.
func Remote(ctx context.Context) string {
	if c := callOf(ctx); c != nil {
		return c.remote
	}
	return ""
}

// Host is the name or address by which the client reached us, without port.
func Host(ctx context.Context) string {
	if c := callOf(ctx); c != nil {
		return c.host
	}
	return ""
}

// Origin is where the pages that the client sees come from, as browsers call
// it: https://name:port.
func Origin(ctx context.Context) string {
	if c := callOf(ctx); c != nil && c.from != nil {
		return "https://" + c.from.Host
	}
	return ""
}

// Browser is what the client's program says of itself.
func Browser(ctx context.Context) string {
	if c := callOf(ctx); c != nil && c.from != nil {
		return bounded(c.from.UserAgent())
	}
	return ""
}

// IdempotencyKey is what the client sent to have a request done once.
func IdempotencyKey(ctx context.Context) string {
	if c := callOf(ctx); c != nil {
		return c.key
	}
	return ""
}

// Body is the body of a Raw route.
func Body(ctx context.Context) io.Reader {
	if c := callOf(ctx); c != nil && c.body != nil {
		return c.body
	}
	return strings.NewReader("")
}

// SetSession sends the cookie of a new session with the answer, or takes it
// away for "".
func SetSession(ctx context.Context, secret string, expires time.Time) {
	c := callOf(ctx)
	if c == nil {
		return
	}
	c.cookie = &http.Cookie{Name: SessionCookie, Value: secret, Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode, Expires: expires}
	if secret == "" {
		c.cookie.MaxAge = -1 //nolint:gosec // its attributes are set above
	}
}

// Actor names who is asking in the audit, when nobody is signed in.
func Actor(ctx context.Context, name string) {
	if c := callOf(ctx); c != nil {
		c.actor = name
	}
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

func unauthorized(message string) error {
	return &api.Error{Code: api.CodeUnauthorized, Message: message, Hint: "sign in, or send a token"}
}

// authenticate finds out who asks and whether the route is for them.
func (s *Server) authenticate(ctx context.Context, r *http.Request, route Route, c *call) error {
	if route.Needs == Public {
		return nil
	}
	switch route.Needs { //nolint:exhaustive // the others are people
	case Manager, Agent, Node, AnyRole, Renewing:
		p, err := s.c.Guard.Peer(ctx, r.TLS, route.Needs == Renewing)
		if err != nil {
			return err
		}
		c.Principal = p
		if (route.Needs == Manager || route.Needs == Agent || route.Needs == Node) && api.Role(route.Needs) != p.Identity.Role {
			return &api.Error{Code: api.CodeForbidden, Message: "this is not for a " + string(p.Identity.Role)}
		}
		return nil
	}
	p, err := s.user(ctx, r, c.remote)
	if err != nil {
		if name, _, ok := r.BasicAuth(); ok {
			c.actor, c.guessed = name, true
		}
		return err
	}
	c.Principal = p
	switch {
	case p.ReadOnly && changes(r.Method):
		return &api.Error{Code: api.CodeForbidden, Message: "this token may only read", Hint: "make a token with the scope write"}
	case p.Session != "" && changes(r.Method) && r.Header.Get("X-CSRF-Token") != p.CSRF:
		return &api.Error{Code: api.CodeForbidden, Message: "the header X-CSRF-Token is missing or wrong", Hint: "take it from GET /api/v1/session"}
	case route.Needs == Admin && !p.User.Admin:
		return &api.Error{Code: api.CodeForbidden, Message: "only an administrator may do this"}
	}
	return nil
}

func (s *Server) user(ctx context.Context, r *http.Request, remote string) (Principal, error) {
	if h := r.Header.Get("Authorization"); h != "" {
		if scheme, secret, ok := strings.Cut(h, " "); ok && strings.EqualFold(scheme, "Bearer") {
			return s.c.Guard.Token(ctx, strings.TrimSpace(secret))
		}
		if name, password, ok := r.BasicAuth(); ok {
			return s.c.Guard.Password(ctx, name, password, remote)
		}
		return Principal{}, unauthorized("the Authorization header is neither Bearer nor Basic")
	}
	if cookie, err := r.Cookie(SessionCookie); err == nil {
		return s.c.Guard.Session(ctx, cookie.Value)
	}
	return Principal{}, unauthorized("you are not signed in")
}

func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		return r.Host
	}
	return host
}

func remoteOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
