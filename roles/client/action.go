package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// actionVerbs makes a verb of each action that a kind describes, unless one
// of that name is there already.
func (c *Client) actionVerbs(kind *api.Kind, taken []*cli.Command) []*cli.Command {
	var list []*cli.Command
	for _, a := range kind.Actions {
		if findCommand(taken, a.Name) == nil {
			list = append(list, c.actionVerb(kind, a))
		}
	}
	return list
}

// actionVerb reads an action's parameters: required ones stand behind the
// service, as the ConPaaS commands have them, the others are options, which
// also go by their first letter.
func (c *Client) actionVerb(kind *api.Kind, a api.Action) *cli.Command {
	args := argApp + " " + argServ
	var flags []cli.Flag
	letters := "hdoqyv" // of options that every command has
	for _, p := range a.Params {
		usage := p.Help
		if len(p.Enum) > 0 {
			usage = strings.TrimSpace(usage + " (" + strings.Join(p.Enum, ", ") + ")")
		}
		if p.Required {
			args += " <" + p.Name + ">"
			continue
		}
		f := &cli.StringFlag{Name: p.Name, Usage: usage}
		if first := p.Name[:1]; !strings.Contains(letters, first) && len(p.Name) > 1 {
			f.Aliases = []string{first}
			letters += first
		}
		flags = append(flags, f)
	}
	if a.Takes != "" || a.Gives != "" {
		return c.streamVerb(kind, a, args, flags)
	}
	summary := a.Summary
	if summary == "" {
		summary = a.Title
	}
	if a.Secret != "" {
		flags = append(flags, stdinFlag(), &cli.BoolFlag{Name: "random", Usage: "a random one, which is shown this once"})
	}
	return c.ofKind(kind, a.Name, summary, args, onService(func(r *call, _ api.Application, s api.Service) error {
		return r.act(s, a)
	}), flags...)
}

// actionArgs reads the parameters of an action.
func (r *call) actionArgs(a api.Action) (map[string]string, error) {
	args := map[string]string{}
	for _, p := range a.Params {
		switch {
		case p.Required:
			args[p.Name] = r.arg(p.Name)
		case r.IsSet(p.Name):
			args[p.Name] = r.String(p.Name)
		default:
			continue
		}
		if len(p.Enum) > 0 && !slices.Contains(p.Enum, args[p.Name]) {
			return nil, usagef("%s is %s, not %s", p.Name, strings.Join(p.Enum, " or "), api.Shorten(args[p.Name]))
		}
	}
	return args, nil
}

func (r *call) act(s api.Service, a api.Action) error {
	args, err := r.actionArgs(a)
	if err != nil {
		return err
	}
	if a.Secret != "" {
		value, err := r.secretValue(a.Secret, "password")
		if err != nil {
			return err
		}
		if delete(args, "password"); value != "" {
			args["password"] = value
		}
	}
	act := api.Act{Args: args}
	var result api.ActResult
	op, err := r.change(http.MethodPost, servicePath(s)+"/actions/"+escape(a.Name), act, &result)
	if err != nil {
		return err
	}
	if op != nil {
		return r.finish(op, fmt.Sprintf("Service %s: %s... ", r.arg(argServ), r.spell(a.Name)))
	}
	return r.showText(result, func(w io.Writer) {
		if !r.g.quiet || a.Reads {
			writeResult(w, result)
		}
	})
}

// writeResult prints an action's answer: its text, else its fields.
func writeResult(w io.Writer, result api.ActResult) {
	fields := map[string]json.RawMessage{}
	switch {
	case result.Text != "":
		fmt.Fprintln(w, strings.TrimRight(printable(result.Text), "\n"))
	case json.Unmarshal(result.Result, &fields) == nil:
		for _, k := range keys(fields) {
			fmt.Fprintf(w, "%s: %s\n", k, printable(plain(fields[k])))
		}
	case len(result.Result) > 0:
		fmt.Fprintln(w, printable(plain(result.Result)))
	}
}
