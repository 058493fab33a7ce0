// Package session keeps the sessions of a web application where all of its
// backends find them. Each backend has a store: a process of this program that
// PHP's own Redis handler talks to over a Unix socket. A session is kept by
// three stores (or as many as there are), found by rendezvous hashing, so that
// any instance may die or leave. Stores know each other by the certificates
// of their instances. It is no database: what is not used ends with its time.
package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/tidwall/redcon"

	"nutshell/services"
)

// Names of a store's files and sockets, in its directory.
const (
	dataFile    = "sessions"
	membersFile = "members.json"
)

// Membership is what a store is told.
type Membership struct {
	Self    Peer   `json:"self"`
	Members []Peer `json:"members"`
	Former  []Peer `json:"former"` // that are about to leave
	Limit   int64  `json:"limit"`  // bytes of sessions that one store keeps
}

// Status is what a store tells.
type Status struct {
	Sessions  int   `json:"sessions"` // in this store, of which other stores have copies
	Bytes     int64 `json:"bytes"`
	Members   int   `json:"members"`
	Answering int   `json:"answering"` // of the others
}

// Serve is the store. Its arguments are its directory; the sockets for PHP
// and for the agent, in this order, are inherited. It is a services.Tool.
func Serve(ctx context.Context, t services.ToolHost) error {
	if len(t.Args) != 1 {
		return errors.New("session store: one argument is needed, its directory")
	}
	dir := t.Args[0]
	php, err := t.Socket(0)
	if err != nil {
		return err
	}
	control, err := t.Socket(1)
	if err != nil {
		return err
	}
	d, err := openDisk(filepath.Join(dir, dataFile), t.Log)
	if err != nil {
		return err
	}
	defer func() { _ = d.close() }()
	s := &server{t: t, dir: dir, c: newCluster(d, t.Client, t.Log, time.Now)}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s.ctx = ctx
	if err := s.recall(); err != nil {
		return err
	}
	go s.c.run(ctx)
	go s.keep(ctx)
	f := newFront(s.c)
	redis := redcon.NewServer("", f.ServeRESP, nil, f.closed)
	failed := make(chan error, 2)
	go func() { failed <- redis.Serve(php) }()
	agent := &http.Server{Handler: s.controlHandler(), ReadHeaderTimeout: 5 * time.Second}
	go func() { failed <- agent.Serve(control) }()
	select {
	case <-ctx.Done():
		_ = agent.Close() // sockets stay with the supervisor
		return nil
	case err := <-failed:
		return fmt.Errorf("session store: %w", err)
	}
}

type server struct {
	t    services.ToolHost
	dir  string
	c    *cluster
	ctx  context.Context //nolint:containedctx // of the process; handlers start what lives as long
	told Membership
	peer *http.Server
}

// keep writes to the disk what the kernel has, once in a second.
func (s *server) keep(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.c.disk.sync(); err != nil {
			s.t.Log.Warn("sessions not written to the disk", "error", err)
		}
	}
}

// recall becomes what the store was before it was killed.
func (s *server) recall() error {
	b, err := os.ReadFile(filepath.Join(s.dir, membersFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var m Membership
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err == nil {
		err = s.become(m)
	}
	return err
}

func (s *server) become(m Membership) error {
	if m.Self.Instance == "" || net.ParseIP(m.Self.Address) == nil {
		return fmt.Errorf("session store: %+v has no name or no address", m.Self)
	}
	if s.peer == nil || s.told.Self != m.Self {
		if err := s.listen(m.Self); err != nil {
			return err
		}
	}
	s.told = m
	s.c.disk.limit.Store(m.Limit)
	s.c.setMembers(m.Self, m.Members)
	s.c.meet(m.Former)
	return nil
}

// listen answers the other stores.
func (s *server) listen(self Peer) error {
	if s.peer != nil {
		_ = s.peer.Close() // the address has changed
	}
	l, err := (&net.ListenConfig{}).Listen(s.ctx, "tcp", net.JoinHostPort(self.Address, strconv.Itoa(self.Port)))
	if err != nil {
		return fmt.Errorf("session store: %w", err)
	}
	s.peer = &http.Server{Handler: s.c.peerHandler(), TLSConfig: s.t.Server.Clone(), ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(s.t.Log.Handler(), slog.LevelDebug)}
	go func(p *http.Server) {
		if err := p.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			s.t.Log.Error("other stores get no answer", "error", err)
		}
	}(s.peer)
	return nil
}

// controlHandler answers the agent; net/http calls it one request after another
// only per connection, so the mutex is in the cluster and here one at a time.
func (s *server) controlHandler() http.Handler {
	m := http.NewServeMux()
	turn := make(chan struct{}, 1)
	handle := func(pattern string, f func(context.Context, Membership) error) {
		m.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			turn <- struct{}{}
			defer func() { <-turn }()
			var told Membership
			err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&told)
			if err == nil {
				err = f(r.Context(), told)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			writeJSON(w, s.status())
		})
	}
	handle("PUT /members", func(_ context.Context, told Membership) error {
		b, err := json.Marshal(told)
		if err != nil {
			return err
		}
		path := filepath.Join(s.dir, membersFile)
		if err := os.WriteFile(path+".new", b, 0o600); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
		return s.become(told)
	})
	handle("POST /handover", func(ctx context.Context, told Membership) error { return s.c.handOver(ctx, told.Members) })
	m.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.status()) })
	return m
}

func (s *server) status() Status {
	s.c.mu.Lock()
	n := len(s.c.members)
	s.c.mu.Unlock()
	return Status{Sessions: s.c.disk.count(), Bytes: s.c.disk.used.Load(), Members: n, Answering: s.c.answering()}
}
