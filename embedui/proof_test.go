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
	run := func(t *testing.T, command ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%q: %v\n%s", command, err, out)
		}
	}
	t.Run("check", func(t *testing.T) { run(t, "npm", "run", "--silent", "check") })
	t.Run("budget", func(t *testing.T) { run(t, "npm", "run", "--silent", "budget") })
	_, err = exec.LookPath("chromium")
	need("chromium", err == nil)
	behaviour := []string{"npm", "run", "--silent", "behaviour"}
	if os.Geteuid() == 0 {
		// Chromium gives up what it is loading whenever an interface of the
		// machine comes or goes, and other tests make bridges all the time.
		behaviour = []string{"unshare", "--net", "sh", "-c", "ip link set lo up && exec npm run --silent behaviour"}
	}
	t.Run("behaviour", func(t *testing.T) { run(t, behaviour...) })
}
