package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"nutshell/roles/api"
)

// contentPolicy lets pages load what this port serves and nothing else: no
// inline script or style, no frame around them, no other host.
const contentPolicy = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"

func isAPI(p string) bool { return p == "/api" || strings.HasPrefix(p, "/api/") }

// pages serves the built user interface. Addresses that are no file are the
// pages' own routes and get index.html, also with a dot in a name.
type pages struct {
	files fs.FS
	tags  map[string]string // ETag by name; embedded files have no times
}

func newPages(files fs.FS) (*pages, error) {
	p := &pages{files: files, tags: map[string]string{}}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(files, name)
		sum := sha256.Sum256(b)
		p.tags[name] = `"` + hex.EncodeToString(sum[:8]) + `"`
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("httpapi: read the user interface: %w", err)
	}
	return p, nil
}

// ServeHTTP serves one file, or index.html.
func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if changes(r.Method) {
		writeProblem(w, toProblem(r.Context(), api.NotFoundf("there is nothing at %s %s", r.Method, api.Shorten(r.URL.Path))))
		return
	}
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	_, found := p.tags[name]
	switch {
	case found:
	case strings.HasPrefix(name, "assets/"): // a script of an earlier build, say; a page in its place would be run as one
		writeProblem(w, toProblem(r.Context(), api.NotFoundf("there is no file %s", api.Shorten(name))))
		return
	default:
		name = "index.html"
	}
	b, err := fs.ReadFile(p.files, name)
	if errors.Is(err, fs.ErrNotExist) {
		writeProblem(w, toProblem(r.Context(), api.NotFoundf("the user interface is not built in; run make ui")))
		return
	}
	if err != nil {
		writeProblem(w, toProblem(r.Context(), err))
		return
	}
	w.Header().Set("ETag", p.tags[name])
	if strings.HasPrefix(name, "assets/") { // their names hold their hash
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		w.Header().Set("Cache-Control", "no-cache")
	}
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(b))
}
