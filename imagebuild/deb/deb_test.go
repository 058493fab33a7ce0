package deb

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"nutshell/roles/api"
)

// plant makes files, and symbolic links of what begins with an arrow.
func plant(t *testing.T, files map[string]string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if link, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(link, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

// TestGather follows links as the unpacked system would, and never out of it.
func TestGather(t *testing.T) {
	root := plant(t, map[string]string{
		"usr/share/wiki/index.php":          "index",
		"usr/share/wiki/includes/a.php":     "a",
		"usr/share/wiki/core/Ext/ext.php":   "ext",
		"var/lib/wiki/index.php":            "-> /usr/share/wiki/index.php",
		"var/lib/wiki/includes":             "-> /usr/share/wiki/includes",
		"var/lib/wiki/extensions/Ext":       "-> ../../../../usr/share/wiki/core/Ext",
		"var/lib/wiki/js":                   "-> ../../../usr/share/javascript/lib",
		"var/lib/wiki/settings.php":         "-> /etc/wiki/settings.php",
		"var/lib/wiki/out":                  "-> ../../../../../../../../etc/passwd",
		"var/lib/wiki/self":                 "-> self",
		"var/lib/wiki/up":                   "-> .",
		"var/lib/wiki/extensions/Round":     "-> ../extensions",
		"usr/share/wiki/core/Ext/more/b.js": "b",
	})
	dir, err := webRoot(root, "wiki")
	if err != nil || dir != "var/lib/wiki" {
		t.Fatalf("web root %q %v", dir, err)
	}
	tr, err := gather(root, dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for n := range tr.files {
		names = append(names, n)
	}
	slices.Sort(names)
	if want := []string{"extensions/Ext/ext.php", "extensions/Ext/more/b.js", "includes/a.php", "index.php"}; !slices.Equal(names, want) {
		t.Errorf("files: %v, want %v", names, want)
	}
	if !slices.Contains(tr.lost, "usr/share/javascript/lib") || !slices.Contains(tr.lost, "etc/wiki/settings.php") {
		t.Errorf("lost: %v", tr.lost)
	}
	if got := lentBy([]string{"apache2", "php-mbstring", "libjs-lib", "perl"}, tr.lost); !slices.Equal(got, []string{"php-mbstring", "libjs-lib"}) {
		t.Errorf("lent by: %v", got)
	}
	if _, err := webRoot(root, "other"); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a package without pages: %v", err)
	}
	var one, two bytes.Buffer
	if err := errors.Join(tr.pack(t.Context(), &one), tr.pack(t.Context(), &two)); err != nil || !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Errorf("packed twice, the bytes differ: %v", err)
	}
	z, err := zstd.NewReader(&one)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	r := tar.NewReader(z)
	h, err := r.Next()
	if err != nil || h.Name != "extensions/Ext/ext.php" {
		t.Fatalf("%+v %v", h, err)
	}
	if b, _ := io.ReadAll(r); string(b) != "ext" {
		t.Errorf("text %q", b)
	}
}

func TestOwn(t *testing.T) {
	got := own("wordpress", []string{"php-gd", "wordpress-common"}, []string{"wordpress-l10n", "wordpress-theme-twentyten", "wordpressish"})
	if !slices.Equal(got, []string{"wordpress", "wordpress-common", "wordpress-theme-twentyten"}) {
		t.Errorf("own: %v", got)
	}
}
