package imagebuild

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLayersTravel takes a layer from one store to another.
func TestLayersTravel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("layers keep owners, which is for root")
	}
	open := func() *Store {
		s, err := Open(filepath.Join(t.TempDir(), "images"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	from, to := open(), open()
	digest := strings.Repeat("ab", 32)
	plant := func(s *Store, digest, arch string) {
		t.Helper()
		root := s.rootDir(digest)
		meta, _ := json.Marshal(Layer{Digest: digest, Name: "x", Arch: arch, Created: time.Unix(1e9, 0)})
		err := errors.Join(os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755), os.WriteFile(s.path("layers", digest, layerMeta), meta, 0o644),
			os.WriteFile(filepath.Join(root, "usr/bin/su"), []byte("program"), 0o755), os.Chown(filepath.Join(root, "usr/bin/su"), 0, 12), os.Chmod(filepath.Join(root, "usr/bin/su"), 0o755|fs.ModeSetuid),
			os.Link(filepath.Join(root, "usr/bin/su"), filepath.Join(root, "usr/bin/other")), os.Symlink("/etc/passwd", filepath.Join(root, "link")), unix.Mknod(filepath.Join(root, "gone"), unix.S_IFCHR, 0))
		if err != nil {
			t.Fatal(err)
		}
	}
	plant(from, digest, debianArch())
	var b bytes.Buffer
	if err := from.Export(t.Context(), digest, &b); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	if _, err := to.Import(t.Context(), digest, bytes.NewReader(whole[:len(whole)-7])); err == nil {
		t.Error("half of a layer was taken")
	}
	if _, err := to.Import(t.Context(), strings.Repeat("cd", 32), bytes.NewReader(whole)); err == nil {
		t.Error("another layer than was asked for was taken")
	}
	if _, err := to.Import(t.Context(), "../../etc", bytes.NewReader(whole)); err == nil {
		t.Error("a path was taken for a digest")
	}
	dir, err := to.Import(t.Context(), digest, bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	su, err := os.Stat(filepath.Join(dir, "usr/bin/su"))
	if err != nil || su.Mode() != 0o755|fs.ModeSetuid || su.Sys().(*syscall.Stat_t).Gid != 12 || su.Sys().(*syscall.Stat_t).Nlink != 2 {
		t.Errorf("got %v, %v", su, err)
	}
	var gone unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, "gone"), &gone); err != nil || gone.Mode&unix.S_IFMT != unix.S_IFCHR || gone.Rdev != 0 {
		t.Errorf("the whiteout: %+v, %v", gone, err)
	}
	if target, err := os.Readlink(filepath.Join(dir, "link")); target != "/etc/passwd" || err != nil {
		t.Errorf("the link: %q, %v", target, err)
	}
	if all, err := to.All(); len(all) != 1 || all[0] != digest || err != nil {
		t.Errorf("it has %v, %v", all, err)
	}
	left, err := os.ReadDir(to.path("build"))
	if len(left) != 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
	foreign := strings.Repeat("ef", 32)
	plant(from, foreign, "sparc")
	b.Reset()
	if err := from.Export(t.Context(), foreign, &b); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Import(t.Context(), foreign, &b); err == nil || !strings.Contains(err.Error(), "sparc") {
		t.Errorf("a layer for another machine: %v", err)
	}
	if err := from.Export(t.Context(), strings.Repeat("99", 32), &b); err == nil {
		t.Error("a layer that is not here was exported")
	}
}
