package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nutshell/roles/api"
)

// A missing daemon is told with the Debian package that brings it.
func TestProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // as for ordinary users, who have no sbin
	for _, tc := range []struct {
		name, program, pack string
		there               bool
	}{
		{"exact-name", "sh", "dash", true},
		{"pattern", "s[h]", "dash", true},
		{"missing", "nginx-of-nowhere", "nginx-light", false},
		{"missing-pattern", "php-fpm-of-nowhere*", "php-fpm", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path, err := (&machine{}).Program(tc.program, tc.pack)
			switch {
			case tc.there && (err != nil || !strings.HasSuffix(path, "/sh")):
				t.Errorf("got %q, %v", path, err)
			case !tc.there && (api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "apt-get install "+tc.pack)):
				t.Errorf("got %q, %v, want unavailable and the package %s", path, err, tc.pack)
			}
		})
	}
}

// Tomcat and PHP write logs of their own, as the code's account, into a
// directory that somebody may have made for himself alone.
func TestLogsCanBeReached(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "log"), 0o750); err != nil {
		t.Fatal(err)
	}
	m, err := newMachine(Config{Dir: dir, Address: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(m.Dir("log")); err != nil || st.Mode().Perm() != 0o711 {
		t.Errorf("got mode %v, %v", st.Mode(), err)
	}
}
