package rpc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"nutshell/roles/api"
)

// Trailers of a stream that a peer gives.
const (
	PositionTrailer = "Nutshell-Position"
	ErrorTrailer    = "Nutshell-Error" // an api.Error as JSON: what came is not the whole
)

const (
	aliveEvery  = 5 * time.Second  // how often whoever takes a stream says that it works on it
	answerIdle  = 2 * time.Minute  // of silence in an answer that says it every 5 s
	givenIdle   = 10 * time.Minute // of silence in a stream that is given: dumps wait for locks
	streamBlock = 64 << 10
)

// outcome is the end of the answer to a stream that was taken. White space
// before it says that the work goes on.
type outcome struct {
	Result api.ActResult `json:"result"`
	Error  *api.Error    `json:"error,omitempty"`
}

// StreamPath is a path with a stream's arguments in its query.
func StreamPath(path string, args map[string]string) string {
	if len(args) == 0 {
		return path
	}
	q := url.Values{}
	for k, v := range args {
		q.Set(k, v)
	}
	return path + "?" + q.Encode()
}

// Args are the arguments in the query of a stream's request.
func Args(r *http.Request) map[string]string {
	args := map[string]string{}
	for k, v := range r.URL.Query() {
		args[k] = v[0]
	}
	return args
}

// Send streams body to a peer and returns its answer, which may come before
// body was read to its end: it is then read no further. An error of body
// breaks the stream, so that the peer does not take it for the whole.
func (c *Client) Send(ctx context.Context, path string, body io.Reader) (api.ActResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := watch(cancel, answerIdle, c.Base+path)
	defer quiet.stop()
	out := &outgoing{from: body}
	resp, err := c.Stream(ctx, http.MethodPost, path, out)
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		var o outcome
		switch err = json.NewDecoder(quiet.reader(resp.Body)).Decode(&o); {
		case err == nil && o.Error != nil:
			return api.ActResult{}, o.Error
		case err == nil:
			return o.Result, nil
		}
		err = &api.Error{Code: api.CodeUnavailable, Object: c.Base + path, Message: "the connection broke off", Err: err}
	}
	if own := out.end(); own != nil {
		return api.ActResult{}, own
	}
	var e *api.Error
	if n := out.n.Load(); n > 0 && errors.As(err, &e) && e.Code == api.CodeUnavailable && e.Err != nil { // it answered at first
		err = &api.Error{Code: api.CodeUnavailable, Object: c.Base, Message: fmt.Sprintf("the connection broke off after %d bytes", n), Hint: "send it again"}
	}
	return api.ActResult{}, causeOf(ctx, err)
}

// Put sends body as it comes and decodes the answer into out. An error of body
// breaks it off, so that the peer does not take it for the whole.
func (c *Client) Put(ctx context.Context, path string, body io.Reader, result any) error {
	out := &outgoing{from: body}
	resp, err := c.Stream(ctx, http.MethodPut, path, out)
	if own := out.end(); own != nil {
		if err == nil {
			_ = resp.Body.Close()
		}
		return own
	}
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(result); err != nil {
		return &api.Error{Code: api.CodeInternal, Op: "read the answer of", Object: c.Base + path, Err: err}
	}
	return nil
}

// Fetch copies a stream that a peer gives to w and returns its position. An
// error says that what came is not the whole.
func (c *Client) Fetch(ctx context.Context, path string, w io.Writer) (position string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := watch(cancel, givenIdle, c.Base+path)
	defer quiet.stop()
	resp, err := c.Stream(ctx, http.MethodGet, path, nil)
	if err != nil {
		return "", causeOf(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	into := &incoming{to: w}
	if _, err := io.CopyBuffer(struct{ io.Writer }{into}, quiet.reader(resp.Body), make([]byte, streamBlock)); err != nil {
		if into.err != nil {
			return "", into.err
		}
		return "", causeOf(ctx, &api.Error{Code: api.CodeUnavailable, Object: c.Base + path, Message: "the connection broke off", Err: err})
	}
	if text := resp.Trailer.Get(ErrorTrailer); text != "" {
		var e api.Error
		if json.Unmarshal([]byte(text), &e) != nil || e.Code == "" {
			e = api.Error{Code: api.CodeInternal, Message: "what came is not the whole: " + api.Shorten(text)}
		}
		return "", &e
	}
	return resp.Trailer.Get(PositionTrailer), nil
}

// causeOf prefers why we gave the call up to the words of the transport.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// Take answers a stream that f takes. It says all the while that the work goes
// on, and tells the outcome at once, whether or not the body was read.
func Take(w http.ResponseWriter, r *http.Request, f func(ctx context.Context, body io.Reader) (api.ActResult, error)) {
	_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 needs no asking
	w.Header().Set("Content-Type", "application/json")
	alive := &beating{w: w}
	stop := alive.begin()
	result, err := f(r.Context(), r.Body)
	if begun := stop(); err != nil && !begun {
		WriteError(w, err)
		return
	}
	_ = json.NewEncoder(w).Encode(outcome{result, api.AsError(err)}) // the peer went away: nobody to tell
}

// beating writes white space into an answer whose end takes its time.
type beating struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	begun bool
	ended bool
}

func (b *beating) begin() (stop func() (begun bool)) {
	tick := time.NewTicker(aliveEvery)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			b.mu.Lock()
			if !b.ended {
				b.begun = true
				_, _ = b.w.Write([]byte("\n"))
				_ = http.NewResponseController(b.w).Flush()
			}
			b.mu.Unlock()
		}
	}()
	return func() bool {
		tick.Stop()
		close(done)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.ended = true
		return b.begun
	}
}

// Give answers with what f writes. Before the first block an error is an
// ordinary answer, afterwards it stands in the trailer.
func Give(w http.ResponseWriter, r *http.Request, f func(ctx context.Context, w io.Writer) (position string, err error)) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Trailer", PositionTrailer+", "+ErrorTrailer)
	out := &given{w: w}
	b := bufio.NewWriterSize(out, streamBlock)
	stop := out.beginAfter(aliveEvery)
	position, err := f(r.Context(), b)
	if err == nil {
		err = b.Flush()
	}
	if begun := stop(); err != nil && !begun {
		w.Header().Del("Trailer")
		WriteError(w, err)
		return
	}
	if err != nil {
		text, _ := json.Marshal(api.AsError(err)) // always encodes
		w.Header().Set(ErrorTrailer, string(text))
		return
	}
	w.Header().Set(PositionTrailer, position)
}

// given is an answer that begins with its first block, or after a moment
// without one, so that the peer sees that it will come.
type given struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	begun bool
	ended bool
}

// Write writes a block.
func (g *given) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.begun = true
	return g.w.Write(p)
}

func (g *given) beginAfter(d time.Duration) (stop func() (begun bool)) {
	timer := time.AfterFunc(d, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.begun || g.ended {
			return
		}
		g.begun = true
		g.w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(g.w).Flush()
	})
	return func() bool {
		timer.Stop()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.ended = true
		return g.begun
	}
}

// outgoing is the body of a request. It keeps its own error, which the
// transport would tell as one of the connection, and reads nothing once the
// call has ended.
type outgoing struct {
	from io.Reader
	n    atomic.Int64

	mu    sync.Mutex
	ended bool
	err   error
}

// Read reads what is sent next.
func (o *outgoing) Read(p []byte) (int, error) {
	o.mu.Lock()
	ended := o.ended
	o.mu.Unlock()
	if ended {
		return 0, io.ErrClosedPipe
	}
	n, err := o.from.Read(p)
	o.n.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		o.mu.Lock()
		o.err = err
		o.mu.Unlock()
	}
	return n, err
}

// Close is the transport's word that it reads no more.
func (o *outgoing) Close() error {
	_ = o.end()
	return nil
}

func (o *outgoing) end() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	return o.err
}

// incoming tells an error of the reader's end from one of the connection.
type incoming struct {
	to  io.Writer
	err error
}

// Write hands on a block.
func (i *incoming) Write(p []byte) (int, error) {
	n, err := i.to.Write(p)
	if err != nil {
		i.err = err
	}
	return n, err
}

// silence gives a call up when nothing is heard for too long.
type silence struct {
	limit time.Duration
	timer *time.Timer
}

func watch(cancel context.CancelCauseFunc, limit time.Duration, object string) *silence {
	s := &silence{limit: limit}
	s.timer = time.AfterFunc(limit, func() {
		cancel(&api.Error{Code: api.CodeDeadline, Object: object, Message: fmt.Sprintf("nothing was heard of it for %v", limit)})
	})
	return s
}

func (s *silence) stop() { s.timer.Stop() }

// reader counts the time of a read only: a slow writer behind it is no silence.
func (s *silence) reader(r io.Reader) io.Reader { return &listening{r, s} }

type listening struct {
	io.Reader
	s *silence
}

// Read reads and begins the silence anew.
func (l *listening) Read(p []byte) (int, error) {
	l.s.timer.Reset(l.s.limit)
	n, err := l.Reader.Read(p)
	l.s.timer.Stop()
	return n, err
}
