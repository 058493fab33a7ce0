package servicetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"sync"
	"syscall"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// supervisor runs ordinary processes and starts them again when they die. It
// does what services.Supervisor promises and no more.
type supervisor struct {
	dir      string   // of logs
	tool     []string // command that runs a tool
	uid, gid int      // of Machine.User, or negative

	mu    sync.Mutex
	procs map[string]*daemon
	logs  map[string]string // name → path
}

type daemon struct {
	p        services.Process
	cmd      *exec.Cmd
	state    string
	restarts int
	stopping bool
	gone     chan struct{}
	sockets  []*os.File
}

func newSupervisor(logDir string) *supervisor {
	return &supervisor{dir: logDir, uid: -1, gid: -1, procs: map[string]*daemon{}, logs: map[string]string{}}
}

var signals = map[string]syscall.Signal{"HUP": syscall.SIGHUP, "QUIT": syscall.SIGQUIT, "TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "INT": syscall.SIGINT, "": syscall.SIGTERM}

func (s *supervisor) command(p services.Process) (*exec.Cmd, *os.File, error) {
	name := p.Log
	if name == "" {
		name = p.Name + ".log"
	}
	path := filepath.Join(s.dir, name)
	s.logs[name] = path
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(p.Argv[0], p.Argv[1:]...) //nolint:noctx // a daemon outlives the call that starts it
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = p.Env, p.Dir, out, out
	if p.Env == nil {
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "LANG=C.UTF-8"}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // nothing stays behind when a test is killed
	if p.User && s.uid >= 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.gid)} //nolint:gosec // not negative here
	}
	return cmd, out, nil
}

func (s *supervisor) Ensure(ctx context.Context, p services.Process) error {
	if p.Tool != "" {
		p.Argv, p.Tool = append(append(append([]string{}, s.tool...), p.Tool), p.Argv...), ""
	}
	s.mu.Lock()
	d := s.procs[p.Name]
	same := d != nil && fmt.Sprint(d.p.Argv, d.p.Env, d.p.Revision) == fmt.Sprint(p.Argv, p.Env, p.Revision)
	s.mu.Unlock()
	if d != nil && !same {
		if err := s.Stop(ctx, p.Name); err != nil {
			return err
		}
	}
	if !same {
		s.mu.Lock()
		d = &daemon{p: p}
		s.procs[p.Name] = d
		err := s.start(d)
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	s.mu.Lock()
	before := d.restarts // what a test killed earlier does not count
	s.mu.Unlock()
	for {
		var err error
		if p.Ready != nil {
			err = p.Ready(ctx)
		}
		s.mu.Lock()
		if d.state != "running" {
			err = errors.Join(err, errors.New("it has ended"))
		}
		restarts := d.restarts
		s.mu.Unlock()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || restarts > before+3 {
			return fmt.Errorf("start %s: %w (see %s)", p.Name, err, s.dir)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// start is called with the lock held.
func (s *supervisor) start(d *daemon) error {
	cmd, out, err := s.command(d.p)
	if err != nil {
		return err
	}
	if len(d.sockets) == 0 {
		if d.sockets, err = s.listen(d.p.Sockets); err != nil {
			return err
		}
	}
	cmd.ExtraFiles = d.sockets
	err = cmd.Start()
	_ = out.Close()
	if err != nil {
		return err
	}
	d.cmd, d.state, d.gone = cmd, "running", make(chan struct{})
	go func() {
		_ = cmd.Wait()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // a dead master's children hold its port
		s.mu.Lock()
		defer s.mu.Unlock()
		d.state = "stopped"
		close(d.gone)
		if !d.stopping {
			d.state = "backoff"
			d.restarts++
			time.AfterFunc(100*time.Millisecond, func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				if !d.stopping {
					_ = s.start(d)
				}
			})
		}
	}()
	return nil
}

func (s *supervisor) Signal(name, signal string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.procs[name]
	if d == nil || d.state != "running" {
		return fmt.Errorf("signal %s: it does not run", name)
	}
	return d.cmd.Process.Signal(signals[signal])
}

func (s *supervisor) Stop(ctx context.Context, name string) error {
	s.mu.Lock()
	d := s.procs[name]
	if d == nil {
		s.mu.Unlock()
		return nil
	}
	d.stopping = true
	running, gone := d.state == "running", d.gone
	if running {
		_ = d.cmd.Process.Signal(signals[d.p.Stop])
	}
	s.mu.Unlock()
	if running {
		select {
		case <-gone:
		case <-time.After(time.Duration(max(d.p.Grace, 10)) * time.Second):
		case <-ctx.Done():
		}
		_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		<-gone
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range d.sockets {
		_ = f.Close()
		_ = os.Remove(d.p.Sockets[i].Path)
	}
	delete(s.procs, name)
	return nil
}

// listen opens the sockets of a process, which stay open while it is started
// again.
func (s *supervisor) listen(list []services.Socket) ([]*os.File, error) {
	var files []*os.File
	for _, d := range list {
		_ = os.Remove(d.Path)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.Path, Net: "unix"})
		if err != nil {
			return nil, err
		}
		l.SetUnlinkOnClose(false)
		f, err := l.File()
		if err == nil && d.User && s.uid >= 0 {
			err = os.Chown(d.Path, s.uid, s.gid)
		}
		if err = errors.Join(err, l.Close()); err != nil {
			return nil, err
		}
		if err := syscall.SetNonblock(int(f.Fd()), false); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func (s *supervisor) Run(ctx context.Context, p services.Process) (int, error) {
	s.mu.Lock()
	cmd, out, err := s.command(p)
	s.mu.Unlock()
	if err != nil {
		return -1, err
	}
	err = cmd.Start()
	_ = out.Close()
	if err != nil {
		return -1, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		err = <-done
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return -1, err
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return -int(ws.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}

func (s *supervisor) Processes() []api.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []api.Process
	for name, d := range s.procs {
		list = append(list, api.Process{Name: name, State: d.state, PID: d.cmd.Process.Pid, Restarts: d.restarts})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

func (s *supervisor) AddLog(name, _, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs[name] = path
}

func (s *supervisor) logPath(name string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.logs[name]
	return p, ok
}

func (s *supervisor) close(ctx context.Context) {
	for _, p := range s.Processes() {
		_ = s.Stop(ctx, p.Name)
	}
}
