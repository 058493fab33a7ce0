package servicetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"nutshell/roles/api"
	"nutshell/services"
)

// machine is one instance: a directory, a loopback address and processes.
type machine struct {
	dir, address string
	sockets      string
	super        *supervisor
	log          *slog.Logger

	mu      sync.Mutex
	agent   services.Agent
	last    *api.AgentConfig
	problem string
}

func (m *machine) half() services.Agent {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.agent
}

func (m *machine) applied(c *api.AgentConfig, problem string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.problem = problem
	if c != nil {
		m.last = c
	}
}

// shortDir is a directory with a short name, however long the test's own is.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "nutshell-")
	if err == nil {
		err = os.Chmod(dir, 0o711) // daemons of other accounts pass through it
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func newMachine(dir, short, address string, log *slog.Logger) (*machine, error) {
	m := &machine{dir: dir, address: address, log: log}
	for _, d := range []string{"etc", "run", "log", "tmp", "data", "code"} {
		if err := os.MkdirAll(m.Dir(d), 0o755); err != nil {
			return nil, err
		}
		if _, uid, gid, ok := m.User(); ok && (d == "tmp" || d == "data") {
			if err := os.Chown(m.Dir(d), uid, gid); err != nil {
				return nil, err
			}
		}
	}
	var err error
	if m.sockets, _, err = services.ShortDir(m.Dir("run"), short); err != nil { // nothing tidies up during a test
		return nil, err
	}
	m.super = newSupervisor(m.Dir("log"))
	return m, nil
}

func (m *machine) Dir(name string) string {
	if name == "sockets" {
		return m.sockets
	}
	return filepath.Join(m.dir, name)
}

func (m *machine) Address() string                 { return m.address }
func (m *machine) Port(port int) int               { return api.RealPort(m.address, port) }
func (m *machine) Supervisor() services.Supervisor { return m.super }
func (m *machine) Log() *slog.Logger               { return m.log }

func (m *machine) Program(name, debianPackage string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/bin"} {
		if found, _ := filepath.Glob(filepath.Join(dir, name)); len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return "", &api.Error{Code: api.CodeUnavailable, Object: name, Message: "not installed", Hint: "install Debian's package " + debianPackage}
}

func (m *machine) Code(version string) (string, error) {
	d := filepath.Join(m.Dir("code"), version)
	if _, err := os.Stat(d); err != nil {
		return "", api.NotFoundf("code version %s is not on this instance", version)
	}
	return d, nil
}

func (m *machine) User() (name string, uid, gid int, ok bool) {
	if os.Geteuid() != 0 {
		return "", -1, -1, false
	}
	u, err := user.Lookup("www-data")
	if err != nil {
		return "", -1, -1, false
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return u.Username, uid, gid, err1 == nil && err2 == nil
}

// apply does what the agent core does: unpack, let the half apply, forget the
// versions that are not named any more.
func (m *machine) apply(ctx context.Context, c api.AgentConfig, files map[string]map[string]string) error {
	for _, v := range c.Code {
		if err := m.unpack(v.ID, files[v.ID]); err != nil {
			return err
		}
	}
	if err := m.half().Apply(ctx, c); err != nil {
		m.applied(nil, err.Error())
		return err
	}
	m.applied(&c, "")
	entries, err := os.ReadDir(m.Dir("code"))
	for _, e := range entries {
		named := false
		for _, v := range c.Code {
			named = named || v.ID == e.Name()
		}
		if !named {
			err = errors.Join(err, os.RemoveAll(filepath.Join(m.Dir("code"), e.Name())))
		}
	}
	return err
}

func (m *machine) unpack(version string, files map[string]string) error {
	dir := filepath.Join(m.Dir("code"), version)
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if files == nil {
		return fmt.Errorf("no files for code version %s", version)
	}
	_, uid, gid, drops := m.User()
	for name, content := range files {
		path := filepath.Join(dir, name)
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, ".sh") {
			mode = 0o755
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			return err
		}
	}
	if !drops {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, gid)) //nolint:gosec // a test's own directory
	})
}

func (m *machine) status(ctx context.Context, id string) api.AgentStatus {
	m.mu.Lock()
	s := api.AgentStatus{Instance: id, Ready: m.last != nil && m.problem == "", Problem: m.problem, Processes: m.super.Processes()}
	m.mu.Unlock()
	for _, p := range s.Processes {
		if p.State != "running" && s.Ready {
			s.Ready, s.Problem = false, "process "+p.Name+" is "+p.State
		}
	}
	seen, err := m.half().Observe(ctx)
	if err != nil && s.Ready {
		s.Ready, s.Problem = false, err.Error()
	}
	if seen != nil {
		s.Kind, _ = json.Marshal(seen) // observations always encode: they cross the wire
	}
	return s
}
