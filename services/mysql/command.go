package mysql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"nutshell/roles/api"
)

// copies is the log of programs that dump, back up and restore.
const copiesLog = "copies.log"

// command is a program of MariaDB at one end of a stream. It runs as the
// account of the server, and ends with the agent.
type command struct {
	cmd    *exec.Cmd
	told   *tail
	name   string
	closes []io.Closer
}

// command prepares a program of a Debian package. Passwords are in files that
// arguments name, never in arguments.
func (s *server) command(ctx context.Context, debianPackage, program string, args ...string) (*command, error) {
	path, err := s.m.Program(program, debianPackage)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.m.Dir("log"), copiesLog)
	out, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, err
	}
	s.m.Supervisor().AddLog(copiesLog, "messages of dumps, backups and restores", file)
	c := &command{name: program, told: &tail{out: out}, closes: []io.Closer{out}}
	c.cmd = exec.CommandContext(ctx, path, args...)
	c.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "LANG=C.UTF-8", "TZ=UTC"}
	c.cmd.Dir, c.cmd.Stderr = s.volume.Path, c.told
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if _, uid, gid, ok := s.m.User(); ok {
		c.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)} //nolint:gosec // ids of an account
	}
	c.cmd.Cancel = func() error { return syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) }
	c.cmd.WaitDelay = 10 * time.Second
	return c, nil
}

// run runs the program to its end.
func (c *command) run(ctx context.Context) error {
	defer c.close()
	_, _ = fmt.Fprintf(c.told.out, "%s %s\n", time.Now().UTC().Format(time.RFC3339), c.name)
	if err := c.start(); err != nil {
		return err
	}
	return c.explain(ctx, c.cmd.Wait())
}

// start starts the program. Where memory runs out it is the first to end, and
// not the server that has the users' data.
func (c *command) start() error {
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", c.cmd.Process.Pid), []byte("1000"), 0) // ended already is well
	return nil
}

func (c *command) close() {
	for _, x := range c.closes {
		_ = x.Close()
	}
}

func (c *command) explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	lines := c.told.last()
	e := &api.Error{Code: api.CodeUnavailable, Op: "run", Object: c.name, Message: err.Error(), LogTail: lines, Hint: "see " + copiesLog + " of the instance"}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() < 0:
		e.Message, e.Hint = "it was ended: "+err.Error(), "if the instance has too little memory, give it more"
	case exit != nil && len(lines) > 0:
		e.Message = lines[len(lines)-1]
	}
	if strings.Contains(strings.Join(lines, "\n"), "No space left on device") {
		e.Code, e.Hint = api.CodeNoSpace, "make volume_size larger"
	}
	return e
}

// tail keeps the last lines of what a program says.
type tail struct {
	out io.Writer
	mu  sync.Mutex
	buf []byte
}

// Write keeps and passes on.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 16<<10 {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-8<<10:]...)
	}
	_, _ = t.out.Write(p) // a full disk must not end a backup of it
	return len(p), nil
}

// find is what the expression in brackets found last.
func (t *tail) find(line *regexp.Regexp) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := line.FindAllSubmatch(t.buf, -1)
	if len(all) == 0 {
		return ""
	}
	return string(all[len(all)-1][1])
}

func (t *tail) last() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := bytes.TrimSpace(t.buf)
	if len(text) == 0 {
		return nil
	}
	return lastLines(string(text), 12)
}

// access is a file by which programs reach the server as root, with what
// follows in it. The password is ours and needs no quoting.
func (s *server) access(name string, more ...string) (string, error) {
	path := filepath.Join(s.etc(), name)
	lines := append([]string{"[client]", "user=root", "password=" + s.c.Secrets[secretRoot], "socket=" + s.socket()}, more...)
	return path, s.write(path, []byte(strings.Join(lines, "\n")+"\n"), 0o400)
}
