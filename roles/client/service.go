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

// serviceVerbs are the verbs of the object service (kind is nil) or of one
// kind's object, which has what the kind describes on top.
func (c *Client) serviceVerbs(kind *api.Kind) []*cli.Command {
	const one = argApp + " " + argServ
	cloud := func() cli.Flag { return &cli.StringFlag{Name: "cloud", Aliases: []string{"c"}, Usage: "in this cloud"} }
	named := &cli.StringFlag{Name: "name", Aliases: []string{"n"}, Usage: "name of the new service"}
	list := []*cli.Command{}
	if kind == nil {
		list = append(list,
			c.verb("get-types", "the types of service there are", "", getTypes),
			c.verb("add", "add a service to an application", "<service_type> "+argApp, func(r *call) error {
				return addService(r, sameName(r.arg("service_type")))
			}, named, cloud()))
	} else {
		list = append(list, c.ofKind(kind, "add", "add a "+kind.Name+" service to an application", argApp, func(r *call) error {
			return addService(r, kind.Name)
		}, named, cloud()))
	}
	of := func(name, usage, args string, do func(*call, api.Application, api.Service) error, flags ...cli.Flag) {
		list = append(list, c.ofKind(kind, name, usage, args, onService(do), flags...))
	}
	list = append(list, c.ofKind(kind, "list", "services with their states", "[app_name_or_id]", listServices,
		&cli.StringFlag{Name: "application", Aliases: []string{"a"}, Usage: "of this application only"}))
	of("start", "start a service", one, startService, cloud())
	of("stop", "stop a service and keep all it has", one, stopService)
	of("restart", "stop and start a service", one, restartService)
	of("rename", "give a service another name", one+" <new_name>", renameService)
	of("remove", "put a service with its code and data into the bin", one, removeService, removeFlags(kind)...)
	of("get-state", "how a service is, and why", one, serviceState)
	list = append(list, c.scaleVerbs(kind)...)
	if kind == nil || kind.Code.Accepts {
		list = append(list, c.codeVerbs(kind)...)
		list = append(list, c.oldKeyVerbs(kind)...)
	}
	list = append(list, c.settingsVerbs(kind)...)
	list = append(list, c.revisionVerbs(kind)...)
	list = append(list, c.environmentVerbs(kind)...)
	list = append(list, c.bindingVerbs(kind)...)
	list = append(list, c.secretVerbs(kind)...)
	list = append(list, c.oldVolumeVerbs(kind)...)
	of("get-script", "show the startup script", one, getScript)
	of("set-script", "set the script that new nodes run first (from stdin without a file)", one+" [filename]", setScript)
	list = append(list, c.logVerbs(kind)...)
	list = append(list, c.graphVerbs(kind)...)
	if kind != nil {
		list = append(list, c.actionVerbs(kind, list)...)
	}
	return list
}

func getTypes(r *call) error {
	kinds, err := r.askKinds()
	if err != nil {
		return err
	}
	return r.showText(kinds, func(w io.Writer) {
		for _, k := range kinds {
			fmt.Fprintln(w, k.Name)
		}
	})
}

func addService(r *call, kind string) error {
	a, err := r.application()
	if err != nil {
		return err
	}
	var s api.Service
	if err := r.send(http.MethodPost, applicationPath(a)+"/services", api.CreateService{Kind: kind, Name: r.String("name"), Cloud: r.String("cloud")}, &s); err != nil {
		return err
	}
	return r.made(s, strconv.FormatInt(s.ID, 10), "Service %s successfully added to application %d with id %d.", s.Kind, a.ID, s.ID)
}

func listServices(r *call) error {
	path := "/services"
	name := r.arg(argApp)
	if name == "" {
		name = r.String("application")
	}
	if name != "" {
		a, err := r.findApplication(name)
		if err != nil {
			return err
		}
		path = applicationPath(a) + "/services"
	}
	var all []api.Service
	if err := r.get(path, &all); err != nil {
		return err
	}
	shown := []api.Service{}
	t := &table{columns: []string{"aid", "sid", "type", "name", "status"}, id: 1, none: "No existing services."}
	for _, s := range all {
		if r.kind == nil || s.Kind == r.kind.Name {
			shown = append(shown, s)
			t.add(strconv.FormatInt(s.Application, 10), strconv.FormatInt(s.ID, 10), s.Kind, s.Name, string(s.State))
		}
	}
	return r.show(shown, t)
}

func startService(r *call, _ api.Application, s api.Service) error {
	op, err := r.post(servicePath(s)+"/start", api.Start{Cloud: r.String("cloud")})
	if err != nil {
		return err
	}
	return r.finish(op, fmt.Sprintf("Service %s is starting... ", r.arg(argServ)))
}

func stopService(r *call, _ api.Application, s api.Service) error {
	op, err := r.post(servicePath(s)+"/stop", nil)
	if err != nil {
		return err
	}
	return r.finish(op, fmt.Sprintf("Service %s is stopping... ", r.arg(argServ)))
}

func restartService(r *call, a api.Application, s api.Service) error {
	if r.g.noWait {
		return usagef("restart is two operations, one after the other, and cannot be left alone with --no-wait")
	}
	if s.Desired == api.GoalStarted {
		if err := stopService(r, a, s); err != nil {
			return err
		}
	}
	return startService(r, a, s)
}

func renameService(r *call, a api.Application, s api.Service) error {
	var renamed api.Service
	if err := r.send(http.MethodPatch, servicePath(s), api.Rename{Name: r.arg("new_name")}, &renamed); err != nil {
		return err
	}
	return r.made(renamed, strconv.FormatInt(s.ID, 10), "Service %d of application %d was renamed to '%s'.", s.ID, a.ID, renamed.Name)
}

func removeFlags(kind *api.Kind) []cli.Flag {
	if kind != nil && !kind.Backups {
		return []cli.Flag{nowFlag()}
	}
	return []cli.Flag{&cli.BoolFlag{Name: "backup", Usage: "take a last backup first, and delete nothing if that fails"}, nowFlag()}
}

func removeService(r *call, a api.Application, s api.Service) error {
	lost := fmt.Sprintf("%s service '%s' (id %d of application '%s', %s) with its code versions, settings and data", s.Kind, s.Name, s.ID, a.Name, s.State) + r.keepsBackups(s) + r.untilWhen()
	if err := r.confirm("service '"+s.Name+"'", s.Name, lost); err != nil {
		return err
	}
	op, err := r.change(http.MethodDelete, servicePath(s)+r.deletion(), nil, nil)
	if err != nil {
		return err
	}
	return r.finishSaying(op, fmt.Sprintf("Service %s is being removed... ", r.arg(argServ)),
		fmt.Sprintf("Service %s of application %s has been successfully removed.", r.arg(argServ), r.arg(argApp)))
}

func serviceState(r *call, _ api.Application, s api.Service) error {
	if err := r.get(servicePath(s), &s); err != nil {
		return err
	}
	return r.showText(s, func(w io.Writer) {
		var parts []string
		for _, p := range keys(s.Parts) {
			parts = append(parts, fmt.Sprintf("%s %d", p, s.Parts[p]))
		}
		pairs(w, "sid", strconv.FormatInt(s.ID, 10), "type", s.Kind, "name", s.Name, "state", string(s.State), "reason", s.Reason,
			"since", s.Since.Local().Format("2006-01-02 15:04:05"), "wanted", string(s.Desired), "roles", strings.Join(parts, ", "),
			"code", s.Version, "serving", s.Serving, "cloud", s.Cloud, "operation", s.Operation)
		for _, u := range s.URLs {
			pairs(w, "url", u)
		}
	})
}

func getScript(r *call, _ api.Application, s api.Service) error {
	var script api.Script
	if err := r.get(servicePath(s)+"/script", &script); err != nil {
		return err
	}
	return r.showText(script, func(w io.Writer) { fmt.Fprint(w, script.Text) })
}

// maxScript bounds what is read from a file that was named by mistake.
const maxScript = 1 << 20

func setScript(r *call, _ api.Application, s api.Service) error {
	from, name := r.o.Stdin, r.arg("filename")
	if name != "" && name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return &api.Error{Code: api.CodeInvalid, Op: "read the script", Err: err}
		}
		defer func() { _ = f.Close() }()
		from = f
	}
	b, err := io.ReadAll(io.LimitReader(from, maxScript+1))
	switch {
	case err != nil:
		return &api.Error{Code: api.CodeInvalid, Op: "read the script", Err: err}
	case len(b) > maxScript:
		return &api.Error{Code: api.CodeTooLarge, Op: "read the script", Object: orDash(name), Message: "a script may have 1 MiB"}
	}
	if err := r.send(http.MethodPut, servicePath(s)+"/script", api.Script{Text: string(b)}, nil); err != nil {
		return err
	}
	r.say("Startup script of service %d set (%d bytes); new nodes will run it.", s.ID, len(b))
	return nil
}
