package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nutshell/roles/api"
)

// TestOverlay puts files into an archive, in the place of those of their names.
func TestOverlay(t *testing.T) {
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for _, h := range []*tar.Header{
		{Name: "top/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "top/index.php", Mode: 0o644, Size: 3},
		{Name: "top/run", Mode: 0o755, Size: 3},
		{Name: "top/link", Typeflag: tar.TypeSymlink, Linkname: "run"},
		{Name: "top/hard", Typeflag: tar.TypeLink, Linkname: "top/run"},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			_, _ = w.Write([]byte("old"))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.tar"), filepath.Join(dir, "out.tar.zst")
	if err := os.WriteFile(in, packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay := func(path, strip string, files map[string]string) error {
		f, err := os.Create(out)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return Overlay(t.Context(), f, path, strip, files, Limits{})
	}
	if err := overlay(in, "top", map[string]string{"index.php": "new one", "conf/a.php": "a", "go.sh": "#!/bin/sh\n"}); err != nil {
		t.Fatal(err)
	}
	list, err := List(t.Context(), out, "", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, f := range list {
		got += f.Path + " " + f.Mode.String() + " " + f.Link + ";"
	}
	if want := "conf/a.php -rw-r--r-- ;go.sh -rwxr-xr-x ;hard -rwxr-xr-x ;index.php -rw-r--r-- ;link Lrwxrwxrwx run;run -rwxr-xr-x ;"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var text strings.Builder
	if err := Extract(t.Context(), &text, out, "index.php", Limits{}); err != nil || text.String() != "new one" {
		t.Errorf("index.php: %q %v", text.String(), err)
	}
	if err := Extract(t.Context(), &text, out, "none", Limits{}); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := overlay("", "", map[string]string{"a": "b"}); err != nil {
		t.Error(err)
	}
	if info, err := Inspect(t.Context(), out, Limits{}); err != nil || info.Files != 1 {
		t.Errorf("files alone: %+v %v", info, err)
	}
	if err := os.WriteFile(in, packed.Bytes()[:1600], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := overlay(in, "top", nil); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a cut archive: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Overlay(ctx, &bytes.Buffer{}, in, "", nil, Limits{}); err == nil {
		t.Error("it goes on after its context")
	}
}
