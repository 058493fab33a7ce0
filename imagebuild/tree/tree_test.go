package tree

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func plant(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func packed(t *testing.T, tr *Tree) (map[string]*tar.Header, map[string]string, []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := tr.WriteTar(t.Context(), &b, at, nil); err != nil {
		t.Fatal(err)
	}
	headers, texts := map[string]*tar.Header{}, map[string]string{}
	last := ""
	for r := tar.NewReader(bytes.NewReader(b.Bytes())); ; {
		h, err := r.Next()
		if err == io.EOF {
			return headers, texts, b.Bytes()
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSuffix(h.Name, "/") < last {
			t.Errorf("%s comes after %s", h.Name, last)
		}
		last = strings.TrimSuffix(h.Name, "/")
		text, _ := io.ReadAll(r)
		headers[h.Name], texts[h.Name] = h, string(text)
	}
}

func TestLayersLieOverEachOther(t *testing.T) {
	low, high := t.TempDir(), t.TempDir()
	plant(t, low, map[string]string{"etc/keep": "low", "etc/change": "low", "etc/gone": "low", "opt/old/file": "low", "was/dir/file": "low"})
	plant(t, high, map[string]string{"etc/change": "high", "new/file": "high", "was": "a file now"})
	if err := os.Link(filepath.Join(high, "new/file"), filepath.Join(high, "new/twin")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../etc/keep", filepath.Join(high, "new/link")); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := unix.Mknod(filepath.Join(high, "etc/gone"), unix.S_IFCHR, 0); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := New(low, high)
	if err != nil {
		t.Fatal(err)
	}
	tr.Write("/usr/bin/nutshell", []byte("program"), 0o755)
	tr.Symlink("etc/mtab", "/proc/self/mounts")
	if err := tr.Remove("/opt/*"); err != nil {
		t.Fatal(err)
	}
	headers, texts, first := packed(t, tr)
	for name, want := range map[string]string{"./etc/keep": "low", "./etc/change": "high", "./new/file": "high", "./was": "a file now", "./usr/bin/nutshell": "program"} {
		if texts[name] != want {
			t.Errorf("%s holds %q, want %q", name, texts[name], want)
		}
	}
	gone := []string{"./opt/old/", "./opt/old/file", "./was/dir/file"}
	if os.Geteuid() == 0 {
		gone = append(gone, "./etc/gone")
	}
	for _, name := range gone {
		if headers[name] != nil {
			t.Errorf("%s is there", name)
		}
	}
	if h := headers["./new/twin"]; h == nil || h.Typeflag != tar.TypeLink || h.Linkname != "./new/file" {
		t.Errorf("hard link: %+v", h)
	}
	if h := headers["./usr/bin/nutshell"]; h.Mode != 0o755 || h.Uid != 0 || !h.ModTime.Equal(at) {
		t.Errorf("program: %+v", h)
	}
	if h := headers["./new/file"]; !h.ModTime.Equal(at) {
		t.Errorf("a file of today bears %v", h.ModTime)
	}
	if _, _, again := packed(t, tr); !bytes.Equal(first, again) {
		t.Error("written twice, the bytes differ")
	}
}

// TestCopyKeepsLayersAsTheyLie: a store of layers within an image must still be
// one.
func TestCopyKeepsLayersAsTheyLie(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make whiteouts")
	}
	layer := t.TempDir()
	plant(t, layer, map[string]string{"rootfs/a": "x"})
	if err := unix.Mknod(filepath.Join(layer, "rootfs/gone"), unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(layer, "rootfs/opaque"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(filepath.Join(layer, "rootfs/opaque"), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		t.Skip("no overlay marks here:", err)
	}
	tr, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Copy(layer, "/var/lib/nutshell/images/layers/d"); err != nil {
		t.Fatal(err)
	}
	headers, _, _ := packed(t, tr)
	const at = "./var/lib/nutshell/images/layers/d/rootfs/"
	if h := headers[at+"gone"]; h == nil || h.Typeflag != tar.TypeChar || h.Devmajor != 0 || h.Devminor != 0 {
		t.Errorf("whiteout: %+v", h)
	}
	if h := headers[at+"opaque/"]; h == nil || h.Mode != 0o750 || h.PAXRecords["SCHILY.xattr.trusted.overlay.opaque"] != "y" {
		t.Errorf("opaque directory: %+v", h)
	}
	if headers["./var/lib/nutshell/"] == nil {
		t.Error("the way to it is missing")
	}
}
