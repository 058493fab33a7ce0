package director

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

func (d *Director) scale(ctx context.Context, in *struct {
	ServicePath
	Body api.Scale
}) (api.Operation, error) {
	return d.onService(ctx, in.ServicePath, func(a, s int64) order { return d.scaleOrder(a, s, in.Body) })
}

func (d *Director) scaleOrder(application, service int64, b api.Scale) order {
	return order{kind: serviceScale, title: "scale", application: application, service: service, request: b,
		change: func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (bool, error) {
			kind, err := d.c.Services.Get(s.Kind)
			if err != nil {
				return false, err
			}
			all, err := t.ApplicationInstances(ctx, a.ID)
			if err != nil {
				return false, err
			}
			parts, _, err := d.plan(kind, *s, all, b)
			if err != nil {
				return false, err
			}
			if b.Cloud != "" {
				p, err := d.place(b.Cloud)
				if err != nil {
					return false, err
				}
				s.Cloud = p.name
			}
			same := maps.Equal(parts, s.Parts) && len(b.Remove) == 0
			s.Parts, s.Remove = parts, b.Remove
			done, err := d.adapt(ctx, t, a, s, "scaling")
			return done || same && s.State == api.Running, err
		}}
}

func (d *Director) preview(ctx context.Context, in *struct {
	ServicePath
	Body api.Scale
}) (api.Preview, error) {
	a, s, err := d.service(ctx, in.ServicePath)
	if err != nil {
		return api.Preview{}, err
	}
	kind, err := d.c.Services.Get(s.Kind)
	if err != nil {
		return api.Preview{}, err
	}
	all, err := d.store.ApplicationInstances(ctx, a.ID)
	if err != nil {
		return api.Preview{}, err
	}
	parts, layout, err := d.plan(kind, s, all, in.Body)
	if err != nil {
		return api.Preview{}, err
	}
	return previewOf(parts, layout, all), nil
}

func previewOf(parts map[string]int, l services.Layout, all []store.Instance) api.Preview {
	p := api.Preview{Parts: parts, Launch: [][]string{}, Leave: []string{}, Change: []string{}, Credits: len(l.Launch) - len(l.Leave)}
	p.Launch = append(p.Launch, l.Launch...)
	for _, i := range l.Leave {
		p.Leave = append(p.Leave, i.ID)
	}
	for _, i := range l.Have {
		n := slices.IndexFunc(all, func(o store.Instance) bool { return o.ID == i.ID })
		if n < 0 {
			continue
		}
		added, dropped := without(i.Parts, all[n].Parts), without(all[n].Parts, i.Parts)
		var says []string
		if len(added) > 0 {
			says = append(says, "gets "+strings.Join(added, ", "))
		}
		if len(dropped) > 0 {
			says = append(says, "gives up "+strings.Join(dropped, ", "))
		}
		if len(says) > 0 {
			p.Change = append(p.Change, i.ID+" "+strings.Join(says, " and "))
		}
	}
	return p
}

func without(list, other []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(other, s) {
			out = append(out, s)
		}
	}
	return out
}

// plan checks a scaling and finds out, by the kind's own rules, which
// instances it starts and ends.
func (d *Director) plan(kind services.Kind, s store.Service, all []store.Instance, b api.Scale) (map[string]int, services.Layout, error) {
	have, others := []api.Instance{}, 0
	for _, i := range all {
		switch {
		case i.State == api.InstanceLeaving || i.Service == 0:
		case i.Service == s.ID:
			have = append(have, i.Instance)
		default:
			others++
		}
	}
	if s.Desired == api.GoalStopped {
		have = nil
	}
	var chosen []api.Instance
	for _, id := range b.Remove {
		i := slices.IndexFunc(have, func(i api.Instance) bool { return i.ID == id })
		if i < 0 {
			return nil, services.Layout{}, &api.Error{Code: api.CodeInvalid, Op: "scale", Object: "service " + s.Name, Message: "it has no instance " + api.Shorten(id), Fields: []string{"remove"}}
		}
		chosen = append(chosen, have[i])
	}
	var err error
	if len(chosen) > 0 && len(b.Add)+len(b.Set) == 0 {
		if b.Add, err = less(kind, s.Parts, chosen); err != nil {
			return nil, services.Layout{}, err
		}
	}
	parts, err := counts(kind, s.Parts, b)
	if err != nil {
		return nil, services.Layout{}, err
	}
	layout, err := kind.Manager(nil).Plan(have, parts, b.Remove)
	if err != nil {
		if api.CodeOf(err) == api.CodeInternal {
			err = &api.Error{Code: api.CodeInvalid, Op: "scale", Object: "service " + s.Name, Err: err}
		}
		return nil, services.Layout{}, err
	}
	for _, i := range layout.Have {
		if slices.Contains(b.Remove, i.ID) {
			return nil, services.Layout{}, &api.Error{Code: api.CodeInvalid, Op: "scale", Object: "instance " + i.ID, Message: "it would stay: with these counts its " + strings.Join(i.Parts, " and ") + " is needed",
				Hint: "let the count of what it holds shrink, or name the instance alone", Fields: []string{"remove"}}
		}
	}
	if n := len(layout.Have) + len(layout.Launch) + others; n > d.tune().instances && len(layout.Launch) > 0 {
		return nil, services.Layout{}, &api.Error{Code: api.CodeInvalid, Op: "scale", Object: "service " + s.Name,
			Message: fmt.Sprintf("the application would have %d instances, at most %d are allowed", n, d.tune().instances),
			Hint:    "an administrator can raise limits.instances_per_application"}
	}
	return parts, layout, nil
}

// less is by how much counts shrink for chosen instances to go. What there is
// no less of moves to others.
func less(kind services.Kind, now map[string]int, chosen []api.Instance) (map[string]int, error) {
	add := map[string]int{}
	for _, i := range chosen {
		shrinks := false
		for _, p := range kind.Parts {
			if slices.Contains(i.Parts, p.Name) && !p.Fixed && now[p.Name]+add[p.Name] > p.Min {
				add[p.Name]--
				shrinks = true
			}
		}
		if !shrinks {
			return nil, &api.Error{Code: api.CodeConflict, Op: "scale", Object: "instance " + i.ID, Message: "it holds the last " + strings.Join(i.Parts, " and the last ") + " that there must be",
				Hint: "add another first", Fields: []string{"remove"}}
		}
	}
	return add, nil
}

// counts is what the parts' counts become, within the kind's bounds.
func counts(kind services.Kind, now map[string]int, b api.Scale) (map[string]int, error) {
	add, err := named(kind, b.Add, "add")
	if err != nil {
		return nil, err
	}
	set, err := named(kind, b.Set, "set")
	if err != nil {
		return nil, err
	}
	if len(add)+len(set)+len(b.Remove) == 0 {
		return nil, &api.Error{Code: api.CodeInvalid, Op: "scale", Message: "no part is named", Hint: "parts are: " + partNames(kind), Fields: []string{"add", "set"}}
	}
	out := maps.Clone(now)
	for _, p := range kind.Parts {
		a, adds := add[p.Name]
		v, sets := set[p.Name]
		if adds && sets {
			return nil, partError(p, "it stands in add and in set")
		}
		if !adds && !sets {
			continue
		}
		// Bounded before adding, so that no count can overflow.
		const most = 1 << 20
		if a > most || a < -most || v > most {
			return nil, partError(p, fmt.Sprintf("%d to %d are allowed", p.Min, p.Max))
		}
		n := now[p.Name] + a
		if sets {
			n = v
		}
		switch {
		case p.Fixed && n != now[p.Name]:
			return nil, partError(p, fmt.Sprintf("its count is fixed at %d", now[p.Name]))
		case n < p.Min || n > p.Max:
			return nil, partError(p, fmt.Sprintf("it would be %d, and %d to %d are allowed", n, p.Min, p.Max))
		}
		out[p.Name] = n
	}
	return out, nil
}

func partError(p services.Part, message string) error {
	return &api.Error{Code: api.CodeInvalid, Op: "scale", Object: "part " + p.Name, Message: message, Fields: []string{p.Name}}
}

// named replaces the name count and refuses parts that the kind has not.
func named(kind services.Kind, m map[string]int, field string) (map[string]int, error) {
	out := map[string]int{}
	for name, n := range m {
		if name == "count" && !hasPart(kind, name) {
			usual, ok := kind.Describe().UsualPart()
			if !ok {
				return nil, &api.Error{Code: api.CodeInvalid, Op: "scale", Message: kind.Name + " has no part whose count can be changed", Fields: []string{field}}
			}
			name = usual.Name
			if _, twice := m[name]; twice {
				return nil, &api.Error{Code: api.CodeInvalid, Op: "scale", Message: "count and " + name + " are the same", Fields: []string{name}}
			}
		}
		if !hasPart(kind, name) {
			return nil, &api.Error{Code: api.CodeInvalid, Op: "scale", Object: "part " + api.Shorten(name), Message: kind.Name + " has no such part",
				Hint: "parts are: " + partNames(kind), Fields: []string{field + "." + api.Shorten(name)}}
		}
		out[name] = n
	}
	return out, nil
}

func hasPart(kind services.Kind, name string) bool {
	return slices.ContainsFunc(kind.Parts, func(p services.Part) bool { return p.Name == name })
}

func partNames(kind services.Kind) string {
	var names []string
	for _, p := range kind.Parts {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}
