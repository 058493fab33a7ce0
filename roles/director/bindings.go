package director

import (
	"context"
	"net/http"
	"slices"
	"strconv"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// mostBound bounds the names that a service may be bound to.
const mostBound = 100

// bindings asks the manager what a service gets of its siblings and offers to
// them. While no manager runs, nobody offers anything.
func (d *Director) bindings(ctx context.Context, in *ServicePath) (api.Bindings, error) {
	a, s, err := d.service(ctx, *in)
	if err != nil {
		return api.Bindings{}, err
	}
	var out api.Bindings
	if a.Desired != api.GoalStarted || a.Manager == nil || a.Manager.Address == "" {
		out, err = d.silentBindings(ctx, s)
	} else {
		err = d.call(ctx, a, http.MethodGet, "/v1/services/"+strconv.FormatInt(s.ID, 10)+"/bindings", nil, &out)
	}
	if err != nil {
		return api.Bindings{}, err
	}
	d.blank(&out.Offers)
	for i := range out.Gets {
		d.blank(&out.Gets[i])
	}
	out.Variables = shown(out.Variables)
	return out, nil
}

// silentBindings names who would offer something.
func (d *Director) silentBindings(ctx context.Context, s store.Service) (api.Bindings, error) {
	out := api.Bindings{Offers: api.Binding{Service: s.Name, Kind: s.Kind, Values: map[string]string{}}, Gets: []api.Binding{}, Variables: []api.Variable{}}
	siblings, err := d.store.View.Services(ctx, store.Selection{Application: s.Application})
	for _, o := range siblings {
		kind, err := d.c.Services.Get(o.Kind)
		if err != nil || len(kind.Offers) == 0 || o.ID == s.ID {
			continue
		}
		if slices.Contains(s.Bind, "*") || slices.Contains(s.Bind, o.Name) {
			out.Gets = append(out.Gets, api.Binding{Service: o.Name, Kind: o.Kind, Values: map[string]string{}})
		}
	}
	return out, err
}

// blank takes out of a binding what is secret by its kind's description, or
// not described at all.
func (d *Director) blank(b *api.Binding) {
	kind, err := d.c.Services.Get(b.Kind)
	for name := range b.Values {
		i := slices.IndexFunc(kind.Offers, func(o api.Offer) bool { return o.Name == name })
		if err != nil || i < 0 || kind.Offers[i].Secret {
			b.Values[name] = ""
		}
	}
	if b.Values == nil {
		b.Values = map[string]string{}
	}
}

// checkBind refuses what cannot be bound: a service to itself, or to nobody.
func checkBind(ctx context.Context, t *store.Tx, s store.Service, names []string) error {
	wrong := func(name, message, hint string) error {
		return &api.Error{Code: api.CodeInvalid, Op: "bind", Object: "service " + s.Name, Message: api.Shorten(name) + ": " + message, Hint: hint, Fields: []string{"bind"}}
	}
	if len(names) > mostBound {
		return wrong(strconv.Itoa(len(names))+" names", "at most "+strconv.Itoa(mostBound)+" are allowed", "bind it to all with *")
	}
	siblings, err := t.Services(ctx, store.Selection{Application: s.Application})
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, name := range names {
		switch {
		case seen[name]:
			return wrong(name, "it stands here twice", "name each service once")
		case name == "*" && len(names) > 1:
			return wrong(name, "it means all services, so no other can stand beside it", "leave out the others, or it")
		case name == s.Name:
			return wrong(name, "a service is not bound to itself", "name other services of the application")
		case name != "*" && !slices.ContainsFunc(siblings, func(o store.Service) bool { return o.Name == name }):
			return wrong(name, "the application has no such service", "see its services, or bind it to all with *")
		}
		seen[name] = true
	}
	return nil
}

// rebind follows a service to its new name.
func rebind(ctx context.Context, t *store.Tx, s store.Service, to string) error {
	siblings, err := t.Services(ctx, store.Selection{Application: s.Application})
	if err != nil {
		return err
	}
	for _, o := range siblings {
		if i := slices.Index(o.Bind, s.Name); i >= 0 && o.ID != s.ID {
			o.Bind = slices.Clone(o.Bind)
			o.Bind[i] = to
			if err := t.SaveService(ctx, o); err != nil {
				return err
			}
		}
	}
	return nil
}
