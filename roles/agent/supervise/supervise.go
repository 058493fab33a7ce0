// Package supervise keeps an instance's daemons running: it starts them,
// watches them, restarts them with back-off, stops them in order and keeps
// their logs. A daemon outlives the death of the agent that started it and is
// adopted again by the next one, so that nobody notices a killed agent.
package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"syscall"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// Config is what a Supervisor needs.
type Config struct {
	RunDir string // for the state file
	LogDir string
	UID    int // account for processes with User set; negative: everything runs as ourselves
	GID    int
	Env    []string // added to every process
	Tool   []string // command that runs a tool: its name and arguments follow
	Log    *slog.Logger
	Now    func() time.Time
}

// Supervisor keeps processes running. It implements services.Supervisor.
type Supervisor struct {
	c    Config
	logs *logs

	mu     sync.Mutex
	procs  map[string]*process
	order  []string // as first ensured; stopped in reverse
	closed bool
}

// saved is what the state file keeps of a process, enough to know it again.
type saved struct {
	Name  string `json:"name"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot: tells a reused PID
	Hash  string `json:"hash"`  // of the description
	Mark  string `json:"mark"`  // environment marker of its whole family
}

// New makes a supervisor and adopts what an earlier one left running.
func New(c Config) (*Supervisor, error) {
	switch {
	case c.RunDir == "" || c.LogDir == "":
		return nil, errors.New("supervise: RunDir and LogDir are required")
	case c.Log == nil || c.Now == nil:
		return nil, errors.New("supervise: Log and Now are required")
	}
	s := &Supervisor{c: c, logs: newLogs(c.LogDir, c.Log), procs: map[string]*process{}}
	left, err := s.load()
	if err != nil {
		return nil, err
	}
	for _, l := range left {
		if start, ok := startTime(l.PID); !ok || start != l.Start {
			killFamily(l.PID, l.Mark) // the daemon died with the agent away; its children must not hold its ports
			continue
		}
		p := newProcess(s, services.Process{Name: l.Name}, l.Hash, l.Mark)
		s.procs[l.Name] = p
		s.order = append(s.order, l.Name)
		p.adopt(l.PID)
		c.Log.Info("process adopted", "process", l.Name, "pid", l.PID)
	}
	return s, nil
}

// Ensure implements services.Supervisor.
func (s *Supervisor) Ensure(ctx context.Context, d services.Process) error {
	if d.Tool != "" && len(s.c.Tool) > 0 {
		d.Argv, d.Tool = append(append(append([]string(nil), s.c.Tool...), d.Tool), d.Argv...), ""
	}
	if d.Name == "" || d.Tool != "" || len(d.Argv) == 0 || !filepath.IsAbs(d.Argv[0]) {
		return fmt.Errorf("process %q: a name and an absolute program are required", d.Name)
	}
	hash := describe(d)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.New("process " + d.Name + ": the instance is stopping")
	}
	p, had := s.procs[d.Name]
	if had && p.hash == hash && !p.ends() { // one that is being stopped never gets ready again
		p.describeAs(d) // an adopted process learns how to be restarted
		s.mu.Unlock()
		return p.waitReady(ctx)
	}
	s.mu.Unlock()
	if had {
		if err := s.Stop(ctx, d.Name); err != nil {
			return err
		}
	}
	s.mu.Lock()
	p = newProcess(s, d, hash, d.Name+"-"+api.NewID(8))
	s.procs[d.Name] = p
	s.order = append(s.order, d.Name)
	s.saveLocked() // before it runs: if we are killed right after that, the next one must know of it
	s.mu.Unlock()
	if err := p.start(); err != nil {
		s.forget(d.Name, p)
		return err
	}
	return p.waitReady(ctx)
}

// Signal implements services.Supervisor.
func (s *Supervisor) Signal(name, signal string) error {
	sig, err := signalOf(signal)
	if err != nil {
		return err
	}
	s.mu.Lock()
	p := s.procs[name]
	s.mu.Unlock()
	if p == nil {
		return fmt.Errorf("signal %s: no process %s", signal, name)
	}
	return p.signal(sig)
}

// Stop implements services.Supervisor.
func (s *Supervisor) Stop(ctx context.Context, name string) error {
	s.mu.Lock()
	p := s.procs[name]
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	p.stop(ctx)
	s.forget(name, p)
	return nil
}

// Close stops everything in the reverse of the order in which it began.
func (s *Supervisor) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	order := append([]string(nil), s.order...)
	s.mu.Unlock()
	for i := len(order) - 1; i >= 0; i-- {
		_ = s.Stop(ctx, order[i])
	}
}

// Detach leaves the processes running for the next supervisor to adopt.
func (s *Supervisor) Detach() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, p := range s.procs {
		p.leave()
	}
}

// Processes implements services.Supervisor.
func (s *Supervisor) Processes() []api.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]api.Process, 0, len(s.procs))
	for _, p := range s.procs {
		list = append(list, p.status())
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

// AddLog implements services.Supervisor.
func (s *Supervisor) AddLog(name, description, path string) { s.logs.add(name, description, path) }

// Logs lists the logs that can be read.
func (s *Supervisor) Logs() []api.Log { return s.logs.list() }

// LogPath is the file of a log, or an error that lists the logs there are.
func (s *Supervisor) LogPath(name string) (string, error) { return s.logs.path(name) }

// Rotate keeps logs below their size for ever. It returns when ctx ends.
func (s *Supervisor) Rotate(ctx context.Context) { s.logs.rotate(ctx) }

// forget takes p away, unless another one has its name by now.
func (s *Supervisor) forget(name string, p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.procs[name] != p {
		return
	}
	delete(s.procs, name)
	for i, n := range s.order {
		if n == name {
			s.order = append(s.order[:i], s.order[i+1:]...)
			break
		}
	}
	s.saveLocked()
}

func (s *Supervisor) saveState() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saveLocked()
}

func (s *Supervisor) stateFile() string { return filepath.Join(s.c.RunDir, "supervise.json") }

func (s *Supervisor) saveLocked() {
	list := make([]saved, 0, len(s.order))
	for _, name := range s.order {
		if p := s.procs[name]; p != nil {
			pid, start := p.identity() // 0 of one that is about to start: its mark is enough to find it
			list = append(list, saved{Name: name, PID: pid, Start: start, Hash: p.hash, Mark: p.mark})
		}
	}
	b, err := json.Marshal(list)
	if err == nil {
		tmp := s.stateFile() + ".new"
		if err = os.WriteFile(tmp, b, 0o600); err == nil {
			err = os.Rename(tmp, s.stateFile())
		}
	}
	if err != nil {
		s.c.Log.Error("cannot store which processes run; a restarted agent would start them twice", "error", err)
	}
}

func (s *Supervisor) load() ([]saved, error) {
	b, err := os.ReadFile(s.stateFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("supervise: %w", err)
	}
	var list []saved
	if err := json.Unmarshal(b, &list); err != nil {
		// Each write replaces it whole, so only a loss of power leaves something else, and no process.
		s.c.Log.Warn("list of processes not readable; none is taken over", "file", s.stateFile(), "error", err)
		return nil, nil
	}
	return list, nil
}

var signals = map[string]syscall.Signal{
	"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL,
	"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "WINCH": syscall.SIGWINCH,
}

func signalOf(name string) (syscall.Signal, error) {
	if name == "" {
		return syscall.SIGTERM, nil
	}
	s, ok := signals[name]
	if !ok {
		return 0, fmt.Errorf("unknown signal %q", name)
	}
	return s, nil
}
