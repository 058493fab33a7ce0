package session

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// Port is where stores answer each other.
const Port = 9001

const (
	process      = "session-store"
	controlTime  = 5 * time.Second
	handOverTime = 20 * time.Second
)

// Store is an agent's hand on the store of its instance.
type Store struct {
	m       services.Machine
	tool    string
	sockets string // directory
	http    *http.Client
}

// NewStore makes the hand; tool is KIND/NAME under which the kind offers
// Serve, and sockets a directory whose path is short.
func NewStore(m services.Machine, tool, sockets string) *Store {
	s := &Store{m: m, tool: tool, sockets: sockets}
	s.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.control())
	}}}
	return s
}

// Socket is where PHP finds the store.
func (s *Store) Socket() string  { return filepath.Join(s.sockets, "session.sock") }
func (s *Store) control() string { return filepath.Join(s.sockets, "session-agent.sock") }
func (s *Store) dir() string     { return s.m.Dir("sessions") }

// Running reports whether the instance has a store.
func (s *Store) Running() bool {
	return slices.ContainsFunc(s.m.Supervisor().Processes(), func(p api.Process) bool { return p.Name == process })
}

// Ensure runs the store and tells it who shares the sessions.
func (s *Store) Ensure(ctx context.Context, m Membership) error {
	if err := os.MkdirAll(s.dir(), 0o700); err != nil {
		return err
	}
	// What PHP asks comes in small pieces, one after another: handing them from
	// thread to thread would cost more than answering them.
	err := s.m.Supervisor().Ensure(ctx, services.Process{Name: process, Tool: s.tool, Argv: []string{s.dir()}, Describe: "output of the session store", Grace: 5,
		Env:     []string{"PATH=/usr/bin:/bin", "HOME=/", "GOMEMLIMIT=96MiB", "GOGC=200", "GOMAXPROCS=1"},
		Sockets: []services.Socket{{Path: s.Socket(), User: true}, {Path: s.control()}},
		Ready: func(ctx context.Context) error {
			_, err := s.Status(ctx)
			return err
		}})
	if err != nil {
		return err
	}
	_, err = s.say(ctx, controlTime, http.MethodPut, "/members", m)
	return err
}

// Status asks the store what it has.
func (s *Store) Status(ctx context.Context) (Status, error) {
	return s.say(ctx, time.Second, http.MethodGet, "/status", nil)
}

// Stop ends the store. What it has stays, for when the instance runs again.
func (s *Store) Stop(ctx context.Context) error { return s.m.Supervisor().Stop(ctx, process) }

// HandOver gives all sessions to the members and ends the store for good.
// With no members the sessions end with it.
func (s *Store) HandOver(ctx context.Context, members []Peer) error {
	if s.Running() && len(members) > 0 {
		if _, err := s.say(ctx, handOverTime, http.MethodPost, "/handover", Membership{Members: members}); err != nil {
			return err
		}
	}
	if err := s.Stop(ctx); err != nil {
		return err
	}
	return os.RemoveAll(s.dir())
}

func (s *Store) say(ctx context.Context, limit time.Duration, method, path string, body any) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var st Status
	b, err := json.Marshal(body)
	if err != nil {
		return st, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://store"+path, bytes.NewReader(b))
	if err != nil {
		return st, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return st, fmt.Errorf("session store: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000)) // an error is told as far as it came
		return st, fmt.Errorf("session store: %s", strings.TrimSpace(string(text)))
	}
	return st, json.NewDecoder(resp.Body).Decode(&st)
}
