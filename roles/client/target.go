package client

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"nutshell/roles/api"
)

func escape(s string) string { return url.PathEscape(s) }

// application finds the application that the first argument names, by id or
// name.
func (r *call) application() (api.Application, error) { return r.findApplication(r.arg(argApp)) }

func (r *call) findApplication(name string) (api.Application, error) {
	var a api.Application
	if name == "." || name == ".." {
		return a, &api.Error{Code: api.CodeNotFound, Message: "Unknown application name '" + name + "'."}
	}
	err := r.get("/applications/"+escape(name), &a)
	if api.CodeOf(err) != api.CodeNotFound {
		return a, err
	}
	me, e := r.self()
	if e != nil {
		return a, err
	}
	list := "/applications"
	if me.Admin && strings.Contains(name, "/") {
		list += "?all=true"
	}
	var all []api.Application
	if e := r.get(list, &all); e != nil {
		return a, err
	}
	for _, o := range all { // another's is called as git has it
		if o.Owner+"/"+o.Name == name {
			return a, r.get(applicationPath(o), &a)
		}
	}
	if len(all) == 0 {
		return a, &api.Error{Code: api.CodeNotFound, Message: "No existing applications.", Hint: "create one with: nutshell application create NAME"}
	}
	names := make([]string, len(all))
	for i, o := range all {
		names[i] = called(o, me.Name)
	}
	what := fmt.Sprintf("Unknown application name '%s'", name)
	if _, e := strconv.Atoi(name); e == nil {
		what = "Unknown application id " + name
	}
	return a, &api.Error{Code: api.CodeNotFound, Message: what + didYouMean(name, names), Hint: "there are: " + shortList(names)}
}

// called is how a user names an application on the command line: that of
// another, which is shared with them, by its owner and name.
func called(a api.Application, me string) string {
	if a.Owner == me {
		return a.Name
	}
	return a.Owner + "/" + a.Name
}

// service finds the service that the first two arguments name.
func (r *call) service() (api.Application, api.Service, error) {
	a, err := r.application()
	if err != nil {
		return a, api.Service{}, err
	}
	s, err := pickService(a, r.arg(argServ), r.kind)
	return a, s, err
}

// pickService finds a service by id or name. Numbers are ids, since no name
// can be a number.
func pickService(a api.Application, name string, kind *api.Kind) (api.Service, error) {
	ofType := ""
	if kind != nil {
		ofType = " of type " + kind.Name
	}
	id, notNumber := strconv.ParseInt(name, 10, 64)
	var names []string
	for _, s := range a.Services {
		if (notNumber == nil && s.ID == id) || s.Name == name {
			if kind != nil && s.Kind != kind.Name {
				return s, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("Unknown service %s in application %d%s", quoteID(name), a.ID, ofType),
					Hint: fmt.Sprintf("it is of type %s: use nutshell %s", s.Kind, s.Kind)}
			}
			return s, nil
		}
		if kind == nil || s.Kind == kind.Name {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return api.Service{}, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("No existing services%s in application %d.", ofType, a.ID),
			Hint: "add one with: nutshell service add TYPE " + word(a.Name)}
	}
	return api.Service{}, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("Unknown service %s in application %d%s", quoteID(name), a.ID, ofType) + didYouMean(name, names),
		Hint: "there are: " + shortList(names)}
}

func quoteID(name string) string {
	if _, err := strconv.Atoi(name); err == nil {
		return "id " + name
	}
	return "name '" + name + "'"
}

// word quotes a name for a command line where it needs it.
func word(name string) string {
	if strings.ContainsAny(name, " ") {
		return "'" + name + "'"
	}
	return name
}

func shortList(names []string) string {
	if len(names) > 12 {
		return strings.Join(names[:12], ", ") + fmt.Sprintf(" and %d more", len(names)-12)
	}
	return strings.Join(names, ", ")
}

func applicationPath(a api.Application) string { return fmt.Sprintf("/applications/%d", a.ID) }

func servicePath(s api.Service) string {
	return fmt.Sprintf("/applications/%d/services/%d", s.Application, s.ID)
}

// onService makes a verb's body of what is done with one service.
func onService(do func(r *call, a api.Application, s api.Service) error) func(*call) error {
	return func(r *call) error {
		a, s, err := r.service()
		if err != nil {
			return err
		}
		return do(r, a, s)
	}
}

// onApplication makes a verb's body of what is done with one application.
func onApplication(do func(r *call, a api.Application) error) func(*call) error {
	return func(r *call) error {
		a, err := r.application()
		if err != nil {
			return err
		}
		return do(r, a)
	}
}

// post asks for a change that is an operation, or was done at once.
func (r *call) post(path string, in any) (*api.Operation, error) {
	return r.change(http.MethodPost, path, in, nil)
}
