package client

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
	"nutshell/roles/internal/manifest"
)

// manifestVerbs are those verbs of the object application that have to do with
// manifests.
func (c *Client) manifestVerbs() []*cli.Command {
	place := func() []cli.Flag {
		return []cli.Flag{&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Usage: "call the application so, whatever the manifest says"},
			&cli.StringFlag{Name: "cloud", Aliases: []string{"c"}, Usage: "in this cloud, where the manifest names none"}}
	}
	const file = "<manifest>"
	return []*cli.Command{
		examples(c.verb("manifest", "make an application of a manifest: a file with the files that it names, a folder or an archive of both, or - for stdin", file, makeOfManifest, place()...),
			"nutshell application manifest shop.yaml", "nutshell application manifest shop.tar --name shop-copy", "nutshell template show wordpress | nutshell application manifest -"),
		examples(c.verb("check-manifest", "say what a manifest would make, and what is wrong with it", file, checkManifest, place()...), "nutshell application check-manifest shop.yaml"),
		examples(c.verb("download-manifest", "write a manifest of an application, from which the like of it can be made", argApp, onApplication(downloadManifest),
			&cli.BoolFlag{Name: "data", Usage: "a tar with code, dumps of databases and the values of secrets"},
			&cli.StringFlag{Name: "format", Usage: "yaml or json, without --data", Value: "yaml"},
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "write to this file instead of stdout"}),
			"nutshell application download-manifest shop > shop.yaml", "nutshell application download-manifest shop --data -f shop.tar"),
	}
}

// templateVerbs are the verbs of the object template.
func (c *Client) templateVerbs() []*cli.Command {
	return []*cli.Command{
		c.verb("list", "ready-made applications", "", listTemplates),
		c.verb("show", "the manifest of a ready-made application", "<template>", func(r *call) error {
			t, err := r.template()
			if err != nil {
				return err
			}
			return r.showText(t, func(w io.Writer) { fmt.Fprint(w, t.Manifest) })
		}),
		examples(c.verb("start", "make a ready-made application", "<template>", func(r *call) error {
			t, err := r.template()
			if err != nil {
				return err
			}
			if t.Problem != "" {
				return &api.Error{Code: api.CodeUnavailable, Op: "start", Object: "template " + t.Name, Message: t.Problem}
			}
			return r.makeApplication(io.NopCloser(strings.NewReader(t.Manifest)))
		}, &cli.StringFlag{Name: "name", Aliases: []string{"n"}, Usage: "call the application so"}, &cli.StringFlag{Name: "cloud", Aliases: []string{"c"}, Usage: "in this cloud"}),
			"nutshell template start wordpress", "nutshell template start wordpress --name blog"),
	}
}

func listTemplates(r *call) error {
	var all []api.Template
	if err := r.get("/templates", &all); err != nil {
		return err
	}
	t := &table{columns: []string{"template", "services", "credits/hour", "summary"}, none: "No templates."}
	for _, x := range all {
		summary := x.Summary
		if x.Problem != "" {
			summary = "cannot be made here: " + x.Problem
		}
		t.add(x.Name, strings.Join(x.Kinds, " "), strconv.Itoa(x.Credits), summary)
	}
	return r.show(all, t)
}

func (r *call) template() (api.Template, error) {
	var t api.Template
	err := r.get("/templates/"+escape(r.arg("template")), &t)
	return t, err
}

func makeOfManifest(r *call) error {
	body, err := r.openManifest(r.arg("manifest"))
	if err != nil {
		return err
	}
	return r.makeApplication(body)
}

func (r *call) manifestQuery() string {
	q := url.Values{}
	if name := r.String("name"); name != "" {
		q.Set("application", name)
	}
	if cloud := r.String("cloud"); cloud != "" {
		q.Set("cloud", cloud)
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// makeApplication sends a manifest, waits, and says where the application
// answers.
func (r *call) makeApplication(body io.ReadCloser) error {
	defer func() { _ = body.Close() }()
	resp, err := r.open(http.MethodPost, "/manifests"+r.manifestQuery(), body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	op := &api.Operation{}
	if err := json.NewDecoder(resp.Body).Decode(op); err != nil {
		return &api.Error{Code: api.CodeUnavailable, Op: "make", Object: "application", Message: "the director's answer was broken off", Err: err}
	}
	name := strings.TrimPrefix(op.Title, "make application ")
	err = r.finish(op, fmt.Sprintf("Application '%s' with id %d is being made... ", name, op.Application))
	if err != nil || r.g.noWait || r.g.output != "table" {
		return err
	}
	if r.g.quiet {
		_, err := fmt.Fprintln(r.o.Stdout, op.Application)
		return err
	}
	var a api.Application
	if err := r.get("/applications/"+strconv.FormatInt(op.Application, 10), &a); err != nil {
		return err
	}
	for _, s := range a.Services {
		if len(s.URLs) > 0 {
			r.say("%s: %s", s.Name, strings.Join(s.URLs, " "))
		}
	}
	return nil
}

func checkManifest(r *call) error {
	body, err := r.openManifest(r.arg("manifest"))
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	resp, err := r.open(http.MethodPost, "/manifests/check"+r.manifestQuery(), body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var c api.ManifestCheck
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil {
		return err
	}
	if err := r.showText(c, func(w io.Writer) { writeCheck(w, c) }); err != nil || len(c.Missing) == 0 {
		return err
	}
	return &api.Error{Code: api.CodeInvalid, Op: "check", Object: "manifest", Message: "it names files that are not beside it: " + shortList(c.Missing)}
}

func writeCheck(w io.Writer, c api.ManifestCheck) {
	pairs(w, "application", c.Application, "credits/hour", strconv.Itoa(c.Credits))
	t := &table{columns: []string{"service", "type", "start", "roles"}, none: "No services."}
	for _, s := range c.Services {
		var parts []string
		for name, n := range s.Parts {
			parts = append(parts, name+"="+strconv.Itoa(n))
		}
		sort.Strings(parts)
		t.add(s.Name, s.Kind, yesNo(s.Started), orDash(strings.Join(parts, " ")))
	}
	t.write(w)
	for _, n := range c.Notes {
		fmt.Fprintln(w, "note:", printable(n))
	}
}

// openManifest is what is sent for a manifest: a file as it is, or a tar of it
// with the files that it names.
func (r *call) openManifest(name string) (io.ReadCloser, error) {
	bad := func(message, hint string, err error) error {
		return &api.Error{Code: api.CodeInvalid, Op: "read", Object: "manifest " + name, Message: message, Err: err, Hint: hint}
	}
	if name == stdinName {
		if isTerminal(r.o.Stdin) {
			return nil, bad("stdin is a terminal, not a manifest", "", nil)
		}
		return io.NopCloser(r.o.Stdin), nil
	}
	st, err := os.Stat(name)
	if err != nil {
		hint := ""
		if errors.Is(err, os.ErrNotExist) && !strings.ContainsAny(name, "./") {
			hint = "ready-made applications are started by: nutshell template start " + name
		}
		return nil, bad("", hint, err)
	}
	dir := filepath.Dir(name)
	if st.IsDir() {
		dir = name
		if name, err = manifestIn(dir); err != nil {
			return nil, bad("", "put manifest.yaml into the folder", err)
		}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, bad("", "", err)
	}
	head := bufio.NewReader(f)
	if first, _ := head.Peek(512); looksPacked(first) {
		return struct {
			io.Reader
			io.Closer
		}{head, f}, nil
	}
	text, err := io.ReadAll(io.LimitReader(head, manifest.MaxBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, bad("", "", err)
	}
	m, err := manifest.Parse(text)
	if err != nil {
		return nil, err
	}
	needs := m.Needs()
	if len(needs) == 0 {
		return io.NopCloser(bytes.NewReader(text)), nil
	}
	return tarManifest(dir, text, needs)
}

func manifestIn(dir string) (string, error) {
	var err error
	for _, name := range []string{"manifest.yaml", "manifest.yml", "manifest.json"} {
		if _, err = os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name), nil
		}
	}
	return "", err
}

// looksPacked tells an archive from a text, which has no zero byte and does not
// begin with a mark of compression.
func looksPacked(head []byte) bool {
	for _, magic := range []string{"\x1f\x8b", "BZh", "\xfd7zXZ", "\x28\xb5\x2f\xfd", "PK\x03\x04"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return bytes.IndexByte(head, 0) >= 0
}

// tarManifest packs a manifest with the files that it names, as it is read. All
// of them are there when it returns.
func tarManifest(dir string, text []byte, needs []string) (io.ReadCloser, error) {
	for _, name := range needs {
		st, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
		if err == nil && !st.Mode().IsRegular() {
			err = errors.New("it is not a file")
		}
		if err != nil {
			return nil, &api.Error{Code: api.CodeInvalid, Op: "read", Object: "file " + name, Message: "the manifest names it", Err: err, Hint: "paths are seen from the manifest's folder"}
		}
	}
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := t.WriteHeader(&tar.Header{Name: "manifest.yaml", Mode: 0o600, Size: int64(len(text))})
		if err == nil {
			_, err = t.Write(text)
		}
		for _, name := range needs {
			if err == nil {
				err = tarFile(t, filepath.Join(dir, filepath.FromSlash(name)), name)
			}
		}
		if err == nil {
			err = t.Close()
		}
		_ = w.CloseWithError(err) // nil: the end
	}()
	return r, nil
}

func tarFile(t *tar.Writer, path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: st.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}

// downloadManifest writes a manifest of an application. A file appears whole
// or not at all.
func downloadManifest(r *call, a api.Application) error {
	format := r.String("format")
	if format != "yaml" && format != "json" {
		return usagef("--format is yaml or json, not %s", api.Shorten(format))
	}
	path, to := applicationPath(a)+"/manifest?format="+format, r.String("file")
	if r.Bool("data") {
		path = applicationPath(a) + "/manifest?data=true"
		if to == "" && isTerminal(r.o.Stdout) {
			return usagef("a tar is nothing for a terminal: name a file by --file, or use > or |")
		}
	}
	if to == "" || to == stdinName {
		return r.stream(path, r.o.Stdout)
	}
	f, err := os.CreateTemp(filepath.Dir(to), ".nutshell-")
	if err != nil {
		return &api.Error{Code: api.CodeInvalid, Op: "write", Object: to, Err: err}
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if err := errors.Join(r.stream(path, f), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), to); err != nil {
		return &api.Error{Code: api.CodeInvalid, Op: "write", Object: to, Err: err}
	}
	if r.Bool("data") {
		r.say("Manifest of '%s' written to %s. It holds passwords: keep it where only you can read it.", a.Name, to)
		return nil
	}
	r.say("Manifest of '%s' written to %s.", a.Name, to)
	return nil
}
