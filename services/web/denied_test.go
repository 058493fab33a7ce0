package web

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestDenies(t *testing.T) {
	tests := []struct {
		name, text string
		want       bool
	}{
		{"apache-2.2", "order allow,deny\ndeny from all\n", true},
		{"apache-2.4", "Require all denied", true},
		{"in-if-module", "<IfModule mod_authz_core.c>\n    Require all denied\n</IfModule>\n", true},
		{"some-files-only", "<FilesMatch \"\\.php$\">\nDeny from all\n</FilesMatch>\n", false},
		{"after-some-files", "<Files x>\nDeny from all\n</Files>\nRequire all denied\n", true},
		{"comment", "# deny from all\n", false},
		{"rewriting", "RewriteEngine on\n", false},
		{"empty", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := denies([]byte(tt.text)); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestDeniedDirectories(t *testing.T) {
	root := t.TempDir()
	for dir, text := range map[string]string{"data": "Require all denied", "a/b": "Deny from all", "open": "Options -Indexes", ".": "Require all denied", `we"ird;{`: "Deny from all"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, dir, ".htaccess"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var d deniedDirs
	got, err := d.of(root)
	if want := []string{"a/b", "data", `we"ird;{`}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
