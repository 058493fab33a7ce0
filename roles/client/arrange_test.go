package client

import (
	"io"
	"slices"
	"strings"
	"testing"

	"nutshell/roles/api"
)

func TestArrange(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"in-order", "nutshell application start --cloud=x shop", "nutshell application start --cloud=x -- shop"},
		{"behind-the-arguments", "nutshell application start shop -c x", "nutshell application start --cloud=x -- shop"},
		{"before-the-object", "nutshell -q application list", "nutshell --quiet application list"},
		{"global-behind", "nutshell application list -q -o json", "nutshell --quiet --output=json application list"},
		{"underscores", "nutshell php add_nodes 1 1 --no_wait --backend 2", "nutshell --no-wait php add-nodes --backend=2 -- 1 1"},
		{"value-with-dash", "nutshell generic run 1 1 -p --fast", "nutshell generic run --parameters=--fast -- 1 1"},
		{"value-stuck", "nutshell generic get-agent-log 1 1 a -fagent.out", "nutshell generic get-agent-log --filename=agent.out -- 1 1 a"},
		{"negative-value", "nutshell service scale 1 1 --backend -1", "nutshell service scale --backend=-1 -- 1 1"},
		{"negative-argument", "nutshell user add-credit bob -5", "nutshell user add-credit -- bob -5"},
		{"two-dashes", "nutshell application create -- --odd", "nutshell application create -- --odd"},
		{"one-dash", "nutshell service set-script 1 1 -", "nutshell service set-script -- 1 1 -"},
		{"typing-error-of-the-manual", "nutshell php add_nodes 1 1 -- backend 2", "nutshell php add-nodes --backend=2 -- 1 1"},
		{"nearest-option-wins", "nutshell --password mine user create bob --password his", "nutshell --password=mine user create --password=his -- bob"},
		{"version-of-code", "nutshell php download-code 1 1 -v code-x", "nutshell php download-code --version=code-x -- 1 1"},
		{"version-of-program", "nutshell -v", "nutshell --version"},
		{"alias", "nutshell app list", "nutshell application list"},
		{"help-anywhere", "nutshell -h php add-nodes 1", "nutshell php add-nodes --help"},
		{"help-word", "nutshell help php scale", "nutshell php scale --help"},
		{"help-of-object", "nutshell php help", "nutshell php --help"},
		{"name-help", "nutshell application start help", "nutshell application start -- help"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := New(Options{Kinds: fakeKinds(), Stderr: io.Discard})
			app, err := client.app("nutshell")
			if err != nil {
				t.Fatal(err)
			}
			words := strings.Fields(c.line)
			given := slices.Clone(words)
			got, err := arrange(app, words)
			if err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("got %q, %v, want %q", strings.Join(got, " "), err, c.want)
			}
			if !slices.Equal(words, given) {
				t.Errorf("the arguments given were changed to %q", words)
			}
		})
	}
}

// FuzzArrange holds that whatever is typed is either refused as wrong usage
// or arranged so that arranging it again changes nothing.
func FuzzArrange(f *testing.F) {
	for _, seed := range []string{"application list", "php add_nodes 1 1 -- backend 2", "-o", "--", "-", "--=", "-=x", "help help", "user add-credit b -5", "--output= application", "service scale 1 1 --backend=-1 -- -- x"} {
		f.Add(seed)
	}
	client := New(Options{Kinds: fakeKinds(), Stderr: io.Discard})
	app, err := client.app("nutshell")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got, err := arrange(app, append([]string{"nutshell"}, strings.Fields(line)...))
		if err != nil {
			if client.report(err) != api.CodeInvalid.Exit() {
				t.Fatalf("%q: %v is not an error of usage", line, err)
			}
			return
		}
		again, err := arrange(app, got)
		if err != nil || !slices.Equal(got, again) {
			t.Fatalf("%q became %q and then %q, %v", line, got, again, err)
		}
	})
}

func TestArchiveName(t *testing.T) {
	for name, c := range map[string]struct{ header, listed, want string }{
		"plain":           {`attachment; filename="a.zip"`, "b.zip", "a.zip"},
		"climbs":          {`attachment; filename="../../etc/passwd"`, "", "passwd"},
		"absolute":        {`attachment; filename="/etc/cron.d/x"`, "", "x"},
		"backslashes":     {`attachment; filename="..\\..\\x.zip"`, "", "x.zip"},
		"hidden":          {`attachment; filename=".bashrc"`, "b.zip", "b.zip"},
		"no-header":       {"", "b.zip", "b.zip"},
		"dots":            {`attachment; filename=".."`, "..", "code-x"},
		"steers-terminal": {"attachment; filename=\"a\x1b[2J\"", "b.zip", "b.zip"},
		"nothing":         {"", "", "code-x"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := archiveName(c.header, api.CodeVersion{ID: "code-x", Filename: c.listed}); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestTableIsSafeAndAligned(t *testing.T) {
	var b strings.Builder
	tab := &table{columns: []string{"id", "name"}}
	tab.add("1", "äöü")
	tab.add("22", "a\x1b[2Jb")
	tab.write(&b)
	if want := "id name\n---------\n1  äöü\n22 a?[2Jb\n"; b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
