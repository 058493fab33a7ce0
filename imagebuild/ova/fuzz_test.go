package ova

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func small(f *testing.F) []byte {
	raw := filepath.Join(f.TempDir(), "raw")
	disk := make([]byte, 1<<20)
	copy(disk[70000:], "something")
	if err := os.WriteFile(raw, disk, 0o600); err != nil {
		f.Fatal(err)
	}
	in, err := os.Open(raw)
	if err != nil {
		f.Fatal(err)
	}
	defer in.Close()
	out := filepath.Join(f.TempDir(), "x.ova")
	if err := Write(f.Context(), out, machine(), in, int64(len(disk)), epoch, nil); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

func FuzzCheck(f *testing.F) {
	f.Add(small(f))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = Check(bytes.NewReader(b), func(int64, []byte) error { return nil })
	})
}

// FuzzVMDK: what is handed over lies on the disk.
func FuzzVMDK(f *testing.F) {
	t := tar.NewReader(bytes.NewReader(small(f)))
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			f.Fatal(err)
		}
		if filepath.Ext(h.Name) == ".vmdk" {
			b, err := io.ReadAll(t)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		end := int64(0)
		capacity, err := ReadVMDK(bytes.NewReader(b), func(at int64, data []byte) error {
			if at < end {
				t.Fatalf("a grain at %d, behind one that ends at %d", at, end)
			}
			end = at + int64(len(data))
			return nil
		})
		if err == nil && end > capacity+grainBytes {
			t.Fatalf("grains to %d of %d bytes", end, capacity)
		}
	})
}
