package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"nutshell/cloud"
)

const (
	instanceEnv = "NUTSHELL_INSTANCE="
	markEnv     = "NUTSHELL_MARK="
)

// leader is the instance's first process, which may have ended. It is the
// zero Process when there is none.
func (d *driver) leader(r record) cloud.Process {
	var p cloud.Process
	err := cloud.LoadState(d.processFile(r.Name), &p)
	if err == nil {
		return p
	}
	if !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("process file not readable", "instance", r.Name, "error", err)
	}
	// A director died while it started the instance: find the process by its
	// marks. Daemons bear them too; the leader is the one we gave --role init.
	for pid, s := range processes() {
		if s.Session != pid || !d.marked(pid, r.Name) {
			continue
		}
		args, _ := os.ReadFile(procPath(pid, "cmdline"))
		if bytes.Contains(args, []byte("\x00--role\x00init\x00")) {
			if p, err := cloud.FindProcess(pid); err == nil {
				return p
			}
		}
	}
	return cloud.Process{}
}

// kill ends every process of the instance, and returns when there is none.
func (d *driver) kill(ctx context.Context, r record) error {
	leader := d.leader(r)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		left := d.kin(r, leader)
		if len(left) == 0 {
			return nil
		}
		for _, p := range left {
			if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return fmt.Errorf("kill process %d: %w", p.PID, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d processes are left: %w", len(left), ctx.Err())
		case <-time.After(wait): // the kernel needs a moment to take them away
		}
	}
}

// kin finds the living processes of the instance: its leader's session and
// group, those that bear our marks in their environment, those that work
// below its directory or in its volumes, and the descendants of all these. Several signs are
// needed since daemons leave the session, and nginx overwrites its
// environment with its title.
func (d *driver) kin(r record, leader cloud.Process) []cloud.Process {
	all, dirs := processes(), append(d.volumeDirs(r.Name), d.dir(r.Name))
	own := map[int]bool{} // we and our ancestors are never meant
	for pid := os.Getpid(); pid > 0 && !own[pid]; pid = all[pid].Parent {
		own[pid] = true
	}
	// The session is the leader's as long as its pid is not somebody else's.
	session := leader.PID
	if s, ok := all[session]; ok && s.Start != leader.Start {
		session = 0
	}
	found := map[int]bool{}
	for pid, s := range all {
		if own[pid] {
			continue
		}
		if session > 0 && (s.Session == session || s.Group == session) || d.marked(pid, r.Name) || slices.ContainsFunc(dirs, func(dir string) bool { return d.worksIn(pid, s, dir) }) {
			found[pid] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for pid, s := range all {
			if !found[pid] && !own[pid] && found[s.Parent] {
				found[pid], grown = true, true
			}
		}
	}
	var list []cloud.Process
	for pid := range found {
		if p, err := cloud.FindProcess(pid); err == nil && p.Start == all[pid].Start && p.Alive() {
			list = append(list, p)
		}
	}
	return list
}

func (d *driver) marked(pid int, name string) bool {
	return hasEnv(pid, markEnv+d.mark(), instanceEnv+name)
}

// ours reports whether the process bears the marks of any of our instances.
func (d *driver) ours(pid int) bool { return hasEnv(pid, markEnv+d.mark()) }

func hasEnv(pid int, all ...string) bool {
	env, err := os.ReadFile(procPath(pid, "environ"))
	if err != nil {
		return false // another user's
	}
	env = append([]byte{0}, env...)
	return !slices.ContainsFunc(all, func(want string) bool { return !bytes.Contains(env, []byte("\x00"+want+"\x00")) })
}

// worksIn reports whether the process lives in dir or has a file there open
// for writing. Processes of a terminal are people looking around.
func (d *driver) worksIn(pid int, s cloud.Stat, dir string) bool {
	if s.TTY != 0 {
		return false
	}
	below := func(link string) bool {
		to, err := os.Readlink(link)
		return err == nil && (to == dir || strings.HasPrefix(to, dir+string(filepath.Separator)))
	}
	if below(procPath(pid, "cwd")) || below(procPath(pid, "exe")) {
		return true
	}
	fds, err := os.ReadDir(procPath(pid, "fd"))
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if below(procPath(pid, "fd", fd.Name())) && writes(pid, fd.Name()) {
			return true
		}
	}
	return false
}

// writes reads the open flags of a descriptor: its access mode is not
// read-only.
func writes(pid int, fd string) bool {
	info, err := os.ReadFile(procPath(pid, "fdinfo", fd))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(info)) {
		if v, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseInt(strings.TrimSpace(v), 8, 64)
			return err == nil && flags&syscall.O_ACCMODE != syscall.O_RDONLY
		}
	}
	return false
}

func processes() map[int]cloud.Stat {
	all := map[int]cloud.Stat{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return all
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := cloud.ReadStat(pid); err == nil {
			all[pid] = s
		}
	}
	return all
}

func procPath(pid int, rest ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(pid)}, rest...)...)
}
