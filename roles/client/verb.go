package client

import (
	"context"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// What most commands take, as the ConPaaS manual names it.
const (
	argApp  = "<app_name_or_id>"
	argServ = "<serv_name_or_id>"
)

// partCategory heads the options that count parts.
const partCategory = "parts"

// globals are the options that may stand before or after any command.
type globals struct {
	director, username, password, token, ca, confFile string
	output                                            string
	debug, quiet, noWait, wait, yes, version          bool
	timeout                                           time.Duration
}

// Flags lists the options that every command has.
func (c *Client) Flags() []cli.Flag {
	g := &c.g
	name := func(n string) string { return c.spell(n) }
	return []cli.Flag{
		&cli.StringFlag{Name: name("director-url"), Aliases: []string{"director"}, Usage: "address of the director, https://host:5555", Destination: &g.director},
		&cli.StringFlag{Name: "username", Usage: "sign in with this name", Destination: &g.username},
		&cli.StringFlag{Name: "password", Usage: "password; others on this machine may see it here, NUTSHELL_PASSWORD is safer", Destination: &g.password},
		&cli.StringFlag{Name: "token", Usage: "API token instead of name and password; NUTSHELL_TOKEN is safer", Destination: &g.token},
		&cli.StringFlag{Name: name("ca-sha256"), Usage: "fingerprint of the director's CA", Destination: &g.ca},
		&cli.StringFlag{Name: name("conf-file"), Usage: "read director_url, username and password from this file", Destination: &g.confFile},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "table, json or yaml", Destination: &g.output},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "no messages; lists print ids only", Destination: &g.quiet},
		&cli.BoolFlag{Name: "wait", Usage: "wait until long work is finished (the default)", Destination: &g.wait},
		&cli.BoolFlag{Name: name("no-wait"), Usage: "do not wait for long work; print its operation's id", Destination: &g.noWait},
		&cli.DurationFlag{Name: "timeout", Usage: "stop waiting after this time, e.g. 90s", Destination: &g.timeout},
		&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask before something is destroyed", Destination: &g.yes},
		&cli.BoolFlag{Name: "debug", Aliases: []string{"d"}, Usage: "show the requests (secrets are masked)", Destination: &g.debug},
		&cli.BoolFlag{Name: "version", Aliases: []string{"v"}, Usage: "print the version of this program", Destination: &g.version},
	}
}

// call is one run of one verb.
type call struct {
	*cli.Context
	*Client
	args map[string]string
	rest []string // of a variadic last argument
	kind *api.Kind

	public bool // no sign-in is needed
}

func (r *call) ctx() context.Context { return r.Context.Context }

// arg returns an argument by the name in the verb's usage, "" if it is absent.
func (r *call) arg(name string) string { return r.args[strings.Trim(name, "<>[].")] }

// verb makes one command. args is its usage: <required>, [optional], and
// [more]... at the end.
func (c *Client) verb(name, usage, args string, do func(*call) error, flags ...cli.Flag) *cli.Command {
	v := &cli.Command{Name: c.spell(name), Usage: usage, ArgsUsage: args, Flags: flags, HideHelpCommand: true, CustomHelpTemplate: verbHelp}
	v.Action = func(x *cli.Context) error {
		r := &call{Context: x, Client: c}
		if err := r.bind(args, x.Args().Slice()); err != nil {
			err.usage = strings.TrimSpace(v.HelpName + " [options] " + args)
			return err
		}
		if c.g.wait && c.g.noWait {
			return usagef("--wait and --no-wait cannot stand together")
		}
		switch c.g.output {
		case "table", "json", "yaml":
		default:
			return usagef("-o %s is none of table, json, yaml", c.g.output)
		}
		return do(r)
	}
	return v
}

// objectName is the object that a kind's verbs belong to.
func (c *Client) objectName(kind *api.Kind) string {
	if kind == nil {
		return "service"
	}
	return c.spell(kind.Name)
}

// examples are shown in a verb's help.
func examples(v *cli.Command, lines ...string) *cli.Command {
	v.Description = "examples:\n  " + strings.Join(lines, "\n  ")
	return v
}

// ofKind makes a verb of a kind's object; kind is nil for the object service.
func (c *Client) ofKind(kind *api.Kind, name, usage, args string, do func(*call) error, flags ...cli.Flag) *cli.Command {
	return c.verb(name, usage, args, func(r *call) error {
		r.kind = kind
		return do(r)
	}, flags...)
}

// bind gives the arguments their names.
func (r *call) bind(usage string, given []string) *usageError {
	r.args = map[string]string{}
	for _, name := range strings.Fields(usage) {
		key := strings.Trim(name, "<>[].")
		switch {
		case strings.HasSuffix(name, "..."):
			r.rest, given = given, nil
			if len(r.rest) == 0 && name[0] == '<' {
				return &usageError{message: "missing argument: " + key}
			}
		case len(given) > 0:
			r.args[key], given = given[0], given[1:]
			if r.args[key] == "" {
				return &usageError{message: "the argument " + key + " is empty"}
			}
		case name[0] == '<':
			return &usageError{message: "missing argument: " + key}
		}
	}
	if len(given) > 0 {
		return &usageError{message: "too many arguments, beginning with " + api.Shorten(given[0])}
	}
	return nil
}
