package director

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nutshell/roles/api"
)

// archiveOf is an archive that a user would upload.
func archiveOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestStory is the life of an application as its owner sees it.
func TestStory(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.user("ann")
	ann.running("shop")
	path := "/applications/shop/services/test"

	var shop api.Application
	ann.must("GET", "/applications/shop", nil, &shop, 200)
	if shop.State != api.Running || shop.Manager == nil || shop.Manager.State != api.InstanceReady || len(shop.Services) != 1 {
		t.Errorf("application after start: %+v", shop)
	}
	if s := ann.service(path); s.State != api.Running || len(s.Instances) != 1 || s.ID != 1 || s.Version != DefaultVersion {
		t.Errorf("service after start: %+v", s)
	}
	ann.refused("POST", "/applications/shop/start", nil, api.CodeConflict)
	ann.refused("POST", path+"/start", nil, api.CodeConflict)

	var p api.Preview
	ann.must("POST", path+"/preview", api.Scale{Add: map[string]int{"count": 2}}, &p, 200)
	if diff := cmp.Diff(api.Preview{Parts: map[string]int{"web": 3, "master": 0}, Launch: [][]string{{"web"}, {"web"}}, Leave: []string{}, Change: []string{}, Credits: 2}, p); diff != "" {
		t.Errorf("preview: %s", diff)
	}
	ann.done("POST", path+"/scale", api.Scale{Add: map[string]int{"count": 2}})
	s := ann.service(path)
	if s.Parts["web"] != 3 || len(s.Instances) != 3 || s.State != api.Running {
		t.Errorf("service after growing: %+v", s)
	}
	gone := s.Instances[0].ID
	ann.done("POST", path+"/scale", api.Scale{Set: map[string]int{"web": 2}, Remove: []string{gone}})
	if s = ann.service(path); len(s.Instances) != 2 || slices.ContainsFunc(s.Instances, func(i api.Instance) bool { return i.ID == gone }) {
		t.Errorf("service after shrinking by %s: %+v", gone, s.Instances)
	}

	resp := ann.raw("POST", path+"/versions?filename=site.tar.gz&description=first", bytes.NewReader(archiveOf(t, map[string]string{"index.html": "new\n", "a.txt": "a"})), http.Header{"Content-Type": {"application/octet-stream"}})
	var v api.CodeVersion
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err := json.Unmarshal(b, &v); err != nil || resp.StatusCode != 201 || v.Files != 2 || v.By != "ann" {
		t.Fatalf("upload: %d %s", resp.StatusCode, b)
	}
	ann.done("POST", path+"/activate", api.Activate{Version: v.ID})
	h.eventually("the new version serves", func() bool { return ann.service(path).Serving == v.ID })
	ann.refused("DELETE", path+"/versions/"+v.ID, nil, api.CodeConflict)
	ann.done("POST", path+"/activate", api.Activate{Version: DefaultVersion})
	h.eventually("the old version serves", func() bool { return ann.service(path).Serving == DefaultVersion })
	down := ann.raw("GET", path+"/versions/"+v.ID+"/download", nil, nil)
	got, _ := io.ReadAll(down.Body)
	down.Body.Close()
	if int64(len(got)) != v.Bytes || !strings.Contains(down.Header.Get("Content-Disposition"), "site.tar.gz") {
		t.Errorf("download: %d bytes, %v", len(got), down.Header)
	}
	ann.must("DELETE", path+"/versions/"+v.ID, nil, nil, 204)
	h.eventually("its bytes are gone", func() bool { return !h.d.code.Has(v.SHA256) })

	ann.done("PATCH", path+"/settings", map[string]any{"level": 4})
	var settings map[string]any
	ann.must("GET", path+"/settings", nil, &settings, 200)
	if settings["level"] != 4.0 || settings["memory"] != "64M" {
		t.Errorf("settings: %v", settings)
	}
	var said api.ActResult
	ann.must("POST", path+"/actions/hello", api.Act{Args: map[string]string{"who": "world"}}, &said, 200)
	if said.Text != "hello world" {
		t.Errorf("action said %q", said.Text)
	}
	logs := ann.raw("GET", path+"/log?tail=7", nil, nil)
	text, _ := io.ReadAll(logs.Body)
	logs.Body.Close()
	if !strings.HasPrefix(string(text), "log of a1-s0-") || !strings.HasSuffix(string(text), "tail 7\n") {
		t.Errorf("log: %q", text)
	}

	ann.done("POST", "/applications/shop/stop", nil)
	shop = api.Application{}
	ann.must("GET", "/applications/shop", nil, &shop, 200)
	if shop.State != api.Stopped || shop.Manager != nil || shop.Services[0].State != api.Stopped || shop.Services[0].Parts["web"] != 2 {
		t.Errorf("application after stop: %+v", shop)
	}
	ann.refused("POST", path+"/actions/hello", api.Act{Args: map[string]string{"who": "x"}}, api.CodeUnavailable)
	ann.done("POST", "/applications/shop/start", nil)
	h.eventually("the service runs with the application", func() bool {
		s := ann.service(path)
		return s.State == api.Running && len(s.Instances) == 2
	})
	ann.done("DELETE", path, nil)
	ann.refused("GET", path, nil, api.CodeNotFound)
	ann.done("DELETE", "/applications/shop", nil)
	ann.refused("GET", "/applications/shop", nil, api.CodeNotFound)
	left, err := h.sim.List(t.Context())
	if err != nil || len(left) != 0 {
		t.Errorf("instances left behind: %v %v", left, err)
	}
	h.admin.must("DELETE", "/users/ann", nil, nil, 204)
	var log []api.AuditEntry
	h.admin.must("GET", "/audit?limit=1000", nil, &log, 200)
	actions := map[string]bool{}
	for _, e := range log {
		actions[e.Actor+" "+e.Action+" "+e.Result] = true
	}
	for _, want := range []string{"admin user.create ok", "ann application.start ok", "ann application.start conflict", "ann service.scale ok", "ann version.create ok", "ann application.delete ok"} {
		if !actions[want] {
			t.Errorf("audit has no %q, only %v", want, actions)
		}
	}
}
