package qcow2

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sample is a disk with holes, text, and bytes that do not compress.
func sample(t *testing.T, dir string) (*os.File, []byte) {
	t.Helper()
	b := make([]byte, 600<<20+512)
	r := rand.NewChaCha8([32]byte{2})
	_, _ = r.Read(b[:300<<10])
	_, _ = r.Read(b[530<<20 : 530<<20+70000])
	copy(b[20<<20:], strings.Repeat("a cluster of words, ", 100_000))
	copy(b[len(b)-512:], "the end")
	f, err := os.Create(filepath.Join(dir, "raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	for _, part := range [][2]int{{0, 300 << 10}, {20 << 20, 23 << 20}, {530 << 20, 531 << 20}, {len(b) - 512, len(b)}} {
		if _, err := f.WriteAt(b[part[0]:part[1]], int64(part[0])); err != nil {
			t.Fatal(err)
		}
	}
	return f, b
}

func TestWriteAndRead(t *testing.T) {
	dir := t.TempDir()
	raw, want := sample(t, dir)
	var made [2][]byte
	name := filepath.Join(dir, "disk.qcow2")
	for i := range made {
		out, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(t.Context(), out, raw, int64(len(want)), func(float64) {}); err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
		if made[i], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(made[0], made[1]) {
		t.Error("written twice, the files differ")
	}
	got := make([]byte, len(want))
	capacity, err := Read(bytes.NewReader(made[0]), func(at int64, data []byte) error {
		copy(got[at:], data)
		return nil
	})
	if err != nil || capacity != int64(len(want)) || !bytes.Equal(got, want) {
		t.Errorf("read back: %d bytes, %v, equal %v", capacity, err, bytes.Equal(got, want))
	}
	made[0][200<<10] ^= 1
	if _, err := Read(bytes.NewReader(made[0][:100<<10]), func(int64, []byte) error { return nil }); err == nil {
		t.Error("half a file was read without an error")
	}
	if _, err := exec.LookPath("qemu-img"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("no qemu-img to ask")
	}
	for _, args := range [][]string{{"check", name}, {"compare", "-f", "raw", "-F", "qcow2", raw.Name(), name}} {
		if out, err := exec.CommandContext(t.Context(), "qemu-img", args...).CombinedOutput(); err != nil {
			t.Errorf("qemu-img %v: %v: %s", args, err, out)
		}
	}
}
