package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"nutshell/roles/api"
)

// hearOut is how long the rest of a body is still read that nobody wants. Over
// HTTP/1 many clients see nothing but a broken connection until they have sent
// everything; over HTTP/2 they read the answer at once.
const hearOut = 10 * time.Second

// Incoming is the body of a Raw route that may take hours to come, read by
// others than the handler. It bears silence for a while only.
type Incoming struct {
	Size int64 // as the client says; below 0: not known

	body    io.Reader
	control *http.ResponseController
	idle    time.Duration
	early   bool // the client reads an answer while it sends
	n       atomic.Int64

	mu    sync.Mutex // held while reading
	whole bool       // it came to its end

	limit sync.Mutex // held while the deadline is set
	ended bool
}

// IncomingBody is the body of the request. The handler ends it before it
// returns.
func IncomingBody(ctx context.Context, idle time.Duration) *Incoming {
	in := &Incoming{Size: -1, body: Body(ctx), idle: idle, early: true}
	if c := callOf(ctx); c != nil && c.from != nil {
		in.Size, in.control, in.early = c.from.ContentLength, c.control, c.from.ProtoMajor >= 2
	}
	return in
}

// Received is how many bytes have come.
func (i *Incoming) Received() int64 { return i.n.Load() }

// Read reads what comes next. Its errors say that it was not the end.
func (i *Incoming) Read(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.wait(i.idle) {
		return 0, i.broke(i.n.Load())
	}
	n, err := i.body.Read(p)
	total := i.n.Add(int64(n))
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		i.whole = true
		i.wait(0) // or what watches whether the client goes away would take the deadline for that
	case errors.Is(err, os.ErrDeadlineExceeded) && !i.over():
		err = &api.Error{Code: api.CodeDeadline, Op: "receive", Object: "the file", Message: fmt.Sprintf("nothing came for %v, after %d bytes", i.idle, total), Hint: "send it again"}
	default:
		err = i.broke(total)
	}
	return n, err
}

func (i *Incoming) broke(n int64) error {
	return &api.Error{Code: api.CodeCancelled, Op: "receive", Object: "the file", Message: fmt.Sprintf("the connection of whoever sends it broke off after %d bytes", n), Hint: "send it again"}
}

// wait bounds the next read; 0 takes the bound away. It is false once the body
// was ended.
func (i *Incoming) wait(d time.Duration) bool {
	i.limit.Lock()
	defer i.limit.Unlock()
	if i.ended {
		return false
	}
	i.deadline(d)
	return true
}

func (i *Incoming) over() bool {
	i.limit.Lock()
	defer i.limit.Unlock()
	return i.ended
}

func (i *Incoming) deadline(d time.Duration) {
	if i.control == nil {
		return
	}
	at := time.Time{}
	if d != 0 {
		at = time.Now().Add(d)
	}
	_ = i.control.SetReadDeadline(at) // recorders in tests have none
}

// End ends reading, also one that waits. What a client still sends over HTTP/1
// is read for a while, so that it sees the answer.
func (i *Incoming) End() {
	patience := time.Duration(-1)
	if !i.early {
		patience = hearOut
	}
	i.limit.Lock()
	i.ended = true
	i.deadline(patience)
	i.limit.Unlock()
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.early && !i.whole {
		_, _ = io.Copy(io.Discard, i.body)
	}
	i.deadline(0)
}

// Query has the parameters behind the path of an AnyQuery route.
func Query(ctx context.Context) url.Values {
	if c := callOf(ctx); c != nil && c.from != nil {
		return c.from.URL.Query()
	}
	return url.Values{}
}

// WantsErrorTrailer is the request header by which a client says, with any
// value, that it reads the trailer ErrorTrailer of a stream. Others see the
// connection break.
const (
	WantsErrorTrailer = "Nutshell-Wants-Error"
	ErrorTrailer      = "Nutshell-Error"
)
