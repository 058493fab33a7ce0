package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"nutshell/roles/internal/archive"
)

// BenchmarkUnpack unpacks what a PHP application of the usual size is:
// thousands of small files in many directories. NUTSHELL_TEST_ARCHIVE names
// another archive.
func BenchmarkUnpack(b *testing.B) {
	path := os.Getenv("NUTSHELL_TEST_ARCHIVE")
	if path == "" {
		path = manyFiles(b)
	}
	uid, gid := -1, -1
	if os.Geteuid() == 0 {
		uid, gid = 33, 33
	}
	dir := b.TempDir()
	n := 0
	for b.Loop() {
		n++
		if err := archive.Unpack(b.Context(), path, filepath.Join(dir, strconv.Itoa(n)), "", uid, gid, archive.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func manyFiles(b *testing.B) string {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 5000 {
		text := make([]byte, 200+r.IntN(8000))
		for j := range text {
			text[j] = "etaoin shrdlu"[r.IntN(13)]
		}
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("lib/%d/%d/file%d.php", i/500, i/25, i), Mode: 0o644, Size: int64(len(text))}); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	if err := z.Close(); err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "many.tar.gz")
	if err := os.WriteFile(path, buf.Bytes(), 0o644); err != nil {
		b.Fatal(err)
	}
	return path
}
