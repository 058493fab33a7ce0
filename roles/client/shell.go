package client

import (
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
	"nutshell/roles/internal/terminal"
)

// shellVerb opens a terminal in an instance.
func (c *Client) shellVerb() *cli.Command {
	v := c.verb("shell", "a shell, or one command, in an instance of a service", argApp+" "+argServ+" [agent_id] [command]...",
		onService(func(r *call, _ api.Application, s api.Service) error { return r.shell(s) }),
		&cli.BoolFlag{Name: c.spell("no-tty"), Usage: "pipes in place of a terminal, with stderr apart; so it is where stdin or stdout is no terminal"})
	return examples(v, "nutshell shell shop php", "nutshell shell shop php a1-s1-abcdef", "nutshell shell shop php -- tail -f log/nginx.log",
		"nutshell shell shop php -- tar cz data > data.tgz", "leave it with exit, Ctrl-D, or, when nothing answers: Enter ~ .")
}

var instanceID = regexp.MustCompile(`^a[0-9]+-s[0-9]+-`)

// target splits the words behind a service: an instance, and a command. Without
// an instance the first that serves is taken.
func shellTarget(s api.Service, words []string) (instance string, command []string, err error) {
	if len(words) > 0 && instanceID.MatchString(words[0]) {
		return words[0], words[1:], nil
	}
	for _, i := range s.Instances {
		if i.State == api.InstanceReady {
			return i.ID, words, nil
		}
	}
	return "", nil, &api.Error{Code: api.CodeConflict, Op: "open a terminal of", Object: "service " + s.Name, Message: "none of its nodes is ready; it is " + string(s.State), Hint: "start it first"}
}

func (r *call) shell(s api.Service) error {
	words := r.rest
	if first := r.arg("agent_id"); first != "" {
		words = append([]string{first}, words...)
	}
	instance, command, err := shellTarget(s, words)
	if err != nil {
		return err
	}
	in, _ := r.o.Stdin.(*os.File)
	out, _ := r.o.Stdout.(*os.File)
	tty := !r.Bool("no-tty") && isTerminal(r.o.Stdin) && isTerminal(r.o.Stdout)
	q := url.Values{"command": command, "tty": {strconv.FormatBool(tty)}}
	if tty {
		z := sizeOfTerminal(out)
		q.Set("cols", strconv.Itoa(z.Cols))
		q.Set("rows", strconv.Itoa(z.Rows))
	}
	conn, err := r.dialTerminal(servicePath(s) + "/instances/" + escape(instance) + "/terminal?" + q.Encode())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.ctx())
	defer cancel()
	t := &shellEnd{r: r, end: terminal.NewEnd(ctx, conn), tty: tty, over: make(chan struct{})}
	if tty {
		t.say("terminal of %s", instance)
		was, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			conn.Close(nil)
			return &api.Error{Code: api.CodeInternal, Op: "prepare", Object: "the terminal", Err: err}
		}
		defer func() { _ = term.Restore(int(in.Fd()), was) }()
		resized := make(chan os.Signal, 1)
		signal.Notify(resized, syscall.SIGWINCH)
		defer signal.Stop(resized)
		go t.follow(ctx, resized, out)
	}
	return t.run(conn)
}

func (r *call) dialTerminal(path string) (*terminal.Conn, error) {
	if err := r.connect(); err != nil {
		return nil, err
	}
	c := rpc.NewClient(r.conn.URL, trust(r.conn.CA)).Upgrading()
	c.Transport = &signed{next: c.Transport, c: r.Client, conn: *r.conn}
	ctx, cancel := context.WithTimeout(r.ctx(), callTime)
	defer cancel()
	conn, err := terminal.Dial(ctx, c, r.conn.URL+"/api/v1"+path, nil, rpc.Refusal)
	return conn, r.explain(err)
}

func sizeOfTerminal(f *os.File) api.TerminalSize {
	z := api.TerminalSize{Cols: 80, Rows: 24}
	if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
		z.Cols, z.Rows = min(w, 1000), min(h, 1000)
	}
	return z
}

// shellEnd is this end of a terminal.
type shellEnd struct {
	r    *call
	end  *terminal.End
	tty  bool
	over chan struct{}

	exit *api.TerminalExit
	why  *api.Error
}

func (t *shellEnd) say(format string, args ...any) {
	t.r.say(format, args...)
}

// follow tells how large the terminal is, whenever that changes.
func (t *shellEnd) follow(ctx context.Context, resized <-chan os.Signal, out *os.File) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-resized:
			z := sizeOfTerminal(out)
			_ = t.end.Control(api.TerminalFrame{Resize: &z}) // Run finds out
		}
	}
}

// run passes what is typed and printed until the shell ends, whose status
// becomes ours.
func (t *shellEnd) run(conn *terminal.Conn) error {
	go t.typed(conn)
	printed := make(chan error, 1)
	go func() { printed <- t.print() }()
	err := t.end.Run(func(f api.TerminalFrame) {
		switch {
		case f.Exit != nil:
			t.exit = f.Exit
		case f.Error != nil:
			t.why = f.Error
		case f.Idle > 0:
			t.notice("nothing was typed for long: the terminal is closed in " + (time.Duration(f.Idle) * time.Second).String())
		}
	})
	// What came before the end is printed.
	wrote := <-printed
	conn.Close(nil)
	switch {
	case t.exit != nil && wrote == nil:
		if t.exit.Code == 0 {
			return nil
		}
		return cli.Exit("", t.exit.Code)
	case t.why != nil:
		return t.why
	case errors.Is(wrote, errLeft):
		return &interrupted{}
	case wrote != nil && !terminal.Closed(wrote):
		err = wrote
	case t.r.ctx().Err() != nil:
		return context.Cause(t.r.ctx())
	}
	return &api.Error{Code: api.CodeUnavailable, Op: "use", Object: "the terminal", Message: "the connection to the director broke off", Err: err, Hint: "open it again"}
}

// print writes what comes until there is no more.
func (t *shellEnd) print() error {
	for {
		p, err := t.end.Receive()
		if err != nil {
			if errors.Is(err, errLeft) {
				return err
			}
			return nil // Run tells why
		}
		w := t.r.o.Stdout
		if p.Stderr {
			w = t.r.o.Stderr
		}
		if _, err := w.Write(p.Bytes); err != nil {
			t.end.End(err)
			return err
		}
	}
}

// notice tells something in the middle of what others print.
func (t *shellEnd) notice(text string) {
	if t.tty {
		text = "\r\n" + text + "\r"
	}
	t.say("%s", text)
}

var errLeft = errors.New("left")

// typed sends what is typed. As in ssh, ~ and . at the beginning of a line
// leave a terminal that does not answer.
func (t *shellEnd) typed(conn *terminal.Conn) {
	b := make([]byte, 16<<10)
	escape := leaving{fresh: true}
	for {
		n, err := t.r.o.Stdin.Read(b)
		if n > 0 {
			if t.tty && escape.in(b[:n]) {
				t.end.End(errLeft)
				conn.Close(nil)
				return
			}
			if t.end.Send(b[:n], false) != nil {
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				_ = t.end.Control(api.TerminalFrame{EOF: true})
			}
			return
		}
	}
}

// leaving finds Enter ~ . in what is typed.
type leaving struct{ fresh, tilde bool }

func (l *leaving) in(p []byte) bool {
	for _, c := range p {
		switch {
		case l.tilde && c == '.':
			return true
		case c == '\r' || c == '\n':
			l.fresh, l.tilde = true, false
		default:
			l.tilde = l.fresh && c == '~'
			l.fresh = false
		}
	}
	return false
}
