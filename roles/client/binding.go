package client

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// bindingVerbs show and choose what services get of each other.
func (c *Client) bindingVerbs(kind *api.Kind) []*cli.Command {
	const one = argApp + " " + argServ
	object := "nutshell " + c.objectName(kind)
	return []*cli.Command{
		c.ofKind(kind, "bindings", "what a service offers to the others of its application, and the variables it gets of them", one, onService(showBindings)),
		examples(c.ofKind(kind, "bind", "choose the services whose offers it gets: their names, all, or none", one+" <sibling>...", onService(bindService)),
			object+" bind shop web db", object+" bind shop web all", object+" bind shop web none"),
	}
}

func showBindings(r *call, _ api.Application, s api.Service) error {
	var b api.Bindings
	if err := r.get(servicePath(s)+"/bindings", &b); err != nil {
		return err
	}
	return r.showText(b, func(w io.Writer) {
		offers := &table{columns: []string{"offers", "value"}, none: "It offers nothing now."}
		for _, name := range keys(b.Offers.Values) {
			offers.add(name, secretOr(b.Offers.Values[name]))
		}
		offers.write(w)
		fmt.Fprintln(w)
		gets := &table{columns: []string{"gets of", "type", "values"}, none: "It gets nothing of others."}
		for _, g := range b.Gets {
			gets.add(g.Service, g.Kind, orDash(strings.Join(keys(g.Values), ", ")))
		}
		gets.write(w)
		fmt.Fprintln(w)
		variables := &table{columns: []string{"variable", "value"}, none: "No variables of others."}
		for _, v := range b.Variables {
			if v.Secret {
				v.Value = ""
			}
			variables.add(v.Name, secretOr(v.Value))
		}
		variables.write(w)
	})
}

// secretOr shows what the director has left out.
func secretOr(value string) string {
	if value == "" {
		return "(secret)"
	}
	return value
}

// bindService takes names or ids, as everywhere.
func bindService(r *call, a api.Application, s api.Service) error {
	names := []string{}
	for _, word := range r.rest {
		switch {
		case len(r.rest) == 1 && (word == "all" || word == "*"):
			names = []string{"*"}
			continue
		case len(r.rest) == 1 && word == "none":
			continue
		}
		if _, err := strconv.Atoi(word); err == nil {
			sibling, err := pickService(a, word, nil)
			if err != nil {
				return err
			}
			word = sibling.Name
		}
		names = append(names, word)
	}
	var changed api.Service
	if err := r.send(http.MethodPatch, servicePath(s), api.ChangeService{Bind: &names}, &changed); err != nil {
		return err
	}
	what := strings.Join(changed.Bind, ", ")
	switch what {
	case "":
		what = "no other service"
	case "*":
		what = "all services of its application"
	}
	return r.made(changed, strconv.FormatInt(s.ID, 10), "Service %d gets the offers of %s.", s.ID, what)
}
