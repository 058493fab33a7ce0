package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// statusHost is the host name under which each nginx tells its own agent which
// configuration it runs. Nobody else gets an answer.
const statusHost = "nutshell.internal"

const reloadTime = 10 * time.Second

const checkOp = "check configuration"

const luaModule = "/usr/lib/nginx/modules/ngx_http_lua_module.so"

// Nginx is one nginx of an instance, with a configuration of its own.
type Nginx struct {
	m    services.Machine
	name string
	port int
	ask  *http.Client
}

// NewNginx makes the nginx called name that listens on a port of the kind.
func NewNginx(m services.Machine, name string, port int) *Nginx {
	dial := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(m.Address())}} // the address that the status server trusts
	return &Nginx{m: m, name: name, port: m.Port(port),
		ask: &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DialContext: dial.DialContext, DisableKeepAlives: true}}}
}

// Frame is what all configurations share; templates put it around their own.
type Frame struct {
	Name, Revision string
	User           string // of the workers; empty where everything runs as one account
	Dir            string // for the paths of pid and temporary files
	Log            string // directory
	Etc            string // directory of nutshell.lua and of what it reads
	Address        string
	Port           int
	Workers        int
	Files          uint64 // that a worker may open
	Mime           string // Debian's table of types
}

// Frame fills the frame for this nginx.
func (n *Nginx) Frame() Frame {
	user, _, _, _ := n.m.User()
	return Frame{Name: n.name, User: user, Dir: n.m.Dir("run"), Log: n.m.Dir("log"), Etc: n.m.Dir("etc"), Address: n.m.Address(), Port: n.port,
		Workers: min(runtime.NumCPU(), 4), Files: openFiles(), Mime: "/etc/nginx/mime.types"}
}

// openFiles is what nginx may ask for without being refused.
func openFiles() uint64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return min(l.Max, 16384)
}

func (n *Nginx) file() string { return filepath.Join(n.m.Dir("etc"), n.name+".conf") }

// Serve makes nginx run the configuration that render returns for a revision,
// and go by a state. One that runs gets the configuration only after a check,
// so an error leaves the one before serving. Where none runs, the start is the
// check: it is said in the same words, and a node that is added does not wait
// for two starts. Almost everything is in the state: a reload, which closes
// the idle connections of visitors, is for what people rarely change.
func (n *Nginx) Serve(ctx context.Context, state State, render func(revision string) (string, error)) error {
	plain, err := render("")
	if err != nil {
		return fmt.Errorf("render %s: %w", n.name, err)
	}
	sum := sha256.Sum256([]byte(plain + string(script)))
	revision := hex.EncodeToString(sum[:6])
	text, err := render(revision)
	if err != nil {
		return fmt.Errorf("render %s: %w", n.name, err)
	}
	before, err := os.ReadFile(n.file())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := errors.Join(n.directories(), n.equip()); err != nil {
		return err
	}
	fresh := !n.known()
	if _, err := os.Stat(n.stateFile()); fresh || err != nil {
		if err := n.remember(state); err != nil {
			return err
		}
	}
	if string(before) != text {
		if !fresh {
			if err := n.check(ctx, text); err != nil {
				return err
			}
		}
		if err := writeAtomic(n.file(), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err = n.Keep(ctx); err != nil && fresh {
		err = errors.Join(n.refused(ctx, text, err), n.m.Supervisor().Stop(context.WithoutCancel(ctx), n.name))
	}
	if err == nil && (!fresh || !n.runs(ctx, revision)) {
		err = n.reload(ctx, revision)
	}
	if err == nil {
		return n.tell(ctx, state)
	}
	// The old one must also be what a restart finds.
	if len(before) > 0 {
		return errors.Join(err, writeAtomic(n.file(), before, 0o644))
	}
	return errors.Join(err, os.Remove(n.file()))
}

// known reports whether nginx was started before, be it that it runs or that
// it is between two tries.
func (n *Nginx) known() bool {
	return slices.ContainsFunc(n.m.Supervisor().Processes(), func(p api.Process) bool { return p.Name == n.name })
}

// Keep starts nginx with the configuration that it had, unless it runs.
func (n *Nginx) Keep(ctx context.Context) error {
	if _, err := os.Stat(n.file()); err != nil {
		return fmt.Errorf("%s has no configuration yet: %w", n.name, err)
	}
	program, err := n.program()
	if err != nil {
		return err
	}
	for _, l := range []struct{ suffix, what string }{{"access", "requests: the combined format, then seconds, who served it, and its seconds"}, {"error", "errors"}} {
		file := n.name + "-" + l.suffix + ".log"
		n.m.Supervisor().AddLog(file, l.what+" of "+n.name, filepath.Join(n.m.Dir("log"), file))
	}
	return n.m.Supervisor().Ensure(ctx, services.Process{Name: n.name, Argv: append([]string{program}, n.arguments(n.file())...), Stop: "QUIT", Grace: 60,
		Describe: "output of " + n.name, Ready: Soon(n.Answers)})
}

// Stop lets requests under way finish and forgets the configuration.
func (n *Nginx) Stop(ctx context.Context) error {
	if err := n.m.Supervisor().Stop(ctx, n.name); err != nil {
		return err
	}
	for _, file := range []string{n.file(), n.stateFile()} {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (n *Nginx) program() (string, error) {
	if _, err := os.Stat(luaModule); err != nil {
		return "", &api.Error{Code: api.CodeUnavailable, Object: "nginx", Message: "its Lua module is not installed", Hint: "install Debian's package libnginx-mod-http-lua"}
	}
	return n.m.Program("nginx", "nginx-light")
}

func (n *Nginx) arguments(file string) []string {
	return []string{"-p", n.m.Dir("run"), "-c", file, "-e", filepath.Join(n.m.Dir("log"), n.name+"-error.log")}
}

// directories makes those for what nginx keeps outside of its memory.
func (n *Nginx) directories() error {
	for _, d := range []string{"body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		dir := filepath.Join(n.m.Dir("run"), n.name, d)
		if err := os.MkdirAll(dir, 0o755); err != nil { // workers have an account of their own
			return err
		}
		if _, uid, gid, ok := n.m.User(); ok {
			if err := os.Chown(dir, uid, gid); err != nil {
				return err
			}
		}
	}
	return nil
}

// check asks nginx whether it would take a configuration.
func (n *Nginx) check(ctx context.Context, text string) error {
	program, err := n.program()
	if err != nil {
		return err
	}
	fresh := n.file() + ".check"
	if err := writeAtomic(fresh, []byte(text), 0o644); err != nil {
		return err
	}
	defer func() { _ = os.Remove(fresh) }()
	out, err := exec.CommandContext(ctx, program, append(n.arguments(fresh), "-t", "-q")...).CombinedOutput()
	if err != nil {
		return &api.Error{Code: api.CodeInternal, Op: checkOp, Object: n.name, Message: "nginx refuses it", Err: err, LogTail: strings.Split(strings.TrimSpace(string(out)), "\n")}
	}
	return nil
}

// refused is why nginx did not start: its configuration, or what was seen.
func (n *Nginx) refused(ctx context.Context, text string, seen error) error {
	if err := n.check(context.WithoutCancel(ctx), text); err != nil {
		return err
	}
	return seen
}

// reload returns when the revision runs and no worker takes requests by an
// earlier one any more.
func (n *Nginx) reload(ctx context.Context, revision string) error {
	ctx, cancel := context.WithTimeout(ctx, reloadTime)
	defer cancel()
	if !n.runs(ctx, revision) {
		if err := n.m.Supervisor().Signal(n.name, "HUP"); err != nil {
			return err
		}
	}
	for passed := 0; ; {
		now, err := n.Seen(ctx)
		if err == nil && now.Revision == revision && n.switched() {
			if passed++; passed == 2 { // the list of workers may have been read while they were made
				return nil
			}
			continue
		}
		passed = 0
		select {
		case <-ctx.Done():
			return &api.Error{Code: api.CodeUnavailable, Op: "reload", Object: n.name, Message: "nginx did not take the new configuration", Err: err, Hint: "see its log " + n.name + "-error.log"}
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (n *Nginx) runs(ctx context.Context, revision string) bool {
	now, err := n.Seen(ctx)
	return err == nil && now.Revision == revision
}

// Seen asks nginx what it runs and what is under way.
func (n *Nginx) Seen(ctx context.Context) (Seen, error) {
	return n.see(ctx, http.MethodGet, "/state", "")
}

// Soon makes a check for a process that has just been started and needs a few
// milliseconds: it looks again and again for a moment before it says no.
func Soon(check func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for end := time.Now().Add(60 * time.Millisecond); ; {
			err := check(ctx)
			if err == nil || time.Now().After(end) {
				return err
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
}

// Answers reports whether nginx serves.
func (n *Nginx) Answers(ctx context.Context) error {
	if _, err := n.Seen(ctx); err != nil {
		return fmt.Errorf("%s does not answer: %w", n.name, err)
	}
	return nil
}

// Draining reports whether workers of an earlier configuration still finish
// their requests.
func (n *Nginx) Draining() bool { return len(n.former()) > 0 }

// switched reports whether all workers of earlier configurations know that
// they are: a new one answers while the others have not heard yet.
func (n *Nginx) switched() bool {
	for _, pid := range n.former() {
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && len(title) > 0 && !bytes.Contains(title, []byte("shutting down")) {
			return false
		}
	}
	return true
}

// former are the workers beyond the youngest that make up the configuration
// which runs now.
func (n *Nginx) former() []int {
	workers := n.workers()
	return workers[:max(len(workers)-n.Frame().Workers, 0)]
}

// workers are nginx's processes that answer requests, oldest first.
func (n *Nginx) workers() []int {
	for _, p := range n.m.Supervisor().Processes() {
		if p.Name == n.name && p.PID > 0 {
			return children(p.PID)
		}
	}
	return nil
}

// children lists the children of a process, oldest first.
func children(pid int) []int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var pids []int
	began := map[int]int{}
	for _, f := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if err != nil || len(fields) < 20 {
			continue // ended meanwhile
		}
		began[pid], _ = strconv.Atoi(fields[19]) // digits, by proc(5)
		pids = append(pids, pid)
	}
	slices.SortStableFunc(pids, func(a, b int) int { return began[a] - began[b] })
	return pids
}

func writeAtomic(path string, b []byte, mode os.FileMode) error {
	if err := os.WriteFile(path+".new", b, mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
