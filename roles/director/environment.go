package director

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// Bounds of an environment. The kernel takes 128 KiB for one variable and some
// MiB for all.
const (
	maxVariables   = 128
	maxName        = 128
	maxValue       = 32 << 10
	maxEnvironment = 256 << 10 // names and values together
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// ownVariable tells which names are ours: what an instance tells its programs
// about itself must be true.
func ownVariable(name string) bool {
	return strings.HasPrefix(name, "NUTSHELL_") || slices.Contains([]string{"PATH", "HOME", "USER", "PWD", "SHLVL", "_", "IFS", "BASH_ENV", "ENV",
		"MY_IP", "MY_ROLE", "MASTER_IP", "AGENTS_JSON", "AGENT_ID", "IP_PUBLIC"}, name)
}

func (d *Director) getEnvironment(ctx context.Context, in *ServicePath) ([]api.Variable, error) {
	_, s, err := d.service(ctx, *in)
	if err != nil {
		return nil, err
	}
	return shown(s.Environment), nil
}

// shown leaves out what is secret.
func shown(list []api.Variable) []api.Variable {
	out := make([]api.Variable, len(list))
	for i, v := range list {
		if out[i] = v; v.Secret {
			out[i].Value = ""
		}
	}
	return out
}

func (d *Director) changeEnvironment(ctx context.Context, in *struct {
	ServicePath
	Match
	Body api.ChangeEnvironment
}) (httpapi.Either, error) {
	if err := checkEnvironment(in.Body); err != nil {
		return httpapi.Either{}, err
	}
	names := slices.Clone(in.Body.Unset)
	for _, v := range in.Body.Set {
		names = append(names, v.Name)
	}
	return d.now(ctx, in.ServicePath, func(a, s int64) order { return in.on(d.environmentOrder(a, s, in.Body), inEnvironment, names) })
}

func wrongVariable(name, message, hint string) error {
	return &api.Error{Code: api.CodeInvalid, Op: "change environment", Object: "variable " + api.Shorten(name), Message: message, Hint: hint, Fields: []string{api.Shorten(name)}}
}

func checkEnvironment(b api.ChangeEnvironment) error {
	if len(b.Set)+len(b.Unset) == 0 {
		return &api.Error{Code: api.CodeInvalid, Op: "change environment", Message: "no variable is named", Fields: []string{"set", "unset"}}
	}
	seen := map[string]bool{}
	for _, v := range b.Set {
		switch {
		case v.Name == "" || len(v.Name) > maxName || !variableName.MatchString(v.Name):
			return wrongVariable(v.Name, "this cannot be the name of a variable", fmt.Sprintf("use up to %d letters, digits and _, and no digit first", maxName))
		case ownVariable(v.Name):
			return wrongVariable(v.Name, "Nutshell sets it itself", "choose another name")
		case seen[v.Name]:
			return wrongVariable(v.Name, "it stands here twice", "name each variable once")
		case strings.ContainsRune(v.Value, 0):
			return wrongVariable(v.Name, "its value has a zero byte, which no variable can hold", "encode it, for example as base64")
		case len(v.Value) > maxValue:
			return wrongVariable(v.Name, fmt.Sprintf("its value is %d bytes long, at most %d are allowed", len(v.Value), maxValue), "put large values into the code, or into a file that startup.sh fetches")
		}
		seen[v.Name] = true
	}
	for _, name := range b.Unset {
		if seen[name] {
			return wrongVariable(name, "it is to be set and removed at once", "name each variable once")
		}
		seen[name] = true
	}
	return nil
}

// environmentOrder shows names in the operation, and no values: what is secret
// is for the user to say, and who looks at operations need not know the rest.
// To be tried again, the whole change is kept with the operation, sealed.
func (d *Director) environmentOrder(application, service int64, b api.ChangeEnvironment) order {
	names := struct {
		Set   []string `json:"set,omitempty"`
		Unset []string `json:"unset,omitempty"`
	}{Unset: b.Unset}
	for _, v := range b.Set {
		names.Set = append(names.Set, v.Name)
	}
	o := order{kind: serviceEnvironment, title: "change the environment of", application: application, service: service, request: names,
		change: func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (bool, error) {
			before := s.Environment
			var err error
			if s.Environment, err = d.changed(*s, b); err != nil {
				return false, err
			}
			same := d.sameEnvironment(*s, before)
			if same {
				s.Environment = before // sealed anew, the text would differ
			}
			done, err := d.adapt(ctx, t, a, s, "the environment changes")
			return done || same && s.State == api.Running, err
		}}
	if whole, err := json.Marshal(b); err == nil {
		o.sealed = d.secrets.Seal(whole, changeOf(application, service))
	}
	return o
}

func changeOf(application, service int64) string {
	return fmt.Sprintf("change of the environment of service %d/%d", application, service)
}

// environmentAgain is the order of an operation that failed.
func (d *Director) environmentAgain(o store.Operation) (order, error) {
	var before snapshot
	if err := json.Unmarshal(o.Before, &before); err != nil {
		return order{}, fmt.Errorf("operation %s: %w", o.ID, err)
	}
	whole, err := d.secrets.Open(before.Sealed, changeOf(o.Application, o.Service))
	if err != nil {
		return order{}, err
	}
	var b api.ChangeEnvironment
	if err := json.Unmarshal(whole, &b); err != nil {
		return order{}, fmt.Errorf("operation %s: %w", o.ID, err)
	}
	return d.environmentOrder(o.Application, o.Service, b), nil
}

// changed is a service's environment after a change, sorted by name. What was
// a secret stays one until it is removed.
func (d *Director) changed(s store.Service, b api.ChangeEnvironment) ([]api.Variable, error) {
	list := slices.Clone(s.Environment)
	find := func(name string) int {
		return slices.IndexFunc(list, func(v api.Variable) bool { return v.Name == name })
	}
	for _, name := range b.Unset {
		i := find(name)
		if i < 0 {
			return nil, &api.Error{Code: api.CodeNotFound, Op: "change environment", Object: "variable " + api.Shorten(name), Message: "the service has no such variable", Fields: []string{api.Shorten(name)}}
		}
		list = slices.Delete(list, i, i+1)
	}
	for _, v := range b.Set {
		i := find(v.Name)
		if v.Secret = v.Secret || i >= 0 && list[i].Secret; v.Secret {
			v.Value = d.secrets.Seal([]byte(v.Value), variableOf(s, v.Name))
		}
		if i < 0 {
			list = append(list, v)
		} else {
			list[i] = v
		}
	}
	slices.SortFunc(list, func(a, b api.Variable) int { return strings.Compare(a.Name, b.Name) })
	plain, err := d.environment(s, list)
	if err != nil {
		return nil, err
	}
	size := 0
	for _, v := range plain {
		size += len(v.Name) + len(v.Value) + 2 // = and the zero byte behind it
	}
	tooMany := func(message string) error {
		return &api.Error{Code: api.CodeInvalid, Op: "change environment", Object: "service " + s.Name, Message: message, Hint: "remove variables that are not needed", Fields: []string{"set"}}
	}
	switch {
	case len(list) > maxVariables:
		return nil, tooMany(fmt.Sprintf("it would have %d variables, at most %d are allowed", len(list), maxVariables))
	case size > maxEnvironment:
		return nil, tooMany(fmt.Sprintf("all variables together would be %d bytes, at most %d are allowed", size, maxEnvironment))
	}
	return list, nil
}

func variableOf(s store.Service, name string) string {
	return fmt.Sprintf("variable %s of service %d/%d", name, s.Application, s.ID)
}

// environment opens the secrets among variables of a service, for its own
// instances.
func (d *Director) environment(s store.Service, list []api.Variable) ([]api.Variable, error) {
	out := slices.Clone(list)
	for i, v := range out {
		if !v.Secret {
			continue
		}
		value, err := d.secrets.Open(v.Value, variableOf(s, v.Name))
		if err != nil {
			return nil, err
		}
		out[i].Value = string(value)
	}
	return out, nil
}

func (d *Director) sameEnvironment(s store.Service, before []api.Variable) bool {
	now, err := d.environment(s, s.Environment)
	old, err2 := d.environment(s, before)
	return err == nil && err2 == nil && slices.Equal(now, old)
}
