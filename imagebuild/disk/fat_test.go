package disk

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	diskfs "github.com/diskfs/go-diskfs"
)

// fat makes a small FAT32 and returns its bytes.
func fat(t testing.TB) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fat")
	img, err := diskfs.Create(file, 36<<20, diskfs.SectorSizeDefault)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFAT(img, 0, BootLabel, []BootFile{{Path: "/kernel", Data: bytes.Repeat([]byte("k"), 20_000)}, {Path: "/sub/file", Data: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	if err := img.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHostileFAT(t *testing.T) {
	good := fat(t)
	le := binary.LittleEndian
	table := int(le.Uint16(good[14:])) * sector
	chained := 0 // a cluster that another follows
	for c := 2; c < 10_000 && chained == 0; c++ {
		if next := le.Uint32(good[table+4*c:]) & 0x0fff_ffff; next >= 2 && next < 0x0fff_fff0 {
			chained = c
		}
	}
	if chained == 0 {
		t.Fatal("no file has two clusters")
	}
	for _, c := range []struct {
		name, want string
		spoil      func(b []byte)
	}{
		{"whole", "", func([]byte) {}},
		{"leads-to-itself", "back to itself", func(b []byte) { le.PutUint32(b[table+4*chained:], uint32(chained)) }},
		{"leads-back", "back to itself", func(b []byte) { le.PutUint32(b[table+4*(chained+1):], uint32(chained)) }},
		{"directory-in-itself", "too deep", func(b []byte) {
			at := bytes.Index(b, []byte("SUB        "))
			le.PutUint16(b[at+20:], 0)
			le.PutUint16(b[at+26:], uint16(le.Uint32(b[44:]))) // where the root directory begins
		}},
		{"no-clusters", "not as ours", func(b []byte) { b[13] = 0 }},
		{"huge-table", "not as ours", func(b []byte) { le.PutUint32(b[36:], 1<<30) }},
		{"no-fat", "no FAT32", func(b []byte) { clear(b[:sector]) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bytes.Clone(good)
			c.spoil(b)
			file := filepath.Join(t.TempDir(), "fat")
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			sums, err := FATSums(file)
			if c.want == "" && (err != nil || len(sums) != 2) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, %v, want %q", sums, err, c.want)
			}
		})
	}
}
