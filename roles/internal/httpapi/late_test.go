package httpapi

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// wires is a listener whose connections are pipes, so that a test may have a
// clock of its own.
type wires struct {
	made chan net.Conn
	gone chan struct{}
}

func (w wires) Accept() (net.Conn, error) {
	select {
	case c := <-w.made:
		return c, nil
	case <-w.gone:
		return nil, net.ErrClosed
	}
}

func (w wires) Close() error   { close(w.gone); return nil }
func (w wires) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

func (w wires) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	w.made <- far
	return near, nil
}

// A handler that ends late, on a machine that was busy or stood still, is
// answered for all the same, and so is who asks next on the same connection.
func TestLateAnswersArrive(t *testing.T) {
	certificate := selfSigned(t)
	const limit = time.Second
	for name, try := range map[string]struct {
		protocol int
		took     time.Duration
	}{
		"http1-in-time": {1, 0}, "http1-late": {1, 10 * limit}, "http1-very-late": {1, time.Hour},
		"http2-in-time": {2, 0}, "http2-late": {2, 10 * limit}, "http2-very-late": {2, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := server(t, On("POST", "/things", "thing.create", Public, limit, "make", func(ctx context.Context, in *struct{ Body thing }) (thing, error) {
					time.Sleep(try.took) // and heeds no context: what it does is done
					return echoThing(ctx, in)
				}).Status(http.StatusCreated))
				w := wires{make(chan net.Conn), make(chan struct{})}
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() {
					done <- s.Serve(ctx, w, &tls.Config{Certificates: []tls.Certificate{certificate}}, time.Second)
				}()
				transport := &http.Transport{DialContext: w.dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: try.protocol == 2}
				defer func() {
					transport.CloseIdleConnections()
					stop()
					if err := <-done; err != nil {
						t.Error(err)
					}
				}()
				c := &http.Client{Transport: transport}
				resp, err := c.Post("https://director"+Prefix+"/things", "application/json", strings.NewReader(`{"name":"shop"}`))
				if err != nil {
					t.Fatalf("after %v: %v", try.took, err)
				}
				var got thing
				err = json.NewDecoder(resp.Body).Decode(&got)
				resp.Body.Close()
				if err != nil || got.Name != "shop" || resp.StatusCode != http.StatusCreated || resp.ProtoMajor != try.protocol {
					t.Errorf("%s %s: got %+v %v", resp.Proto, resp.Status, got, err)
				}
				time.Sleep(limit + time.Minute) // less than connections may be idle
				if resp, err = c.Get("https://director/"); err != nil {
					t.Fatalf("the page after it: %v", err)
				}
				if page, err := io.ReadAll(resp.Body); err != nil || len(page) == 0 {
					t.Errorf("the page after it: %q %v", page, err)
				}
				resp.Body.Close()
			})
		})
	}
}
