package generic

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"nutshell/services"
)

// wrapper runs one script. It writes to files only, never to the agent, so
// that a script does not notice when the agent is killed, and keeps the exit
// status for the next agent.
//
//go:embed wrapper.sh
var wrapper string

const (
	mark      = "NUTSHELL_SCRIPT" // in the environment of a script and all that it starts
	killAfter = 5 * time.Second   // from TERM to KILL
	lookEvery = 50 * time.Millisecond
	exitKill  = -int(syscall.SIGKILL)
)

// runner runs scripts and finds those again that an earlier agent started.
type runner struct {
	m     services.Machine
	where string // directory of pid and exit files
	home  string
}

// run is one call of a script.
type run struct {
	ID      string    `json:"id"`
	Running bool      `json:"running"`
	Code    int       `json:"code"`             // exit status, negative: the signal that ended it
	Killed  bool      `json:"killed,omitempty"` // by us
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
}

func (r *runner) file(id, what string) string {
	return filepath.Join(r.where, "script-"+id+"."+what)
}

// start runs a script to its end and returns its status.
func (r *runner) start(ctx context.Context, id, bash, path string, args, env []string) (int, error) {
	log, script := r.m.Dir("log"), filepath.Base(path)
	argv := append([]string{bash, "-c", wrapper, "wrapper", r.file(id, "pid"), r.file(id, "exit"), filepath.Join(log, "agent.out"), filepath.Join(log, "agent.err"),
		filepath.Join(log, strings.TrimSuffix(script, ".sh")+".log"), path}, args...)
	exit, err := r.m.Supervisor().Run(ctx, services.Process{Name: script, Argv: argv, Env: append(env, mark+"="+id), Dir: filepath.Dir(path), Log: "scripts.log", Describe: "problems in starting scripts"})
	if code, ok := r.exited(id); ok {
		return code, nil
	}
	return exit, err
}

// exited reads the status that the wrapper left.
func (r *runner) exited(id string) (int, bool) {
	b, err := os.ReadFile(r.file(id, "exit"))
	if err != nil {
		return 0, false
	}
	code, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return code, err == nil
}

// leader is the wrapper of a run, which leads its process group, or 0. The
// mark tells it from another process that got its number.
func (r *runner) leader(id string) int {
	b, err := os.ReadFile(r.file(id, "pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || !marked(pid, id) {
		return 0
	}
	return pid
}

// await waits for a run that an earlier agent started.
func (r *runner) await(ctx context.Context, id string) (int, error) {
	for {
		if code, ok := r.exited(id); ok {
			return code, nil
		}
		if r.leader(id) == 0 {
			if code, ok := r.exited(id); ok { // it ended between the two looks
				return code, nil
			}
			return exitKill, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}

// kill ends runs with all that they started, in their process groups or out
// of them: TERM, and KILL for what is left some seconds later. A run that has
// no process yet is waited for, until over says that all have ended.
func (r *runner) kill(ctx context.Context, ids []string, over func() bool) error {
	groups, end := map[string]int{}, map[string]time.Time{} // by run; end: of being polite
	for {
		ended, left := over(), false
		for _, id := range ids {
			if pid := r.leader(id); pid > 0 {
				groups[id] = -pid
			}
			pids := family(id)
			if g := groups[id]; g < 0 && syscall.Kill(g, 0) == nil {
				pids = append(pids, g)
			}
			if len(pids) == 0 {
				continue
			}
			left = true
			switch polite, told := end[id]; {
			case ctx.Err() != nil || told && time.Now().After(polite): // no time to be polite
				r.signal(pids, syscall.SIGKILL)
			case !told:
				r.signal(pids, syscall.SIGTERM)
				end[id] = time.Now().Add(killAfter)
			}
		}
		if ended && !left {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}

func (r *runner) signal(pids []int, sig syscall.Signal) {
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			r.m.Log().Warn("script not signalled", "pid", pid, "error", err)
		}
	}
}

// family finds every process of a run, also those that left its group.
func family(id string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() && marked(pid, id) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func marked(pid int, id string) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && bytes.Contains(append([]byte{0}, b...), []byte("\x00"+mark+"="+id+"\x00"))
}
