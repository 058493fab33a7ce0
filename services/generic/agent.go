package generic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// reservation bounds the time between the question whether all agents are idle
// and the order to run, in which an agent starts nothing else.
const reservation = 30 * time.Second

// member is one line of agents.json, with the names of the manual.
type member struct {
	ID   string `json:"id"`
	IP   string `json:"ip"`
	Role string `json:"role"`
}

// config is what the manager half tells an agent half.
type config struct {
	Members []member `json:"members"` // sorted by id
}

// state survives the agent.
type state struct {
	Version string          `json:"version"`
	Began   map[string]bool `json:"began"` // versions whose init.sh was called here; never again
	Role    string          `json:"role"`
	Members []member        `json:"members"`
	Owed    int             `json:"owed"` // calls of notify.sh that wait
	Runs    map[string]run  `json:"runs"` // last call of each script of Version
}

// observation is what an agent half tells.
type observation struct {
	Version string            `json:"version"`
	Role    string            `json:"role"`
	Members []member          `json:"members"`
	Scripts map[string]string `json:"scripts"`
	Times   map[string]times  `json:"times"` // of the scripts that were called
	Busy    []string          `json:"busy"`  // scripts that run or wait to run
}

// times are when a script was last called and when it ended.
type times struct {
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
}

type agent struct {
	m        services.Machine
	runner   *runner
	agents   string // path of agents.json
	life     context.Context
	end      context.CancelFunc
	applying sync.Mutex

	mu       sync.Mutex
	s        state
	changed  chan struct{} // closed and replaced whenever s changes
	bash     string        // the program
	users    []string      // the user's environment; kept by the instance's agent, and not in s, which scripts can read
	reserved string
	until    time.Time // the reservation holds
	problem  error     // that kept it from loading its state
}

func newAgent(m services.Machine) *agent {
	a := &agent{m: m, changed: make(chan struct{})}
	a.life, a.end = context.WithCancel(context.Background())
	home := "/root"
	a.agents = "/var/cache/cpsagent/agents.json"
	if m.Port(80) != 80 { // a process of this machine: the manual's paths are not ours
		home = filepath.Join(m.Dir("data"), "home")
		a.agents = filepath.Join(m.Dir("data"), "agents.json")
	}
	a.runner = &runner{m: m, where: m.Dir("run"), home: home}
	a.problem = a.load()
	for _, l := range []struct{ name, what string }{{"agent.out", "standard output of all scripts"}, {"agent.err", "standard error of all scripts"}} {
		m.Supervisor().AddLog(l.name, l.what, filepath.Join(m.Dir("log"), l.name))
	}
	for _, s := range scripts {
		name := strings.TrimSuffix(s, ".sh") + ".log"
		m.Supervisor().AddLog(name, "output of "+s, filepath.Join(m.Dir("log"), name))
	}
	return a
}

func (a *agent) stateFile() string { return filepath.Join(a.m.Dir("etc"), "scripts.json") }

// load reads the state and goes on watching what still runs.
func (a *agent) load() error {
	a.s = state{Began: map[string]bool{}, Runs: map[string]run{}}
	b, err := os.ReadFile(a.stateFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, &a.s)
	}
	if err != nil {
		return fmt.Errorf("read the state of scripts: %w", err)
	}
	for name, r := range a.s.Runs {
		if r.Running {
			go func() {
				code, err := a.runner.await(a.life, r.ID)
				if err == nil {
					a.finished(name, r.ID, code)
				}
			}()
		}
	}
	return nil
}

// change alters the state, stores it and wakes those who wait.
func (a *agent) change(f func()) error {
	f()
	close(a.changed)
	a.changed = make(chan struct{})
	b, err := json.Marshal(a.s)
	if err != nil {
		return err
	}
	return writeAtomic(a.stateFile(), b, 0o644)
}

// Apply implements services.Agent: a new version is set up by init.sh before
// it returns; a changed list of agents is announced by notify.sh later.
func (a *agent) Apply(ctx context.Context, c api.AgentConfig) error {
	a.applying.Lock()
	defer a.applying.Unlock()
	if a.problem != nil {
		return a.problem
	}
	var conf config
	if err := json.Unmarshal(c.Config, &conf); err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if len(c.Code) == 0 || len(c.Instance.Parts) == 0 {
		return errors.New("generic: a code version and a part are required")
	}
	if err := a.tools(); err != nil {
		return err
	}
	b, err := json.MarshalIndent(conf.Members, "", "  ")
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(a.agents); err != nil || string(old) != string(b)+"\n" {
		if err := writeAtomic(a.agents, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	if err := a.tellBindings(c.Bindings); err != nil {
		return err
	}
	a.mu.Lock()
	a.users = nil
	for _, v := range c.Environment {
		a.users = append(a.users, v.Name+"="+v.Value)
	}
	a.users = append(a.users, volumeVariables(c.Volumes)...)
	a.mu.Unlock()
	if err := a.adopt(c.Code[0].ID, c.Instance.Parts[0], conf.Members); err != nil {
		return err
	}
	if err := a.settled(ctx, initScript); err != nil {
		return err
	}
	a.pump()
	return nil
}

func (a *agent) tools() error {
	bash, err := a.m.Program("bash", "bash")
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.bash = bash
	a.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(a.agents), 0o755); err != nil { // scripts read it
		return err
	}
	return os.MkdirAll(a.runner.home, 0o700)
}

// adopt takes version and members. init.sh is started for a version that is
// new here, and stored as called before that: twice would break the promise.
func (a *agent) adopt(version, role string, members []member) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.s.Version != ""
	fresh := a.s.Version != version
	if busy := a.busy(); fresh && known && len(busy) > 0 {
		return &api.Error{Code: api.CodeConflict, Op: "enable code", Object: "version " + version, Message: strings.Join(busy, " and ") + " still runs",
			Hint: "wait until it ends, or interrupt it first"}
	}
	moved := !slices.Equal(a.s.Members, members)
	if !fresh && !moved && a.s.Role == role {
		return nil
	}
	err := a.change(func() {
		a.s.Role, a.s.Members = role, members
		if fresh {
			a.s.Version, a.s.Runs, a.s.Owed = version, map[string]run{}, 0
		}
		if moved && known {
			a.s.Owed++
		}
	})
	if err != nil || a.s.Began[version] {
		return err
	}
	if err := a.change(func() { a.s.Began[version] = true }); err != nil {
		return err
	}
	return a.begin(initScript, nil)
}

// begin starts a script of the version; a missing one is no error. The lock is
// held.
func (a *agent) begin(name string, args []string) error {
	dir, err := a.m.Code(a.s.Version)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, os.ErrNotExist) {
		a.m.Log().Info("script is missing, nothing to do", "script", name, "version", a.s.Version)
		return nil
	}
	for _, f := range []string{"pid", "exit"} {
		_ = os.Remove(a.runner.file(a.s.Runs[name].ID, f)) // of the call before, if there was one
	}
	r := run{ID: api.NewID(12), Running: true, Started: time.Now().UTC()}
	shell := a.bash
	env := a.environment()
	if err := a.change(func() { a.s.Runs[name] = r }); err != nil {
		return err
	}
	go func() {
		code, err := a.runner.start(a.life, r.ID, shell, filepath.Join(dir, name), args, env)
		if a.life.Err() != nil {
			return // closed: the state says how it was
		}
		if err != nil {
			a.m.Log().Error("script not run", "script", name, "error", err)
		}
		a.finished(name, r.ID, code)
	}()
	return nil
}

func (a *agent) environment() []string {
	masterIP, self := "", ""
	for _, m := range a.s.Members {
		if m.Role == master {
			masterIP = m.IP
		}
		if m.IP == a.m.Address() {
			self = m.ID
		}
	}
	env := append([]string{"LANG=C.UTF-8"}, a.users...) // of two with one name the last counts
	return append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME="+a.runner.home, "MY_IP="+a.m.Address(),
		"MY_ROLE="+a.s.Role, "MASTER_IP="+masterIP, "AGENTS_JSON="+a.agents, "BINDINGS_JSON="+a.bindings(), "AGENT_ID="+self)
}

// finished notes how a script ended, and starts what waited for it.
func (a *agent) finished(name, id string, code int) {
	a.mu.Lock()
	r := a.s.Runs[name]
	if r.ID == id && r.Running {
		if r.Killed && code > 128 {
			code = -(code - 128) // bash's way to say which signal it was
		}
		r.Running, r.Code, r.Ended = false, code, time.Now().UTC()
		if err := a.change(func() { a.s.Runs[name] = r }); err != nil {
			a.m.Log().Error("state of scripts not stored", "error", err)
		}
	}
	a.mu.Unlock()
	a.m.Log().Info("script ended", "script", name, "code", code)
	a.pump()
}

// pump starts an owed notify.sh when nothing else runs.
func (a *agent) pump() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.s.Owed == 0 || len(a.running()) > 0 || a.life.Err() != nil {
		return
	}
	if wait := time.Until(a.until); wait > 0 {
		time.AfterFunc(wait, a.pump)
		return
	}
	if _, err := a.m.Code(a.s.Version); err != nil {
		return // after a restart, before the code is known again: Apply comes back here
	}
	err := a.change(func() { a.s.Owed-- })
	if err == nil {
		err = a.begin(notifyScript, nil)
	}
	if err != nil {
		a.m.Log().Error("notify.sh not called", "error", err)
		return
	}
	if len(a.running()) == 0 && a.s.Owed > 0 { // it is missing
		go a.pump()
	}
}

// running names the scripts that run. The lock is held.
func (a *agent) running() []string {
	var names []string
	for _, s := range scripts {
		if a.s.Runs[s].Running {
			names = append(names, s)
		}
	}
	return names
}

// busy names what must end before anything else may begin.
func (a *agent) busy() []string {
	names := a.running()
	if a.s.Owed > 0 && !slices.Contains(names, notifyScript) {
		names = append(names, notifyScript)
	}
	return names
}

// settled waits until a script does not run.
func (a *agent) settled(ctx context.Context, name string) error {
	for {
		a.mu.Lock()
		runs, changed := a.s.Runs[name].Running, a.changed
		a.mu.Unlock()
		if !runs {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return &api.Error{Code: api.CodeDeadline, Op: "wait for", Object: name, Message: "it still runs", Hint: "see its log " + strings.TrimSuffix(name, ".sh") + ".log, or interrupt it", Err: ctx.Err()}
		}
	}
}

func writeAtomic(path string, b []byte, mode os.FileMode) error {
	if err := os.WriteFile(path+".new", b, mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
