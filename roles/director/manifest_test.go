package director

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/manifest"
)

// post sends a manifest as a client does.
func (c client) post(path string, body []byte) (int, []byte) {
	c.h.t.Helper()
	resp := c.raw("POST", path, bytes.NewReader(body), http.Header{"Content-Type": {"application/octet-stream"}})
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.h.t.Fatal(err)
	}
	return resp.StatusCode, b
}

// manifest sends a manifest and waits for the end of its operation.
func (c client) manifest(body []byte) api.Operation {
	c.h.t.Helper()
	return c.wait(c.begun(body).ID)
}

func (c client) begun(body []byte) api.Operation {
	c.h.t.Helper()
	status, b := c.post("/manifests", body)
	var o api.Operation
	if err := json.Unmarshal(b, &o); err != nil || status != 202 {
		c.h.t.Fatalf("POST /manifests: %d %s", status, b)
	}
	return o
}

// tarOf is a manifest with the files beside it.
func tarOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestManifestStory makes an application of a manifest with files beside it,
// downloads it with its data, and makes it again of that.
func TestManifestStory(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.user("ann")
	text := `
Description: Two of a kind
Application: pair
Services:
  - {Type: test, ServiceName: last, Start: 0, StartupInstances: {web: 2}}
  - Type: test
    ServiceName: first
    StartupInstances: {count: 2}
    StartupScript: script.sh
    Archive: code/site.tar.gz
    Files: {extra.txt: added, index.html: replaced}
    Settings: {level: 5}
    Environment: {MODE: production, KEY: {secret: hush}, SALT: {random: 20}}
    Bind: [last]
    KeepVersions: 3
    AutoDeploy: 0
`
	site := string(archiveOf(t, map[string]string{"top/index.html": "old\n", "top/a.txt": "a"}))
	o := ann.manifest(tarOf(t, map[string]string{"m/manifest.yaml": text, "m/script.sh": "#!/bin/sh\ntrue\n", "m/code/site.tar.gz": site}))
	if o.State != api.OperationDone || o.Progress != 1 {
		t.Fatalf("operation: %+v %v", o, o.Error)
	}
	if strings.Contains(string(o.Request), "hush") {
		t.Errorf("the request tells a secret: %s", o.Request)
	}
	first := ann.service("/applications/pair/services/first")
	if first.State != api.Running || first.Parts["web"] != 2 || first.Keep != 3 || first.AutoDeploy || !slices.Equal(first.Bind, []string{"last"}) || !strings.Contains(string(first.Settings), `"level":5`) {
		t.Errorf("first: %+v", first)
	}
	if last := ann.service("/applications/pair/services/last"); last.State != api.Init || last.Parts["web"] != 2 {
		t.Errorf("last: %+v", last)
	}
	var files []api.File
	ann.must("GET", "/applications/pair/services/first/versions/"+first.Version+"/files", nil, &files, 200)
	var names []string
	for _, f := range files {
		names = append(names, f.Path)
	}
	if !slices.Equal(names, []string{"a.txt", "extra.txt", "index.html"}) || files[2].Bytes != int64(len("replaced")) {
		t.Errorf("files: %v", files)
	}
	h.eventually("the manifest's files go", func() bool { // after the operation is seen as done
		_, err := os.Stat(filepath.Join(h.dir, "manifests", o.ID))
		return os.IsNotExist(err)
	})

	resp := ann.raw("GET", "/applications/pair/manifest?format=json", nil, nil)
	plain, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if strings.Contains(string(plain), "hush") || !strings.Contains(string(plain), `"secret": null`) {
		t.Errorf("plain manifest: %s", plain)
	}
	if status, b := ann.post("/manifests/check", plain); status != 422 || !strings.Contains(string(b), "left out") {
		t.Errorf("check of a manifest without its secrets: %d %s", status, b)
	}
	resp = ann.raw("GET", "/applications/pair/manifest?data=true", nil, nil)
	whole, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	bob := h.user("bob")
	if o = bob.manifest(whole); o.State != api.OperationDone {
		t.Fatalf("made again: %+v %v", o, o.Error)
	}
	copied := bob.service("/applications/pair/services/first")
	var v api.CodeVersion
	bob.must("GET", "/applications/pair/services/first/versions/"+copied.Version, nil, &v, 200)
	if copied.State != api.Running || copied.Parts["web"] != 2 || v.Files != 3 {
		t.Errorf("copy: %+v %+v", copied, v)
	}
	a, err := h.d.store.Application(t.Context(), 0, "2")
	if err != nil {
		t.Fatal(err)
	}
	row, err := h.d.store.Service(t.Context(), a.ID, "first")
	if err != nil {
		t.Fatal(err)
	}
	list, err := h.d.environment(row, row.Environment)
	if err != nil || len(list) != 3 || list[0].Value != "hush" || !list[0].Secret || len(list[2].Value) != 20 || row.Script != "#!/bin/sh\ntrue\n" {
		t.Errorf("environment of the copy: %+v %v, script %q", list, err, row.Script)
	}
	again := bob.begun(whole)
	if !strings.HasSuffix(again.Title, "pair-2") {
		t.Errorf("a second one is called %q", again.Title)
	}
	bob.wait(again.ID)
}

// TestManifestRefused refuses before anything is made, and says where.
func TestManifestRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.user("ann")
	one := func(lines string) string { return "Services:\n  - Type: test\n    " + lines }
	for name, c := range map[string]struct{ text, want string }{
		"no-such-kind":     {"Services: [{Type: cobol}]", "Type"},
		"no-such-cloud":    {one("Cloud: mars"), "Cloud"},
		"no-such-setting":  {one("Settings: {no_level: 1}"), "Settings"},
		"setting-bounds":   {one("Settings: {level: 99}"), "Settings"},
		"no-such-role":     {one("StartupInstances: {glb: 1}"), "StartupInstances"},
		"too-many":         {one("StartupInstances: {web: 9}"), "StartupInstances"},
		"fixed-role":       {one("StartupInstances: {master: 1}"), "StartupInstances"},
		"too-many-in-all":  {"Services: [{Type: test, StartupInstances: {web: 5}}, {Type: test, StartupInstances: {web: 5}}]", "10 instances"},
		"our-variable":     {one("Environment: {PATH: /x}"), "Environment"},
		"no-dumps":         {one("Dump: https://example.org/x.sql"), "load no dumps"},
		"no-password":      {one("Password: x"), "no user of their own"},
		"no-volumes":       {one("Volumes: [{Name: a, Size: 1G}]"), "take no volumes"},
		"no-databases":     {one("Databases: [a]"), "have no databases"},
		"no-edge":          {one("Sites: [a.example.org]"), "no names of its own"},
		"not-xtreemfs":     {one("VolumeStartup: {volumeName: data}"), "file systems"},
		"no-apt":           {one("Archive: debian:wordpress"), "makes no code of Debian packages"},
		"file-not-sent":    {one("Archive: code.tar.gz"), "did not come with it"},
		"file-not-sent-in": {string(tarOf(t, map[string]string{"manifest.yaml": one("Archive: code.tar.gz"), "other": "x"})), "did not come with it"},
		"tar-without":      {string(tarOf(t, map[string]string{"other.yaml": "x", "b": "c"})), "no manifest.yaml"},
		"tar-escapes":      {string(tarOf(t, map[string]string{"manifest.yaml": "Services: []", "../x": "y"})), "x"},
	} {
		t.Run(name, func(t *testing.T) {
			status, b := ann.post("/manifests", []byte(c.text))
			var e api.Error
			if err := json.Unmarshal(b, &e); err != nil || status != 422 || !strings.Contains(e.Error(), c.want) {
				t.Errorf("got %d %s, want %q", status, b, c.want)
			}
		})
	}
	var apps []api.Application
	ann.must("GET", "/applications", nil, &apps, 200)
	left, err := os.ReadDir(filepath.Join(h.dir, "manifests"))
	if len(apps) != 0 || err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v %v", apps, left, err)
	}
}

// TestManifestFetches takes archives of web servers, but of public ones only
// unless that is configured, and makes nothing when one is missing.
func TestManifestFetches(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	site := archiveOf(t, map[string]string{"index.html": "fetched\n"})
	hits := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/site.tar.gz":
			_, _ = w.Write(site)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/on":
			http.Redirect(w, r, "/site.tar.gz", http.StatusFound)
		case "/flaky":
			if hits++; hits == 1 {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			_, _ = w.Write(site)
		case "/page":
			_, _ = io.WriteString(w, "<html>not an archive</html>")
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	defer web.Close()
	ann := h.user("ann")
	text := func(path string) []byte {
		return []byte("Application: fetched\nServices:\n  - {Type: test, ServiceName: good}\n  - {Type: test, ServiceName: web, Archive: '" + web.URL + path + "'}\n")
	}
	failed := func(path, want string) {
		t.Helper()
		o := ann.manifest(text(path))
		if o.State != api.OperationFailed || o.Error == nil || !strings.Contains(o.Error.Error(), want) || !strings.Contains(o.Error.Error(), "service web: Archive") {
			t.Errorf("%s: %s %v, want %q", path, o.State, o.Error, want)
		}
		ann.refused("GET", "/applications/fetched", nil, api.CodeNotFound)
		if list, _ := h.sim.List(t.Context()); len(list) != 0 {
			t.Errorf("%s: instances were started: %v", path, list)
		}
	}
	failed("/site.tar.gz", "not public")
	h.d.c.FetchPrivate = true
	failed("/missing", "404")
	failed("/round", "more than 5 times")
	failed("/page", "not an archive")
	failed("/file", "type")
	for _, path := range []string{"/site.tar.gz", "/on", "/flaky"} {
		if o := ann.manifest(text(path)); o.State != api.OperationDone {
			t.Fatalf("%s: %s %v", path, o.State, o.Error)
		}
		ann.done("DELETE", "/applications/fetched", nil)
	}
}

func TestPublicAddresses(t *testing.T) {
	for address, want := range map[string]bool{"93.184.216.34": true, "2606:2800:220:1::1": true, "127.0.0.1": false, "10.1.2.3": false, "192.168.1.1": false, "172.16.0.1": false,
		"169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false, "::1": false, "::ffff:127.0.0.1": false, "fe80::1": false, "fd00::1": false, "64:ff9b::7f00:1": false,
		"224.0.0.1": false, "255.255.255.255": false, "2002:7f00:1::": false} {
		if got := public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: public is %v", address, got)
		}
	}
}

// TestManifestUndone takes everything away when a part fails or a user cancels,
// and makes it when the operation is tried again.
func TestManifestUndone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.user("ann")
	text := []byte("Application: doomed\nServices:\n  - {Type: test, ServiceName: one}\n  - {Type: test, ServiceName: two, Environment: {KEY: {secret: hush}}}\n")
	h.mu.Lock()
	h.fail[serviceStart] = &api.Error{Code: api.CodeUnavailable, Message: "the wheels came off"}
	h.mu.Unlock()
	o := ann.manifest(text)
	if o.State != api.OperationFailed || !strings.Contains(o.Error.Error(), "the wheels came off") || !strings.Contains(o.Error.Error(), "service") || o.Undone == "" {
		t.Errorf("failed: %s %v, undone %q", o.State, o.Error, o.Undone)
	}
	gone := func() {
		t.Helper()
		ann.refused("GET", "/applications/doomed", nil, api.CodeNotFound)
		list, err := h.sim.List(t.Context())
		if err != nil || len(list) != 0 {
			t.Errorf("instances left behind: %v %v", list, err)
		}
	}
	gone()
	h.mu.Lock()
	delete(h.fail, serviceStart)
	hold := make(chan struct{})
	h.hold[serviceStart] = hold
	h.mu.Unlock()
	var again api.Operation
	ann.must("POST", "/operations/"+o.ID+"/retry", nil, &again, 202)
	if again.RetryOf != o.ID {
		t.Errorf("retry: %+v", again)
	}
	h.eventually("the services are being started", func() bool {
		var ops []api.Operation
		ann.must("GET", "/operations?state=active", nil, &ops, 200)
		return len(ops) == 3
	})
	ann.must("POST", "/operations/"+again.ID+"/cancel", nil, nil, 200)
	if o = ann.wait(again.ID); o.State != api.OperationCancelled {
		t.Errorf("cancelled: %s %v", o.State, o.Error)
	}
	gone()
	h.mu.Lock()
	delete(h.hold, serviceStart)
	h.mu.Unlock()
	close(hold)
	ann.must("POST", "/operations/"+o.ID+"/retry", nil, &again, 202)
	if o = ann.wait(again.ID); o.State != api.OperationDone {
		t.Errorf("tried again: %s %v", o.State, o.Error)
	}
	ann.refused("POST", "/operations/"+o.ID+"/retry", nil, api.CodeConflict)
}

// TestManifestOutlivesTheDirector goes on after the director's death, wherever
// it was, and undoes what was being undone.
func TestManifestOutlivesTheDirector(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	text := []byte("Application: tough\nServices:\n  - {Type: test, ServiceName: one, Files: {index.html: x}}\n  - {Type: test, ServiceName: two}\n")
	hold := make(chan struct{})
	h.hold[serviceStart] = hold
	o := h.admin.begun(text)
	h.eventually("the services are being started", func() bool {
		var ops []api.Operation
		h.admin.must("GET", "/operations?state=active", nil, &ops, 200)
		return len(ops) == 3
	})
	h.stopDirector()
	h.start()
	h.mu.Lock()
	delete(h.hold, serviceStart)
	h.mu.Unlock()
	close(hold)
	end := o
	h.eventually("the operation ends", func() bool {
		h.admin.must("GET", "/operations/"+o.ID+"?wait=1s", nil, &end, 200)
		return end.State.Final()
	})
	if end.State != api.OperationDone {
		t.Fatalf("after the restart: %s %v", end.State, end.Error)
	}
	var a api.Application
	h.admin.must("GET", "/applications/tough", nil, &a, 200)
	if len(a.Services) != 2 || a.State != api.Running {
		t.Errorf("application: %+v", a)
	}

	hold = make(chan struct{})
	h.mu.Lock()
	h.hold[serviceStart] = hold
	h.mu.Unlock()
	o = h.admin.begun([]byte(strings.ReplaceAll(string(text), "tough", "undone")))
	h.eventually("its services are being started", func() bool {
		var ops []api.Operation
		h.admin.must("GET", "/operations?state=active", nil, &ops, 200)
		return len(ops) == 3
	})
	h.stopDirector()
	if err := os.WriteFile(filepath.Join(h.dir, "manifests", o.ID, undoName), []byte(`{"code":"unavailable","message":"as it was"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.eventually("the undoing ends", func() bool {
		h.admin.must("GET", "/operations/"+o.ID+"?wait=1s", nil, &end, 200)
		return end.State.Final()
	})
	close(hold)
	if end.State != api.OperationFailed || end.Error.Message != "as it was" {
		t.Errorf("undone after the restart: %s %v", end.State, end.Error)
	}
	h.admin.refused("GET", "/applications/undone", nil, api.CodeNotFound)
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var list []api.Template
	h.admin.must("GET", "/templates", nil, &list, 200)
	if len(list) != 3 || list[1].Name != "wordpress" || !slices.Equal(list[1].Kinds, []string{"php", "mysql"}) || list[1].Problem == "" {
		t.Errorf("templates: %+v", list)
	}
	h.admin.refused("GET", "/templates/joomla", nil, api.CodeNotFound)
	for _, x := range list {
		m, err := manifest.Parse([]byte(x.Manifest))
		if err == nil {
			err = m.Complete()
		}
		if err != nil {
			t.Errorf("%s: %v", x.Name, err)
		}
	}
	resp := h.admin.raw("GET", "/manifests/schema", nil, nil)
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.Contains(string(b), `"const":"test"`) {
		t.Errorf("schema: %s", b)
	}
}

// TestManifestsAreSwept keeps what can be tried again, for a day.
func TestManifestsAreSwept(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.fail[serviceStart] = &api.Error{Code: api.CodeUnavailable, Message: "no"}
	o := h.admin.manifest([]byte("Services: [{Type: test}]"))
	dir := filepath.Join(h.dir, "manifests", o.ID)
	h.d.dropManifests(t.Context())
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("a failed manifest is gone at once: %v", err)
	}
	later := time.Now().Add(2 * manifestKept)
	now := h.d.c.Now
	h.d.c.Now = func() time.Time { return later }
	h.d.dropManifests(t.Context())
	h.d.c.Now = now
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a failed manifest is kept: %v", err)
	}
	h.admin.refused("POST", "/operations/"+o.ID+"/retry", nil, api.CodeNotFound)
}
