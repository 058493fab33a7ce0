package imagebuild

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"nutshell/roles/api"
)

// TestKeptPackagesNeedNoNetwork uses what was made before, and keeps one
// archive of each package.
func TestKeptPackagesNeedNoNetwork(t *testing.T) {
	s, err := Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	dir := s.path("packages", "own")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	keep := func(version string, at time.Time) {
		t.Helper()
		made := filepath.Join(t.TempDir(), "made")
		if err := os.WriteFile(made, []byte(version), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := keepPackage(dir, "nutshell-none", version, made, at); err != nil {
			t.Fatal(err)
		}
	}
	keep("1:2.0/../x", time.Now())
	path, err := s.PackageArchive(t.Context(), "nutshell-none", false, nil)
	if err != nil || filepath.Dir(path) != dir || filepath.Base(path) != "nutshell-none_1_2.0_.._x.tar.zst" {
		t.Fatalf("%s %v", path, err)
	}
	keep("3.0", time.Now().Add(-2*packageFresh))
	if list, _ := filepath.Glob(filepath.Join(dir, "*.zst")); len(list) != 1 {
		t.Errorf("archives: %v", list)
	}
	// Too old, and there is no apt: the last one is good.
	t.Setenv("PATH", t.TempDir())
	if path, err = s.PackageArchive(t.Context(), "nutshell-none", false, nil); err != nil || filepath.Base(path) != "nutshell-none_3.0.tar.zst" {
		t.Errorf("%s %v", path, err)
	}
	for _, name := range []string{"--help", "../x", "", "A"} {
		if _, err := s.PackageArchive(t.Context(), name, false, nil); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("package %q: %v", name, err)
		}
	}
}
