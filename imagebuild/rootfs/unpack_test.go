package rootfs

import (
	"runtime"
	"slices"
	"testing"

	"nutshell/imagebuild/recipe"
	"nutshell/roles/api"
)

func TestRunsOwnArchitecture(t *testing.T) {
	if err := Runs(runtime.GOARCH); err != nil {
		t.Errorf("own architecture: %v", err)
	}
	if err := Runs("s390x"); runtime.GOARCH != "s390x" && api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("s390x: got %v, want unavailable", err)
	}
}

func TestSourcesOfNamesComponents(t *testing.T) {
	a := Archive{mirrors: []mirror{{uri: "file:/nonexistent/debian"}}}
	lines, packages := a.SourcesOf(t.Context(), "trixie", recipe.Recipe{Packages: []string{"dash", "linux-image-arm64"}, Components: []string{"non-free-firmware"}, Backports: []string{"linux-image-arm64"}})
	if want := []string{"deb file:/nonexistent/debian trixie main non-free-firmware"}; !slices.Equal(lines, want) {
		t.Errorf("got sources %q, want %q", lines, want)
	}
	// A mirror without backports gives the suite's own kernel.
	if want := []string{"dash", "linux-image-arm64"}; !slices.Equal(packages, want) {
		t.Errorf("got packages %q, want %q", packages, want)
	}
}
