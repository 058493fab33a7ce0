package client

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMain lets the test binary be the program itself under other names, as
// the completion scripts call it.
func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); name == "nutshell" || strings.HasPrefix(name, "cps-") {
		os.Exit(Main(context.Background(), os.Args, Options{Kinds: fakeKinds(), Version: "0.1.0"}))
	}
	os.Exit(m.Run())
}

// shop is a director with something to complete.
func shop(t *testing.T) *world {
	w := newWorld(t)
	for _, line := range []string{"application create shop", "application create 'other shop'", "php add shop", "generic add shop --name jobs", "application start shop", "php start shop php"} {
		if _, stderr, exit := w.run(t.Context(), "nutshell "+line); exit != 0 {
			t.Fatalf("%s: %s", line, stderr)
		}
	}
	return w
}

func TestComplete(t *testing.T) {
	w := shop(t)
	for _, c := range []struct {
		name, program string
		words         []string
		want          string // "files" where file names are the answer
	}{
		{"objects", "nutshell", []string{"app"}, "application"},
		{"verbs", "nutshell", []string{"php", "add"}, "add add-nodes"},
		{"old-verbs", "cps-php", []string{"add"}, "add add_nodes"},
		{"old-verb-with-dash", "cps-php", []string{"add-n"}, "add_nodes"},
		{"old-within-new", "nutshell", []string{"cps-php", "list"}, "list list_nodes list_codes list_uploads list_keys list_agent_logs"},
		{"applications", "nutshell", []string{"application", "start", ""}, "shop|other shop"},
		{"services-of-the-kind", "nutshell", []string{"php", "start", "shop", ""}, "php"},
		{"services-of-all-kinds", "nutshell", []string{"service", "start", "shop", ""}, "php jobs"},
		{"behind-options", "nutshell", []string{"-q", "service", "start", "--cloud", "default", "shop", "j"}, "jobs"},
		{"types", "nutshell", []string{"service", "add", "h"}, "helloworld"},
		{"options", "nutshell", []string{"php", "add-nodes", "shop", "php", "--ba"}, "--backend"},
		{"global-options", "nutshell", []string{"application", "list", "--out"}, "--output"},
		{"option-value", "nutshell", []string{"application", "list", "-o", "j"}, "json"},
		{"option-value-stuck", "nutshell", []string{"application", "list", "--output=y"}, "--output=yaml"},
		{"clouds", "nutshell", []string{"service", "start", "shop", "php", "-c", ""}, "default mycloud"},
		{"versions", "nutshell", []string{"php", "enable-code", "shop", "php", ""}, "code-default"},
		{"nodes", "nutshell", []string{"php", "get-agent-log", "shop", "php", "a"}, "a1-s1-aaaaa"},
		{"settings", "nutshell", []string{"php", "settings", "set", "shop", "php", "mem"}, "memory_limit="},
		{"operations", "nutshell", []string{"operation", "wait", ""}, "op2 op1"},
		{"on-or-off", "cps-php", []string{"debug", "shop", "php", "o"}, "on off"},
		{"files", "nutshell", []string{"php", "upload-code", "shop", "php", ""}, "files"},
		{"nothing-more", "nutshell", []string{"php", "start", "shop", "php", ""}, ""},
		{"unknown-word", "nutshell", []string{"nonsense", ""}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			o := w.options()
			o.Stdout, o.Stderr = &out, &out
			Main(t.Context(), append([]string{c.program, completeWord}, c.words...), o)
			got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			if c.want == "files" {
				if out.Len() != 0 {
					t.Errorf("got %q, want to leave it to the shell", out.String())
				}
				return
			}
			want := append([]string{noFiles}, strings.Fields(c.want)...)
			if strings.Contains(c.want, "|") {
				want = append([]string{noFiles}, strings.Split(c.want, "|")...)
			}
			if c.name == "unknown-word" {
				return // anything may stand there, but it must not break
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestShellsComplete lets real shells complete a line with our scripts.
func TestShellsComplete(t *testing.T) {
	w := shop(t)
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nutshell", "cps-php"} {
		if err := os.Symlink(self, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ shell, script string }{
		{"bash", `source <(nutshell completion bash)
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); COMPREPLY=(); _nutshell 2>/dev/null; printf '%s|' "${COMPREPLY[@]}"; echo; }
try nutshell php add
try cps-php add
try nutshell application start ""
try nutshell service start shop j
complete -p cps-generic`},
		{"zsh", `autoload -Uz compinit && compinit -u -D
source <(nutshell completion zsh)
compadd() { while [[ "$1" == -* && "$1" != -- ]]; do shift 2; done; shift; printf '%s|' "$@"; echo; }
try() { words=("$@"); CURRENT=$#; _nutshell; }
try nutshell php add
try cps-php add
try nutshell application start ""
try nutshell service start shop j
print -r -- "complete -F $_comps[cps-generic] cps-generic"`},
		{"fish", `nutshell completion fish | source
function try; complete -C "$argv" | string replace -r '\t.*' '' | string join '|' | string replace -r '$' '|'; end
try 'nutshell php add'
try 'cps-php add'
try 'nutshell application start '
try 'nutshell service start shop j'
complete -c cps-generic | string match -q '*__nutshell_complete*'; and echo complete -F _nutshell cps-generic`},
	} {
		t.Run(c.shell, func(t *testing.T) {
			shell, err := exec.LookPath(c.shell)
			if err != nil {
				if c.shell == "bash" && os.Getenv("CI") == "true" {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			cmd := exec.CommandContext(t.Context(), shell, "-c", c.script)
			cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "TERM=dumb"}
			if v := os.Getenv("FPATH"); v != "" { // of a zsh that is not where Debian puts it
				cmd.Env = append(cmd.Env, "FPATH="+v)
			}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			for k, v := range w.env {
				cmd.Env = append(cmd.Env, k+"="+v)
			}
			out, err := cmd.Output()
			got := strings.ReplaceAll(string(out), "add-nodes|add|", "add|add-nodes|")
			got = strings.ReplaceAll(strings.ReplaceAll(got, "add_nodes|add|", "add|add_nodes|"), `other\ shop|shop|`, `shop|other\ shop|`)
			got = strings.ReplaceAll(got, "other shop|shop|", "shop|other shop|")
			want := "add|add-nodes|\nadd|add_nodes|\nshop|other shop|\njobs|\ncomplete -F _nutshell cps-generic\n"
			if c.shell == "bash" {
				want = strings.Replace(want, "other shop", `other\ shop`, 1)
			}
			if err != nil || got != want {
				t.Errorf("%v\ngot:\n%s\nwant:\n%s\nstderr:\n%s", err, got, want, stderr.String())
			}
		})
	}
}
