package agent

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"

	"nutshell/roles/api"
	"nutshell/services"
)

// machine gives the agent half its directories, address, ports and processes.
// It implements services.Machine.
type machine struct {
	address string
	dir     string
	name    string // account for user code
	uid     int
	gid     int
	drops   bool
	log     *slog.Logger
	super   services.Supervisor
	code    *code
	sockets string    // run by a short name
	hold    io.Closer // of it
}

func newMachine(c Config) (*machine, error) {
	m := &machine{address: c.Address, dir: c.Dir, log: c.Log}
	m.name, m.uid, m.gid, m.drops = account()
	if err := os.MkdirAll(c.Dir, 0o711); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	for _, d := range []string{"etc", "run", "log", "tmp", "data", "code"} {
		path := m.Dir(d)
		if err := os.MkdirAll(path, 0o755); err != nil { // the unprivileged account reads code and configuration
			return nil, fmt.Errorf("agent: %w", err)
		}
		if d == "log" { // made by whoever logged first, for itself; the code's account must get to those logs in it that it owns
			if err := os.Chmod(path, 0o711); err != nil { // it cannot list them
				return nil, fmt.Errorf("agent: %w", err)
			}
		}
		if m.drops && (d == "tmp" || d == "data") {
			if err := os.Chown(path, m.uid, m.gid); err != nil {
				return nil, fmt.Errorf("agent: %w", err)
			}
		}
	}
	var err error
	if m.sockets, m.hold, err = services.ShortDir(m.Dir("run"), c.Sockets); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	m.code = &code{dir: m.Dir("code"), uid: m.uid, gid: m.gid, log: c.Log, boot: bootID(), stopped: make(chan struct{})}
	return m, nil
}

func (m *machine) Dir(name string) string {
	if name == "sockets" {
		return m.sockets
	}
	return filepath.Join(m.dir, name)
}

func (m *machine) Address() string   { return m.address }
func (m *machine) Port(port int) int { return api.RealPort(m.address, port) }
func (m *machine) Log() *slog.Logger { return m.log }

func (m *machine) Supervisor() services.Supervisor            { return m.super }
func (m *machine) Code(version string) (string, error)        { return m.code.path(version) }
func (m *machine) User() (name string, uid, gid int, ok bool) { return m.name, m.uid, m.gid, m.drops }

// Program looks where Debian puts daemons, too, which is not in the PATH of
// ordinary users. A name may be a pattern, because Debian puts versions in
// names; the last match is the newest.
func (m *machine) Program(name, debianPackage string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"} {
		found, err := filepath.Glob(filepath.Join(dir, name))
		if err == nil && len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return "", &api.Error{Code: api.CodeUnavailable, Op: "start", Object: name, Message: "the program is not installed on this machine",
		Hint: "install Debian's package " + debianPackage + ": apt-get install " + debianPackage}
}
