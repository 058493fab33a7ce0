// Package terminal carries terminals over WebSockets: frames, their bounds,
// and the passing of them from hop to hop. It runs no shell and decides not
// who may have one; it is the only user of the WebSocket library.
package terminal

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"nutshell/roles/api"
)

const (
	// most bounds one frame. Text frames hold stderr in base64.
	most = 64 << 10
	// Chunk is how much one binary frame carries.
	Chunk     = 16 << 10
	writeTime = 20 * time.Second // for one frame: the peer reads always, whatever becomes of the bytes
	pingEvery = 15 * time.Second
	pingTime  = 45 * time.Second // longer than a reader may be held up by a write
)

// Conn is one hop of a terminal.
type Conn struct{ ws *websocket.Conn }

// Accept makes a WebSocket of a request. It has answered when it fails. Who
// asks, and from which page, was looked at before.
func Accept(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	// The connection's deadlines are those of a request; the library leaves them.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // recorders in tests have none
	_ = control.SetWriteDeadline(time.Time{})
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(most)
	return &Conn{ws}, nil
}

// Dial opens a WebSocket to a peer with a client that speaks HTTP/1.1. Errors
// are those that refuse makes of an answer that is no WebSocket, or
// unavailable.
func Dial(ctx context.Context, c *http.Client, url string, header http.Header, refuse func(*http.Response) error) (*Conn, error) {
	ws, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: c, HTTPHeader: header, CompressionMode: websocket.CompressionDisabled}) //nolint:bodyclose // the library has read it whole
	if err != nil {
		if resp != nil && resp.StatusCode >= http.StatusBadRequest && refuse != nil {
			return nil, refuse(resp)
		}
		host, _, _ := strings.Cut(strings.TrimPrefix(url, "https://"), "/")
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "open a terminal through", Object: host, Message: "it cannot be reached", Err: err}
	}
	ws.SetReadLimit(most)
	return &Conn{ws}, nil
}

// Read waits for the next frame: bytes, or a control frame.
func (c *Conn) Read(ctx context.Context) ([]byte, *api.TerminalFrame, error) {
	kind, b, err := c.ws.Read(ctx)
	if err != nil {
		return nil, nil, err
	}
	if kind == websocket.MessageBinary {
		return b, nil, nil
	}
	var f api.TerminalFrame
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, nil, &api.Error{Code: api.CodeInvalid, Op: "read from", Object: "a terminal", Message: "a text frame is not the JSON expected", Err: err}
	}
	return nil, &f, nil
}

// Data sends bytes, at most Chunk of them.
func (c *Conn) Data(ctx context.Context, p []byte) error {
	return c.write(ctx, websocket.MessageBinary, p)
}

// Control sends a control frame.
func (c *Conn) Control(ctx context.Context, f api.TerminalFrame) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return c.write(ctx, websocket.MessageText, b)
}

func (c *Conn) write(ctx context.Context, kind websocket.MessageType, b []byte) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	return c.ws.Write(ctx, kind, b)
}

// keep asks now and then whether the peer is still there, until it is not or
// ctx ends. Somebody must read meanwhile.
func (c *Conn) keep(ctx context.Context) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ping, cancel := context.WithTimeout(ctx, pingTime)
		err := c.ws.Ping(ping)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				_ = c.ws.CloseNow() // the reader finds out
			}
			return
		}
	}
}

// Close ends the connection. The peer is told why before, unless why is nil.
func (c *Conn) Close(why *api.Error) {
	if why != nil {
		_ = c.Control(context.Background(), api.TerminalFrame{Error: why}) // it may be the connection that is broken
	}
	_ = c.ws.Close(websocket.StatusNormalClosure, "")
}

// Closed reports whether err says that the peer closed the connection in order.
func Closed(err error) bool {
	status := websocket.CloseStatus(err)
	return status == websocket.StatusNormalClosure || status == websocket.StatusGoingAway || errors.Is(err, errEnded)
}
