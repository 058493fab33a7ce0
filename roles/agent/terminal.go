package agent

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"nutshell/roles/agent/shell"
	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
	"nutshell/roles/internal/terminal"
)

// terminalsMost bounds the terminals of one instance, whatever the director
// allows.
const terminalsMost = 32

// shared reports whether the instance is no machine of its own: then it has an
// address of this machine's loopback.
func (a *Agent) shared() bool {
	ip := net.ParseIP(a.c.Address)
	return ip != nil && ip.IsLoopback()
}

// terminal runs a shell, or the command that the query names, for the other
// end of a WebSocket.
func (a *Agent) terminal(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var size api.TerminalSize
	size.Cols, _ = strconv.Atoi(q.Get("cols")) // the director has checked them
	size.Rows, _ = strconv.Atoi(q.Get("rows"))
	options, hello := a.shellOptions(q["command"])
	options.TTY, options.Size = q.Get("tty") != "false", size
	if n := a.terminals.Add(1); n > terminalsMost {
		a.terminals.Add(-1)
		rpc.WriteError(w, &api.Error{Code: api.CodeTooMany, Op: "open a terminal of", Object: "instance " + a.c.Identity.Name, Message: "it has as many as it may", Hint: "close some first"})
		return
	}
	defer a.terminals.Add(-1)
	conn, err := terminal.Accept(w, r)
	if err != nil {
		a.c.Log.Warn("terminal not opened", "error", err)
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	defer context.AfterFunc(a.living, cancel)()
	sh, err := shell.Start(options)
	if err != nil {
		conn.Close(api.AsError(err))
		return
	}
	a.c.Log.Info("terminal opened", "command", len(q["command"]) > 0)
	conn.Close(a.attend(ctx, conn, sh, hello))
	a.c.Log.Info("terminal closed")
}

// attend joins a shell and a connection until either ends.
func (a *Agent) attend(ctx context.Context, conn *terminal.Conn, sh *shell.Shell, hello api.TerminalHello) *api.Error {
	end := terminal.NewEnd(ctx, conn)
	exited := make(chan api.TerminalExit, 1)
	if err := end.Control(api.TerminalFrame{Hello: &hello}); err != nil {
		sh.Hangup()
		return nil
	}
	go func() { exited <- sh.Copy(end.Send) }()
	go func() {
		for {
			p, err := end.Receive()
			if err != nil {
				if end.Open() { // nothing more is typed
					sh.CloseInput()
				}
				return
			}
			if _, err := sh.Write(p.Bytes); err != nil {
				continue // it has ended, or closed its stdin: what comes is for nobody
			}
		}
	}()
	lost := make(chan struct{})
	go func() { //nolint:contextcheck // the connection ends it
		defer close(lost)
		_ = end.Run(func(f api.TerminalFrame) {
			if f.Resize != nil {
				sh.Resize(*f.Resize)
			}
		})
	}()
	select {
	case exit := <-exited:
		_ = end.Control(api.TerminalFrame{Exit: &exit})
	case <-lost:
		sh.Hangup()
		<-exited
		if a.living.Err() != nil {
			return &api.Error{Code: api.CodeUnavailable, Object: "instance " + a.c.Identity.Name, Message: "it is being stopped"}
		}
	}
	end.End(context.Canceled)
	return nil
}

// shellOptions says what a terminal runs: the login shell of our account, or a
// command. It gets the variables that the user's code gets, and none of ours.
func (a *Agent) shellOptions(command []string) (shell.Options, api.TerminalHello) {
	account, home, program := "root", "/root", loginShell(os.Geteuid())
	if u, err := user.Current(); err == nil {
		account, home = u.Username, u.HomeDir
	}
	if a.shared() {
		home = a.c.Dir // not that of who runs the director: what is typed here is no business of their history
	}
	env := []string{"TERM=xterm-256color", "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home,
		"USER=" + account, "LOGNAME=" + account, "SHELL=" + program, "MY_IP=" + a.c.Address, "AGENT_ID=" + a.c.Identity.Name}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "NUTSHELL_") { // by which the cloud knows its own
			env = append(env, v)
		}
	}
	a.mu.Lock()
	if a.current != nil {
		for _, v := range a.current.Environment {
			env = append(env, v.Name+"="+v.Value)
		}
	}
	a.mu.Unlock()
	o := shell.Options{Argv: []string{program}, Name: "-" + filepath.Base(program), Dir: a.c.Dir, Env: env}
	if len(command) > 0 {
		o.Name, o.Argv = command[0], slices.Clone(command)
		if path, err := exec.LookPath(command[0]); err == nil {
			o.Argv[0] = path
		}
	}
	return o, api.TerminalHello{Instance: a.c.Identity.Name, User: account, Dir: a.c.Dir, Shared: a.shared()}
}

// loginShell is the shell of an account, or what there is.
func loginShell(uid int) string {
	var list []string
	if f, err := os.Open("/etc/passwd"); err == nil {
		defer func() { _ = f.Close() }()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if p := strings.Split(lines.Text(), ":"); len(p) == 7 && p[2] == strconv.Itoa(uid) {
				list = append(list, p[6])
				break
			}
		}
	}
	for _, path := range append(list, "/bin/bash", "/bin/sh") {
		base := filepath.Base(path)
		if st, err := os.Stat(path); err == nil && st.Mode()&0o111 != 0 && base != "nologin" && base != "false" {
			return path
		}
	}
	return "/bin/sh"
}
