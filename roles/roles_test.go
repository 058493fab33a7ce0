package roles

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nutshell/roles/api"
)

func TestRoleOf(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		role string
		rest string
		code api.Code
	}{
		{"client", []string{"nutshell", "application", "list"}, "", "application list", ""},
		{"flag", []string{"nutshell", "--role", "director", "--listen", "x"}, "director", "--listen x", ""},
		{"flag-with-equals", []string{"/usr/bin/nutshell", "--role=agent"}, "agent", "", ""},
		{"program-name", []string{"/usr/local/bin/nutshell-manager", "--dir", "d"}, "manager", "--dir d", ""},
		{"conpaas-name", []string{"cps-php", "list", "1"}, "", "list 1", ""},
		{"inner-role", []string{"nutshell", "--role", "init"}, "init", "", ""},
		{"unknown-role", []string{"nutshell", "--role", "king"}, "", "", api.CodeInvalid},
		{"later-it-is-not-ours", []string{"nutshell", "x", "--role", "agent"}, "", "x --role agent", ""},
		{"no-arguments", []string{"nutshell"}, "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			role, rest, err := roleOf(c.args)
			if role != c.role || strings.Join(rest, " ") != c.rest || api.CodeOf(err) != c.code {
				t.Errorf("got %q %q %v", role, rest, err)
			}
		})
	}
}

func TestProgressIsOneLineAStep(t *testing.T) {
	var b bytes.Buffer
	say := progressLines(&b)
	for _, line := range []string{"start: php image (10 %)", "start: php image (20 %)", "start: php image (20 %)", "start: done"} {
		say("%s", line)
	}
	if got, want := b.String(), "  start: php image (10 %)\n  start: done\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDataDirThatOthersCannotPassIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("an ordinary user's daemons run under its own account")
	}
	up := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(up, 0o700); err != nil {
		t.Fatal(err)
	}
	err := makeDataDir(filepath.Join(up, "data"))
	if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "chmod o+x") {
		t.Errorf("got %v", err)
	}
}
