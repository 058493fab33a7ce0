// Package roles chooses what this process is: director, manager, agent, the
// first process of an instance, or a client. It is the only place that knows
// all roles; they do not know each other.
package roles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"nutshell/cloud"
	"nutshell/roles/api"
	"nutshell/roles/client"
	"nutshell/roles/internal/build"
	"nutshell/services"
)

// Program is the binary: what main lists, and where it reads and writes.
type Program struct {
	Clouds         cloud.Registry
	Services       services.Registry
	UI             fs.FS
	Helper         func() ([]byte, bool) // the embedded program that drives containers, for those who ask what is in here; may be nil
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Main runs what args ask for and returns the exit status. The role is chosen
// by --role as the first argument, or by the program's name (nutshell-agent);
// without one this is the command line, under ConPaaS's names, too.
func (p *Program) Main(ctx context.Context, args []string) int {
	role, rest, err := roleOf(args)
	if err == nil && role == "" {
		return client.Main(ctx, args, client.Options{Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr, Version: build.Version(), Facts: p.printFacts, Kinds: p.kinds(),
			Commands: p.commands(), Flags: []cli.Flag{&cli.StringFlag{Name: "role", Usage: "be `ROLE`: " + strings.Join(roleNames(), ", ") + " (first argument)"}}})
	}
	if err == nil {
		err = p.role(ctx, role, rest)
	}
	if err != nil {
		fmt.Fprintln(p.Stderr, "ERROR:", err)
		return exitOf(err)
	}
	return 0
}

func (p *Program) kinds() []api.Kind {
	var list []api.Kind
	for _, k := range p.Services.Kinds() {
		list = append(list, k.Describe())
	}
	return list
}

func roleNames() []string { return []string{"director", "manager", "agent", "node"} }

// roleOf finds the role and the arguments behind it.
func roleOf(args []string) (role string, rest []string, err error) {
	if len(args) == 0 {
		return "", nil, nil
	}
	rest = args[1:]
	if name, ok := strings.CutPrefix(filepath.Base(args[0]), "nutshell-"); ok {
		for _, known := range roleNames() {
			if name == known {
				return known, rest, nil
			}
		}
	}
	if len(rest) == 0 {
		return "", rest, nil
	}
	value, ok := strings.CutPrefix(rest[0], "--role=")
	switch {
	case ok:
		rest = rest[1:]
	case rest[0] == "--role" && len(rest) > 1:
		value, rest = rest[1], rest[2:]
	default:
		return "", rest, nil
	}
	for _, known := range append(roleNames(), roleInit, roleJoin, roleTool, roleCard, roleGuest) {
		if value == known {
			return value, rest, nil
		}
	}
	return "", nil, &api.Error{Code: api.CodeInvalid, Object: "--role " + api.Shorten(value), Message: "there is no such role", Hint: "one of: " + strings.Join(roleNames(), ", ")}
}

// role runs a role that is not the command line.
func (p *Program) role(ctx context.Context, role string, args []string) error {
	command := map[string]*cli.Command{
		"director": p.directorCommand(),
		"manager":  p.instanceCommand("manager"),
		"agent":    p.instanceCommand("agent"),
		"node":     p.nodeCommand(),
		roleJoin:   p.instanceCommand(""),
		roleInit:   p.initCommand(), //nolint:contextcheck // orphans are reaped until all is over
		roleTool:   p.toolCommand(),
		roleCard:   p.cardCommand(),
		roleGuest:  p.guestCommand(),
	}[role]
	app := &cli.App{Name: "nutshell --role " + role, HelpName: "nutshell --role " + role, Usage: command.Usage, Flags: command.Flags, Action: command.Action,
		HideHelpCommand: true, HideVersion: true, Writer: p.Stdout, ErrWriter: p.Stderr, ExitErrHandler: func(*cli.Context, error) {}}
	return app.RunContext(ctx, append([]string{app.Name}, args...))
}

// commands are those beside the client's: what runs or looks after this machine.
func (p *Program) commands() []*cli.Command {
	return []*cli.Command{p.upCommand(), p.joinCommand(), p.configCommand(), p.imageCommand(), p.consoleCommand(), p.applianceCommand(), p.versionCommand(), p.billCommand(), p.doctorCommand()}
}

func exitOf(err error) int {
	var e cli.ExitCoder
	if errors.As(err, &e) {
		return e.ExitCode()
	}
	return max(api.CodeOf(err).Exit(), 1)
}
