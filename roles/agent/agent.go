// Package agent runs one instance: it hosts the agent half of its service's
// kind, fetches and unpacks code, supervises daemons and answers its
// application's manager, and nobody else. It keeps the last configuration on
// disk, so that it goes on after being killed without asking anybody.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"nutshell/roles/agent/supervise"
	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
	"nutshell/services"
)

// applyTime bounds one configuration: fetching code, starting daemons and
// running the user's scripts.
const applyTime = 5 * time.Minute

// closeTime bounds the orderly stop of all daemons; init and the cloud wait a
// little longer before they kill.
const closeTime = 6 * time.Second

// Config is what an agent needs.
type Config struct {
	Identity    api.Identity
	Credentials *pki.Credentials
	Director    string // URL
	Address     string // of this instance
	Dir         string // state of this instance
	Volumes     string // directory in which volumes appear; empty: its cloud has none
	Sockets     string // where a short name for sockets may be; empty: below the directory for temporary files
	Kinds       *services.Registry
	Tool        []string // command that runs a kind's tool for this instance
	Log         *slog.Logger
	Now         func() time.Time
}

// Agent is the agent of one instance.
type Agent struct {
	c        Config
	booted   time.Time
	director *rpc.Client
	super    *supervise.Supervisor
	machine  *machine
	code     *code
	figures  *figures

	living    context.Context // ends when the agent stops
	terminals atomic.Int32    // that are open

	applying sync.Mutex // one configuration at a time

	mu      sync.Mutex
	current *api.AgentConfig // last one that was applied or is being applied
	kind    string
	half    services.Agent
	problem string // why the last configuration does not serve
}

// Run is the agent until ctx ends, when it stops its daemons in order.
func Run(ctx context.Context, c Config) error {
	a, err := New(c)
	if err != nil {
		return err
	}
	return a.serve(ctx)
}

// New makes an agent and adopts the daemons of an earlier one.
func New(c Config) (*Agent, error) {
	switch {
	case c.Credentials == nil || c.Kinds == nil || c.Log == nil || c.Now == nil:
		return nil, errors.New("agent: Credentials, Kinds, Log and Now are required")
	case net.ParseIP(c.Address) == nil:
		return nil, fmt.Errorf("agent: %q is not an address", c.Address)
	}
	m, err := newMachine(c)
	if err != nil {
		return nil, err
	}
	super, err := supervise.New(supervise.Config{RunDir: m.Dir("run"), LogDir: m.Dir("log"), UID: m.uid, GID: m.gid, Tool: c.Tool, Log: c.Log, Now: c.Now})
	if err != nil {
		return nil, err
	}
	m.super = super
	director := rpc.NewClient(c.Director, pki.ClientTLS(c.Credentials, pki.Director))
	super.AddLog("agent.log", "the agent itself", filepath.Join(m.Dir("log"), "agent.log"))
	return &Agent{c: c, booted: c.Now(), director: director, super: super, machine: m, code: m.code, figures: newFigures(c.Dir), living: context.Background()}, nil
}

func (a *Agent) serve(ctx context.Context) error {
	l, err := net.Listen("tcp", net.JoinHostPort(a.c.Address, strconv.Itoa(api.AgentPort))) //nolint:noctx // it does not wait
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	s := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(a.c.Log.Handler(), slog.LevelDebug),
		TLSConfig: pki.ServerTLS(a.c.Credentials, pki.ManagerOf(a.c.Identity.Application))}
	background, stop := context.WithCancel(ctx)
	defer stop()
	a.living = background
	go a.super.Rotate(background)
	go a.figures.watch(background)
	go a.resume(background)
	a.c.Log.Info("agent answers", "address", l.Addr().String())
	err = rpc.Serve(ctx, s, func() error { return s.ServeTLS(l, "", "") })
	a.close(context.WithoutCancel(ctx))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// resume applies the stored configuration: after being killed, or when the
// instance was stopped and started again.
func (a *Agent) resume(ctx context.Context) {
	b, err := os.ReadFile(a.configFile())
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	var c api.AgentConfig
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err == nil {
		err = a.apply(ctx, c)
	}
	if err != nil {
		a.c.Log.Error("stored configuration not applied; waiting for the manager", "error", err)
	}
}

func (a *Agent) configFile() string { return filepath.Join(a.c.Dir, "config.json") }

// Apply makes the instance what c says. It is stored only once it serves: a
// configuration that failed must not come back after a restart.
func (a *Agent) apply(ctx context.Context, c api.AgentConfig) error {
	a.applying.Lock()
	defer a.applying.Unlock()
	ctx, cancel := context.WithTimeout(ctx, applyTime)
	defer cancel()
	err := a.applyLocked(ctx, c)
	a.mu.Lock()
	a.problem = ""
	if err != nil {
		a.problem = err.Error()
	}
	a.mu.Unlock()
	return err
}

func (a *Agent) applyLocked(ctx context.Context, c api.AgentConfig) error {
	half, err := a.halfOf(c.Kind)
	if err != nil {
		return err
	}
	if err := a.mount(&c); err != nil {
		return err
	}
	if c, err = a.bind(c); err != nil {
		return err
	}
	if err := a.runScript(ctx, c); err != nil {
		return err
	}
	for _, v := range c.Code {
		if err := a.code.ensure(ctx, a.director, v); err != nil {
			return err
		}
	}
	if err := half.Apply(ctx, c); err != nil {
		return err
	}
	a.code.keep(c.Code)
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := writeAtomic(a.configFile(), b, 0o600); err != nil {
		return err
	}
	a.mu.Lock()
	a.current = &c
	a.mu.Unlock()
	return nil
}

func (a *Agent) halfOf(kind string) (services.Agent, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.half != nil && a.kind == kind {
		return a.half, nil
	}
	if a.half != nil {
		return nil, api.Conflictf("this instance is %s and cannot become %s", a.kind, api.Shorten(kind))
	}
	k, err := a.c.Kinds.Get(kind)
	if err != nil {
		return nil, err
	}
	a.kind, a.half = kind, k.Agent(a.machine)
	return a.half, nil
}

// runScript runs the user's startup script, once in the life of an instance.
func (a *Agent) runScript(ctx context.Context, c api.AgentConfig) error {
	marker := filepath.Join(a.c.Dir, "startup.done")
	if c.Script == "" {
		return nil
	}
	if _, err := os.Stat(marker); err == nil {
		return nil
	}
	path := filepath.Join(a.machine.Dir("etc"), "startup.sh")
	if err := writeAtomic(path, []byte(c.Script), 0o700); err != nil {
		return err
	}
	env := []string{"LANG=C.UTF-8"}
	for _, v := range c.Environment {
		env = append(env, v.Name+"="+v.Value)
	}
	// What the script finds out, such as where the database is, it can hand to pages.
	variables := filepath.Join(a.machine.Dir("etc"), "startup.env")
	if err := writeAtomic(variables, nil, 0o600); err != nil {
		return err
	}
	env = append(env, "NUTSHELL_ENV="+variables, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "MY_IP="+a.c.Address, "IP_PUBLIC="+a.c.Address, "AGENT_ID="+a.c.Identity.Name)
	exit, err := a.super.Run(ctx, services.Process{Name: "startup", Argv: []string{"/bin/sh", "-c", `case "$(head -c2 "$1")" in '#!') exec "$1";; *) exec /bin/sh "$1";; esac`, "startup", path},
		Dir: a.machine.Dir("data"), Log: "startup.log", Describe: "output of the startup script", Env: env})
	if err != nil {
		return err
	}
	if exit != 0 {
		path, _ := a.super.LogPath("startup.log")
		return &api.Error{Code: api.CodeInvalid, Op: "run", Object: "startup script", Message: fmt.Sprintf("it ended with status %d", exit),
			Hint: "see startup.log of " + a.c.Identity.Name, LogTail: supervise.LastLines(path, 20)}
	}
	return writeAtomic(marker, nil, 0o600)
}

func (a *Agent) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	a.mu.Lock()
	half := a.half
	a.mu.Unlock()
	if half != nil {
		if err := half.Close(ctx); err != nil {
			a.c.Log.Warn("closing the service's half failed", "error", err)
		}
	}
	a.super.Close(ctx)
	a.code.close()
	_ = a.machine.hold.Close()
	a.c.Log.Info("agent stopped in order")
}

// status is what the agent observes now.
func (a *Agent) status(ctx context.Context) api.AgentStatus {
	a.mu.Lock()
	half, current, problem := a.half, a.current, a.problem
	a.mu.Unlock()
	s := api.AgentStatus{Instance: a.c.Identity.Name, Booted: a.booted, Problem: problem, Processes: a.super.Processes(), Logs: a.super.Logs(), Figures: a.figures.latest()}
	s.Ready = problem == "" && current != nil
	for _, p := range s.Processes {
		if p.State != "running" && s.Ready {
			s.Ready, s.Problem = false, fmt.Sprintf("process %s: %s", p.Name, p.Message)
		}
	}
	if half == nil {
		return s
	}
	observed, err := half.Observe(ctx)
	if err != nil && s.Ready {
		s.Ready, s.Problem = false, err.Error()
	}
	if observed != nil {
		s.Kind, _ = json.Marshal(observed)
	}
	return s
}

// account finds who runs user code: www-data where we are root, else ourselves.
func account() (name string, uid, gid int, ok bool) {
	if os.Geteuid() != 0 {
		return "", -1, -1, false
	}
	for _, name := range []string{"www-data", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil {
			return name, uid, gid, true
		}
	}
	return "", -1, -1, false
}
