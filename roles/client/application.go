package client

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

func (c *Client) applicationVerbs() []*cli.Command {
	cloud := func() cli.Flag { return &cli.StringFlag{Name: "cloud", Aliases: []string{"c"}, Usage: "in this cloud"} }
	return []*cli.Command{
		examples(c.verb("create", "make a new application", "<appl_name>", createApplication, cloud()),
			"nutshell application create shop", "id=$(nutshell application create shop -q)"),
		c.verb("list", "your applications, and those that are shared with you", "", listApplications,
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "those of all users (admins only)"}),
		examples(c.verb("start", "start an application", argApp, onApplication(startApplication), cloud()),
			"nutshell application start shop", "nutshell application start shop --no-wait"),
		c.verb("stop", "stop an application and keep all it has", argApp, onApplication(stopApplication)),
		c.verb("rename", "give an application another name", argApp+" <new_name>", onApplication(renameApplication)),
		c.verb("delete", "put an application with everything in it into the bin", argApp, onApplication(deleteApplication), removeFlags(nil)...),
		c.verb("get-info", "state, services and nodes", argApp, onApplication(applicationInfo)),
		c.verb("get-log", "the log of the application's manager", argApp, onApplication(func(r *call, a api.Application) error {
			return r.stream(applicationPath(a)+"/log"+r.logQuery(), r.safeOut())
		}), logFlags()...),
		c.verb("get-history", "states and why", argApp, onApplication(func(r *call, a api.Application) error {
			return r.history(applicationPath(a))
		})),
	}
}

func createApplication(r *call) error {
	var a api.Application
	if err := r.send(http.MethodPost, "/applications", api.CreateApplication{Name: r.arg("appl_name"), Cloud: r.String("cloud")}, &a); err != nil {
		return err
	}
	return r.made(a, strconv.FormatInt(a.ID, 10), "Application '%s' created with id %d.", a.Name, a.ID)
}

func listApplications(r *call) error {
	path := "/applications"
	if r.Bool("all") {
		path += "?all=true"
	}
	var all []api.Application
	if err := r.get(path, &all); err != nil {
		return err
	}
	t := &table{columns: []string{"aid", "name", "manager", "cloud", "status"}, none: "No existing applications."}
	me, err := r.self()
	if err != nil {
		return err
	}
	others := r.Bool("all") || slices.ContainsFunc(all, func(a api.Application) bool { return a.Owner != me.Name })
	if others {
		t.columns = append(t.columns, "owner", "you are")
	}
	for _, a := range all {
		manager := ""
		if a.Manager != nil {
			manager = a.Manager.Address
		}
		row := []string{strconv.FormatInt(a.ID, 10), a.Name, orDash(manager), orDash(a.Cloud), string(a.State)}
		if others {
			row = append(row, a.Owner, string(a.Access))
		}
		t.add(row...)
	}
	return r.show(all, t)
}

func startApplication(r *call, a api.Application) error {
	op, err := r.post(applicationPath(a)+"/start", api.Start{Cloud: r.String("cloud")})
	if err != nil {
		return err
	}
	return r.finish(op, fmt.Sprintf("Application '%s' with id %d is starting... ", a.Name, a.ID))
}

func stopApplication(r *call, a api.Application) error {
	op, err := r.post(applicationPath(a)+"/stop", nil)
	if err != nil {
		return err
	}
	return r.finishSaying(op, fmt.Sprintf("Application '%s' with id %d is stopping... ", a.Name, a.ID), fmt.Sprintf("Application '%s' with id %d was stopped.", a.Name, a.ID))
}

func renameApplication(r *call, a api.Application) error {
	var renamed api.Application
	if err := r.send(http.MethodPatch, applicationPath(a), api.Rename{Name: r.arg("new_name")}, &renamed); err != nil {
		return err
	}
	return r.made(renamed, strconv.FormatInt(a.ID, 10), "Application '%s' with id %d was renamed to '%s'.", a.Name, a.ID, renamed.Name)
}

func deleteApplication(r *call, a api.Application) error {
	lost := fmt.Sprintf("application '%s' (id %d, %s) and all its data", a.Name, a.ID, a.State)
	if n := len(a.Services); n > 0 {
		names := make([]string, n)
		for i, s := range a.Services {
			names[i] = s.Kind + " '" + s.Name + "'"
		}
		lost += ", code and settings in " + plural(n, "service") + ": " + strings.Join(names, ", ")
	}
	lost += r.untilWhen()
	if err := r.confirm("application '"+a.Name+"'", a.Name, lost); err != nil {
		return err
	}
	op, err := r.change(http.MethodDelete, applicationPath(a)+r.deletion(), nil, nil)
	if err != nil {
		return err
	}
	return r.finishSaying(op, fmt.Sprintf("Application '%s' with id %d is being deleted... ", a.Name, a.ID), fmt.Sprintf("Application '%s' with id %d was deleted.", a.Name, a.ID))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func applicationInfo(r *call, a api.Application) error {
	return r.showText(a, func(w io.Writer) {
		pairs(w, "name", a.Name, "id", strconv.FormatInt(a.ID, 10), "state", string(a.State), "reason", a.Reason, "owner", a.Owner, "cloud", a.Cloud, "operation", a.Operation)
		if a.Manager != nil {
			pairs(w, "manager", fmt.Sprintf("%s (%s, %s)", a.Manager.Address, a.Manager.ID, a.Manager.State))
		}
		fmt.Fprintln(w)
		services := &table{columns: []string{"sid", "type", "name", "status", "version", "urls"}, none: "No existing services."}
		var nodes []api.Instance
		for _, s := range a.Services {
			services.add(strconv.FormatInt(s.ID, 10), s.Kind, s.Name, string(s.State), orDash(s.Serving), orDash(strings.Join(s.URLs, " ")))
			nodes = append(nodes, s.Instances...)
		}
		services.write(w)
		if len(a.Services) > 0 {
			fmt.Fprintln(w)
			nodesTable(nodes).write(w)
		}
	})
}

// history prints the states that something went through, as ConPaaS did.
func (r *call) history(path string) error {
	var all []api.Change
	if err := r.get(path+"/history", &all); err != nil {
		return err
	}
	return r.showText(all, func(w io.Writer) {
		for _, h := range all {
			fmt.Fprintln(w, strings.TrimSpace(fmt.Sprintf("%s %-8s %s", h.Time.Local().Format(time.DateTime), h.State, printable(h.Reason))))
		}
	})
}
