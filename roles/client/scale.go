package client

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// countName stands for the part that a kind is scaled by.
const countName = "count"

// partNames are the names that the options of a kind's object have; the
// object service has those of all kinds.
func (c *Client) partNames(kind *api.Kind) []string {
	kinds := c.kinds
	if kind != nil {
		kinds = []api.Kind{*kind}
	}
	names := []string{countName}
	for _, k := range kinds {
		for _, p := range k.Parts {
			if !p.Fixed && !slices.Contains(names, p.Name) && !slices.Contains(scaleOptions(), sameName(p.Name)) {
				names = append(names, p.Name)
			}
		}
	}
	return names
}

func last(names []string) string { return names[len(names)-1] }

// scaleOptions are names of options that no part can have.
func scaleOptions() []string { return []string{"cloud", "c", "agent-id", "remove", "help", "h"} }

func (c *Client) scaleVerbs(kind *api.Kind) []*cli.Command {
	const one = argApp + " " + argServ
	numbers := func(what string) []cli.Flag {
		var flags []cli.Flag
		for _, n := range c.partNames(kind) {
			usage := what + " so many " + n + " nodes"
			if n == countName {
				usage = what + " so many nodes of the usual role"
			}
			flags = append(flags, &cli.IntFlag{Name: n, Category: partCategory, Usage: usage})
		}
		return flags
	}
	changes := func() []cli.Flag {
		var flags []cli.Flag
		for _, n := range c.partNames(kind) {
			flags = append(flags, &cli.StringFlag{Name: n, Category: partCategory, Usage: "+1 more, -1 less, =3 or 3 in all"})
		}
		return flags
	}
	cloud := func() cli.Flag {
		return &cli.StringFlag{Name: "cloud", Aliases: []string{"c"}, Usage: "start new nodes in this cloud"}
	}
	leave := func() cli.Flag {
		return &cli.StringFlag{Name: c.spell("agent-id"), Aliases: []string{"remove"}, Usage: "let these nodes go, with commas between; alone, roles shrink by what they hold"}
	}
	return []*cli.Command{
		c.ofKind(kind, "list-nodes", "the nodes of a service", one, onService(listNodes)),
		c.ofKind(kind, "add-nodes", "add nodes; one of the usual role if no role is named", one, onService(func(r *call, _ api.Application, s api.Service) error {
			return addOrRemove(r, s, 1, "Adding nodes to service %s... ")
		}), append(numbers("add"), cloud())...),
		c.ofKind(kind, "remove-nodes", "remove nodes; one of the usual role if no role is named", one, onService(func(r *call, _ api.Application, s api.Service) error {
			return addOrRemove(r, s, -1, "Removing nodes from service %s... ")
		}), append(numbers("remove"), leave())...),
		examples(c.ofKind(kind, "scale", "change the number of nodes, e.g. --"+last(c.partNames(kind))+" +1", one, onService(scaleService), append(changes(), cloud(), leave())...),
			"nutshell "+c.objectName(kind)+" scale shop 1 --"+last(c.partNames(kind))+" +2", "nutshell "+c.objectName(kind)+" scale shop 1 --"+last(c.partNames(kind))+" =4 --cloud mycloud"),
		c.ofKind(kind, "preview", "what scale would do, and what it would cost", one, onService(previewScale), append(changes(), leave())...),
	}
}

// nodesTable has ConPaaS's columns, and addresses outside of the cloud where
// there are any.
func nodesTable(instances []api.Instance) *table {
	t := &table{columns: []string{"aid", "sid", "role", "ip", "agent_id", "cloud"}, id: 4, none: "No existing nodes."}
	public := slices.ContainsFunc(instances, func(i api.Instance) bool { return i.Public != "" })
	if public {
		t.columns = append(t.columns, "public_ip")
	}
	for _, i := range instances {
		row := []string{strconv.FormatInt(i.Application, 10), strconv.FormatInt(i.Service, 10), orDash(strings.Join(i.Parts, ",")), orDash(i.Address), i.ID, orDash(i.Cloud)}
		if public {
			row = append(row, orDash(i.Public))
		}
		t.add(row...)
	}
	return t
}

func listNodes(r *call, _ api.Application, s api.Service) error {
	var all []api.Instance
	if err := r.get(servicePath(s)+"/instances", &all); err != nil {
		return err
	}
	return r.show(all, nodesTable(all))
}

// addOrRemove reads the options of add-nodes and remove-nodes: counts that
// are not negative. All zero means one node of the usual role, as in ConPaaS.
func addOrRemove(r *call, s api.Service, sign int, doing string) error {
	want := api.Scale{Add: map[string]int{}, Cloud: r.String("cloud"), Remove: nodeIDs(r)}
	for _, n := range r.partNames(r.kind) {
		switch count := r.Int(n); {
		case count < 0:
			return usagef("--%s %d: give the number of nodes without a sign", n, count)
		case count > 0:
			want.Add[n] = sign * count
		}
	}
	if len(want.Add) == 0 && len(want.Remove) == 0 {
		want.Add[countName] = sign
	}
	r.nameCount(s, want.Add)
	return r.scale(s, want, fmt.Sprintf(doing, r.arg(argServ)))
}

// nameCount puts the part that ConPaaS scales by, unless another is named, in
// the place of "count": the backend of a web service, the node of others. A
// kind that is not known here is left to the director.
func (r *call) nameCount(s api.Service, counts map[string]int) {
	n, asked := counts[countName]
	i := slices.IndexFunc(r.kinds, func(k api.Kind) bool { return k.Name == s.Kind })
	if !asked || i < 0 {
		return
	}
	if usual, ok := r.kinds[i].UsualPart(); ok {
		delete(counts, countName)
		counts[usual.Name] += n
	}
}

func nodeIDs(r *call) []string {
	return strings.FieldsFunc(r.String(r.spell("agent-id")), func(c rune) bool { return c == ',' || c == ' ' })
}

func (r *call) scale(s api.Service, want api.Scale, doing string) error {
	op, err := r.post(servicePath(s)+"/scale", want)
	if err != nil {
		return err
	}
	return r.finish(op, doing)
}

// changes reads the options of scale and preview.
func (r *call) changes(s api.Service) (api.Scale, error) {
	want := api.Scale{Add: map[string]int{}, Set: map[string]int{}, Cloud: r.String("cloud"), Remove: nodeIDs(r)}
	for _, n := range r.partNames(r.kind) {
		text := strings.TrimSpace(r.String(n))
		if text == "" {
			continue
		}
		absolute, isSet := strings.CutPrefix(text, "=")
		count, err := strconv.Atoi(absolute)
		if err != nil {
			return want, usagef("--%s %s is not a change such as +1, -1 or =3", n, api.Shorten(text))
		}
		if !isSet && (text[0] == '+' || text[0] == '-') {
			want.Add[n] = count
		} else {
			want.Set[n] = count
		}
	}
	r.nameCount(s, want.Add)
	if _, ok := want.Set[countName]; ok && len(want.Set) > 1 {
		return want, usagef("--count in all cannot stand together with a role's; name the role")
	}
	r.nameCount(s, want.Set)
	if len(want.Add)+len(want.Set)+len(want.Remove) == 0 {
		return want, usagef("say what to change, e.g. --%s +1", last(r.partNames(r.kind)))
	}
	return want, nil
}

func scaleService(r *call, _ api.Application, s api.Service) error {
	want, err := r.changes(s)
	if err != nil {
		return err
	}
	return r.scale(s, want, fmt.Sprintf("Scaling service %s... ", r.arg(argServ)))
}

func previewScale(r *call, _ api.Application, s api.Service) error {
	want, err := r.changes(s)
	if err != nil {
		return err
	}
	var p api.Preview
	if err := r.send(http.MethodPost, servicePath(s)+"/preview", want, &p); err != nil {
		return err
	}
	return r.showText(p, func(w io.Writer) {
		for _, part := range keys(p.Parts) {
			fmt.Fprintf(w, "%s: %d\n", part, p.Parts[part])
		}
		for _, parts := range p.Launch {
			fmt.Fprintf(w, "starts a node with: %s\n", strings.Join(parts, ", "))
		}
		for _, id := range p.Leave {
			fmt.Fprintf(w, "terminates %s\n", id)
		}
		for _, c := range p.Change {
			fmt.Fprintln(w, printable(c))
		}
		fmt.Fprintf(w, "credits per hour: %+d\n", p.Credits)
	})
}
