package director

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
	"nutshell/roles/internal/store"
)

// manager makes a client of an application's manager. Only that manager's
// certificate is accepted at the other end.
func (d *Director) manager(a store.Application) (*rpc.Client, error) {
	if a.Manager == nil || a.Desired != api.GoalStarted || a.Manager.Address == "" {
		return nil, &api.Error{Code: api.CodeUnavailable, Object: "application " + a.Name, Message: "its manager does not run: the application is " + string(a.State), Hint: "start the application first"}
	}
	c := rpc.NewClient("https://"+net.JoinHostPort(a.Manager.Address, strconv.Itoa(api.ManagerPort)), d.ca.ClientTLS(pki.ManagerOf(a.ID)))
	return c, nil
}

// call calls a manager once.
func (d *Director) call(ctx context.Context, a store.Application, method, path string, in, out any) error {
	c, err := d.manager(a)
	if err != nil {
		return err
	}
	defer c.HTTP.CloseIdleConnections()
	return c.Do(ctx, method, path, in, out)
}

// copyLog streams a log from a manager to whoever reads it.
func (d *Director) copyLog(ctx context.Context, a store.Application, path string) (*httpapi.Stream, error) {
	c, err := d.manager(a)
	if err != nil {
		return nil, err
	}
	resp, err := c.Stream(ctx, http.MethodGet, path, nil) //nolint:bodyclose // whoever sends the answer closes it
	if err != nil {
		return nil, err
	}
	return &httpapi.Stream{Type: "text/plain; charset=utf-8", Read: closing{resp.Body, c}}, nil
}

type closing struct {
	body interface {
		Read([]byte) (int, error)
		Close() error
	}
	c *rpc.Client
}

// Read reads the log.
func (c closing) Read(b []byte) (int, error) { return c.body.Read(b) }

// Close ends the connection with the log: nobody calls this client again.
func (c closing) Close() error {
	defer c.c.HTTP.CloseIdleConnections()
	return c.body.Close()
}

// LogQuery chooses how much of a log is read.
type LogQuery struct {
	Tail   int  `query:"tail" minimum:"0" maximum:"1000000" default:"200"`
	Follow bool `query:"follow"`
}

func (q LogQuery) encode(more url.Values) string {
	if more == nil {
		more = url.Values{}
	}
	more.Set("tail", strconv.Itoa(q.Tail))
	more.Set("follow", strconv.FormatBool(q.Follow))
	return "?" + more.Encode()
}

func (d *Director) applicationLog(ctx context.Context, in *struct {
	ApplicationPath
	LogQuery
}) (*httpapi.Stream, error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return nil, err
	}
	return d.copyLog(ctx, a, "/v1/log"+in.encode(nil))
}

func (d *Director) serviceLog(ctx context.Context, in *struct {
	ServicePath
	LogQuery
}) (*httpapi.Stream, error) {
	a, s, err := d.service(ctx, in.ServicePath)
	if err != nil {
		return nil, err
	}
	return d.copyLog(ctx, a, "/v1/log"+in.encode(url.Values{"service": {strconv.FormatInt(s.ID, 10)}}))
}

func (d *Director) listInstances(ctx context.Context, in *ServicePath) ([]api.Instance, error) {
	a, s, err := d.service(ctx, *in)
	if err != nil {
		return nil, err
	}
	rows, err := d.store.ServiceInstances(ctx, a.ID, s.ID)
	return d.instancesOf(a, s.ID, rows), err
}

// InstancePath names an instance in a path.
type InstancePath struct {
	ServicePath
	ID string `path:"id"`
}

// instancePath finds an instance of the asker's service and where its manager
// knows it.
func (d *Director) instancePath(ctx context.Context, in InstancePath) (store.Application, string, error) {
	a, s, err := d.service(ctx, in.ServicePath)
	if err != nil {
		return a, "", err
	}
	row, err := d.store.Instance(ctx, in.ID)
	if err == nil && (row.Application != a.ID || row.Service != s.ID) {
		err = api.NotFoundf("service %s has no instance %s", s.Name, api.Shorten(in.ID))
	}
	return a, "/v1/services/" + strconv.FormatInt(s.ID, 10) + "/instances/" + url.PathEscape(in.ID), err
}

func (d *Director) instanceStatus(ctx context.Context, in *InstancePath) (api.AgentStatus, error) {
	a, path, err := d.instancePath(ctx, *in)
	if err != nil {
		return api.AgentStatus{}, err
	}
	var out api.AgentStatus
	err = d.call(ctx, a, http.MethodGet, path, nil, &out)
	return out, err
}

func (d *Director) listLogs(ctx context.Context, in *InstancePath) ([]api.Log, error) {
	status, err := d.instanceStatus(ctx, in)
	if status.Logs == nil {
		status.Logs = []api.Log{}
	}
	return status.Logs, err
}

func (d *Director) instanceLog(ctx context.Context, in *struct {
	InstancePath
	LogQuery
	Log string `path:"log"`
}) (*httpapi.Stream, error) {
	a, path, err := d.instancePath(ctx, in.InstancePath)
	if err != nil {
		return nil, err
	}
	return d.copyLog(ctx, a, path+"/logs/"+url.PathEscape(in.Log)+in.encode(nil))
}

// act runs an action of a service's kind: a viewer one that changes nothing. Its parameters are checked here so
// that a wrong one is told before anything happens.
func (d *Director) act(ctx context.Context, in *struct {
	ServicePath
	Action string `path:"action"`
	Body   *api.Act
}) (api.ActResult, error) {
	a, s, err := d.service(ctx, in.ServicePath)
	if err != nil {
		return api.ActResult{}, err
	}
	kind, err := d.c.Services.Get(s.Kind)
	if err != nil {
		return api.ActResult{}, err
	}
	i := slices.IndexFunc(kind.Actions, func(x api.Action) bool { return x.Name == in.Action })
	if i < 0 {
		names := make([]string, len(kind.Actions))
		for n, x := range kind.Actions {
			names[n] = x.Name
		}
		return api.ActResult{}, &api.Error{Code: api.CodeNotFound, Object: "action " + api.Shorten(in.Action), Message: kind.Name + " has no such action", Hint: "one of: " + strings.Join(names, ", ")}
	}
	if !kind.Actions[i].Reads {
		if err := enough(a, api.AccessDeveloper); err != nil {
			return api.ActResult{}, err
		}
	}
	var body api.Act
	if in.Body != nil {
		body = *in.Body
	}
	if err := checkArgs(kind.Actions[i], body.Args); err != nil {
		return api.ActResult{}, err
	}
	if secret := kind.Actions[i].Secret; secret != "" {
		return d.actSecret(ctx, in.ServicePath, secret, body.Args["password"])
	}
	var out api.ActResult
	err = d.call(ctx, a, http.MethodPost, "/v1/services/"+strconv.FormatInt(s.ID, 10)+"/actions/"+url.PathEscape(in.Action), body, &out)
	return out, err
}

func checkArgs(action api.Action, args map[string]string) error {
	wrong := func(field, message string) error {
		return &api.Error{Code: api.CodeInvalid, Op: action.Name, Object: "parameter " + api.Shorten(field), Message: message, Fields: []string{field}}
	}
	for name := range args {
		if !slices.ContainsFunc(action.Params, func(p api.Parameter) bool { return p.Name == name }) {
			return wrong(name, "the action has no such parameter")
		}
	}
	for _, p := range action.Params {
		v, given := args[p.Name]
		switch {
		case p.Required && v == "":
			return wrong(p.Name, "it is required: "+p.Help)
		case given && len(p.Enum) > 0 && !slices.Contains(p.Enum, v):
			return wrong(p.Name, api.Shorten(v)+" is not one of "+strings.Join(p.Enum, ", "))
		case given && v != "" && !p.Fits(v):
			return wrong(p.Name, api.Shorten(v)+" is no "+p.Type)
		}
	}
	return nil
}
