package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"nutshell/roles/api"
	"nutshell/roles/internal/hidden"
)

// interactive reports whether a person can answer questions.
func (c *Client) interactive() bool { return isTerminal(c.o.Stdin) && isTerminal(c.o.Stderr) }

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// ask reads one line. Questions go to stderr, so that they are seen when
// stdout is a file.
func (c *Client) ask(question string) (string, error) {
	fmt.Fprint(c.o.Stderr, question)
	line, err := readLine(c.o.Stdin)
	if err != nil {
		fmt.Fprintln(c.o.Stderr)
		return "", &api.Error{Code: api.CodeCancelled, Message: "no answer was given"}
	}
	return strings.TrimSpace(line), nil
}

// readLine reads byte by byte, so that nothing behind the line is lost for
// the next question.
func readLine(r io.Reader) (string, error) {
	var b strings.Builder
	one := make([]byte, 1)
	for b.Len() < bufio.MaxScanTokenSize {
		n, err := r.Read(one)
		if n == 1 {
			if one[0] == '\n' {
				return b.String(), nil
			}
			b.WriteByte(one[0])
		}
		if err != nil {
			if errors.Is(err, io.EOF) && b.Len() > 0 {
				return b.String(), nil
			}
			return "", err
		}
	}
	return "", errors.New("the line is too long")
}

// askSecret reads a password without showing it.
func (c *Client) askSecret(question string) (string, error) {
	f, ok := c.o.Stdin.(*os.File)
	if !ok || !c.interactive() {
		return "", &api.Error{Code: api.CodeInvalid, Message: "a password is needed and there is no terminal to ask at", Hint: "pipe it in with --password-stdin"}
	}
	s, err := hidden.Ask(int(f.Fd()), func() { fmt.Fprint(c.o.Stderr, question) })
	fmt.Fprintln(c.o.Stderr)
	if err != nil {
		return "", &api.Error{Code: api.CodeCancelled, Message: "no password was given"}
	}
	return s, nil
}

// stdinFlag is for scripts: what stands on stdin is in no list of processes.
func stdinFlag() cli.Flag {
	return &cli.BoolFlag{Name: "password-stdin", Usage: "read the password from the first line of stdin"}
}

func (r *call) secretFromStdin() (string, error) {
	line, err := readLine(r.o.Stdin)
	if err != nil {
		return "", &api.Error{Code: api.CodeInvalid, Op: "read the password from stdin", Err: err}
	}
	return strings.TrimRight(line, "\r"), nil
}

// newSecret reads a new password: from stdin, or twice from a person.
func (r *call) newSecret(who string) (string, error) {
	if r.Bool("password-stdin") {
		return r.secretFromStdin()
	}
	c := r.Client
	first, err := c.askSecret("New password of " + who + ": ")
	if err != nil {
		return "", err
	}
	second, err := c.askSecret("The same again: ")
	switch {
	case err != nil:
		return "", err
	case first != second:
		return "", api.Invalidf("the two passwords differ")
	}
	return first, nil
}

// confirm asks before something is destroyed: it says what will be lost and
// wants the name typed. Without a person there is no guess.
func (c *Client) confirm(what, name, lost string) error {
	return c.confirmTo("delete", what, name, lost)
}

func (c *Client) confirmTo(op, what, name, lost string) error {
	if c.g.yes {
		return nil
	}
	if !c.interactive() {
		return &api.Error{Code: api.CodeInvalid, Op: op, Object: what, Message: "this destroys " + lost + ", and nobody can be asked here",
			Hint: "add --yes to do it all the same"}
	}
	fmt.Fprintf(c.o.Stderr, "This destroys %s.\n", printable(lost))
	answer, err := c.ask("Type " + printable(name) + " to go on: ")
	if err != nil {
		return err
	}
	if answer != name {
		return &api.Error{Code: api.CodeCancelled, Op: op, Object: what, Message: "not confirmed, nothing was changed"}
	}
	return nil
}
