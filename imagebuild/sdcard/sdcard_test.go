package sdcard

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nutshell/imagebuild/disk"
	"nutshell/roles/api"
)

const smallBoot = 40 * mib // the least that FAT32 takes

// made is a card with little on it; its root is no whole file system.
func made(t *testing.T, name string) (file string, size int64) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, name)
	root := make([]byte, 6*mib)
	binary.LittleEndian.PutUint16(root[1080:], 0xef53)
	copy(root[5*mib:], "something at the end")
	rootFile := filepath.Join(dir, "root")
	if err := os.WriteFile(rootFile, root, 0o600); err != nil {
		t.Fatal(err)
	}
	c := disk.Card{BootBytes: smallBoot, Root: rootFile, ID: 1, Time: time.Unix(1700000000, 0), Boot: []disk.BootFile{
		{Path: "/vmlinuz", Data: bytes.Repeat([]byte("kernel"), 100000)}, {Path: "/" + SettingsFile, Data: []byte("#name = pi-1\n")}}}
	size, err := disk.WriteCard(t.Context(), file, c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writeNote(t.Context(), file, rootFile, c, c.Boot, "6.1"); err != nil {
		t.Fatal(err)
	}
	return file, size
}

func patch(t *testing.T, file string, at int64, with string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte(with), at)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func find(t *testing.T, file, text string) int64 {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.LastIndex(b, []byte(text))
	if i < 0 {
		t.Fatalf("no %q in %s", text, file)
	}
	return int64(i)
}

func TestCheck(t *testing.T) {
	rootAt := int64(disk.BootAt + smallBoot)
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, file string)
		want  string // of the error; empty: the card is good
	}{
		{"as-made", func(*testing.T, string) {}, ""},
		{"on-a-larger-card", func(t *testing.T, file string) {
			if err := os.Truncate(file, 1<<30); err != nil {
				t.Fatal(err)
			}
		}, ""},
		{"settings-edited", func(t *testing.T, file string) { patch(t, file, find(t, file, "#name = pi-1"), " ") }, ""},
		{"kernel-spoilt", func(t *testing.T, file string) { patch(t, file, find(t, file, "kernelkernel"), "X") }, "/vmlinuz on the boot partition is not as it was made"},
		{"root-spoilt", func(t *testing.T, file string) { patch(t, file, rootAt+5*mib, "Something") }, "root file system is not as it was made"},
		{"no-root", func(t *testing.T, file string) { patch(t, file, rootAt+1080, "\x00\x00") }, "root file system is not there"},
		{"pulled-early", func(t *testing.T, file string) {
			if err := os.Truncate(file, rootAt+2*mib); err != nil {
				t.Fatal(err)
			}
		}, "not all of it was written"},
		{"pulled-in-the-boot-partition", func(t *testing.T, file string) {
			if err := os.Truncate(file, 20*mib); err != nil {
				t.Fatal(err)
			}
		}, "not all of it was written"},
		{"pulled-at-once", func(t *testing.T, file string) {
			if err := os.Truncate(file, 3); err != nil {
				t.Fatal(err)
			}
		}, "not all of it was written"},
		{"old-card-below", func(t *testing.T, file string) { patch(t, file, rootAt+2*mib, strings.Repeat("old", 1000)) }, "not as it was made"},
		{"something-else", func(t *testing.T, file string) { patch(t, file, disk.NoteAt, "nothing of ours") }, "no card of Nutshell"},
		{"no-table", func(t *testing.T, file string) { patch(t, file, 510, "\x00\x00") }, "no partition table"},
		{"senseless-note", func(t *testing.T, file string) {
			patch(t, file, disk.NoteAt, noteMagic+`{"card":1,"root_at":-5,"root_bytes":9223372036854775807}`+"\n")
		}, "makes no sense"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file, _ := made(t, "card.img")
			c.spoil(t, file)
			work := t.TempDir()
			_, err := Check(t.Context(), file, work)
			if c.want == "" && err != nil || c.want != "" && (api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if left, err := os.ReadDir(work); err != nil || len(left) > 0 {
				t.Errorf("left %v behind, %v", left, err)
			}
		})
	}
}

func TestCheckSeesThatACardWasUsed(t *testing.T) {
	file, _ := made(t, "card.img")
	b := make([]byte, 4)
	binary.LittleEndian.PutUint32(b, 1<<22)
	patch(t, file, 446+16+12, string(b)) // as growing does
	patch(t, file, int64(disk.BootAt+smallBoot)+3*mib, "a log")
	r, err := Check(t.Context(), file, t.TempDir())
	if err != nil || !r.Started {
		t.Errorf("got %+v, %v; want a card that was started", r, err)
	}
}

func TestPackedCardsAreCheckedAndSame(t *testing.T) {
	file, _ := made(t, "card.img")
	for _, ending := range []string{".zst", ".gz"} {
		var packed [2][]byte
		for i := range packed {
			out := filepath.Join(t.TempDir(), "card.img"+ending)
			if err := Pack(t.Context(), file, out, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := Check(t.Context(), out, t.TempDir()); err != nil {
				t.Errorf("%s: %v", ending, err)
			}
			b, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			packed[i] = b
			if err := os.WriteFile(out, b[:len(b)/2], 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Check(t.Context(), out, t.TempDir()); err == nil {
				t.Errorf("%s: half a file is good", ending)
			}
		}
		if !bytes.Equal(packed[0], packed[1]) {
			t.Errorf("%s: the same card packed twice differs", ending)
		}
	}
	if err := Pack(t.Context(), file, filepath.Join(t.TempDir(), "card.rar"), nil); err == nil {
		t.Error("packed as .rar")
	}
}

func TestCardsAreReproducible(t *testing.T) {
	a, size := made(t, "a.img")
	b, _ := made(t, "b.img")
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) || int64(len(x)) != size {
		t.Errorf("two cards of the same files differ, or are not of %d bytes", size)
	}
}

func TestCheckStopsWhenAsked(t *testing.T) {
	file, _ := made(t, "card.img")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Check(ctx, file, t.TempDir()); err == nil || api.CodeOf(err) == api.CodeInvalid {
		t.Errorf("got %v, want the end of the context", err)
	}
}

func TestCheckBinary(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "main.go")
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"arm64", "amd64"} {
		out := filepath.Join(dir, arch)
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, src)
		cmd.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=")
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("no Go here that builds for %s: %v: %s", arch, err, b)
		}
		err := CheckBinary(out)
		if arch == "arm64" && err != nil || arch == "amd64" && (err == nil || !strings.Contains(err.Error(), "make build-arm64")) {
			t.Errorf("%s: got %v", arch, err)
		}
	}
	if err := CheckBinary(src); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a text: got %v", err)
	}
}
