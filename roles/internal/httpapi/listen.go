package httpapi

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Serve answers on a listener until ctx ends, then lets requests finish for
// grace. Plain HTTP that arrives on this port is sent to https, because
// people type addresses without it.
func (s *Server) Serve(ctx context.Context, l net.Listener, config *tls.Config, grace time.Duration) error {
	config = config.Clone()
	if len(config.NextProtos) == 0 {
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	split := newSplitter(l)
	quiet := slog.NewLogLogger(s.c.Log.Handler(), slog.LevelDebug) // handshakes that strangers break off are no news
	// Requests live on after ctx ends, so that grace means something; what
	// never ends by itself (events, followed logs) ends with streams.
	streams, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	base := func(net.Listener) context.Context { return streams }
	handler := http.Handler(s)
	if s.c.Wrap != nil {
		handler = s.c.Wrap(s)
	}
	secure := &http.Server{Handler: handler, TLSConfig: config, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: quiet, BaseContext: base}
	plain := &http.Server{Handler: http.HandlerFunc(redirect), ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10, ErrorLog: quiet}
	failed := make(chan error, 2)
	go func() { failed <- secure.ServeTLS(split.tls, "", "") }()
	go func() { failed <- plain.Serve(split.plain) }()
	go split.run()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	time.AfterFunc(grace/2, end)
	_ = secure.Shutdown(stop) // what is still open then is closed next
	_ = secure.Close()
	_ = plain.Close()
	_ = split.Close()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

func redirect(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	http.Redirect(w, r, "https://"+r.Host+r.URL.RequestURI(), http.StatusPermanentRedirect) //nolint:gosec // to the same host and path that the client asked for
}

// splitter shares one listener between TLS and plain HTTP by each
// connection's first byte: a TLS handshake begins with 0x16, no method of HTTP
// does.
type splitter struct {
	net.Listener
	tls, plain *half
	done       chan struct{}
	once       sync.Once
}

type half struct {
	s *splitter
	c chan net.Conn
}

func newSplitter(l net.Listener) *splitter {
	s := &splitter{Listener: l, done: make(chan struct{})}
	s.tls, s.plain = &half{s, make(chan net.Conn)}, &half{s, make(chan net.Conn)}
	return s
}

// Accept waits for the next connection of this kind.
func (h *half) Accept() (net.Conn, error) {
	select {
	case c := <-h.c:
		return c, nil
	case <-h.s.done:
		return nil, net.ErrClosed
	}
}

// Close ends both halves.
func (h *half) Close() error { return h.s.Close() }

// Addr is the shared listener's address.
func (h *half) Addr() net.Addr { return h.s.Addr() }

// Close closes the listener.
func (s *splitter) Close() error {
	var err error
	s.once.Do(func() {
		close(s.done)
		err = s.Listener.Close()
	})
	return err
}

func (s *splitter) run() {
	for {
		c, err := s.Accept()
		var temporary net.Error
		switch {
		case err == nil:
			go s.sort(c)
		case errors.Is(err, net.ErrClosed):
			_ = s.Close()
			return
		case errors.As(err, &temporary):
			select { // out of files, most likely: others may give some back
			case <-time.After(50 * time.Millisecond):
			case <-s.done:
				return
			}
		default:
			_ = s.Close()
			return
		}
	}
}

func (s *splitter) sort(c net.Conn) {
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := bufio.NewReaderSize(c, 16)
	first, err := b.Peek(1)
	if err != nil {
		_ = c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	to := s.plain
	if first[0] == 0x16 {
		to = s.tls
	}
	select {
	case to.c <- &peeked{Conn: c, r: b}:
	case <-s.done:
		_ = c.Close()
	}
}

// peeked is a connection whose first bytes wait in a buffer.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

// Read reads what was peeked first.
func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }
