// Package client is the command line: one file per object, each command one
// call or two to the director's API. It holds no state of its own but the
// sign-in and a copy of the service kinds' descriptions, and it knows no role
// but the director, which it reaches like any other user.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
)

// Options is all the command line gets from outside. Zero fields mean the
// process's own streams and environment.
type Options struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	Version        string                    // of this binary
	Facts          func(format string) error // prints what this binary is, for --version -o json; may be nil
	Kinds          []api.Kind                // known without a director, for help and completion

	// What the program nutshell has beside the client: commands and flags of
	// the roles, and what to do without a command (nil: help).
	Commands []*cli.Command
	Flags    []cli.Flag
	Action   cli.ActionFunc
}

// Client is one invocation of the command line.
type Client struct {
	o     Options
	g     globals
	conn  *connection // nil until a command needs the director
	wire  *rpc.Client // to conn, kept so that the calls of a command share a connection
	kinds []api.Kind
	old   bool // names are printed as ConPaaS has them, with underscores
}

// New prepares an invocation.
func New(o Options) *Client {
	if o.Stdin == nil {
		o.Stdin = os.Stdin
	}
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	return &Client{o: o, kinds: o.Kinds}
}

// Commands lists the client's commands, to stand in another application. Use
// Client.Run with that application, so that options may follow arguments.
func Commands(o Options) []*cli.Command { return New(o).Commands() }

// Main runs the command line that args are and returns its exit status. The
// program's name, or a first argument like it, chooses ConPaaS's commands:
// cps-tools has all objects, cps-php the verbs of php, and so on.
func Main(ctx context.Context, args []string, o Options) int {
	if len(args) == 0 {
		args = []string{"nutshell"}
	}
	c := New(o)
	program := programName(args[0])
	if len(args) > 1 && strings.HasPrefix(args[1], "cps-") {
		program, args = args[1], args[1:]
	}
	c.old = strings.HasPrefix(program, "cps-")
	c.kinds = mergeKinds(c.kinds, c.cachedKinds(args))
	if words, ok := completionWords(args); ok {
		c.complete(ctx, program, words)
		return 0
	}
	app, err := c.app(program) //nolint:contextcheck // commands get theirs when they run
	if err == nil {
		_, err = arrange(app, args)
	}
	if err != nil && c.learnKinds(ctx, args) {
		// The word that was not known may be a kind or a part that only the
		// director knows of.
		app, err = c.app(program) //nolint:contextcheck // commands get theirs when they run
	}
	if app == nil {
		return c.report(err)
	}
	return c.Run(ctx, app, args)
}

func programName(arg0 string) string {
	name := filepath.Base(arg0)
	if strings.HasPrefix(name, "cps-") {
		return name
	}
	return "nutshell"
}

// Run runs app, which has the client's commands in it, and returns the exit
// status. Options may stand anywhere, underscores and dashes are the same.
func (c *Client) Run(ctx context.Context, app *cli.App, args []string) int {
	line, err := arrange(app, args)
	if err == nil {
		err = app.RunContext(ctx, line)
	}
	return c.report(err)
}

// app makes the application for a program name.
func (c *Client) app(program string) (*cli.App, error) {
	app := &cli.App{
		Name: program, HelpName: program, Usage: "an elastic platform in one file", Version: c.o.Version,
		Commands: c.Commands(), Flags: c.Flags(), Writer: c.o.Stdout, ErrWriter: c.o.Stderr, Reader: c.o.Stdin,
		HideHelpCommand: true, HideVersion: true, CustomAppHelpTemplate: appHelp,
		ExitErrHandler: func(*cli.Context, error) {}, // report does it, and main exits
	}
	switch program {
	case "nutshell":
		app.Commands = append(slices.Clone(c.o.Commands), app.Commands...)
		app.Flags = append(slices.Clone(c.o.Flags), app.Flags...)
		app.Action = c.o.Action
	case "cps-tools":
		app.Usage = "the ConPaaS command line, spoken to Nutshell"
	default:
		name := sameName(strings.TrimPrefix(program, "cps-"))
		object := findCommand(app.Commands, name)
		if object == nil || len(object.Subcommands) == 0 {
			return nil, usagef("%s: there is no object %s; see cps-tools --help", program, api.Shorten(name))
		}
		app.Usage, app.Commands = object.Usage, object.Subcommands
	}
	tidy(app)
	before := app.Action
	app.Action = func(x *cli.Context) error {
		switch {
		case c.g.version && c.g.output != "table" && c.o.Facts != nil:
			return c.o.Facts(c.g.output)
		case c.g.version:
			_, err := fmt.Fprintln(c.o.Stdout, program, c.o.Version)
			return err
		case before != nil:
			return before(x)
		}
		return cli.ShowAppHelp(x)
	}
	return app, nil
}

// tidy gives all commands, the other roles' too, one look: our help, and one
// short error for what urfave/cli finds wrong, such as a value that is no
// number, in place of its page of help.
func tidy(app *cli.App) {
	plainUsage(app.Flags)
	app.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return usagef("%v", err) }
	var all func([]*cli.Command)
	all = func(list []*cli.Command) {
		for _, v := range list {
			v.HideHelpCommand = true
			plainUsage(v.Flags)
			if v.OnUsageError == nil {
				v.OnUsageError = app.OnUsageError
			}
			if v.CustomHelpTemplate == "" {
				v.CustomHelpTemplate = verbHelp
				if len(v.Subcommands) > 0 {
					v.CustomHelpTemplate = objectHelp
				}
			}
			all(v.Subcommands)
		}
	}
	all(app.Commands)
	for _, v := range app.Commands {
		if v.Category == "" && app.Name == "nutshell" {
			v.Category = "this machine"
		}
	}
}

// plainUsage takes out the marks by which urfave/cli's own help names a value.
func plainUsage(flags []cli.Flag) {
	for _, f := range flags {
		switch f := f.(type) {
		case *cli.StringFlag:
			f.Usage = strings.ReplaceAll(f.Usage, "`", "")
		case *cli.StringSliceFlag:
			f.Usage = strings.ReplaceAll(f.Usage, "`", "")
		case *cli.PathFlag:
			f.Usage = strings.ReplaceAll(f.Usage, "`", "")
		case *cli.IntFlag:
			f.Usage = strings.ReplaceAll(f.Usage, "`", "")
		}
	}
}

// Commands lists the client's commands.
func (c *Client) Commands() []*cli.Command {
	const (
		things = "applications and services"
		kinds  = "service kinds"
		house  = "the installation"
		self   = "this command line"
	)
	list := []*cli.Command{
		c.object(things, "application", "create, start, stop and look at applications", slices.Concat(c.applicationVerbs(), c.manifestVerbs(), c.ownerVerbs()), "app"),
		c.object(things, "template", "ready-made applications", c.templateVerbs()),
		c.object(things, "service", "services of any kind", c.serviceVerbs(nil)),
		c.object(things, "operation", "long work: list, follow, cancel, retry", c.operationVerbs(), "op"),
		c.object(things, "member", "who may use an application, and as what", c.memberVerbs()),
		c.object(things, "git", "the git repositories of applications", c.gitVerbs()),
		c.object(things, "volume", "storage that outlives nodes", c.volumeVerbs()),
		c.object(things, "backup", "copies of services' data, encrypted", c.backupVerbs()),
		c.object(things, "bin", "what was deleted and can be brought back", c.binVerbs()),
		c.object(things, "site", "host names under which the director shows services", c.siteVerbs()),
		c.object(things, "event", "what changes, as it changes", c.eventVerbs()),
	}
	list = append(list, c.object(things, "instance", "files of a single node", c.instanceVerbs()))
	for _, v := range []*cli.Command{c.shellVerb(), c.graphVerb(nil), c.linesVerb()} {
		v.Category = things
		list = append(list, v)
	}
	for i, k := range c.kinds {
		if findCommand(list, sameName(k.Name)) == nil && !slices.Contains(reservedObjects(), sameName(k.Name)) {
			list = append(list, c.object(kinds, k.Name, k.Summary, c.serviceVerbs(&c.kinds[i])))
		}
	}
	list = append(list,
		c.object(house, "user", "users, credits and passwords", c.userVerbs()),
		c.object(house, "credit", "what you have, what it goes for, how long it lasts", c.creditVerbs()),
		c.object(house, "cloud", "clouds and what runs in them", c.cloudVerbs()),
		c.object(house, "node", "machines that lend their containers", c.nodeVerbs()),
		c.object(house, "director", "the director", c.directorVerbs()),
		c.object(house, "edge", "the one address of all services", c.edgeVerbs()),
		c.object(house, "kind", "the service kinds that the director has", c.kindVerbs()),
		c.object(house, "audit", "who changed what", c.auditVerbs()),
		c.object(house, "setting", "settings of the installation", c.settingVerbs()),
		c.object(self, "session", "where you are signed in with a browser", c.sessionVerbs()),
		c.object(self, "factor", "your second factor: an authenticator app and recovery codes", c.factorVerbs()),
		c.object(self, "passkey", "keys in your devices that sign in without a password", c.passkeyVerbs()),
		c.object(self, "token", "API tokens", c.tokenVerbs()),
		c.object(self, "key", "public keys, with which git signs in", c.keyVerbs()),
	)
	report := c.reportVerb()
	report.Category = house
	list = append(list, report)
	for _, v := range append(c.loginVerbs(), c.completionVerb()) {
		v.Category = self
		list = append(list, v)
	}
	return list
}

func reservedObjects() []string {
	return []string{"template", "member", "user", "credit", "cloud", "node", "director", "kind", "audit", "session", "factor", "passkey", "token", "key", "git", "site", "edge", "graph", "instance", "logs", "shell", "volume", "backup", "bin", "setting", "report", "login", "logout", "completion"}
}

// object makes one object with its verbs.
func (c *Client) object(category, name, usage string, verbs []*cli.Command, aliases ...string) *cli.Command {
	return &cli.Command{Category: category, Name: c.spell(name), Aliases: aliases, Usage: usage, Subcommands: verbs,
		HideHelpCommand: true, CustomHelpTemplate: objectHelp}
}

// spell writes a command's name in the style of the program.
func (c *Client) spell(name string) string {
	if c.old {
		return strings.ReplaceAll(name, "-", "_")
	}
	return sameName(name)
}

// sameName makes one name of those that differ in dashes and underscores.
func sameName(name string) string { return strings.ReplaceAll(name, "_", "-") }

func findCommand(list []*cli.Command, name string) *cli.Command {
	for _, c := range list {
		for _, n := range c.Names() {
			if sameName(n) == sameName(name) {
				return c
			}
		}
	}
	return nil
}

// usageError is a command line that cannot be understood.
type usageError struct {
	message string
	usage   string // the line that would be right
	see     string // the command that explains more
}

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// report prints err for people and returns the exit status.
func (c *Client) report(err error) int {
	var usage *usageError
	var stopped *interrupted
	var failed *failedOperation
	var coded cli.ExitCoder
	var ended *exec.ExitError // has an exit status, too, but of a program that we ran
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		if usage.usage != "" {
			fmt.Fprintln(c.o.Stderr, "usage:", usage.usage)
		}
		fmt.Fprintln(c.o.Stderr, "ERROR:", usage.message)
		if usage.see != "" {
			fmt.Fprintln(c.o.Stderr, "       hint: see", usage.see)
		}
		return api.CodeInvalid.Exit()
	case errors.As(err, &stopped):
		fmt.Fprintln(c.o.Stderr, stopped.Error())
		return exitInterrupted
	case errors.As(err, &failed):
		return c.reportError(api.AsError(failed.cause()), failed.lines())
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &coded) && !errors.As(err, &ended): // of another role's command
		if coded.Error() != "" {
			fmt.Fprintln(c.o.Stderr, "ERROR:", coded)
		}
		return coded.ExitCode()
	}
	var e *api.Error
	if !errors.As(err, &e) {
		fmt.Fprintln(c.o.Stderr, "ERROR:", err)
		return api.CodeInternal.Exit()
	}
	var more []string
	if e.Related != "" {
		more = append(more, "in the way: "+e.Related+" (see it: nutshell operation show "+e.Related+", wait for it: nutshell operation wait "+e.Related+")")
	}
	return c.reportError(api.AsError(err), more)
}

// exitInterrupted is what shells expect of a program that Ctrl-C ended.
const exitInterrupted = 130

func (c *Client) reportError(e *api.Error, more []string) int {
	bare := *e
	bare.Hint = ""
	fmt.Fprintln(c.o.Stderr, "ERROR:", printable(bare.Error()))
	hint := e.Hint
	if hint == "" && e.Code == api.CodeUnauthorized {
		hint = "sign in with: nutshell login URL"
	}
	if hint != "" {
		fmt.Fprintln(c.o.Stderr, "       hint:", printable(hint))
	}
	for _, l := range more {
		fmt.Fprintln(c.o.Stderr, "       "+printable(l))
	}
	for _, l := range e.LogTail {
		fmt.Fprintln(c.o.Stderr, "       | "+printable(l))
	}
	return e.Code.Exit()
}
