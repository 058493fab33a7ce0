package client

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nutshell/roles/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

// world is a director, a home directory and a working directory.
type world struct {
	*fake
	t   *testing.T
	env map[string]string
	dir string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{fake: newFake(t), t: t, dir: t.TempDir()}
	w.env = map[string]string{"HOME": t.TempDir(), "NUTSHELL_DATA_DIR": filepath.Join(w.dir, "none"), "NUTSHELL_DIRECTOR": w.URL, "NUTSHELL_USER": "admin",
		"NUTSHELL_PASSWORD": fakePassword, "NUTSHELL_CA_SHA256": w.authority.RootSHA256()}
	return w
}

func (w *world) options() Options {
	return Options{Stdin: strings.NewReader(""), Getenv: func(k string) string { return w.env[k] }, Version: "0.1.0", Kinds: fakeKinds()}
}

// run runs one command line, with words in single or double quotes.
func (w *world) run(ctx context.Context, line string) (stdout, stderr string, exit int) {
	var out, err bytes.Buffer
	o := w.options()
	o.Stdout, o.Stderr = &out, &err
	exit = Main(ctx, splitWords(line), o)
	return out.String(), err.String(), exit
}

// files are those in the working directory.
func (w *world) files() []string {
	list, err := os.ReadDir(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

var wordPattern = regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`)

func splitWords(line string) []string {
	words := wordPattern.FindAllString(line, -1)
	for i, s := range words {
		if s[0] == '"' || s[0] == '\'' {
			words[i] = s[1 : len(s)-1]
		}
	}
	return words
}

var timePattern = regexp.MustCompile(`\d{4}-\d\d-\d\d( |T)\d\d:\d\d:\d\dZ?`)

// transcript runs command lines and writes down, for each, what was asked of
// the director, what was printed and how it ended.
func (w *world) transcript(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		stdout, stderr, exit := w.run(w.t.Context(), line)
		fmt.Fprintln(&b, "$", line)
		for _, a := range w.take() {
			fmt.Fprintln(&b, ">", a)
		}
		b.WriteString(stdout + stderr)
		if exit != 0 {
			fmt.Fprintf(&b, "[exit %d]\n", exit)
		}
	}
	text := strings.NewReplacer(w.URL, "https://director:5555", w.env["HOME"], "HOME", w.dir, "DIR").Replace(b.String())
	return timePattern.ReplaceAllString(text, "TIME")
}

// golden compares a transcript with the file that has its command lines.
func golden(t *testing.T, w *world, name string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for l := range strings.Lines(string(want)) {
		if line, ok := strings.CutPrefix(strings.TrimRight(l, "\n"), "$ "); ok {
			lines = append(lines, line)
		}
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(w.dir)
	if err := os.WriteFile("test-code.tar.gz", tarball("test"), 0o644); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"id_ed25519.pub": "ssh-ed25519 AAAA ann@laptop\n", "keys": "ssh-rsa BBBB\n", "id_ed25519": "-----BEGIN OPENSSH PRIVATE KEY-----\n",
		"dump.sql": "-- a dump\nSELECT 1;\n", "garbage": "garbage\n", "shop.yaml": "Services: [{Type: php, ServiceName: web}]\n", "wrong.yaml": "Services:\n  - Typ: php\n", "chain.pem": "-----BEGIN CERTIFICATE-----\n", "key.pem": "-----BEGIN PRIVATE KEY-----\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := w.transcript(lines)
	if *update {
		if err := os.WriteFile(filepath.Join(here, path), []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(string(want), got); d != "" && !*update {
		t.Errorf("%s (-want +got; after a wanted change: go test ./roles/client -update):\n%s", path, d)
	}
}

// TestTranscripts runs the command lines in testdata: the manual's as they
// are printed, and ours.
func TestTranscripts(t *testing.T) {
	for _, name := range []string{"manual-3-1-2", "manual-3-3-php", "manual-3-8-generic", "manual-rpi", "applications", "members", "services", "code", "house", "git", "sites", "data", "manifests", "errors", "help"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			golden(t, w, name)
		})
	}
}

func TestFailedOperation(t *testing.T) {
	w := newWorld(t)
	w.run(t.Context(), "nutshell application create shop")
	w.fail = &api.Error{Code: api.CodeUnavailable, Op: "start", Object: "application shop", Message: "lxc is missing", Hint: "install lxc", LogTail: []string{"no lxc"}}
	stdout, stderr, exit := w.run(t.Context(), "nutshell application start shop")
	if want := "Application 'shop' with id 1 is starting... FAILED!\n"; stdout != want {
		t.Errorf("got %q, want %q", stdout, want)
	}
	want := `ERROR: start application shop: lxc is missing
       hint: install lxc
       failed step: configure a1
       undone: the new node was taken away again
       see it: nutshell operation show op1, try again: nutshell operation retry op1
       | no lxc
`
	if d := cmp.Diff(want, stderr); d != "" || exit != api.CodeUnavailable.Exit() {
		t.Errorf("exit %d, want %d; stderr:\n%s", exit, api.CodeUnavailable.Exit(), d)
	}
}
