package supervise

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/roles/api"
	"nutshell/services"
)

const (
	firstDelay   = 100 * time.Millisecond // before the first restart; doubled each time
	longestDelay = 5 * time.Second
	steadyAfter  = 10 * time.Second // a process that ran this long starts again at firstDelay
	readyEvery   = 30 * time.Millisecond
	defaultGrace = 10
)

// markVariable stands in the environment of a process and so of its whole
// family, also of members that left its process group.
const markVariable = "NUTSHELL_PROCESS"

// process is one supervised daemon.
type process struct {
	s    *Supervisor
	hash string
	mark string

	mu       sync.Mutex
	d        services.Process
	state    string
	pid      int
	began    uint64 // start time in clock ticks, of pid
	since    time.Time
	restarts int
	message  string
	delay    time.Duration
	stopping bool
	stopped  bool          // its sockets are gone; another one may have their paths
	left     bool          // detached: do not touch any more
	gone     chan struct{} // closed when the running incarnation has ended
	sockets  []*os.File    // that incarnations inherit; empty for one that was adopted
}

func newProcess(s *Supervisor, d services.Process, hash, mark string) *process {
	return &process{s: s, d: d, hash: hash, mark: mark, state: "starting", since: s.c.Now(), delay: firstDelay, gone: closedChan()}
}

func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// describe hashes all that makes a process another one when it changes.
func describe(d services.Process) string {
	all := []any{d.Argv, d.Env, d.Dir, d.User, d.Log, d.Revision}
	if len(d.Sockets) > 0 {
		all = append(all, d.Sockets)
	}
	b, _ := json.Marshal(all) // strings and booleans always encode
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (p *process) describeAs(d services.Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.d = d
	p.s.logs.add(logName(d), d.Describe, p.s.logs.file(logName(d)))
}

func logName(d services.Process) string {
	if d.Log != "" {
		return d.Log
	}
	return d.Name + ".log"
}

func (s *Supervisor) command(d services.Process, mark string) (*exec.Cmd, error) {
	out, err := s.logs.open(logName(d), d.Describe)
	if err != nil {
		return nil, err
	}
	env := d.Env
	if env == nil {
		env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "LANG=C.UTF-8"}
	}
	cmd := exec.Command(d.Argv[0], d.Argv[1:]...) //nolint:noctx // it outlives us
	cmd.Env = append(append(append([]string(nil), env...), s.c.Env...), markVariable+"="+mark)
	cmd.Dir = d.Dir
	cmd.Stdout, cmd.Stderr = out, out // files, not pipes: they must outlive us
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if d.User && s.c.UID >= 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(s.c.UID), Gid: uint32(s.c.GID)} //nolint:gosec // not negative here
	}
	return cmd, nil
}

// start runs a new incarnation and watches it.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping || p.left {
		return nil
	}
	cmd, err := p.s.command(p.d, p.mark)
	if err != nil {
		return err
	}
	if len(p.sockets) == 0 {
		if p.sockets, err = p.s.listen(p.d.Sockets); err != nil {
			closeOutput(cmd)
			return fmt.Errorf("start %s: %w", p.d.Name, err)
		}
	}
	cmd.ExtraFiles = p.sockets
	if err := cmd.Start(); err != nil {
		closeOutput(cmd)
		return fmt.Errorf("start %s: %w", p.d.Name, err)
	}
	closeOutput(cmd)
	p.began, _ = startTime(cmd.Process.Pid)
	p.pid, p.state, p.since, p.gone = cmd.Process.Pid, "running", p.s.c.Now(), make(chan struct{})
	go func(gone chan struct{}) {
		err := cmd.Wait()
		p.ended(gone, cmd.Process.Pid, exitText(cmd, err))
	}(p.gone)
	go p.s.saveState()
	return nil
}

func closeOutput(cmd *exec.Cmd) {
	if f, ok := cmd.Stdout.(*os.File); ok {
		_ = f.Close() // the child has its own
	}
}

func exitText(cmd *exec.Cmd, err error) string {
	var exit *exec.ExitError
	if err == nil {
		return "ended with status 0"
	}
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return "killed by signal " + ws.Signal().String()
		}
		return fmt.Sprintf("ended with status %d", cmd.ProcessState.ExitCode())
	}
	return err.Error()
}

// adopt watches a process that is not our child.
func (p *process) adopt(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began, _ = startTime(pid)
	p.pid, p.state, p.gone = pid, "running", make(chan struct{})
	go func(gone chan struct{}) {
		waitPID(pid, p.began)
		p.ended(gone, pid, "ended; the agent that started it was gone")
	}(p.gone)
}

// ended is called when the incarnation with that pid is over.
func (p *process) ended(gone chan struct{}, pid int, message string) {
	p.mu.Lock()
	if p.left {
		p.mu.Unlock()
		return
	}
	stopping := p.stopping
	if !stopping {
		// What the dead master left behind would hold its port.
		p.mu.Unlock()
		killFamily(pid, p.mark)
		p.mu.Lock()
		stopping = p.stopping
	}
	now := p.s.c.Now()
	if now.Sub(p.since) > steadyAfter {
		p.delay = firstDelay
	}
	delay := p.delay
	p.delay = min(2*p.delay, longestDelay)
	p.message, p.pid, p.since = message, 0, now
	p.state = "backoff"
	if stopping {
		p.state = "stopped"
	} else {
		p.restarts++
	}
	close(gone)
	name := p.d.Name
	p.mu.Unlock()
	if stopping {
		return
	}
	p.s.c.Log.Warn("process ended", "process", name, "message", message, "restart_in", delay.String())
	time.AfterFunc(delay, p.restart)
}

func (p *process) restart() {
	p.mu.Lock()
	unknown := len(p.d.Argv) == 0 // adopted, and nobody ensured it again yet
	p.mu.Unlock()
	if unknown {
		p.s.forget(p.d.Name, p)
		return
	}
	if err := p.start(); err != nil {
		p.mu.Lock()
		p.message = err.Error()
		p.delay = min(2*p.delay, longestDelay)
		delay := p.delay
		p.mu.Unlock()
		time.AfterFunc(delay, p.restart)
	}
}

// waitReady polls the Ready check. A process that ends meanwhile is not ready
// yet; the last lines of its log tell why when time runs out.
func (p *process) waitReady(ctx context.Context) error {
	p.mu.Lock()
	d, was := p.d, p.restarts
	p.mu.Unlock()
	var err error
	for {
		p.mu.Lock()
		state, restarts, message := p.state, p.restarts, p.message
		p.mu.Unlock()
		switch {
		case state == "stopped":
			return p.failed("stopped meanwhile", nil)
		case restarts-was >= 3:
			return p.failed(message, nil)
		case state != "running":
			err = errors.New(message)
		case d.Ready == nil:
			return nil
		default:
			if err = d.Ready(ctx); err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return p.failed("not ready in time", err)
		case <-time.After(readyEvery):
		}
	}
}

func (p *process) failed(message string, err error) error {
	name := logName(p.d)
	return &api.Error{Code: api.CodeUnavailable, Op: "start", Object: "process " + p.d.Name, Message: message, Err: err,
		LogTail: LastLines(p.s.logs.file(name), 20), Hint: "see its log " + name}
}

func (p *process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid == 0 {
		return fmt.Errorf("signal %s: it does not run (%s)", p.d.Name, p.message)
	}
	return syscall.Kill(p.pid, sig)
}

// stop asks politely, then kills the whole family.
func (p *process) stop(ctx context.Context) {
	p.mu.Lock()
	p.stopping = true
	pid, gone, d := p.pid, p.gone, p.d
	p.mu.Unlock()
	if pid > 0 {
		sig, err := signalOf(d.Stop)
		if err != nil {
			sig = syscall.SIGTERM
		}
		_ = syscall.Kill(pid, sig)
		grace := d.Grace
		if grace <= 0 {
			grace = defaultGrace
		}
		timer := time.NewTimer(time.Duration(grace) * time.Second)
		defer timer.Stop()
		select {
		case <-gone:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	killFamily(pid, p.mark)
	<-gone
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped { // by somebody else at the same time
		return
	}
	p.stopped, p.state = true, "stopped"
	closeSockets(p.sockets)
	for _, s := range p.d.Sockets {
		_ = os.Remove(s.Path) // the process may have done it
	}
	p.sockets = nil
}

// ends reports whether somebody stops it.
func (p *process) ends() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopping
}

func (p *process) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = true
}

func (p *process) identity() (pid int, start uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid, p.began
}

func (p *process) status() api.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return api.Process{Name: p.d.Name, State: p.state, PID: p.pid, Restarts: p.restarts, Since: p.since, Message: p.message}
}

// startTime is field 22 of /proc/PID/stat: clock ticks since boot.
func startTime(pid int) (uint64, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	_, rest, ok := strings.Cut(string(b), ") ") // the name may hold blanks
	f := strings.Fields(rest)
	if !ok || len(f) < 20 || f[0] == "Z" {
		return 0, false
	}
	var start uint64
	_, err = fmt.Sscan(f[19], &start)
	return start, err == nil
}

// waitPID returns when the process is gone. A pidfd tells at once; kernels
// without it are polled.
func waitPID(pid int, start uint64) {
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		defer func() { _ = unix.Close(fd) }()
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000) //nolint:gosec // a descriptor fits
			if (err == nil && n > 0) || (err != nil && !errors.Is(err, unix.EINTR)) {
				return
			}
		}
	}
	for {
		if now, ok := startTime(pid); !ok || now != start {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}
