package codestore

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/roles/api"
	"nutshell/roles/internal/archive"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func files(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tarGz(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := archive.Create(&b, files); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPutAndRead(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "blobs"))
	data := make([]byte, 3<<20)
	_, _ = rand.Read(data)
	sum := sha256.Sum256(data)
	want := hex.EncodeToString(sum[:])
	for range 2 { // the second time it is there already
		b, err := s.Put(context.Background(), bytes.NewReader(data), int64(len(data)))
		if err != nil || b.SHA256 != want || b.Bytes != int64(len(data)) {
			t.Fatalf("got %+v, %v", b, err)
		}
	}
	if all := files(t, s.dir); len(all) != 1 || all[0] != s.Path(want) {
		t.Errorf("stored: %v", all)
	}
	f, err := s.File(want)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
	if !open(t, s.dir).Has(want) {
		t.Error("gone after Open")
	}
	if err := errors.Join(s.Remove(want), s.Remove(want)); err != nil || s.Has(want) {
		t.Errorf("remove: %v, still there %v", err, s.Has(want))
	}
}

func TestNamesThatAreNoHash(t *testing.T) {
	s := open(t, t.TempDir())
	for _, name := range []string{"", "abc", "../../etc/passwd", strings.Repeat("a", 63) + "/", strings.Repeat("A", 64), strings.Repeat("g", 64)} {
		if _, err := s.File(name); api.CodeOf(err) != api.CodeInvalid || s.Has(name) || s.Path(name) != "" || s.Remove(name) == nil {
			t.Errorf("%q was taken for a hash: %v", name, err)
		}
	}
	if _, err := s.File(strings.Repeat("a", 64)); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("missing blob: got %v, want code not_found", err)
	}
}

func TestFailedPutLeavesNothing(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		r    io.Reader
		want api.Code
	}{
		{"one-byte-too-many", context.Background(), strings.NewReader("12345678901"), api.CodeTooLarge},
		{"cancelled", ended, strings.NewReader("123"), api.CodeInternal},
		{"connection-lost", context.Background(), io.MultiReader(strings.NewReader("123"), iotest.ErrReader(io.ErrUnexpectedEOF)), api.CodeInternal},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			if _, err := s.Put(c.ctx, c.r, 10); api.CodeOf(err) != c.want {
				t.Errorf("got %v, want code %s", err, c.want)
			}
			if left := files(t, s.dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestOpenRemovesWhatACrashLeft(t *testing.T) {
	s := open(t, t.TempDir())
	in, err := s.receive(context.Background(), strings.NewReader("half"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.discard()
	if len(files(t, s.dir)) != 1 {
		t.Fatal("nothing was received")
	}
	if left := files(t, open(t, s.dir).dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestDiskFull fills a real, small file system.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("nutshell-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("cannot mount a small file system: ", err) // not root
	}
	defer unix.Unmount(dir, 0)
	s := open(t, dir)
	kept, err := s.Put(context.Background(), strings.NewReader("small"), 0)
	if err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 4<<20)
	_, _ = rand.Read(big)
	for name, put := range map[string]func() error{
		"put": func() error { _, err := s.Put(context.Background(), bytes.NewReader(big), 0); return err },
		"version": func() error {
			_, err := s.Version(context.Background(), bytes.NewReader(big), "a.tar", false, 0)
			return err
		},
	} {
		err := put()
		if api.CodeOf(err) != api.CodeNoSpace || !strings.Contains(err.Error(), "MiB are free") || api.AsError(err).Hint == "" {
			t.Errorf("%s: got %v, want code no_space with what is free", name, err)
		}
	}
	if all := files(t, dir); len(all) != 1 || !s.Has(kept.SHA256) {
		t.Errorf("after the disk was full: %v", all)
	}
	if _, err := s.Put(context.Background(), strings.NewReader("fits"), 0); err != nil {
		t.Errorf("does not work again: %v", err)
	}
}

func TestVersion(t *testing.T) {
	plain := tarGz(t, map[string]string{"index.php": "1", "lib/a.php": "2"})
	folder := tarGz(t, map[string]string{"shop/index.php": "1", "shop/lib/a.php": "2"})
	for _, c := range []struct {
		name, filename string
		data           []byte
		strip          bool
		code           api.Code
		wantStrip      string
	}{
		{"plain", "shop.tar.gz", plain, false, "", ""},
		{"plain-with-strip", "shop.tar.gz", plain, true, "", ""},
		{"folder", "shop.tar.gz", folder, false, api.CodeInvalid, ""},
		{"folder-with-strip", "shop.tar.gz", folder, true, "", "shop"},
		{"path-as-name", `C:\temp\..\shop.tar.gz`, plain, false, "", ""},
		{"no-archive", "shop.tar.gz", []byte("hello"), false, api.CodeInvalid, ""},
		{"nothing", "shop.tar.gz", nil, false, api.CodeInvalid, ""},
		{"too-large", "shop.tar.gz", append(plain, make([]byte, 1000)...), false, api.CodeTooLarge, ""},
		{"no-name", "", plain, false, api.CodeInvalid, ""},
		{"dots", "..", plain, false, api.CodeInvalid, ""},
		{"long-name", strings.Repeat("a", 256), plain, false, api.CodeInvalid, ""},
		{"line-break-in-name", "a\nb", plain, false, api.CodeInvalid, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			v, err := s.Version(context.Background(), bytes.NewReader(c.data), c.filename, c.strip, 900)
			if api.CodeOf(err) != c.code {
				t.Fatalf("got %v, want code %q", err, c.code)
			}
			if err != nil {
				if left := files(t, s.dir); len(left) != 0 {
					t.Errorf("left behind: %v", left)
				}
				return
			}
			if v.Filename != "shop.tar.gz" || v.Format != "tar.gz" || v.Strip != c.wantStrip || v.Files != 2 || len(v.ID) != 11 || v.Bytes != int64(len(c.data)) || !s.Has(v.SHA256) {
				t.Errorf("got %+v", v)
			}
		})
	}
}

func TestSubDirectoryOffersStrip(t *testing.T) {
	s := open(t, t.TempDir())
	_, err := s.Version(context.Background(), bytes.NewReader(tarGz(t, map[string]string{"my shop/index.php": "1"})), "a.tgz", false, 0)
	e := api.AsError(err)
	if e == nil || !strings.Contains(e.Hint, "--strip") || !strings.Contains(e.Message, `"my shop"`) || e.Object != "file a.tgz" {
		t.Errorf("got %+v", e)
	}
}

func TestRefusalKeepsWhatOthersUse(t *testing.T) {
	s := open(t, t.TempDir())
	folder := tarGz(t, map[string]string{"shop/index.php": "1"})
	v, err := s.Version(context.Background(), bytes.NewReader(folder), "a.tgz", true, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Version(context.Background(), bytes.NewReader(folder), "a.tgz", false, 0); err == nil {
		t.Fatal("no error")
	}
	if !s.Has(v.SHA256) {
		t.Error("the refusal removed a blob of another version")
	}
}

func TestManyAtOnce(t *testing.T) {
	s := open(t, t.TempDir())
	data := tarGz(t, map[string]string{"index.php": strings.Repeat("x", 10_000)})
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			v, err := s.Version(context.Background(), bytes.NewReader(data), "a.tgz", false, 0)
			if err != nil {
				t.Error(err)
			}
			ids[i] = v.ID
		})
	}
	wg.Wait()
	if all := files(t, s.dir); len(all) != 1 {
		t.Errorf("stored: %v", all)
	}
}

func TestSweep(t *testing.T) {
	s := open(t, t.TempDir())
	put := func(text string, age time.Duration) string {
		b, err := s.Put(context.Background(), strings.NewReader(text), 0)
		if err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(s.Path(b.SHA256), when, when); err != nil {
			t.Fatal(err)
		}
		return b.SHA256
	}
	used, unused, young := put("used", 2*time.Hour), put("unused", 2*time.Hour), put("young", 0)
	removed, err := s.Sweep(context.Background(), time.Now().Add(-time.Hour), func(sha string) (bool, error) { return sha == used, nil })
	if err != nil || len(removed) != 1 || removed[0] != unused {
		t.Errorf("removed %v, %v", removed, err)
	}
	if !s.Has(used) || !s.Has(young) || s.Has(unused) {
		t.Error("the wrong blobs are left")
	}
	again := put("used", 0)
	if _, err := s.Sweep(context.Background(), time.Now().Add(time.Hour), func(string) (bool, error) { return false, errors.New("no rows") }); err == nil || !s.Has(again) {
		t.Error("a blob was removed although nobody could say whether it is used")
	}
}
