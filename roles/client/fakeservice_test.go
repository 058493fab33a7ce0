package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"nutshell/roles/api"
)

// This half of the fake director answers for applications and services.

func (f *fake) answerApplications(w http.ResponseWriter, r *http.Request, p []string, read func(any), body []byte) (int, any, error) {
	if len(p) == 1 && r.Method == "POST" {
		var in api.CreateApplication
		read(&in)
		if err := api.CheckName("application", in.Name); err != nil {
			return 0, nil, err
		}
		a := &api.Application{ID: int64(len(f.apps) + 1), Name: in.Name, Owner: "admin", Access: api.AccessOwner, State: api.Init, Cloud: "default", Created: fakeTime}
		f.apps = append(f.apps, a)
		return 201, a, nil
	}
	if len(p) == 1 {
		return 200, copies(f.apps), nil
	}
	a := f.findApp(p[1])
	if a == nil {
		return 0, nil, &api.Error{Code: api.CodeNotFound, Object: "application " + p[1], Message: "there is no such application"}
	}
	if len(p) > 2 && p[2] == "services" {
		return f.answerServices(w, r, a, p[3:], read, body)
	}
	switch r.Method + " " + append(p, "")[2] {
	case "GET manifest":
		return f.sendManifest(w, r, a)
	case "GET ":
		full := *a
		for _, s := range f.services {
			if s.Application == a.ID {
				full.Services = append(full.Services, *s)
			}
		}
		return 200, full, nil
	case "GET volumes":
		return 200, fakeVolumes(), nil
	case "GET members":
		return 200, []api.Member{{User: "admin", Access: api.AccessOwner, Pays: true, Since: fakeTime}, {User: "ann", Name: "Ann Lee", Access: api.AccessDeveloper, Since: fakeTime, By: "admin", Offered: true}}, nil
	case "PUT members":
		var in api.SetMember
		read(&in)
		return 200, api.Member{User: p[3], Access: in.Access, Since: fakeTime, By: "admin"}, nil
	case "DELETE members", "DELETE owner":
		return 204, nil, nil
	case "PUT owner":
		var in api.HandOver
		read(&in)
		return 200, api.Member{User: in.User, Access: api.AccessViewer, Since: fakeTime, By: "admin", Offered: true}, nil
	case "POST owner":
		return 200, a, nil
	case "POST restore":
		return f.operation("service.restore", "restore", a.ID, 0, nil)
	case "GET repository":
		return 200, fakeRepository(a), nil
	case "PATCH ":
		var in api.Rename
		read(&in)
		a.Name = in.Name
		return 200, a, nil
	case "DELETE ":
		return f.operation("application.delete", "delete application "+a.Name, a.ID, 0, func() {
			f.apps = slices.DeleteFunc(f.apps, func(o *api.Application) bool { return o == a })
		})
	case "POST start":
		if a.State == api.Running {
			return 0, nil, &api.Error{Code: api.CodeConflict, Op: "start", Object: "application " + a.Name, Message: "it runs already", Related: "op1"}
		}
		return f.operation("application.start", "start application "+a.Name, a.ID, 0, func() {
			a.State, a.Manager = api.Running, &api.Instance{ID: fmt.Sprintf("a%d-s0-mmmmm", a.ID), Application: a.ID, Address: "127.1.0.2", Cloud: "default", State: api.InstanceReady}
		})
	case "POST stop":
		return f.operation("application.stop", "stop application "+a.Name, a.ID, 0, func() { a.State, a.Manager = api.Stopped, nil })
	case "GET history":
		return 200, []api.Change{{Time: fakeTime, State: api.Init, Reason: "created"}, {Time: fakeTime, State: api.Running, Reason: "started by admin"}}, nil
	case "GET log":
		fmt.Fprintf(w, "manager of %s, %s\n", a.Name, r.URL.RawQuery)
		return 0, nil, nil
	}
	return 0, nil, api.NotFoundf("no route %s %s", r.Method, r.URL.Path)
}

func (f *fake) answerServices(w http.ResponseWriter, r *http.Request, a *api.Application, p []string, read func(any), body []byte) (int, any, error) {
	if len(p) == 0 && r.Method == "POST" {
		return f.addService(a, read)
	}
	var mine []*api.Service
	for _, s := range f.services {
		if s.Application == a.ID {
			mine = append(mine, s)
		}
	}
	if len(p) == 0 {
		return 200, copies(mine), nil
	}
	i := slices.IndexFunc(mine, func(s *api.Service) bool { return s.Name == p[0] || strconv.FormatInt(s.ID, 10) == p[0] })
	if i < 0 {
		return 0, nil, api.NotFoundf("there is no such service")
	}
	s := mine[i]
	p = append(p, "", "", "")
	if p[1] == "versions" {
		return f.answerVersions(w, r, s, p, body)
	}
	if p[1] == "uploads" {
		return f.answerUploads(r, s, p, body)
	}
	if slices.Contains([]string{"volumes", "backups", "restore", "secrets", "bindings", "streams"}, p[1]) {
		return f.answerData(w, r, s, p, read, body)
	}
	if p[1] == "instances" {
		return f.answerInstances(w, r, s, p)
	}
	switch r.Method + " " + p[1] {
	case "GET ":
		return 200, s, nil
	case "PATCH ":
		var in api.ChangeService
		read(&in)
		if in.Name != nil {
			s.Name = *in.Name
		}
		if in.Bind != nil {
			s.Bind = *in.Bind
		}
		if in.AutoDeploy != nil {
			s.AutoDeploy = *in.AutoDeploy
		}
		if in.KeepVersions != nil {
			s.Keep = *in.KeepVersions
		}
		return 200, s, nil
	case "DELETE ":
		return f.operation("service.delete", "delete service "+s.Name, a.ID, s.ID, func() {
			f.services = slices.DeleteFunc(f.services, func(o *api.Service) bool { return o == s })
		})
	case "POST start":
		return f.operation("service.start", "start service "+s.Name, a.ID, s.ID, func() {
			s.State, s.Desired = api.Running, api.GoalStarted
			s.Instances = []api.Instance{{ID: fmt.Sprintf("a%d-s%d-aaaaa", a.ID, s.ID), Application: a.ID, Service: s.ID, Cloud: "default", Address: "127.1.0.3", Parts: keys(s.Parts), State: api.InstanceReady}}
		})
	case "POST stop":
		return f.operation("service.stop", "stop service "+s.Name, a.ID, s.ID, func() { s.State, s.Desired, s.Instances = api.Stopped, api.GoalStopped, nil })
	case "POST scale":
		return f.operation("service.scale", "scale service "+s.Name, a.ID, s.ID, nil)
	case "POST preview":
		return 200, api.Preview{Parts: map[string]int{"proxy": 1, "backend": 2}, Launch: [][]string{{"backend"}}, Leave: []string{}, Change: []string{"a1-s1-aaaaa becomes proxy and web"}, Credits: 1}, nil
	case "POST activate":
		var in api.Activate
		read(&in)
		return f.activate(a, s, in.Version)
	case "GET settings":
		return 200, f.settings[s.ID], nil
	case "PATCH settings":
		patch := map[string]any{}
		read(&patch)
		for k, v := range patch {
			f.settings[s.ID][k] = v
		}
		return 200, s, nil
	case "GET script":
		return 200, api.Script{Text: f.scripts[s.ID]}, nil
	case "PUT script":
		var in api.Script
		read(&in)
		f.scripts[s.ID] = in.Text
		return 204, nil, nil
	case "GET history":
		return 200, []api.Change{{Time: fakeTime, State: api.Failed, Reason: "php-fpm is missing"}}, nil
	case "GET log":
		fmt.Fprintf(w, "service %s, %s\n", s.Name, r.URL.RawQuery)
		return 0, nil, nil
	case "POST actions":
		text := p[2] + " of " + s.Name + ": fine"
		if p[2] == "get_php_config" {
			return 200, api.ActResult{Result: json.RawMessage(`{"memory_limit":"128M","display_errors":false}`)}, nil
		}
		return 200, api.ActResult{Text: text}, nil
	}
	return f.answerOptions(r, a, s, p, read)
}

func (f *fake) addService(a *api.Application, read func(any)) (int, any, error) {
	var in api.CreateService
	read(&in)
	i := slices.IndexFunc(fakeKinds(), func(k api.Kind) bool { return k.Name == in.Kind })
	if i < 0 {
		return 0, nil, &api.Error{Code: api.CodeInvalid, Object: "service kind " + api.Shorten(in.Kind), Message: "there is no such kind", Hint: "one of: generic, helloworld, php"}
	}
	s := &api.Service{ID: 1, Application: a.ID, Name: in.Name, Kind: in.Kind, State: api.Init, Desired: api.GoalStopped, Parts: map[string]int{}, Cloud: "default", Version: "code-default", Created: fakeTime, Since: fakeTime}
	for _, o := range f.services {
		if o.Application == a.ID {
			s.ID = max(s.ID, o.ID+1)
		}
	}
	if s.Name == "" {
		s.Name = in.Kind
	}
	for _, p := range fakeKinds()[i].Parts {
		if p.Default > 0 {
			s.Parts[p.Name] = p.Default
		}
	}
	f.services = append(f.services, s)
	f.settings[s.ID] = map[string]any{"display_errors": false, "memory_limit": "128M"}
	f.versions[s.ID] = []api.CodeVersion{{ID: "code-default", Filename: "code-default.tar", Description: "Initial version", Current: true}}
	return 201, s, nil
}

func (f *fake) answerInstances(w http.ResponseWriter, r *http.Request, s *api.Service, p []string) (int, any, error) {
	if p[2] == "" {
		return 200, append([]api.Instance{}, s.Instances...), nil
	}
	if !slices.ContainsFunc(s.Instances, func(i api.Instance) bool { return i.ID == p[2] }) {
		return 0, nil, &api.Error{Code: api.CodeNotFound, Object: "instance " + p[2], Message: "there is no such instance"}
	}
	logs := []api.Log{{Name: "access.log", Description: "requests"}, {Name: "agent.log", Description: "the agent"}, {Name: "agent.out", Description: "what scripts printed"}}
	if len(p) < 5 || p[4] == "" {
		return 200, logs, nil
	}
	fmt.Fprintf(w, "%s of %s, %s\n", p[4], p[2], r.URL.RawQuery)
	return 0, nil, nil
}

func (f *fake) answerVersions(w http.ResponseWriter, r *http.Request, s *api.Service, p []string, body []byte) (int, any, error) {
	all := f.versions[s.ID]
	if r.Method == "POST" {
		v := api.CodeVersion{ID: fmt.Sprintf("code-pw1LK%d", len(all)), Filename: r.URL.Query().Get("filename"), Description: r.URL.Query().Get("description"), Bytes: int64(len(body)), Created: fakeTime}
		if piped := v.Filename == "stdin" || v.Filename == "piped.zip"; !piped && r.ContentLength != int64(len(body)) {
			return 0, nil, api.Invalidf("the length was not announced")
		}
		f.archives[v.ID] = body
		f.versions[s.ID] = append([]api.CodeVersion{v}, all...)
		return 201, v, nil
	}
	if p[2] == "" {
		return 200, all, nil
	}
	i := slices.IndexFunc(all, func(v api.CodeVersion) bool { return v.ID == p[2] })
	switch {
	case i < 0:
		return 0, nil, &api.Error{Code: api.CodeNotFound, Object: "code version " + p[2], Message: "there is no such version"}
	case r.Method == "DELETE" && all[i].Current:
		return 0, nil, &api.Error{Code: api.CodeConflict, Op: "delete", Object: "code version " + p[2], Message: "it is the current one", Hint: "activate another version first"}
	case r.Method == "DELETE":
		f.versions[s.ID] = slices.Delete(slices.Clone(all), i, i+1)
		return 204, nil, nil
	case len(p) > 3 && p[3] == "files":
		return 200, []api.File{{Path: "index.html", Bytes: 5, Mode: "-rw-r--r--"}, {Path: "old", Mode: "lrwxrwxrwx", Link: "index.html"}}, nil
	case len(p) > 4 && p[3] == "diff":
		return 200, api.Difference{From: p[4], To: p[2], Same: 3, Files: []api.FileChange{{Path: "a.txt", Change: "added", After: 1}, {Path: "b.txt", Change: "removed", Before: 2}, {Path: "c.txt", Change: "changed", Before: 3, After: 4}}}, nil
	case len(p) > 3 && p[3] == "download":
		w.Header().Set("Content-Disposition", `attachment; filename="../../`+all[i].Filename+`"`)
		_, _ = w.Write(f.archives[p[2]])
		return 0, nil, nil
	}
	return 200, all[i], nil
}

func (f *fake) activate(a *api.Application, s *api.Service, version string) (int, any, error) {
	all := slices.Clone(f.versions[s.ID])
	if !slices.ContainsFunc(all, func(v api.CodeVersion) bool { return v.ID == version }) {
		return 0, nil, &api.Error{Code: api.CodeNotFound, Object: "code version " + version, Message: "there is no such version"}
	}
	done := func() {
		for i := range all {
			all[i].Current = all[i].ID == version
		}
		f.versions[s.ID], s.Version = all, version
	}
	if s.State != api.Running {
		done()
		return 200, s, nil
	}
	return f.operation("service.activate", "activate "+version, a.ID, s.ID, done)
}
