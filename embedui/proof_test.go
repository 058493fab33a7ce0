package embedui

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestPages proves what the pages promise, by the scripts that also people
// run: types and texts are complete, the first load is small, and in a real
// browser everything behaves, fits, is legible and asks no other host.
func TestPages(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser takes minutes")
	}
	need := func(what string, there bool) {
		t.Helper()
		switch {
		case there:
		case os.Getenv("CI") == "true":
			t.Fatalf("%s is missing; .ci/deps test installs what tests need, make ui builds the pages", what)
		default:
			t.Skipf("%s is missing", what)
		}
	}
	_, err := exec.LookPath("npm")
	need("npm", err == nil)
	_, err = os.Stat(filepath.Join("node_modules", ".package-lock.json"))
	need("embedui/node_modules", err == nil)
	need("embedui/dist", Built())
	run := func(t *testing.T, script string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "npm", "run", "--silent", script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("npm run %s: %v\n%s", script, err, out)
		}
	}
	t.Run("check", func(t *testing.T) { run(t, "check") })
	t.Run("budget", func(t *testing.T) { run(t, "budget") })
	_, err = exec.LookPath("chromium")
	need("chromium", err == nil)
	t.Run("behaviour", func(t *testing.T) { run(t, "behaviour") })
}
