package client

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
)

// This part of the fake director keeps what outlives nodes: volumes, backups,
// secrets, and what services get of each other.

func fakeMySQL() api.Kind {
	name := func(of string) api.Parameter {
		return api.Parameter{Name: "name", Help: "of the " + of, Required: true}
	}
	return api.Kind{Name: "mysql", Title: "MySQL", Summary: "databases", Parts: []api.Part{{Name: "mysql", Default: 1, Min: 1, Max: 9, Ports: []api.Port{}, Volume: "data"}, {Name: "glb", Max: 3, Ports: []api.Port{}}},
		Settings: []api.Setting{}, Backups: true, Offers: []api.Offer{{Name: "host"}, {Name: "password", Secret: true}}, Secrets: []api.Secret{{Name: "password", Title: "Password of user mysqldb", Own: true}},
		Actions: []api.Action{
			{Name: "set_password", Summary: "sets the password of user mysqldb", Secret: "password", Params: []api.Parameter{{Name: "password", Help: "a random one if it is missing"}}},
			{Name: "create_database", Summary: "makes an empty database", Params: []api.Parameter{name("database")}},
			{Name: "load_dump", Summary: "runs the statements of a dump", Takes: "an SQL dump, perhaps packed", Params: []api.Parameter{{Name: "database", Help: "into this one"}}},
			{Name: "dump", Summary: "gives all databases as SQL", Gives: "dump.sql", Params: []api.Parameter{{Name: "database", Help: "only this one"}}}}}
}

const fakeDump = "-- a dump\nCREATE TABLE t (a INT);\n"

func (f *fake) answerData(w http.ResponseWriter, r *http.Request, s *api.Service, p []string, read func(any), body []byte) (int, any, error) {
	op := func(kind string) (int, any, error) {
		return f.operation(kind, kind+" of "+s.Name, s.Application, s.ID, nil)
	}
	switch what := r.Method + " " + p[1]; what {
	case "GET bindings":
		return 200, api.Bindings{Offers: api.Binding{Service: s.Name, Kind: s.Kind, Values: map[string]string{"host": "10.0.0.2", "password": ""}},
			Gets:      []api.Binding{{Service: "other", Kind: "mysql", Values: map[string]string{"host": "10.0.0.3", "password": ""}}},
			Variables: []api.Variable{{Name: "OTHER_HOST", Value: "10.0.0.3"}, {Name: "OTHER_PASSWORD", Secret: true}}}, nil
	case "GET secrets":
		return 200, []api.Secret{{Name: "password", Title: "Password of user mysqldb", Own: true, Shown: f.shown, Changed: fakeTime}}, nil
	case "PUT secrets":
		f.shown = false
		return op("service.secret")
	case "POST secrets":
		if f.shown {
			return 0, nil, &api.Error{Code: api.CodeConflict, Op: "show", Object: "secret password of service " + s.Name, Message: "it was shown before, and is shown once only", Hint: "set another one"}
		}
		f.shown = true
		return 200, api.Shown{Value: "Xk3mPq9RtVbn"}, nil
	case "POST streams":
		if bytes.HasPrefix(body, []byte("garbage")) {
			return 0, nil, &api.Error{Code: api.CodeInvalid, Op: "load_dump", Object: "line 1", Message: "this is no SQL dump"}
		}
		return 200, api.ActResult{Text: fmt.Sprintf("%d lines loaded.", bytes.Count(body, []byte("\n")))}, nil
	case "GET streams":
		w.Header().Set("Trailer", "Nutshell-Error")
		_, _ = io.WriteString(w, fakeDump)
		if r.URL.Query().Get("database") == "gone" {
			w.Header().Set("Nutshell-Error", `{"code":"unavailable","message":"the server went away"}`)
		}
		return 0, nil, nil
	case "GET backups":
		return 200, fakeBackups(), nil
	case "POST backups":
		return op("service.backup")
	case "POST restore":
		return op("service.restore")
	case "GET volumes", "POST volumes", "PATCH volumes", "DELETE volumes":
		if r.Method != http.MethodGet {
			return op("service.volume")
		}
		mine := slices.DeleteFunc(fakeVolumes(), func(v api.Volume) bool { return v.Service != s.ID })
		if p[2] == "" {
			return 200, mine, nil
		}
		if i := slices.IndexFunc(mine, func(v api.Volume) bool { return v.ID == p[2] || v.Name == p[2] }); i >= 0 {
			return 200, mine[i], nil
		}
		return 0, nil, &api.Error{Code: api.CodeNotFound, Object: "volume " + p[2], Message: "the service has no such volume"}
	}
	return 0, nil, api.NotFoundf("no route %s %s", r.Method, r.URL.Path)
}

func fakeVolumes() []api.Volume {
	return []api.Volume{
		{ID: "v1", Application: 1, Service: 1, Name: "data", Part: "mysql", Cloud: "default", Bytes: 4 << 30, Used: 1 << 30, Instance: "a1-s1-aaaaa", State: api.VolumeAttached, Created: fakeTime},
		{ID: "v2", Application: 1, Service: 2, Name: "files", Cloud: "default", Bytes: 1 << 30, State: api.VolumeFree, Instance: "a1-s2-zzzzz", Created: fakeTime, Snapshots: []api.Snapshot{{Name: "monday", Created: fakeTime}}},
		{ID: "v3", Application: 1, Service: 2, Name: "more", Cloud: "default", Bytes: 1 << 30, State: api.VolumeAttached, Instance: "a1-s2-aaaaa", Created: fakeTime}}
}

func fakeBackups() []api.Backup {
	return []api.Backup{{ID: "bk2", Application: 1, Service: 1, ApplicationName: "shop", ServiceName: "db", Kind: "mysql", Why: "scheduled", State: api.BackupReady, Bytes: 3 << 20, Taken: fakeTime, Until: fakeTime.Add(time.Hour), Verified: fakeTime,
		Finding: "2 databases, 14 tables, no error"}, {ID: "bk1", Application: 9, Service: 1, ApplicationName: "old", ServiceName: "db", Kind: "mysql", Why: "last", State: api.BackupReady, Bytes: 1 << 20, Taken: fakeTime}}
}

func (f *fake) answerBackups(r *http.Request, p []string) (int, any, error) {
	if len(p) == 1 {
		return 200, fakeBackups(), nil
	}
	i := slices.IndexFunc(fakeBackups(), func(b api.Backup) bool { return b.ID == p[1] })
	switch {
	case i < 0:
		return 0, nil, &api.Error{Code: api.CodeNotFound, Object: "backup " + p[1], Message: "there is no such backup"}
	case len(p) == 3:
		return f.operation("backup.verify", "verify backup "+p[1], 1, 1, nil)
	case r.Method == http.MethodDelete:
		return 204, nil, nil
	}
	return 200, fakeBackups()[i], nil
}

// A file that breaks off is neither kept nor taken for the whole.
func TestDumpThatBreaksOff(t *testing.T) {
	w := newWorld(t)
	t.Chdir(w.dir)
	for _, line := range []string{"nutshell application create shop", "nutshell mysql add shop --name db"} {
		if _, stderr, exit := w.run(t.Context(), line); exit != 0 {
			t.Fatal(stderr)
		}
	}
	_, stderr, exit := w.run(t.Context(), "nutshell mysql dump shop db --database gone -o broken.sql")
	if exit == 0 || !strings.Contains(stderr, "not the whole") || !strings.Contains(stderr, "the server went away") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	stdout, _, exit := w.run(t.Context(), "nutshell mysql dump shop db --database gone")
	if exit == 0 || stdout != fakeDump {
		t.Errorf("to stdout: exit %d, got %q", exit, stdout)
	}
	if left := w.files(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, stderr, exit := w.run(t.Context(), "nutshell mysql dump shop db -o whole.sql"); exit != 0 || !slices.Equal(w.files(), []string{"whole.sql"}) {
		t.Errorf("exit %d: %s; there are %v", exit, stderr, w.files())
	}
}

func TestMoment(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.Local)
	for text, want := range map[string]time.Time{"10m": now.Add(-10 * time.Minute), "2026-03-04 11:30:00": now.Add(-30 * time.Minute), "2026-03-04T11:30": now.Add(-30 * time.Minute),
		now.UTC().Format(time.RFC3339): now} {
		if got, err := moment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "-10m", "12", "2026-13-01 10:00"} {
		if got, err := moment(text, now); err == nil {
			t.Errorf("%s: got %v", text, got)
		}
	}
}

func TestVolumeSize(t *testing.T) {
	for text, want := range map[string]int64{"1024": 1 << 30, "2G": 2 << 30, "500M": 500 << 20, "1": 1 << 20} {
		if got, err := volumeSize(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"0", "-1", "", "big", "9999999999999", "0G"} {
		if got, err := volumeSize(text); err == nil {
			t.Errorf("%q: got %d", text, got)
		}
	}
}
