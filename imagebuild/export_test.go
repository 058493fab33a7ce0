package imagebuild

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"nutshell/roles/api"
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

// TestHostileLayersStayOutside sends what no store of ours packs. Nothing of
// this machine may become part of a layer, and nothing may be left.
func TestHostileLayersStayOutside(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("layers keep owners, which is for root")
	}
	digest := strings.Repeat("ab", 32)
	good, err := json.Marshal(Layer{Digest: digest, Arch: debianArch()})
	if err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside.json")
	if err := os.WriteFile(outside, good, 0o644); err != nil {
		t.Fatal(err)
	}
	below, err := json.Marshal(Layer{Digest: digest, Arch: debianArch(), Below: "../../../../etc"})
	if err != nil {
		t.Fatal(err)
	}
	meta := func(text []byte) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: layerMeta, Size: int64(len(text)), Mode: 0o644, PAXRecords: map[string]string{"text": string(text)}}
	}
	root := tar.Header{Typeflag: tar.TypeDir, Name: layerRoot, Mode: 0o755}
	for _, c := range []struct {
		name    string
		entries []tar.Header
		behind  int64
		good    bool
	}{
		{"plain", []tar.Header{meta(good), root}, 0, true},
		{"root-is-the-machine", []tar.Header{meta(good), {Typeflag: tar.TypeSymlink, Name: layerRoot, Linkname: "/"}}, 0, false},
		{"description-elsewhere", []tar.Header{{Typeflag: tar.TypeSymlink, Name: layerMeta, Linkname: outside}, root}, 0, false},
		{"description-is-a-pipe", []tar.Header{{Typeflag: tar.TypeFifo, Name: layerMeta}, root}, 0, false},
		{"dots", []tar.Header{meta(good), root, {Typeflag: tar.TypeReg, Name: "rootfs/../../x"}}, 0, false},
		{"through-a-link", []tar.Header{meta(good), root, {Typeflag: tar.TypeSymlink, Name: "rootfs/out", Linkname: filepath.Dir(outside)}, {Typeflag: tar.TypeReg, Name: "rootfs/out/x"}}, 0, false},
		{"hard-link-out", []tar.Header{meta(good), root, {Typeflag: tar.TypeLink, Name: "rootfs/x", Linkname: "../../../../../../etc/passwd"}}, 0, false},
		{"the-disk", []tar.Header{meta(good), root, {Typeflag: tar.TypeBlock, Name: "rootfs/sda", Devmajor: 8, Mode: 0o666}}, 0, false},
		{"the-memory", []tar.Header{meta(good), root, {Typeflag: tar.TypeChar, Name: "rootfs/mem", Devmajor: 1, Devminor: 1, Mode: 0o666}}, 0, false},
		{"twice", []tar.Header{meta(good), meta(good), root}, 0, false},
		{"lies-on-no-layer", []tar.Header{meta(below), root}, 0, false},
		{"described-last", []tar.Header{root, meta(good)}, 0, false},
		{"not-described", []tar.Header{root}, 0, false},
		{"nothing", nil, 0, false},
		{"endless", []tar.Header{meta(good), root}, 64 << 20, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(filepath.Join(t.TempDir(), "images"), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			z, err := zstd.NewWriter(&b)
			if err != nil {
				t.Fatal(err)
			}
			w := tar.NewWriter(z)
			for _, h := range c.entries {
				text := h.PAXRecords["text"]
				h.PAXRecords = nil
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(w, text); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := z.Write(make([]byte, 1024+c.behind)); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			dir, err := s.Import(t.Context(), digest, &b)
			if (err == nil) != c.good {
				t.Errorf("got %q, %v", dir, err)
			}
			if left, _ := os.ReadDir(s.path("build")); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
			if got, _ := os.ReadDir(s.path("layers")); !c.good && len(got) != 0 {
				t.Errorf("the store has %v", got)
			}
			if now, err := os.ReadDir(filepath.Dir(outside)); err != nil || len(now) != 1 {
				t.Errorf("outside there is %v, %v", now, err)
			}
		})
	}
}

// TestFullDisk: a layer that does not fit is refused before it is unpacked,
// and where the disk becomes full on the way, nothing of it is left.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a small disk is for root")
	}
	disk := t.TempDir()
	if err := unix.Mount("nutshell-test", disk, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	digest := strings.Repeat("ab", 32)
	for _, c := range []struct {
		name     string
		said     int64 // bytes that it says of itself
		received bool  // it is read to where the disk is full
	}{
		{"says-so", 20 << 20, false},
		{"says-less", 1 << 20, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(filepath.Join(disk, c.name), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			from, err := Open(filepath.Join(t.TempDir(), "images"), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			noise := make([]byte, 20<<20) // does not get smaller, so what was read tells what was unpacked
			if _, err := rand.Read(noise); err != nil {
				t.Fatal(err)
			}
			meta, err := json.Marshal(Layer{Digest: digest, Name: "large", Arch: debianArch(), Bytes: c.said})
			if err = errors.Join(err, os.MkdirAll(from.rootDir(digest), 0o755), os.WriteFile(from.path("layers", digest, layerMeta), meta, 0o644),
				os.WriteFile(filepath.Join(from.rootDir(digest), "file"), noise, 0o644)); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := from.Export(t.Context(), digest, &b); err != nil {
				t.Fatal(err)
			}
			whole := b.Len()
			_, err = s.Import(t.Context(), digest, &b)
			if api.CodeOf(err) != api.CodeNoSpace || !errors.Is(err, unix.ENOSPC) {
				t.Errorf("got %v, want no_space", err)
			}
			if read := whole - b.Len(); (read > 4<<20) != c.received {
				t.Errorf("%d of %d bytes were read, then: %v", read, whole, err)
			}
			for _, dir := range []string{"build", "layers"} {
				if left, err := os.ReadDir(s.path(dir)); err != nil || len(left) != 0 {
					t.Errorf("left in %s: %v, %v", dir, left, err)
				}
			}
		})
	}
}

// TestWindowBomb: a few bytes may not ask for a machine's memory.
func TestWindowBomb(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "images"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	// A frame of zstd that wants a window of 2 GiB (RFC 8878, 3.1.1.1.2) and repeats one byte.
	bomb := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x03, 0x00, 0x10, 'x'}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err = s.Import(t.Context(), strings.Repeat("ab", 32), bytes.NewReader(bomb)); !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		t.Errorf("got %v, want %v", err, zstd.ErrWindowSizeExceeded)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 2*mostWindow {
		t.Errorf("it took %d MB of memory", took>>20)
	}
	// What stores pack is far below that.
	if 4*packWindow > mostWindow {
		t.Errorf("layers are packed with windows of %d MB, and read with %d MB at most", packWindow>>20, mostWindow>>20)
	}
}
