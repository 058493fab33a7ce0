package terminal

import (
	"context"
	"errors"
	"io"
	"sync"

	"nutshell/roles/api"
)

// ackEvery is how many bytes are taken before the sender hears of it. It is
// far below the window, so that the sender never waits for an
// acknowledgement that is held back.
const ackEvery = 16 << 10

var errEnded = errors.New("the terminal has ended")

// Piece is bytes that came.
type Piece struct {
	Bytes  []byte
	Stderr bool
}

// End is the shell's or the client's end of a terminal. It sends no more than
// the other end takes, and holds no more than a window of what comes. All of
// it may be used at a time, but Receive by one only.
type End struct {
	conn *Conn
	ctx  context.Context // of everything that is sent; ends with Run

	mu      sync.Mutex
	wake    *sync.Cond
	sent    int // and not acknowledged
	queue   []Piece
	held    int // came and not acknowledged by us
	taken   int // by Receive, and not acknowledged yet
	eof     bool
	over    bool
	problem error
}

// NewEnd makes an end of a connection. ctx bounds all that it does.
func NewEnd(ctx context.Context, c *Conn) *End {
	e := &End{conn: c, ctx: ctx}
	e.wake = sync.NewCond(&e.mu)
	return e
}

// Run reads what comes until the connection ends, whose cause it returns. hear
// is told of control frames other than Ack, Stderr and EOF.
func (e *End) Run(hear func(api.TerminalFrame)) error {
	keep, stop := context.WithCancel(e.ctx)
	defer stop()
	go e.conn.keep(keep)
	for {
		b, f, err := e.conn.Read(e.ctx)
		switch {
		case err != nil:
		case f == nil:
			err = e.arrived(Piece{Bytes: b})
		case f.Stderr != nil:
			err = e.arrived(Piece{Bytes: f.Stderr, Stderr: true})
		case f.Ack != 0:
			err = e.acknowledged(f.Ack)
		case f.EOF:
			e.mu.Lock()
			e.eof = true
			e.wake.Broadcast()
			e.mu.Unlock()
		default:
			hear(*f)
		}
		if err != nil {
			e.End(err)
			return err
		}
	}
}

// End makes all that waits here return err.
func (e *End) End(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.over {
		e.over, e.problem = true, err
		e.wake.Broadcast()
	}
}

func (e *End) arrived(p Piece) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held += len(p.Bytes); e.held > api.TerminalWindow {
		return &api.Error{Code: api.CodeTooLarge, Op: "read from", Object: "a terminal", Message: "its other end sent more than was acknowledged", Hint: "wait for acknowledgements"}
	}
	if len(p.Bytes) > 0 && !e.eof {
		e.queue = append(e.queue, p)
		e.wake.Broadcast()
	}
	return nil
}

func (e *End) acknowledged(n int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n < 0 || n > e.sent {
		return &api.Error{Code: api.CodeInvalid, Op: "read from", Object: "a terminal", Message: "its other end acknowledged more than was sent"}
	}
	e.sent -= n
	e.wake.Broadcast()
	return nil
}

// Send sends bytes as soon as the other end has room for them.
func (e *End) Send(p []byte, stderr bool) error {
	for len(p) > 0 {
		part := p[:min(len(p), Chunk)]
		p = p[len(part):]
		e.mu.Lock()
		for !e.over && e.sent+len(part) > api.TerminalWindow {
			e.wake.Wait()
		}
		if e.over {
			defer e.mu.Unlock()
			return e.problem
		}
		e.sent += len(part)
		e.mu.Unlock()
		var err error
		if stderr {
			err = e.conn.Control(e.ctx, api.TerminalFrame{Stderr: part})
		} else {
			err = e.conn.Data(e.ctx, part)
		}
		if err != nil {
			e.End(err)
			return err
		}
	}
	return nil
}

// Receive waits for the next bytes; io.EOF says that no more come.
func (e *End) Receive() (Piece, error) {
	e.mu.Lock()
	ack := 0
	if e.taken >= ackEvery {
		ack, e.taken = e.taken, 0
		e.held -= ack
	}
	e.mu.Unlock()
	if ack > 0 {
		if err := e.conn.Control(e.ctx, api.TerminalFrame{Ack: ack}); err != nil {
			e.End(err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.queue) == 0 && !e.eof && !e.over {
		e.wake.Wait()
	}
	switch {
	case len(e.queue) > 0:
		p := e.queue[0]
		e.queue = e.queue[1:]
		e.taken += len(p.Bytes)
		return p, nil
	case e.over:
		return Piece{}, e.problem
	}
	return Piece{}, io.EOF
}

// Open reports whether the terminal goes on.
func (e *End) Open() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.over
}

// Control sends a control frame.
func (e *End) Control(f api.TerminalFrame) error { return e.conn.Control(e.ctx, f) }
