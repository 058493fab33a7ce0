package roles

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"nutshell/appliance/machine"
	"nutshell/roles/internal/hidden"
)

// refreshEvery is how often the screen looks whether something has changed.
const refreshEvery = 15 * time.Second

// consoleCommand is the menu on an appliance's screen.
func (p *Program) consoleCommand() *cli.Command {
	return &cli.Command{Name: "console", Usage: "a menu for the screen of this machine: address, health, passwords, network", Category: "this machine",
		Description: "Runs on the screen and the serial line of an appliance. It is plain text, and works by number and Enter.\n\nExample: sudo nutshell console",
		Action: func(x *cli.Context) error {
			if err := needRoot("show this machine's menu"); err != nil {
				return err
			}
			dir, err := standardDataDir()
			if err != nil {
				return err
			}
			signal.Ignore(syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP) // keys that must not end it
			c := &console{p: p, in: bufio.NewReader(p.Stdin), out: p.Stdout, fd: -1, dir: dir, machine: p.machine()}
			c.machine.Say = c.say
			if f, ok := p.Stdin.(*os.File); ok {
				c.fd = int(f.Fd())
				c.terminal = term.IsTerminal(c.fd)
			}
			err = c.run(x.Context)
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}}
}

// console is one screen with a keyboard.
type console struct {
	p        *Program
	in       *bufio.Reader
	out      io.Writer
	fd       int // of the keyboard, -1 if it is none
	terminal bool
	dir      string // the director's data directory
	machine  *machine.Machine
	proved   bool // that the person knows the password of admin, until the screen is idle
}

func (c *console) say(format string, args ...any) {
	fmt.Fprint(c.out, wrapped(fmt.Sprintf(format, args...), "  "))
}

// choice is one line of the menu.
type choice struct {
	key, text string
	does      func(context.Context) error
	guarded   bool // needs the password of admin where one is set
}

func (c *console) choices() []choice {
	return []choice{
		{"1", "new password for the user admin of the pages", c.resetPassword, true},
		{"2", "addresses of this machine and its instances", c.changeNetwork, true},
		{"3", "who may sign in by ssh, as admin", c.changeAccess, true},
		{"4", "upgrade Nutshell", c.upgrade, true},
		{"5", "shell (leave it by: exit)", c.shell, true},
		{"6", "start again, or switch off", c.power, true},
	}
}

// run shows the screen and does what is chosen, until the keyboard ends.
func (c *console) run(ctx context.Context) error {
	shown := ""
	for ctx.Err() == nil {
		screen := c.screen(ctx)
		if screen != shown {
			c.clear()
			fmt.Fprint(c.out, screen, "> ")
			shown = screen
		}
		ready, err := c.wait(ctx, refreshEvery)
		if err != nil {
			return err
		}
		if !ready {
			c.proved = false
			continue
		}
		line, err := c.line()
		if err != nil {
			return err
		}
		shown = ""
		for _, o := range c.choices() {
			if o.key != line {
				continue
			}
			fmt.Fprintf(c.out, "\n%s\n", o.text)
			if err := c.do(ctx, o); err != nil {
				return err
			}
			break
		}
	}
	return ctx.Err()
}

// do runs a choice and waits until its outcome was read.
func (c *console) do(ctx context.Context, o choice) error {
	var err error
	if o.guarded {
		err = c.prove(ctx)
	}
	if err == nil {
		err = o.does(ctx)
	}
	switch {
	case errors.Is(err, io.EOF):
		return err
	case errors.Is(err, errGivenUp):
		return nil
	case err != nil:
		fmt.Fprint(c.out, "\n", wrapped("ERROR: "+err.Error(), ""))
	}
	fmt.Fprint(c.out, "\nEnter goes back. ")
	_, err = c.line()
	return err
}

// errGivenUp says that a person answered a question with nothing.
var errGivenUp = errors.New("given up")

func (c *console) clear() {
	if c.terminal && os.Getenv("TERM") != "dumb" {
		fmt.Fprint(c.out, "\033[2J\033[H")
	}
}

// wait reports whether there is a line to read, within d.
func (c *console) wait(ctx context.Context, d time.Duration) (bool, error) {
	if c.fd < 0 || c.in.Buffered() > 0 {
		return true, ctx.Err()
	}
	for end := time.Now().Add(d); ; {
		left := time.Until(end)
		if left <= 0 || ctx.Err() != nil {
			return false, ctx.Err()
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, int(min(left, time.Second).Milliseconds())+1) //nolint:gosec // a file descriptor fits
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
		if n > 0 {
			return true, nil
		}
	}
}

// line reads one line, without blanks around it.
func (c *console) line() (string, error) {
	s, err := c.in.ReadString('\n')
	if err != nil && s == "" {
		return "", err
	}
	return strings.TrimSpace(s), nil
}

// ask asks for one line; def is what nothing means. Without a default nothing
// means that the person gives up.
func (c *console) ask(question, def string) (string, error) {
	if def != "" {
		question += " [" + def + "]"
	}
	fmt.Fprintf(c.out, "  %s: ", question)
	s, err := c.line()
	switch {
	case err != nil:
		return "", err
	case s == "" && def == "":
		return "", errGivenUp
	case s == "":
		return def, nil
	}
	return s, nil
}

// askSecret asks for one line that is not shown.
func (c *console) askSecret(question string) (string, error) {
	if !c.terminal {
		return c.ask(question, "")
	}
	s, err := hidden.Ask(c.fd, func() { fmt.Fprintf(c.out, "  %s: ", question) })
	fmt.Fprintln(c.out)
	if err == nil && s == "" {
		err = errGivenUp
	}
	return s, err
}
