package director

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nutshell/roles/api"
	"nutshell/roles/internal/archive"
	"nutshell/roles/internal/store"
)

func ids(all []api.CodeVersion) (list []string) {
	for _, v := range all {
		list = append(list, v.ID)
	}
	return list
}

func TestOutdated(t *testing.T) {
	var all []api.CodeVersion
	for n := 6; n > 0; n-- {
		all = append(all, api.CodeVersion{ID: fmt.Sprint("v", n)})
	}
	all = append(all, api.CodeVersion{ID: DefaultVersion})
	service := func(keep int, version, previous, serving string) store.Service {
		return store.Service{Service: api.Service{Keep: keep, Version: version, Serving: serving}, Previous: previous}
	}
	for name, c := range map[string]struct {
		s     store.Service
		named []string
		want  string
	}{
		"newest few":            {service(2, "v6", "v5", "v6"), nil, "v4 v3 v2 v1"},
		"current is old":        {service(2, "v2", "", "v2"), nil, "v4 v3 v1"},
		"previous is old":       {service(2, "v6", "v1", "v6"), nil, "v4 v3 v2"},
		"another one serves":    {service(1, "v6", "v5", "v3"), nil, "v4 v2 v1"},
		"pushed again just now": {service(1, "v6", "v6", "v6"), []string{"v2"}, "v5 v4 v3 v1"},
		"all are kept":          {service(6, "v6", "", ""), nil, ""},
		"default is not one":    {service(5, DefaultVersion, "", DefaultVersion), nil, "v1"},
	} {
		if got := strings.Join(ids(outdated(c.s, all, c.named)), " "); got != c.want {
			t.Errorf("%s: %q go, want %q", name, got, c.want)
		}
	}
}

func (c client) upload(path string, files map[string]string) (v api.CodeVersion) {
	c.h.t.Helper()
	if status, e := c.bytesTo("POST", path+"/versions?filename=site.tar.gz", bytes.NewReader(archiveOf(c.h.t, files)), &v); status != 201 {
		c.h.t.Fatalf("upload: %d %v", status, e)
	}
	return v
}

func TestVersionsComeAndGo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	path := "/applications/shop/services/test"
	list := func() []string {
		var all []api.CodeVersion
		h.admin.must("GET", path+"/versions", nil, &all, 200)
		return ids(all)
	}
	h.admin.refused("POST", path+"/rollback", nil, api.CodeConflict)
	one := h.admin.upload(path, map[string]string{"index.html": "one", "gone.txt": "gone", "same.txt": "same"})
	two := h.admin.upload(path, map[string]string{"index.html": "number two", "new.txt": "n", "same.txt": "same"})
	h.admin.done("POST", path+"/activate", api.Activate{Version: one.ID})
	h.admin.done("POST", path+"/activate", api.Activate{Version: two.ID})
	for _, want := range []string{one.ID, two.ID, one.ID} {
		h.admin.done("POST", path+"/rollback", nil)
		if s := h.admin.service(path); s.Version != want {
			t.Errorf("rolled back to %s, want %s", s.Version, want)
		}
	}

	var d api.Difference
	h.admin.must("GET", path+"/versions/"+two.ID+"/diff/"+one.ID, nil, &d, 200)
	want := api.Difference{From: one.ID, To: two.ID, Same: 1, Files: []api.FileChange{
		{Path: "gone.txt", Change: "removed", Before: 4}, {Path: "index.html", Change: "changed", Before: 3, After: 10}, {Path: "new.txt", Change: "added", After: 1}}}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
	h.admin.must("GET", path+"/versions/"+two.ID+"/diff/"+two.ID, nil, &d, 200)
	if d.Same != 3 || len(d.Files) != 0 {
		t.Errorf("a version differs from itself: %+v", d)
	}
	h.admin.refused("GET", path+"/versions/"+two.ID+"/diff/nothing", nil, api.CodeNotFound)
	var files []api.File
	h.admin.must("GET", path+"/versions/"+one.ID+"/files", nil, &files, 200)
	if len(files) != 3 || files[1] != (api.File{Path: "index.html", Bytes: 3, Mode: "-rw-r--r--", SHA256: sumOf([]byte("one"))}) {
		t.Errorf("files: %+v", files)
	}

	// Retention: at once when it is set, then with each new version.
	h.admin.refused("PATCH", path, map[string]any{"keep_versions": -1}, api.CodeInvalid)
	three := h.admin.upload(path, map[string]string{"index.html": "3"})
	four := h.admin.upload(path, map[string]string{"index.html": "4"})
	var s api.Service
	h.admin.must("PATCH", path, map[string]any{"keep_versions": 1, "auto_deploy": false}, &s, 200)
	if s.Keep != 1 || s.AutoDeploy || s.Name != "test" {
		t.Errorf("changed: %+v", s)
	}
	if got, want := list(), []string{four.ID, two.ID, one.ID, DefaultVersion}; !slices.Equal(got, want) { // one is current, two served before
		t.Errorf("kept %v, want %v", got, want)
	}
	h.eventually("its bytes are gone", func() bool { return !h.d.code.Has(three.SHA256) })
	h.admin.done("POST", path+"/activate", api.Activate{Version: four.ID})
	if got, want := list(), []string{four.ID, one.ID, DefaultVersion}; !slices.Equal(got, want) {
		t.Errorf("kept after activation %v, want %v", got, want)
	}
}

func TestCompare(t *testing.T) {
	file := func(path string, bytes int64, sum string) archive.File {
		return archive.File{Path: path, Mode: 0o644, Bytes: bytes, SHA256: sum}
	}
	run := file("run.sh", 3, "r")
	runnable := run
	runnable.Mode = 0o755
	var d api.Difference
	compare(&d, []archive.File{file("a", 1, "1"), file("b", 2, "2"), run, file("\xff", 1, "x")}, []archive.File{file("b", 2, "3"), file("c", 9, "c"), runnable, file("\xff", 1, "x")})
	want := api.Difference{Same: 1, Files: []api.FileChange{{Path: "a", Change: "removed", Before: 1}, {Path: "b", Change: "changed", Before: 2, After: 2},
		{Path: "c", Change: "added", After: 9}, {Path: "run.sh", Change: "changed", Before: 3, After: 3}}}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
	var many []archive.File
	for n := range changesMost + 7 {
		many = append(many, file(fmt.Sprintf("%06d", n), 1, "x"))
	}
	d = api.Difference{}
	if compare(&d, nil, many); len(d.Files) != changesMost || d.Omitted != 7 {
		t.Errorf("%d told, %d left out", len(d.Files), d.Omitted)
	}
}
