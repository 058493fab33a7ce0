package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
)

// callTime bounds one call that is not a stream and not a wait.
const callTime = 30 * time.Second

// connect finds the director and makes sure that somebody is signed in, unless
// the verb asks only what everybody may know.
func (r *call) connect() error {
	if r.conn != nil {
		return nil
	}
	conn, err := r.connection()
	if err != nil {
		return err
	}
	if conn.bare {
		host := strings.TrimSuffix(conn.URL, ":"+strconv.Itoa(api.DirectorPort))
		if u := withPort(r.ctx(), host, directorPorts()...); u != host {
			conn.URL = u
		}
	}
	if r.public {
		r.conn = &conn
		return nil
	}
	c := r.Client
	if conn.Token == "" && conn.Password == "" && conn.User != "" && c.interactive() {
		if conn.Password, err = c.askSecret("Password of " + conn.User + ": "); err != nil {
			return err
		}
	}
	if conn.Token == "" && conn.Password == "" {
		return &api.Error{Code: api.CodeUnauthorized, Message: "nobody is signed in to " + conn.URL,
			Hint: "sign in with: nutshell login " + conn.URL + ", or set NUTSHELL_TOKEN"}
	}
	c.conn = &conn
	return nil
}

// rpc makes the calling end for a connection.
func (c *Client) rpc(conn connection) *rpc.Client {
	r := rpc.NewClient(conn.URL, trust(conn.CA))
	r.HTTP.Transport = &signed{next: r.HTTP.Transport, c: c, conn: conn}
	return r
}

// caller is the calling end for the director that connect found.
func (r *call) caller() *rpc.Client {
	if r.wire == nil || r.wire.Base != r.conn.URL {
		r.wire = r.rpc(*r.conn)
	}
	return r.wire
}

// signed adds to every request who asks, and shows it when debugging.
type signed struct {
	next http.RoundTripper
	c    *Client
	conn connection
}

// RoundTrip sends one request.
func (s *signed) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	switch {
	case s.conn.Token != "":
		req.Header.Set("Authorization", "Bearer "+s.conn.Token)
	case s.conn.Password != "":
		req.SetBasicAuth(s.conn.User, s.conn.Password)
	}
	req.Header.Set("User-Agent", "nutshell-cli/"+s.c.o.Version)
	req.Header.Set(wantsError, "yes")
	if req.Method == http.MethodPost && req.Header.Get("Idempotency-Key") == "" {
		req.Header.Set("Idempotency-Key", "cli-"+api.NewID(20))
	}
	if u, ok := req.Body.(*upload); ok {
		req.ContentLength = u.size
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	began := time.Now()
	s.c.trace(req)
	resp, err := s.next.RoundTrip(req)
	if s.c.g.debug {
		status := "failed"
		if err == nil {
			status = resp.Status
		}
		fmt.Fprintf(s.c.o.Stderr, "< %s (%d ms)\n", status, time.Since(began).Milliseconds())
	}
	return resp, err
}

var secretField = regexp.MustCompile(`("(?:password|current|secret|token|value|key|code)":)"(?:[^"\\]|\\.)*\\?(?:"|$)`)

func (c *Client) trace(req *http.Request) {
	if !c.g.debug {
		return
	}
	fmt.Fprintln(c.o.Stderr, ">", req.Method, req.URL)
	if req.GetBody == nil {
		return
	}
	if body, err := req.GetBody(); err == nil {
		b, _ := io.ReadAll(io.LimitReader(body, 2000))
		_ = body.Close()
		fmt.Fprintln(c.o.Stderr, ">", printable(secretField.ReplaceAllString(string(b), `$1"***"`)))
	}
}

// send makes one call below /api/v1 and decodes the answer into out.
func (r *call) send(method, path string, in, out any) error {
	return r.sendFor(callTime, method, path, in, out)
}

func (r *call) sendFor(limit time.Duration, method, path string, in, out any) error {
	if err := r.connect(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.ctx(), limit)
	defer cancel()
	return r.explain(r.caller().Do(ctx, method, "/api/v1"+path, in, out))
}

func (r *call) get(path string, out any) error { return r.send(http.MethodGet, path, nil, out) }

// stream copies an answer that may be long or endless to w.
func (r *call) stream(path string, w io.Writer) error {
	resp, err := r.open(http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(w, resp.Body)
	if err != nil && r.ctx().Err() == nil {
		return &api.Error{Code: api.CodeUnavailable, Op: "read", Object: path, Err: err}
	}
	return nil
}

func (r *call) open(method, path string, body io.Reader) (*http.Response, error) {
	if err := r.connect(); err != nil {
		return nil, err
	}
	resp, err := r.caller().Stream(r.ctx(), method, "/api/v1"+path, body)
	return resp, r.explain(err)
}

// change asks for a change, which may have become an operation (202) or be
// done already; then the answer is decoded into done.
func (r *call) change(method, path string, in, done any) (*api.Operation, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = strings.NewReader(string(b))
	}
	resp, err := r.open(method, path, body)
	if err != nil && r.ctx().Err() != nil {
		return nil, &interrupted{}
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	op := &api.Operation{}
	switch {
	case resp.StatusCode == http.StatusAccepted:
		return op, json.NewDecoder(resp.Body).Decode(op)
	case resp.StatusCode == http.StatusNoContent || done == nil:
		return nil, nil
	}
	return nil, json.NewDecoder(resp.Body).Decode(done)
}

// explain says what to do about errors of the connection itself.
func (r *call) explain(err error) error {
	if err == nil {
		return nil
	}
	if r.ctx().Err() != nil {
		return context.Cause(r.ctx())
	}
	var e *api.Error
	if !errors.As(err, &e) {
		return err
	}
	said := *e
	var pin *pinError
	switch {
	case errors.As(err, &pin):
		said = api.Error{Code: api.CodeUnauthorized, Object: r.conn.URL, Message: "it is not the director that was trusted", Err: pin,
			Hint: "somebody may be listening in; if the director was really installed anew, sign in again with: nutshell login " + r.conn.URL}
	case e.Err != nil && strings.Contains(e.Err.Error(), "x509: "):
		said = api.Error{Code: api.CodeUnauthorized, Object: r.conn.URL, Message: "its certificate is not trusted here", Err: e.Err,
			Hint: "trust it with: nutshell login " + r.conn.URL}
	case e.Code == api.CodeUnavailable && e.Err != nil && e.Hint == "":
		var dial *net.OpError
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			said.Err = nil // the message says it
		case errors.As(err, &dial):
			said.Err = dial
		}
		said.Hint = "is the director running? its address comes from " + r.conn.from
	case e.Code == api.CodeUnauthorized && e.Hint == "":
		said.Hint = "sign in with: nutshell login " + r.conn.URL
	}
	return &said
}

// header adds one header line to every request.
type header struct {
	next        http.RoundTripper
	name, value string
}

// RoundTrip sends one request.
func (h *header) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set(h.name, h.value)
	return h.next.RoundTrip(req)
}
