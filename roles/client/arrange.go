package client

import (
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// level is one word of the command's path with the options that belong to it.
type level struct {
	name     string
	command  *cli.Command // nil: the program itself
	flags    []cli.Flag
	commands []*cli.Command
	out      []string
}

// parsed is a command line taken apart.
type parsed struct {
	levels []level
	args   []string
	help   bool
}

func (p *parsed) last() *level { return &p.levels[len(p.levels)-1] }

var number = regexp.MustCompile(`^-[0-9]+$`)

// arrange puts a command line into the one order that urfave/cli reads:
// options before the arguments, each behind the word it belongs to. People
// write them anywhere, and so does the ConPaaS manual.
func arrange(app *cli.App, args []string) ([]string, error) {
	p, err := parse(app, args)
	if err != nil {
		return nil, err
	}
	var out []string
	for i, l := range p.levels {
		out = append(append(out, l.name), l.out...)
		if i == len(p.levels)-1 && p.help {
			return append(out, "--help"), nil
		}
	}
	if len(p.args) > 0 && (p.last().command == nil || !p.last().command.SkipFlagParsing) {
		out = append(out, "--")
	}
	return append(out, p.args...), nil
}

func parse(app *cli.App, args []string) (*parsed, error) {
	p := &parsed{levels: []level{{name: app.Name, flags: app.Flags, commands: app.Commands}}}
	args = args[1:]
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		switch {
		case p.last().command != nil && p.last().command.SkipFlagParsing:
			p.args = append(append(p.args, a), args...)
			return p, nil
		case a == "--":
			if len(p.args) > 1 && len(args) > 1 && p.partFlag(args[0]) {
				args = append([]string{"--" + args[0]}, args[1:]...) // the manual prints "-- backend 2"
				continue
			}
			p.args = append(p.args, args...)
			return p, nil
		case len(a) > 1 && a[0] == '-' && !number.MatchString(a):
			rest, err := p.flag(a, args)
			if err != nil {
				return nil, err
			}
			args = rest
		case len(p.last().commands) > 0:
			if err := p.word(app, a); err != nil {
				return nil, err
			}
		default:
			p.args = append(p.args, a)
		}
	}
	return p, nil
}

// word takes the next word of the command's path.
func (p *parsed) word(app *cli.App, a string) error {
	sub := findCommand(p.last().commands, a)
	if sub == nil && a == "help" {
		p.help = true
		return nil
	}
	if sub == nil {
		return &usageError{message: "there is no command " + api.Shorten(a) + didYouMean(a, commandNames(p.last().commands)), see: p.path() + " --help"}
	}
	p.levels = append(p.levels, level{name: sub.Name, command: sub, flags: sub.Flags, commands: sub.Subcommands})
	return nil
}

// flag takes an option and its value and returns the words behind them.
func (p *parsed) flag(a string, rest []string) ([]string, error) {
	name, value, has := strings.Cut(strings.TrimLeft(a, "-"), "=")
	if name == "h" || sameName(name) == "help" {
		p.help = true
		return rest, nil
	}
	l, f := p.find(name)
	if f == nil && !strings.HasPrefix(a, "--") && len(name) > 1 {
		// -fagent.out: a short option with its value stuck to it
		if l, f = p.find(name[:1]); f != nil && takesValue(f) {
			value, has, name = strings.TrimPrefix(a, "-"+name[:1]), true, name[:1]
		} else {
			f = nil
		}
	}
	switch {
	case f == nil:
		return nil, &usageError{message: "there is no option " + api.Shorten(a) + didYouMean(name, p.flagNames()), see: p.path() + " --help"}
	case !takesValue(f) && !has:
		l.out = append(l.out, "--"+f.Names()[0])
	case has:
		l.out = append(l.out, "--"+f.Names()[0]+"="+value)
	case len(rest) == 0:
		return nil, &usageError{message: "the option " + a + " needs a value", see: p.path() + " --help"}
	default:
		l.out = append(l.out, "--"+f.Names()[0]+"="+rest[0])
		rest = rest[1:]
	}
	return rest, nil
}

// find looks an option up, the nearest word's first: user create --password
// is the new user's, nutshell --password one's own.
func (p *parsed) find(name string) (*level, cli.Flag) {
	for i := len(p.levels) - 1; i >= 0; i-- {
		for _, f := range p.levels[i].flags {
			if slices.ContainsFunc(f.Names(), func(n string) bool { return sameName(n) == sameName(name) }) {
				return &p.levels[i], f
			}
		}
	}
	return nil, nil
}

func (p *parsed) partFlag(name string) bool {
	for _, f := range p.last().flags {
		if c, ok := f.(cli.CategorizableFlag); ok && c.GetCategory() == partCategory && slices.Contains(f.Names(), name) {
			return true
		}
	}
	return false
}

func (p *parsed) path() string {
	names := make([]string, len(p.levels))
	for i, l := range p.levels {
		names[i] = l.name
	}
	return strings.Join(names, " ")
}

func (p *parsed) flagNames() []string {
	var names []string
	for _, l := range p.levels {
		for _, f := range l.flags {
			names = append(names, f.Names()...)
		}
	}
	return names
}

func commandNames(list []*cli.Command) []string {
	var names []string
	for _, c := range list {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return names
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}

// didYouMean proposes the one name that differs little from a wrong one.
func didYouMean(wrong string, names []string) string {
	best, least := "", (len(wrong)+2)/3
	for _, n := range names {
		if d := api.Distance(sameName(wrong), sameName(n)); d <= least && len(n) > 1 {
			best, least = n, d-1
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}
