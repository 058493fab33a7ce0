package client

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

func (c *Client) environmentVerbs(kind *api.Kind) []*cli.Command {
	const one = argApp + " " + argServ
	object := c.objectName(kind)
	list := []*cli.Command{{
		Name: "env", Usage: "environment variables of a service's code", HideHelpCommand: true, CustomHelpTemplate: objectHelp,
		Subcommands: []*cli.Command{
			c.ofKind(kind, "list", "the variables; secrets without their values", one, onService(listVariables)),
			examples(c.ofKind(kind, "set", "set variables; name=@file takes the value from a file, name alone asks for it or reads it from stdin", one+" <variable>...", onService(setVariables),
				&cli.BoolFlag{Name: "secret", Usage: "never show their values again"}),
				"nutshell "+object+" env set shop 1 MODE=production API_URL=https://api.example.org",
				"nutshell "+object+" env set shop 1 --secret DB_PASSWORD",
				"nutshell "+object+" env set shop 1 --secret TLS_KEY=@key.pem"),
			c.ofKind(kind, "unset", "remove variables", one+" <variable>...", onService(unsetVariables)),
		},
	}}
	return append(list, examples(c.ofKind(kind, "set-weights", "share requests unevenly: 1 to 1000 for a node, 100 is usual", one+" <agent_id=weight>...", onService(setWeights)),
		"nutshell "+object+" set-weights shop 1 a1-s1-x7k2p=200 a1-s1-q0w9e=50", "nutshell "+object+" set-weights shop 1 a1-s1-x7k2p:backend=200"))
}

func listVariables(r *call, _ api.Application, s api.Service) error {
	var all []api.Variable
	if err := r.get(servicePath(s)+"/environment", &all); err != nil {
		return err
	}
	t := &table{columns: []string{"variable", "value"}, none: "No variables."}
	for _, v := range all {
		value := v.Value
		if first, rest, more := strings.Cut(value, "\n"); more {
			value = fmt.Sprintf("%s … (%d bytes more)", first, len(rest))
		}
		if v.Secret {
			value = "(secret)"
		}
		t.add(v.Name, value)
	}
	return r.show(all, t)
}

func setVariables(r *call, _ api.Application, s api.Service) error {
	var b api.ChangeEnvironment
	for _, word := range r.rest {
		name, value, has := strings.Cut(word, "=")
		file, isFile := strings.CutPrefix(value, "@")
		var err error
		switch {
		case !has && len(r.rest) > 1:
			return usagef("%s has no value; one that is asked for stands alone", api.Shorten(name))
		case !has:
			value, err = r.variableValue(name)
		case isFile:
			var text []byte
			text, err = os.ReadFile(file)
			value = string(text)
		}
		if err != nil {
			return &api.Error{Code: api.CodeInvalid, Op: "read", Object: "variable " + api.Shorten(name), Err: err}
		}
		b.Set = append(b.Set, api.Variable{Name: name, Value: value, Secret: r.Bool("secret")})
	}
	return r.changeEnvironment(s, b)
}

// variableValue asks a person, without showing it, or reads all of stdin but
// the end of its last line.
func (r *call) variableValue(name string) (string, error) {
	if r.interactive() {
		return r.askSecret("Value of " + printable(name) + ": ")
	}
	b, err := io.ReadAll(io.LimitReader(r.o.Stdin, 1<<20))
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), err
}

func unsetVariables(r *call, _ api.Application, s api.Service) error {
	return r.changeEnvironment(s, api.ChangeEnvironment{Unset: r.rest})
}

func (r *call) changeEnvironment(s api.Service, b api.ChangeEnvironment) error {
	op, err := r.change(http.MethodPatch, servicePath(s)+"/environment", b, &api.Service{})
	if err != nil {
		return err
	}
	return r.finish(op, fmt.Sprintf("Changing the environment of service %s... ", r.arg(argServ)))
}

// setWeights reads agent_id=weight, for all that a node holds, and
// agent_id:part=weight.
func setWeights(r *call, _ api.Application, s api.Service) error {
	var nodes []api.Instance
	if err := r.get(servicePath(s)+"/instances", &nodes); err != nil {
		return err
	}
	parts := map[string][]string{}
	for _, n := range nodes {
		parts[n.ID] = n.Parts
	}
	b := api.Weights{Weights: map[string]map[string]int{}}
	for _, word := range r.rest {
		left, text, _ := strings.Cut(word, "=")
		weight, err := strconv.Atoi(text)
		if err != nil {
			return usagef("%s is not of the form agent_id=weight", api.Shorten(word))
		}
		id, part, named := strings.Cut(left, ":")
		if _, there := parts[id]; !there {
			return &api.Error{Code: api.CodeNotFound, Object: "node " + api.Shorten(id), Message: "the service has no such node" + didYouMean(id, keys(parts)), Hint: "there are: " + orDash(shortList(keys(parts)))}
		}
		if b.Weights[id] == nil {
			b.Weights[id] = map[string]int{}
		}
		held := parts[id]
		if named {
			held = []string{part}
		}
		for _, p := range held {
			b.Weights[id][p] = weight
		}
	}
	op, err := r.change(http.MethodPut, servicePath(s)+"/weights", b, nil)
	if err != nil {
		return err
	}
	return r.finish(op, fmt.Sprintf("Changing the weights of service %s... ", r.arg(argServ)))
}
