package terminal

import (
	"context"
	"errors"
	"sync"

	"nutshell/roles/api"
)

// Relay passes frames between a client and the next hop towards its shell
// until either ends, or ctx does, whose cause the client is told. It holds one
// frame in each direction. moved, unless nil, is called when bytes pass, or the client tells its size. What
// it returns says why the terminal ended; nil means that it did so in order.
// Both connections are closed then.
func Relay(ctx context.Context, client, shell *Conn, moved func()) error {
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	r := relay{done: make(chan struct{})}
	var both sync.WaitGroup
	both.Go(func() { r.up(inner, client, shell, moved) })
	both.Go(func() { r.down(inner, client, shell, moved) })
	go client.keep(inner)
	go shell.keep(inner)
	select {
	case <-r.done:
	case <-ctx.Done():
		r.end(causeOf(ctx), false)
	}
	var closing sync.WaitGroup // each waits for its peer a while
	closing.Go(func() { client.Close(r.tell()) })
	closing.Go(func() { shell.Close(nil) })
	closing.Wait()
	stop()
	both.Wait()
	if r.why == nil {
		return nil
	}
	return r.why
}

// causeOf says for people why ctx ended.
func causeOf(ctx context.Context) *api.Error {
	err := context.Cause(ctx)
	switch {
	case api.CodeOf(err) != api.CodeInternal:
		return api.AsError(err)
	case errors.Is(err, context.DeadlineExceeded):
		return &api.Error{Code: api.CodeDeadline, Message: "the terminal was open for as long as it may be", Hint: "connect again"}
	}
	return &api.Error{Code: api.CodeUnavailable, Message: "what the terminal goes through is being stopped", Hint: "connect again when it runs"}
}

type relay struct {
	once  sync.Once
	done  chan struct{}
	why   *api.Error
	known bool // the client has been told, or is gone
}

// end keeps the first reason.
func (r *relay) end(why *api.Error, known bool) {
	r.once.Do(func() {
		r.why, r.known = why, known
		close(r.done)
	})
}

func (r *relay) tell() *api.Error {
	if r.known {
		return nil
	}
	return r.why
}

// up passes what the client sends. Frames that only this side sends are not
// for clients.
func (r *relay) up(ctx context.Context, client, shell *Conn, moved func()) {
	for {
		b, f, err := client.Read(ctx)
		switch {
		case err == nil:
		case Closed(err):
			r.end(nil, true)
			return
		case api.CodeOf(err) == api.CodeInvalid:
			r.end(api.AsError(err), false)
			return
		default:
			r.end(&api.Error{Code: api.CodeCancelled, Message: "the client's connection broke off"}, true)
			return
		}
		if f != nil {
			if f.Resize != nil && moved != nil { // somebody is there
				moved()
			}
			err = shell.Control(ctx, api.TerminalFrame{Resize: f.Resize, Ack: f.Ack, EOF: f.EOF})
		} else {
			if moved != nil {
				moved()
			}
			err = shell.Data(ctx, b)
		}
		if err != nil {
			r.end(broken(), false)
			return
		}
	}
}

func (r *relay) down(ctx context.Context, client, shell *Conn, moved func()) {
	for {
		b, f, err := shell.Read(ctx)
		if err != nil {
			r.end(broken(), false)
			return
		}
		if f != nil {
			err = client.Control(ctx, *f)
		} else {
			if moved != nil {
				moved()
			}
			err = client.Data(ctx, b)
		}
		switch {
		case err != nil:
			r.end(&api.Error{Code: api.CodeCancelled, Message: "the client does not read any more"}, true)
		case f != nil && f.Exit != nil:
			r.end(nil, true)
		case f != nil && f.Error != nil:
			r.end(f.Error, true)
		default:
			continue
		}
		return
	}
}

func broken() *api.Error {
	return &api.Error{Code: api.CodeUnavailable, Op: "use", Object: "a terminal", Message: "the connection to the instance broke off: the instance, its agent or its manager has stopped or was started again", Hint: "connect again"}
}
