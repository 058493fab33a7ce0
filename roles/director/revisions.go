package director

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// What a revision changes.
const (
	inSettings    = "settings"
	inEnvironment = "environment"
	inScript      = "script"
	inParts       = "parts"
)

// scriptName is the name of the startup script among a revision's changes.
const scriptName = "startup.sh"

// Match is the header by which clients say which revision they have seen.
type Match struct {
	IfMatch string `header:"If-Match" doc:"the service's revision that was seen; what others have changed since is not overwritten"`
}

// on makes an order fail where others have changed the same since its asker
// looked.
func (m Match) on(o order, what string, names []string) order {
	if m.IfMatch != "" {
		o.expect = &expect{revision: m.IfMatch, what: what, names: names}
	}
	return o
}

// expect is what the asker of a change has seen.
type expect struct {
	revision string
	what     string
	names    []string
}

// unchanged refuses an order whose asker has not seen how things are by now.
// What others changed beside it does no harm.
func (o order) unchanged(ctx context.Context, t *store.Tx, s store.Service) error {
	if o.expect == nil {
		return nil
	}
	refuse := func(code api.Code, message string, fields ...string) error {
		return &api.Error{Code: code, Op: strings.TrimSpace(o.title), Object: "service " + s.Name, Message: message,
			Hint: fmt.Sprintf("look at what is there now, revision %d, and send what you still want", s.Revision), Fields: fields}
	}
	seen, err := strconv.ParseInt(strings.Trim(o.expect.revision, `"`), 10, 64)
	if err != nil {
		return refuse(api.CodeInvalid, "If-Match is the number of a revision, not "+api.Shorten(o.expect.revision), "If-Match")
	}
	if seen == s.Revision {
		return nil
	}
	rows, err := t.Revisions(ctx, s.Application, s.ID)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rows, func(r store.Revision) bool { return r.Number == seen })
	if i < 0 {
		return refuse(api.CodeConflict, fmt.Sprintf("revision %d is not known, so nobody can tell what changed since", seen))
	}
	var others, fields []string
	for _, c := range changes(rows[i], rows[len(rows)-1]) {
		if c.What != o.expect.what || !slices.Contains(o.expect.names, c.Name) {
			continue
		}
		said := c.Name + " was changed"
		if !c.Secret && c.What == inSettings {
			said = fmt.Sprintf("%s is %s now, and was %s", c.Name, cmp.Or(c.To, "gone"), cmp.Or(c.From, "not there"))
		}
		others, fields = append(others, said), append(fields, c.Name)
	}
	if len(others) == 0 {
		return nil
	}
	return refuse(api.CodeConflict, "somebody else was faster ("+cmp.Or(rows[len(rows)-1].By, "nutshell")+" was last): "+strings.Join(others, "; "), fields...)
}

// changes is what differs between two revisions. It is pure.
func changes(a, b store.Revision) []api.RevisionChange {
	list := []api.RevisionChange{}
	add := func(what string, from, to map[string]string, secret map[string]bool) {
		names := map[string]bool{}
		for name := range from {
			names[name] = true
		}
		for name := range to {
			names[name] = true
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if from[name] == to[name] {
				continue
			}
			c := api.RevisionChange{What: what, Name: name, From: from[name], To: to[name]}
			if secret[name] {
				c.From, c.To, c.Secret = masked(c.From), masked(c.To), true
			}
			list = append(list, c)
		}
	}
	add(inSettings, texts(a.Settings), texts(b.Settings), nil)
	secret := map[string]bool{}
	add(inEnvironment, variables(a.Environment, secret), variables(b.Environment, secret), secret)
	add(inScript, map[string]string{scriptName: a.Script}, map[string]string{scriptName: b.Script}, nil)
	add(inParts, numbers(a.Parts), numbers(b.Parts), nil)
	return list
}

// masked shows that there is a secret, and nothing of it.
func masked(value string) string {
	if value == "" {
		return ""
	}
	return "********"
}

func texts(settings json.RawMessage) map[string]string {
	var raw map[string]json.RawMessage
	out := map[string]string{}
	if err := json.Unmarshal(settings, &raw); err != nil {
		return out // rows are always JSON
	}
	for name, v := range raw {
		out[name] = string(v)
	}
	return out
}

func variables(list []api.Variable, secret map[string]bool) map[string]string {
	out := map[string]string{}
	for _, v := range list {
		out[v.Name] = v.Value
		secret[v.Name] = secret[v.Name] || v.Secret
	}
	return out
}

func numbers(parts map[string]int) map[string]string {
	out := map[string]string{}
	for name, n := range parts {
		out[name] = strconv.Itoa(n)
	}
	return out
}

func (d *Director) listRevisions(ctx context.Context, in *ServicePath) ([]api.Revision, error) {
	a, s, err := d.service(ctx, *in)
	if err != nil {
		return nil, err
	}
	rows, err := d.store.Revisions(ctx, a.ID, s.ID)
	list := []api.Revision{}
	for i, r := range rows {
		n := api.Revision{Number: r.Number, Time: r.Time, By: r.By, Why: r.Why, Changes: []api.RevisionChange{}}
		if i > 0 {
			n.Changes = changes(rows[i-1], r)
		}
		list = append(list, n)
	}
	slices.Reverse(list)
	return list, err
}

// revert is the request of an operation that goes back.
type revert struct {
	Revision int64 `json:"revision"`
}

func (d *Director) revert(ctx context.Context, in *struct {
	ServicePath
	Revision int64 `path:"revision"`
}) (httpapi.Either, error) {
	return d.now(ctx, in.ServicePath, func(a, s int64) order { return d.revertOrder(a, s, in.Revision) })
}

// revertOrder asks for settings, environment and script as a revision has
// them. How many of each part there are is not changed: that is scaling.
func (d *Director) revertOrder(application, service, number int64) order {
	return order{kind: serviceRevert, title: fmt.Sprintf("go back to revision %d of", number), application: application, service: service, request: revert{number},
		change: func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (bool, error) {
			refuse := func(code api.Code, message, hint string) error {
				return &api.Error{Code: code, Op: "revert", Object: "service " + a.Name + "/" + s.Name, Message: message, Hint: hint, Fields: []string{"revision"}}
			}
			rows, err := t.Revisions(ctx, s.Application, s.ID)
			if err != nil {
				return false, err
			}
			i := slices.IndexFunc(rows, func(r store.Revision) bool { return r.Number == number })
			if i < 0 {
				return false, refuse(api.CodeNotFound, fmt.Sprintf("there is no revision %d", number), "list its revisions to see which there are")
			}
			kind, err := d.c.Services.Get(s.Kind)
			if err != nil {
				return false, err
			}
			r, before := rows[i], s.Settings
			if s.Settings, err = kind.MergeSettings(kind.DefaultSettings(), r.Settings); err != nil {
				return false, err
			}
			if string(s.Settings) == string(before) && s.Script == r.Script && slices.Equal(s.Environment, r.Environment) {
				return false, refuse(api.CodeConflict, fmt.Sprintf("all is as revision %d has it", number), "")
			}
			if err := d.checkSizes(ctx, t, kind, *s, before); err != nil {
				return false, err
			}
			s.Environment, s.Script = r.Environment, r.Script
			return d.adapt(ctx, t, a, s, fmt.Sprintf("it goes back to revision %d", number))
		}}
}
