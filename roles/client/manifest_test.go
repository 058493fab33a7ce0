package client

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nutshell/roles/api"
)

// This part of the fake director answers for manifests and templates.

var fakeTemplate = api.Template{Name: "sudoku", Title: "Sudoku", Summary: "a puzzle", Kinds: []string{"php"}, Credits: 2, Manifest: "Application: sudoku\nServices: [{Type: php}]\n"}

func (f *fake) answerManifests(r *http.Request, p []string, body []byte) (int, any, error) {
	f.sent = body
	if len(p) > 1 && p[1] == "check" {
		return 200, api.ManifestCheck{Application: "shop", Credits: 3, Services: []api.ManifestService{{Name: "web", Kind: "php", Parts: map[string]int{"proxy": 1, "backend": 2}, Started: true}}, Missing: []string{}, Notes: []string{"StartRole has no effect"}}, nil
	}
	name := r.URL.Query().Get("application")
	if name == "" {
		name = "shop"
	}
	a := &api.Application{ID: int64(len(f.apps) + 1), Name: name, Owner: "admin", State: api.Running, Desired: api.GoalStarted, Cloud: "default", Created: fakeTime}
	f.apps = append(f.apps, a)
	f.services = append(f.services, &api.Service{ID: 1, Application: a.ID, Name: "web", Kind: "php", State: api.Running, URLs: []string{"http://127.1.0.9:20080/"}})
	return f.operation("application.manifest", "make application "+name, a.ID, 0, nil)
}

func (f *fake) answerTemplates(p []string) (int, any, error) {
	broken := api.Template{Name: "wordpress", Title: "WordPress", Summary: "a blog", Kinds: []string{"php", "mysql"}, Credits: 3, Manifest: "Services: []\n", Problem: "this machine has no apt"}
	switch {
	case len(p) == 1:
		return 200, []api.Template{fakeTemplate, broken}, nil
	case p[1] == "sudoku":
		return 200, fakeTemplate, nil
	case p[1] == "wordpress":
		return 200, broken, nil
	}
	return 0, nil, api.NotFoundf("there is no template %s", p[1])
}

// TestManifestGoesWithItsFiles sends what the manifest names, seen from its
// folder, and an archive as it is.
func TestManifestGoesWithItsFiles(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(w.dir, "shop")
	if err := os.MkdirAll(filepath.Join(dir, "web"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "Services:\n  - {Type: php, Archive: web/code.tar.gz, StartupScript: start.sh}\n  - {Type: mysql, Dump: 'https://example.org/x.sql'}\n"
	for name, content := range map[string]string{"manifest.yaml": text, "web/code.tar.gz": "code", "start.sh": "#!/bin/sh\n", "not-named": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range []string{"nutshell application manifest " + dir, "nutshell application manifest " + filepath.Join(dir, "manifest.yaml") + " --name copy"} {
		if _, stderr, exit := w.run(t.Context(), line); exit != 0 {
			t.Fatalf("%s: %s", line, stderr)
		}
		got := map[string]string{}
		for r := tar.NewReader(bytes.NewReader(w.sent)); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(r)
			got[h.Name] = string(b)
		}
		if len(got) != 3 || got["manifest.yaml"] != text || got["web/code.tar.gz"] != "code" || got["start.sh"] == "" {
			t.Errorf("sent: %v", got)
		}
	}
	packed := filepath.Join(w.dir, "packed.tar.gz")
	if err := os.WriteFile(packed, []byte("\x1f\x8bpacked"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, exit := w.run(t.Context(), "nutshell application manifest "+packed); exit != 0 || string(w.sent) != "\x1f\x8bpacked" {
		t.Errorf("an archive is not sent as it is: %s", stderr)
	}
	if err := os.Remove(filepath.Join(dir, "start.sh")); err != nil {
		t.Fatal(err)
	}
	w.take()
	if _, stderr, exit := w.run(t.Context(), "nutshell application manifest "+dir); exit != 2 || !strings.Contains(stderr, "file start.sh") || len(w.take()) != 0 {
		t.Errorf("a missing file: %d %s", exit, stderr)
	}
}

// TestManifestIsWrittenWholeOrNot leaves the old file when the new one breaks off.
func TestManifestIsWrittenWholeOrNot(t *testing.T) {
	w := newWorld(t)
	w.run(t.Context(), "nutshell application create shop")
	to := filepath.Join(w.dir, "shop.tar")
	if _, stderr, exit := w.run(t.Context(), "nutshell application download-manifest shop --data -f "+to); exit != 0 {
		t.Fatal(stderr)
	}
	b, err := os.ReadFile(to)
	if err != nil || !strings.HasPrefix(string(b), "a tar of shop") {
		t.Fatalf("%q %v", b, err)
	}
	w.breakOff = true
	if _, _, exit := w.run(t.Context(), "nutshell application download-manifest shop --data -f "+to); exit == 0 {
		t.Error("a download that broke off is a success")
	}
	if again, _ := os.ReadFile(to); !bytes.Equal(again, b) {
		t.Errorf("the old file became %q", again)
	}
	if list, _ := filepath.Glob(filepath.Join(w.dir, ".nutshell-*")); len(list) != 0 {
		t.Errorf("left behind: %v", list)
	}
}

// sendManifest answers the download of a manifest.
func (f *fake) sendManifest(w http.ResponseWriter, r *http.Request, a *api.Application) (int, any, error) {
	if r.URL.Query().Get("data") != "true" {
		fmt.Fprintf(w, "Application: %s\n", a.Name)
		return 0, nil, nil
	}
	fmt.Fprintf(w, "a tar of %s", a.Name)
	if f.breakOff {
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return 0, nil, nil
}
