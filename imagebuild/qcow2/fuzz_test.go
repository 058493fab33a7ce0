package qcow2

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzRead: a file of anybody's ends in an error, not in memory or time.
func FuzzRead(f *testing.F) {
	raw := filepath.Join(f.TempDir(), "raw")
	disk := make([]byte, 3*cluster)
	copy(disk, "begin")
	copy(disk[2*cluster:], bytes.Repeat([]byte("x"), 900))
	if err := os.WriteFile(raw, disk, 0o600); err != nil {
		f.Fatal(err)
	}
	in, err := os.Open(raw)
	if err != nil {
		f.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(raw + ".qcow2")
	if err != nil {
		f.Fatal(err)
	}
	defer out.Close()
	if err := Write(f.Context(), out, in, int64(len(disk)), func(float64) {}); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(out.Name())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		handed := int64(0)
		capacity, err := Read(bytes.NewReader(b), func(at int64, data []byte) error {
			if at < 0 || len(data) != cluster {
				t.Fatalf("%d bytes at %d", len(data), at)
			}
			if handed += int64(len(data)); handed > 1<<28 {
				return os.ErrInvalid // what it is read into is full
			}
			return nil
		})
		if err == nil && capacity <= 0 {
			t.Fatalf("capacity %d", capacity)
		}
	})
}
