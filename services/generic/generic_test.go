package generic_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/services/generic"
	"nutshell/services/servicetest"
)

// code is a version whose scripts note when they begin and end.
func code(version string) map[string]string {
	note := func(body string) string {
		return `n=$(basename "$0" .sh); echo "` + version + ` $n begins $(grep -c '"id"' "$AGENTS_JSON")" >> "$HOME/events"
` + body + `
echo "` + version + ` $n ends" >> "$HOME/events"
`
	}
	return map[string]string{
		"init.sh":   note(`sleep 0.1; env | sort > "$HOME/env"`),
		"notify.sh": note(`sleep 0.1`),
		// Until somebody takes the file away, with a child that left the process group.
		"run.sh": note(`printf '%s\n' "$@" > "$HOME/args"; echo $$ > "$HOME/pid"; touch "$HOME/runs"; echo out; echo err >&2; setsid sleep 1000 & while [ -e "$HOME/runs" ]; do sleep 0.02; done; kill $!; exit 3`),
		// What still runs after it is killed, so that it waits where run.sh shall end by itself.
		"interrupt.sh": note(`[ "$1" = hang ] && sleep 1000; [ "$1" = kill ] || rm -f "$HOME/runs"; while [ ! -e "$HOME/runs" ] && kill -0 $(cat "$HOME/pid") 2> /dev/null; do sleep 0.02; done`),
		"cleanup.sh":   note(`rm -f "$HOME/args"`),
	}
}

func home(w *servicetest.World, id string) string { return filepath.Join(w.Dir(id, "data"), "home") }

func read(w *servicetest.World, id, name string) string {
	b, _ := os.ReadFile(filepath.Join(home(w, id), name)) // not there yet is empty
	return string(b)
}

func start(t *testing.T, nodes int) *servicetest.World {
	t.Helper()
	k := generic.Kind()
	k.DefaultCode = code("v0")
	w := servicetest.New(t, k)
	w.Files["code-one111"] = code("v1")
	if err := w.Scale(t.Context(), map[string]int{"node": nodes}); err != nil {
		t.Fatal(err)
	}
	return w
}

func act(t *testing.T, w *servicetest.World, action, parameters string) error {
	t.Helper()
	_, err := w.Manager.Act(t.Context(), action, map[string]string{"parameters": parameters})
	return err
}

func status(t *testing.T, w *servicetest.World, id, script string) string {
	t.Helper()
	r, err := w.Manager.Act(t.Context(), "get_script_status", nil)
	if err != nil {
		t.Fatal(err)
	}
	var s struct{ Agents map[string]map[string]string }
	if err := json.Unmarshal(r.Result, &s); err != nil {
		t.Fatal(err)
	}
	return s.Agents[id][script]
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("does not come: " + what)
}

func stopped(n int) string { return fmt.Sprintf("STOPPED (return code %d)", n) }

func TestGeneric(t *testing.T) {
	servicetest.Run(t, generic.Kind(), servicetest.Options{
		Counts:   []map[string]int{{"node": 2}, {"node": 0}, {"node": 1}},
		Versions: map[string]map[string]string{"code-one111": code("v1"), "code-two222": {"readme.txt": "no scripts at all"}},
	})
}

func TestInitIsCalledOnceAndFirst(t *testing.T) {
	w := start(t, 1)
	for _, id := range []string{"i1", "i2"} {
		if got := read(w, id, "events"); got != "v0 init begins 2\nv0 init ends\n" {
			t.Errorf("%s: got %q", id, got)
		}
	}
	env := read(w, "i2", "env")
	for _, want := range []string{"AGENT_ID=i2", "AGENTS_JSON=" + w.Dir("i2", "data"), "HOME=" + home(w, "i2"), "MASTER_IP=127.", "MY_IP=127.", "MY_ROLE=node", "PATH=/usr"} {
		if !strings.Contains(env, want) {
			t.Errorf("environment lacks %s:\n%s", want, env)
		}
	}
	for _, v := range []string{"code-one111", "code-default", "code-one111"} {
		if err := w.Activate(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		if err := w.RestartAgent(t.Context(), "i1"); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(w, "i1", "events"); got != "v0 init begins 2\nv0 init ends\nv1 init begins 2\nv1 init ends\n" {
		t.Errorf("init.sh was not called exactly once for each version: %q", got)
	}
}

func TestNotifyOncePerChange(t *testing.T) {
	w := start(t, 0)
	if err := w.Scale(t.Context(), map[string]int{"node": 3}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "notify of growth", func() bool { return strings.HasSuffix(read(w, "i1", "events"), "v0 notify begins 4\nv0 notify ends\n") })
	if got := read(w, "i2", "events"); strings.Contains(got, "notify") {
		t.Errorf("a new agent was notified of itself: %q", got)
	}
	if err := w.Scale(t.Context(), map[string]int{"node": 1}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"i1", "i2"} {
		eventually(t, "notify of removal", func() bool { return strings.HasSuffix(read(w, id, "events"), "v0 notify begins 2\nv0 notify ends\n") })
	}
	for range 20 { // more observations tell nothing new
		if err := w.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(read(w, "i1", "events"), "notify begins"); got != 2 {
		t.Errorf("notify.sh called %d times for two changes", got)
	}
}

func TestNotifyWaitsForOtherScripts(t *testing.T) {
	w := start(t, 0)
	if err := act(t, w, "run", ""); err != nil {
		t.Fatal(err)
	}
	if err := w.Scale(t.Context(), map[string]int{"node": 1}); err != nil {
		t.Fatal(err)
	}
	if got := status(t, w, "i1", "notify.sh"); got != "NEVER STARTED" {
		t.Errorf("notify.sh is %s while run.sh runs", got)
	}
	if err := w.RestartAgent(t.Context(), "i1"); err != nil {
		t.Fatal(err)
	}
	if got := status(t, w, "i1", "run.sh"); got != "RUNNING" {
		t.Errorf("after a restart of the agent run.sh is %s", got)
	}
	eventually(t, "run.sh is on its way", func() bool { return os.Remove(filepath.Join(home(w, "i1"), "runs")) == nil })
	eventually(t, "notify after run", func() bool { return status(t, w, "i1", "notify.sh") == stopped(0) })
	if got := status(t, w, "i1", "run.sh"); got != stopped(3) {
		t.Errorf("run.sh is %s", got)
	}
}

func TestRunInterruptCleanup(t *testing.T) {
	w := start(t, 1)
	servicetest.Code(t, act(t, w, "interrupt", ""), api.CodeConflict)
	servicetest.Code(t, act(t, w, "run", `"open`), api.CodeInvalid)
	if err := act(t, w, "run", `one "two words" 'it''s'  *`); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"i1", "i2"} {
		eventually(t, "arguments", func() bool { return read(w, id, "args") == "one\ntwo words\nits\n*\n" })
	}
	servicetest.Code(t, act(t, w, "run", ""), api.CodeConflict)
	servicetest.Code(t, act(t, w, "cleanup", ""), api.CodeConflict)
	servicetest.Code(t, w.Activate(t.Context(), "code-one111"), api.CodeConflict)
	if err := act(t, w, "interrupt", "please"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"i1", "i2"} {
		eventually(t, "end of run.sh", func() bool {
			return status(t, w, id, "run.sh") == stopped(3) && status(t, w, id, "interrupt.sh") == stopped(0)
		})
	}
	if err := act(t, w, "cleanup", ""); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"i1", "i2"} {
		eventually(t, "cleanup", func() bool { return status(t, w, id, "cleanup.sh") == stopped(0) })
	}
	if read(w, "i1", "args") != "" {
		t.Error("cleanup.sh did not clean")
	}
	eventually(t, "logs", func() bool { // other processes write them
		return w.ReadLog("i1", "agent.out") == "out\n" && w.ReadLog("i1", "agent.err") == "err\n" && w.ReadLog("i1", "run.log") != ""
	})
	if err := w.Activate(t.Context(), "code-one111"); err != nil {
		t.Fatal(err)
	}
	if got := status(t, w, "i1", "run.sh"); got != "NEVER STARTED" {
		t.Errorf("with new code run.sh is %s", got)
	}
}

// All or nothing: an agent that is busy keeps the others from running.
func TestRunIsRefusedEverywhere(t *testing.T) {
	w := start(t, 1)
	for _, f := range []func() error{
		func() error { return w.Call(t.Context(), "i2", "reserve", map[string]string{"token": "x"}, nil) },
		func() error {
			return w.Call(t.Context(), "i2", "execute", map[string]string{"token": "x", "script": "run.sh"}, nil)
		},
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
		servicetest.Code(t, act(t, w, "cleanup", ""), api.CodeConflict)
	}
	if got := status(t, w, "i1", "cleanup.sh"); got != "NEVER STARTED" {
		t.Errorf("cleanup.sh is %s although it was refused", got)
	}
}

func TestInterrupt(t *testing.T) {
	tests := []struct{ name, first, second, run, interrupt string }{
		{"kills-what-goes-on", "kill", "", stopped(-15), stopped(0)},
		{"second-time-kills-everything", "hang", "again", stopped(-15), stopped(-15)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := start(t, 0)
			if err := act(t, w, "run", ""); err != nil {
				t.Fatal(err)
			}
			eventually(t, "run.sh", func() bool { return read(w, "i1", "runs") == "" && sleepers(w) > 0 })
			if err := act(t, w, "interrupt", tt.first); err != nil {
				t.Fatal(err)
			}
			if tt.second != "" {
				eventually(t, "interrupt.sh", func() bool { return strings.Contains(read(w, "i1", "events"), "interrupt begins") })
				if err := act(t, w, "interrupt", tt.second); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the end", func() bool {
				return status(t, w, "i1", "run.sh") == tt.run && status(t, w, "i1", "interrupt.sh") == tt.interrupt
			})
			eventually(t, "the end of children", func() bool { return sleepers(w) == 0 })
		})
	}
}

// sleepers counts processes of run.sh that left its process group.
func sleepers(w *servicetest.World) int {
	n := 0
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		cmd, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		env, _ := os.ReadFile("/proc/" + e.Name() + "/environ")
		if strings.HasPrefix(string(cmd), "sleep\x001000") && strings.Contains(string(env), "HOME="+home(w, "i1")) {
			n++
		}
	}
	return n
}

func TestInterruptWithoutItsScriptKills(t *testing.T) {
	w := start(t, 0)
	w.Files["code-bare"] = map[string]string{"run.sh": "trap '' TERM; echo $$ > \"$HOME/pid\"; while :; do sleep 0.1; done"}
	if err := w.Activate(t.Context(), "code-bare"); err != nil {
		t.Fatal(err)
	}
	if err := act(t, w, "run", ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "run.sh", func() bool { return read(w, "i1", "pid") != "" })
	if err := act(t, w, "interrupt", ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "KILL after TERM was ignored", func() bool { return status(t, w, "i1", "run.sh") == stopped(-int(syscall.SIGKILL)) })
}

// An interrupt that comes before run.sh has a process is for it all the same;
// what is started after it is left alone.
func TestInterruptAtOnce(t *testing.T) {
	w := start(t, 0)
	w.Files["code-bare"] = map[string]string{"run.sh": "sleep 1000", "cleanup.sh": "sleep 0.3"}
	if err := w.Activate(t.Context(), "code-bare"); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := act(t, w, "run", ""); err != nil {
			t.Fatal(err)
		}
		if err := act(t, w, "interrupt", ""); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the end of run.sh", func() bool { return strings.HasPrefix(status(t, w, "i1", "run.sh"), "STOPPED (return code -") }) // TERM, or KILL if that came before bash heeds it
		if err := act(t, w, "cleanup", ""); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the end of cleanup.sh", func() bool { return status(t, w, "i1", "cleanup.sh") == stopped(0) })
	}
}

// The others hear of an instance that the cloud has lost, and it is replaced.
func TestLostNode(t *testing.T) {
	w := start(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	w.Lose(ctx, "i3")
	if err := w.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "notify of loss", func() bool { return strings.Contains(read(w, "i1", "events"), "notify begins 2\n") })
	if err := w.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "notify of replacement", func() bool { return strings.HasSuffix(read(w, "i1", "events"), "v0 notify begins 3\nv0 notify ends\n") })
}

// TestEnvironment: scripts get the service's variables, the next one the new
// values, and nothing that others may read tells a secret.
func TestEnvironment(t *testing.T) {
	k := generic.Kind()
	k.DefaultCode = map[string]string{"init.sh": `env > "$HOME/env"`, "run.sh": `env > "$HOME/env"`}
	w := servicetest.New(t, k)
	const secret = "line 1\nline 2 with 'quotes' $HOME"
	ctx := t.Context()
	if err := w.Setenv(ctx, api.Variable{Name: "GREETING", Value: "hello"}, api.Variable{Name: "LANG", Value: "en_GB.UTF-8"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Scale(ctx, map[string]int{"node": 1}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"GREETING=hello\n", "LANG=en_GB.UTF-8\n"} {
		if got := read(w, "i2", "env"); !strings.Contains(got, want) {
			t.Errorf("init.sh has no %q in\n%s", want, got)
		}
	}
	if err := w.Setenv(ctx, api.Variable{Name: "GREETING", Value: "bye"}, api.Variable{Name: "DB_PASSWORD", Value: secret, Secret: true}, api.Variable{Name: "MY_ROLE", Value: "king"}); err != nil {
		t.Fatal(err)
	}
	if err := act(t, w, "run", ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "run.sh has ended", func() bool { return status(t, w, "i2", "run.sh") == stopped(0) })
	got := read(w, "i2", "env")
	for _, want := range []string{"GREETING=bye\n", "DB_PASSWORD=" + secret + "\n", "MY_ROLE=node\n", "LANG=C.UTF-8\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("run.sh has no %q in\n%s", want, got)
		}
	}
	for _, dir := range []string{"etc", "log", "run"} {
		entries, err := os.ReadDir(w.Dir("i2", dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if b, err := os.ReadFile(filepath.Join(w.Dir("i2", dir), e.Name())); err == nil && strings.Contains(string(b), "line 2 with") {
				t.Errorf("the secret stands in %s/%s", dir, e.Name())
			}
		}
	}
}
