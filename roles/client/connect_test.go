package client

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"nutshell/roles/api"
)

// writeFiles writes files below a home directory.
func writeFiles(t *testing.T, home string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	toolsFile = ".conpaas/cps-tools.conf"
	ownFile   = ".config/nutshell/client.yaml"
)

func TestConnectionSources(t *testing.T) {
	kept := "url: https://kept:5555\nca_sha256: aa\nuser: ann\ntoken: nsh_kept\n"
	old := "[cps-tools]\ndirector_url = old\nusername = otto\npassword: pw1\n# a comment\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		env   map[string]string
		flags globals
		want  connection
	}{
		{"conpaas-file", map[string]string{toolsFile: old}, nil, globals{}, connection{URL: "https://old:5555", User: "otto", Password: "pw1"}},
		{"login-wins-over-conpaas-file", map[string]string{toolsFile: old, ownFile: kept}, nil, globals{}, connection{URL: "https://kept:5555", CA: "aa", User: "ann", Token: "nsh_kept"}},
		{"same-director-login-adds-trust-and-token", map[string]string{toolsFile: strings.ReplaceAll(old, "= old", "= https://kept"), ownFile: kept}, nil, globals{},
			connection{URL: "https://kept:5555", CA: "aa", User: "ann", Token: "nsh_kept"}},
		{"environment-names-another-director-and-gets-no-secret-of-the-first", map[string]string{ownFile: kept}, map[string]string{"NUTSHELL_DIRECTOR": "https://evil"}, globals{},
			connection{URL: "https://evil:5555"}},
		{"flag-goes-back-to-the-kept-one", map[string]string{ownFile: kept}, map[string]string{"NUTSHELL_DIRECTOR": "https://other", "NUTSHELL_TOKEN": "of-other"}, globals{director: "KEPT:5555/"},
			connection{URL: "https://kept:5555", CA: "aa", User: "ann", Token: "nsh_kept"}},
		{"other-user-drops-the-token", map[string]string{ownFile: kept}, nil, globals{username: "bob"}, connection{URL: "https://kept:5555", CA: "aa", User: "bob"}},
		{"same-user-keeps-the-token", map[string]string{ownFile: kept}, nil, globals{username: "ann"}, connection{URL: "https://kept:5555", CA: "aa", User: "ann", Token: "nsh_kept"}},
		{"name-for-the-password", map[string]string{ownFile: kept}, map[string]string{"NUTSHELL_PASSWORD": "pw2"}, globals{username: "bob"}, connection{URL: "https://kept:5555", CA: "aa", User: "bob", Password: "pw2"}},
		{"password-replaces-the-token", map[string]string{ownFile: kept}, map[string]string{"NUTSHELL_PASSWORD": "pw2"}, globals{}, connection{URL: "https://kept:5555", CA: "aa", User: "ann", Password: "pw2"}},
		{"director-here", map[string]string{".local/share/nutshell/client.yaml": "url: https://127.0.0.1:5555\ntoken: nsh_here\nca_sha256: BB:CC\n"}, map[string]string{"NUTSHELL_DATA_DIR": "HOME/.local/share/nutshell"}, globals{},
			connection{URL: "https://127.0.0.1:5555", CA: "bbcc", Token: "nsh_here"}},
		{"named-data-dir-wins-over-login", map[string]string{"d/client.yaml": "url: https://127.0.0.1:5555\ntoken: nsh_here\n", ownFile: kept}, map[string]string{"NUTSHELL_DATA_DIR": "HOME/d"}, globals{},
			connection{URL: "https://127.0.0.1:5555", Token: "nsh_here"}},
		{"conf-file-option", map[string]string{"other.conf": old, ownFile: kept}, nil, globals{confFile: "HOME/other.conf"}, connection{URL: "https://old:5555", User: "otto", Password: "pw1"}},
		{"host-of-a-sign-in", map[string]string{ownFile: strings.ReplaceAll(kept, ":5555", ":443")}, map[string]string{"NUTSHELL_DIRECTOR": "https://Kept/"}, globals{},
			connection{URL: "https://kept:443", CA: "aa", User: "ann", Token: "nsh_kept"}},
		{"another-port-of-the-host-gets-no-secret", map[string]string{ownFile: strings.ReplaceAll(kept, ":5555", ":443")}, map[string]string{"NUTSHELL_DIRECTOR": "https://kept:5555"}, globals{}, connection{URL: "https://kept:5555"}},
		{"ipv6", nil, map[string]string{"NUTSHELL_DIRECTOR": "[::1]"}, globals{}, connection{URL: "https://[::1]:5555"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := t.TempDir()
			writeFiles(t, home, c.files)
			client := New(Options{Stderr: &bytes.Buffer{}, Getenv: func(k string) string {
				switch v, ok := c.env[k]; {
				case ok:
					return strings.ReplaceAll(v, "HOME", home)
				case k == "HOME":
					return home
				case k == "NUTSHELL_DATA_DIR":
					return filepath.Join(home, "none")
				}
				return ""
			}})
			client.g = c.flags
			client.g.confFile = strings.ReplaceAll(c.flags.confFile, "HOME", home)
			got, err := client.connection()
			if d := cmp.Diff(c.want, got, cmpopts.IgnoreUnexported(connection{})); d != "" || err != nil {
				t.Errorf("error %v; -want +got:\n%s", err, d)
			}
		})
	}
}

func TestBadConnection(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		line  string
		want  string
		exit  int
	}{
		"none":            {nil, "application list", "no director is known", 2},
		"broken-file":     {map[string]string{ownFile: "url: [\n"}, "application list", "client.yaml", 2},
		"nobody":          {map[string]string{ownFile: "url: https://127.0.0.1\n"}, "application list", "nobody is signed in to https://127.0.0.1:5555", 3},
		"unknown-option":  {map[string]string{toolsFile: "[cps-tools]\ndirector = x\n"}, "application list", "cps-tools.conf:2: unknown option \"director\", left out", 2},
		"http":            {nil, "application list --director http://x", "https only", 2},
		"path":            {nil, "application list --director https://x/y", "nothing behind host and port", 2},
		"password-in-url": {nil, "application list --director https://a:b@x", "do not belong into an address", 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.alone()
			writeFiles(t, w.env["HOME"], c.files)
			_, stderr, exit := w.run(t.Context(), "nutshell "+c.line)
			if exit != c.exit || !strings.Contains(stderr, c.want) {
				t.Errorf("exit %d, want %d with %q in:\n%s", exit, c.exit, c.want, stderr)
			}
		})
	}
}

func TestOtherCAIsRefused(t *testing.T) {
	w := newWorld(t)
	w.env["NUTSHELL_CA_SHA256"] = strings.Repeat("ab", 32)
	_, stderr, exit := w.run(t.Context(), "nutshell application list")
	if exit != api.CodeUnauthorized.Exit() || !strings.Contains(stderr, "not the director that was trusted") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	delete(w.env, "NUTSHELL_CA_SHA256")
	_, stderr, exit = w.run(t.Context(), "nutshell application list")
	if exit != api.CodeUnauthorized.Exit() || !strings.Contains(stderr, "nutshell login "+w.URL) {
		t.Errorf("without a pin: exit %d: %s", exit, stderr)
	}
	if len(w.headers) != 0 {
		t.Errorf("a director that is not trusted got %d requests", len(w.headers))
	}
}

// TestKindsAreLearned starts without any kinds: the director's are asked for
// when a word is not known, and kept for the time when it is away.
func TestKindsAreLearned(t *testing.T) {
	w := newWorld(t)
	main := func(line string) int {
		var out bytes.Buffer
		o := w.options()
		o.Kinds, o.Stdout, o.Stderr = nil, &out, &out
		return Main(t.Context(), splitWords(line), o)
	}
	if exit := main("nutshell application create shop"); exit != 0 {
		t.Fatalf("exit %d", exit)
	}
	if exit := main("cps-php add shop"); exit != 0 {
		t.Errorf("cps-php: exit %d", exit)
	}
	if exit := main("nutshell php add-nodes shop php --backend 1"); exit != 0 {
		t.Errorf("nutshell php: exit %d", exit)
	}
	w.down = true
	if exit := main("nutshell php add-nodes --help"); exit != 0 {
		t.Errorf("help without a director: exit %d", exit)
	}
	if exit := main("nutshell java list"); exit != api.CodeInvalid.Exit() {
		t.Errorf("unknown kind: exit %d", exit)
	}
}
