// Package manager keeps the services of one application as they should be.
// It asks the director what is wanted, looks at what is, and has one loop per
// service that makes the second like the first: start, scale, crash, new code,
// new settings and its own restart all run the same code. It stores nothing
// and may be killed at any moment.
package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
	"nutshell/services"
)

const (
	pollTime    = 40 * time.Second // the director answers a long poll after 25 s at the latest
	reportEvery = 3 * time.Second  // also the heartbeat
	reportTime  = 5 * time.Second
)

// Config is what a manager needs.
type Config struct {
	Identity    api.Identity
	Credentials *pki.Credentials
	Director    string // URL
	Address     string // of this instance
	Dir         string // for logs
	Kinds       *services.Registry
	Log         *slog.Logger
	Now         func() time.Time
}

// Manager is the manager of one application.
type Manager struct {
	c        Config
	director *rpc.Client
	changed  chan struct{} // a service has something to report
	began    time.Time

	mu       sync.Mutex
	services map[int64]*service
	agents   map[string]*rpc.Client // by address
}

// Run is the manager until ctx ends. Instances go on without it.
func Run(ctx context.Context, c Config) error {
	m, err := New(c)
	if err != nil {
		return err
	}
	return m.serve(ctx)
}

// New makes a manager.
func New(c Config) (*Manager, error) {
	switch {
	case c.Credentials == nil || c.Kinds == nil || c.Log == nil || c.Now == nil:
		return nil, errors.New("manager: Credentials, Kinds, Log and Now are required")
	case net.ParseIP(c.Address) == nil:
		return nil, fmt.Errorf("manager: %q is not an address", c.Address)
	}
	if err := os.MkdirAll(filepath.Join(c.Dir, "log"), 0o750); err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	director := rpc.NewClient(c.Director, pki.ClientTLS(c.Credentials, pki.Director))
	return &Manager{c: c, director: director, changed: make(chan struct{}, 1), began: c.Now(), services: map[int64]*service{}, agents: map[string]*rpc.Client{}}, nil
}

func (m *Manager) serve(ctx context.Context) error {
	l, err := net.Listen("tcp", net.JoinHostPort(m.c.Address, strconv.Itoa(api.ManagerPort))) //nolint:noctx // it does not wait
	if err != nil {
		return fmt.Errorf("manager: %w", err)
	}
	s := &http.Server{Handler: m.handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(m.c.Log.Handler(), slog.LevelDebug),
		TLSConfig: pki.ServerTLS(m.c.Credentials, pki.Director)}
	inner, stop := context.WithCancel(ctx)
	defer stop()
	go m.watch(inner)
	go m.report(inner)
	go m.measure(inner)
	m.c.Log.Info("manager answers", "address", l.Addr().String())
	err = rpc.Serve(ctx, s, func() error { return s.ServeTLS(l, "", "") })
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// watch follows what is wanted. While the director is away, services are kept
// as they were wanted last.
func (m *Manager) watch(ctx context.Context) {
	after := int64(-1)
	away := false
	for ctx.Err() == nil {
		poll, cancel := context.WithTimeout(ctx, pollTime)
		var d api.Desired
		err := m.director.Do(poll, http.MethodGet, "/api/v1/manager/desired?after="+strconv.FormatInt(after, 10), nil, &d)
		cancel()
		switch {
		case err != nil:
			if !away && ctx.Err() == nil { // once: a director may be away for weeks, and disks are cards
				m.c.Log.Warn("director does not tell what is wanted; services are kept as they are", "error", err)
			}
			away = true
			after = -1 // another director, restored from a backup, may count from below
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
			continue
		case d.Application.ID != 0: // else time was up and nothing changed
			after = d.Revision
			m.want(ctx, d)
		}
		if away {
			m.c.Log.Info("director answers again")
		}
		away = false
	}
}

// want hands each service what is wanted of it, begins new ones and ends those
// that are no more.
func (m *Manager) want(ctx context.Context, d api.Desired) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[int64]bool{}
	for _, ds := range d.Services {
		id := ds.Service.ID
		seen[id] = true
		s := m.services[id]
		if s == nil {
			kind, err := m.c.Kinds.Get(ds.Service.Kind)
			if err != nil {
				m.c.Log.Error("service left alone", "service", id, "error", err)
				continue
			}
			s = newService(m, kind, ds)
			m.services[id] = s
			s.want(ds) // before the loop begins: it must not take existing instances for missing ones
			go s.run(ctx)
			continue
		}
		s.want(ds)
	}
	for id, s := range m.services {
		if !seen[id] {
			s.stop()
			delete(m.services, id)
		}
	}
}

func (m *Manager) list() []*service {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*service, 0, len(m.services))
	for _, s := range m.services {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *service) int { return int(a.id - b.id) })
	return list
}

func (m *Manager) service(id string) (*service, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.services[n]; err == nil && s != nil {
		return s, nil
	}
	return nil, api.NotFoundf("the manager has no service %s", api.Shorten(id))
}

// report tells the director what is observed: at once when a service says so,
// and as a heartbeat.
func (m *Manager) report(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	away := false
	for {
		err := m.reportNow(ctx)
		if err != nil && ctx.Err() == nil && !away {
			m.c.Log.Warn("director does not take the report", "error", err)
		}
		away = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-m.changed:
		}
	}
}

func (m *Manager) reportNow(ctx context.Context) error {
	reports := []api.Report{}
	for _, s := range m.list() {
		reports = append(reports, s.report())
	}
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	return m.director.Do(ctx, http.MethodPost, "/api/v1/manager/report", reports, nil)
}

func (m *Manager) tell() {
	select {
	case m.changed <- struct{}{}:
	default: // one is waiting already
	}
}

// agent is the client for the agent at an address of our application.
func (m *Manager) agent(i api.Instance) *rpc.Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := i.ID + "@" + i.Address
	c := m.agents[key]
	if c == nil {
		c = rpc.NewClient("https://"+net.JoinHostPort(i.Address, strconv.Itoa(api.AgentPort)), pki.ClientTLS(m.c.Credentials, pki.AgentOf(m.c.Identity.Application, i.ID)))
		m.agents[key] = c
	}
	return c
}

func (m *Manager) forgetAgent(i api.Instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := i.ID + "@" + i.Address
	if c := m.agents[key]; c != nil {
		c.HTTP.CloseIdleConnections()
		delete(m.agents, key)
	}
}
