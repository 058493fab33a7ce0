package director

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/operation"
	"nutshell/roles/internal/rpc"
	"nutshell/roles/internal/store"
)

// streamIdle is how long whoever sends a file may be silent.
const streamIdle = 2 * time.Minute

// streamPath is where a manager takes and gives a stream of a service.
func streamPath(s store.Service, name string, args map[string]string) string {
	return rpc.StreamPath("/v1/services/"+strconv.FormatInt(s.ID, 10)+"/streams/"+url.PathEscape(name), args)
}

// sendTo streams r to a service: to the stream name of its kind, which is that
// of an action or one of services.Stream…. progress, which may be nil, is told
// of the bytes that were taken so far, a few times a second. It returns as soon
// as the service answers, which may be before r was read to its end; r is read no
// further then, but for a read that goes on already. An error of r breaks the
// stream and is in what is returned.
func (d *Director) sendTo(ctx context.Context, a store.Application, s store.Service, name string, args map[string]string, r io.Reader, progress func(bytes int64)) (api.ActResult, error) {
	c, err := d.manager(a)
	if err != nil {
		return api.ActResult{}, err
	}
	defer c.HTTP.CloseIdleConnections()
	result, err := c.Send(ctx, streamPath(s, name, args), &metered{r: r, tell: progress, now: d.c.Now})
	return result, ofService("send to", a, s, err)
}

// takeFrom copies a stream of a service to w and returns its position. After an
// error what was written is not the whole.
func (d *Director) takeFrom(ctx context.Context, a store.Application, s store.Service, name string, args map[string]string, w io.Writer) (position string, err error) {
	c, err := d.manager(a)
	if err != nil {
		return "", err
	}
	defer c.HTTP.CloseIdleConnections()
	position, err = c.Fetch(ctx, streamPath(s, name, args), w)
	return position, ofService("get from", a, s, err)
}

// ofService tells of what service an error is, unless it says already what it is
// about.
func ofService(op string, a store.Application, s store.Service, err error) error {
	if err == nil {
		return nil
	}
	if e := api.AsError(err); e.Op != "" {
		return err
	}
	return fmt.Errorf("%s service %s/%s: %w", op, a.Name, s.Name, err)
}

// metered tells how much was read.
type metered struct {
	r    io.Reader
	tell func(int64)
	now  func() time.Time
	n    int64
	told time.Time
}

// Read reads and perhaps tells.
func (m *metered) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.n += int64(n)
	if m.tell != nil {
		if now := m.now(); err != nil || now.Sub(m.told) > 250*time.Millisecond {
			m.told = now
			m.tell(m.n)
		}
	}
	return n, err
}

// streamed is an action of a service that takes or gives a file.
type streamed struct {
	a      store.Application
	s      store.Service
	action api.Action
	args   map[string]string
}

// StreamActionPath names an action that streams in a path.
type StreamActionPath struct {
	ServicePath
	Action string `path:"action"`
}

func (d *Director) streamed(ctx context.Context, in StreamActionPath) (streamed, error) {
	var out streamed
	var err error
	if out.a, out.s, err = d.service(ctx, in.ServicePath); err != nil {
		return out, err
	}
	kind, err := d.c.Services.Get(out.s.Kind)
	if err != nil {
		return out, err
	}
	var names []string
	for _, x := range kind.Actions {
		if x.Takes != "" || x.Gives != "" {
			names = append(names, x.Name)
		}
	}
	i := slices.IndexFunc(kind.Actions, func(x api.Action) bool { return x.Name == in.Action })
	if i < 0 || !slices.Contains(names, in.Action) {
		hint := "its actions neither take nor give files"
		if len(names) > 0 {
			hint = "one of: " + strings.Join(names, ", ")
		}
		return out, &api.Error{Code: api.CodeNotFound, Object: "action " + api.Shorten(in.Action), Message: kind.Name + " has no such action that takes or gives a file", Hint: hint}
	}
	out.action, out.args = kind.Actions[i], map[string]string{}
	for name, values := range httpapi.Query(ctx) {
		if len(values) != 1 {
			return out, &api.Error{Code: api.CodeInvalid, Op: out.action.Name, Object: "parameter " + api.Shorten(name), Message: "it stands here more than once", Fields: []string{api.Shorten(name)}}
		}
		out.args[name] = values[0]
	}
	if err := checkArgs(out.action, out.args); err != nil {
		return out, err
	}
	if out.s.Desired != api.GoalStarted {
		return out, &api.Error{Code: api.CodeConflict, Op: out.action.Name, Object: "service " + out.a.Name + "/" + out.s.Name, Message: "it is not started", Hint: "start it first"}
	}
	return out, nil
}

// giveStream answers with the file that an action gives. Until its first bytes
// are there an error is an ordinary answer.
func (d *Director) giveStream(ctx context.Context, in *StreamActionPath) (*httpapi.Stream, error) {
	f, err := d.streamed(ctx, *in)
	if err != nil {
		return nil, err
	}
	if f.action.Gives == "" {
		return nil, &api.Error{Code: api.CodeInvalid, Op: f.action.Name, Message: "it gives no file but takes " + f.action.Takes, Hint: "send it by POST"}
	}
	r, w := io.Pipe()
	d.goWork(func(work context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(work, cancel)()
		_, err := d.takeFrom(ctx, f.a, f.s, f.action.Name, f.args, w)
		_ = w.CloseWithError(err)
	})
	first := bufio.NewReaderSize(r, 64<<10)
	if _, err := first.Peek(1); err != nil && err != io.EOF { // a pipe hands errors on as they are
		_ = r.Close()
		return nil, err
	}
	return &httpapi.Stream{Type: "application/octet-stream", Filename: f.action.Gives, Whole: true, Read: peeked{first, r}}, nil
}

type peeked struct {
	io.Reader
	io.Closer
}

// passing is a file on its way from somebody to a service.
type passing struct {
	streamed
	body   *httpapi.Incoming
	result api.ActResult
}

// streamRequest is what an operation service.stream stores of its request.
type streamRequest struct {
	Action string            `json:"action"`
	Args   map[string]string `json:"args,omitempty"`
	Stream string            `json:"stream"` // that only this process knows
}

// takeStream is an operation, so that nothing else changes the service
// meanwhile, everybody sees how far it is, and it can be cancelled.
func (d *Director) takeStream(ctx context.Context, in *StreamActionPath) (api.ActResult, error) {
	body := httpapi.IncomingBody(ctx, streamIdle)
	defer body.End()
	f, err := d.streamed(ctx, *in)
	if err != nil {
		return api.ActResult{}, err
	}
	if f.action.Takes == "" {
		return api.ActResult{}, &api.Error{Code: api.CodeInvalid, Op: f.action.Name, Message: "it takes no file but gives " + f.action.Gives, Hint: "ask for it by GET"}
	}
	if _, err := d.manager(f.a); err != nil {
		return api.ActResult{}, err
	}
	p := &passing{streamed: f, body: body}
	token := api.NewID(16)
	d.streams.Store(token, p)
	defer d.streams.Delete(token)
	request := streamRequest{f.action.Name, f.args, token}
	o, err := d.submit(ctx, order{kind: serviceStream, title: lowerFirst(f.action.Title) + " on", application: f.a.ID, service: f.s.ID, request: request,
		change: func(context.Context, *store.Tx, *store.Application, *store.Service) (bool, error) { return false, nil }})
	if err != nil {
		return api.ActResult{}, err
	}
	var stored streamRequest
	if err := json.Unmarshal(o.Request, &stored); err != nil || stored.Stream != token {
		return api.ActResult{}, &api.Error{Code: api.CodeConflict, Op: f.action.Name, Message: "a file was sent under this Idempotency-Key before", Related: o.ID}
	}
	if err := d.ended(ctx, o.ID); err != nil {
		return api.ActResult{}, err
	}
	return p.result, nil
}

// ended waits for the end of an operation and answers its error.
func (d *Director) ended(ctx context.Context, id string) error {
	for {
		changed := d.store.Changed()
		o, err := d.store.Operation(ctx, 0, id)
		switch {
		case err != nil:
			return err
		case o.State == api.OperationDone:
			return nil
		case o.State.Final() && o.Error != nil:
			return o.Error
		case o.State.Final():
			return operation.ErrCancelled
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.ctx.Done():
			return &api.Error{Code: api.CodeUnavailable, Message: "the director is stopping", Hint: "try again when it runs"}
		case <-changed:
		}
	}
}

// carryStream carries out service.stream. What the sender had sent is gone
// with the director that took it.
func (d *Director) carryStream(ctx context.Context, run *operation.Run, o store.Operation) error {
	var request streamRequest
	if err := json.Unmarshal(o.Request, &request); err != nil {
		return err
	}
	gone := &api.Error{Code: api.CodeUnavailable, Op: request.Action, Message: "broken off: the director was started again while the file came", Hint: "send it again"}
	v, ok := d.streams.Load(request.Stream)
	if !ok {
		return gone
	}
	p := v.(*passing)
	if err := run.Step(ctx, "hand on "+p.action.Takes); err != nil {
		return err
	}
	var err error
	p.result, err = d.sendTo(ctx, p.a, p.s, request.Action, request.Args, p.body, func(n int64) {
		if p.body.Size > 0 {
			run.Detail(ctx, fmt.Sprintf("%s of %s", amount(n), amount(p.body.Size)), float64(n)/float64(p.body.Size))
			return
		}
		run.Detail(ctx, amount(n), 0)
	})
	if err != nil && d.waits.Err() != nil { // requests end before operations do
		return gone
	}
	return err
}

// amount is a number of bytes for people.
func amount(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
