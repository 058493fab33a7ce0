package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"

	"nutshell/roles/api"
)

// member is one tar entry of a test; a zero Typeflag is a regular file.
type member struct {
	tar.Header
	body string
}

func file(name, body string) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, body}
}

func other(typeflag byte, name, link string) member {
	return member{tar.Header{Name: name, Linkname: link, Typeflag: typeflag, Mode: 0o755}, ""}
}

func tarOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		m.Size = int64(len(m.body))
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// packed runs a compression program; without it the test cannot be done.
func packed(t testing.TB, data []byte, argv ...string) []byte {
	t.Helper()
	path, err := exec.LookPath(argv[0])
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	c := exec.Command(path, argv[1:]...)
	c.Stdin = bytes.NewReader(data)
	out, err := c.Output()
	if err != nil {
		t.Fatal(argv, err)
	}
	return out
}

func zipOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		h := &zip.FileHeader{Name: m.Name, Method: zip.Deflate}
		h.SetMode(m.FileInfo().Mode())
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, m.body+m.Linkname); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func onDisk(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// listing is every path below dir with its mode and content.
func listing(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		i, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %s", i.Mode(), name)
		switch {
		case i.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += " = " + string(b)
		case i.Mode()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(p)
			line = "link " + name + " -> " + to
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(out)
	return out
}

func application(top string) []member {
	script := file(top+"bin/run.sh", "#!/bin/sh\n")
	script.Mode = 0o4777
	return []member{
		file(top+"index.php", "<?php echo 1;"), other(tar.TypeDir, top+"bin/", ""), script,
		other(tar.TypeSymlink, top+"bin/home", "../index.php"), other(tar.TypeLink, top+"again.php", top+"index.php"),
	}
}

var unpackedApplication = []string{
	"-rw-r--r-- again.php = <?php echo 1;", "-rw-r--r-- index.php = <?php echo 1;", "-rwxr-xr-x bin/run.sh = #!/bin/sh\n",
	"drwxr-xr-x bin", "link bin/home -> ../index.php",
}

func TestEveryFormat(t *testing.T) {
	plain := tarOf(t, application("")...)
	zipped := application("")[:4] // zip has no hard links
	for _, c := range []struct {
		name   string
		data   func(t *testing.T) []byte
		format Format
		want   []string
	}{
		{"tar", func(*testing.T) []byte { return plain }, Tar, unpackedApplication},
		{"gz", func(t *testing.T) []byte { return gz(t, plain) }, TarGz, unpackedApplication},
		{"gz-in-two-members", func(t *testing.T) []byte { return append(gz(t, plain[:700]), gz(t, plain[700:])...) }, TarGz, unpackedApplication},
		{"bz2", func(t *testing.T) []byte { return packed(t, plain, "bzip2") }, TarBz2, unpackedApplication},
		{"xz", func(t *testing.T) []byte { return packed(t, plain, "xz") }, TarXz, unpackedApplication},
		{"xz-best", func(t *testing.T) []byte { return packed(t, plain, "xz", "-9e") }, TarXz, unpackedApplication},
		{"xz-in-blocks-and-streams", func(t *testing.T) []byte {
			first := packed(t, plain[:1500], "xz", "--block-size=512", "--check=sha256")
			return append(append(first, 0, 0, 0, 0), packed(t, plain[1500:], "xz", "-T2", "--check=crc32")...)
		}, TarXz, unpackedApplication},
		{"zst", func(t *testing.T) []byte { return packed(t, plain, "zstd") }, TarZst, unpackedApplication},
		{"zip", func(t *testing.T) []byte { return zipOf(t, zipped...) }, Zip, unpackedApplication[1:]},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := onDisk(t, "app", c.data(t))
			info, err := Inspect(context.Background(), path, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if info.Format != c.format || info.Files != len(c.want)-1 || info.Bytes != 23 || info.TopDirectory != "" {
				t.Errorf("got %+v", info)
			}
			dir := filepath.Join(t.TempDir(), "out")
			if err := Unpack(context.Background(), path, dir, "", -1, -1, Limits{}); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, listing(t, dir)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestTopDirectoryAndStrip(t *testing.T) {
	path := onDisk(t, "shop.tar", tarOf(t, append(application("shop-1.0/"), other(tar.TypeXGlobalHeader, "", ""))[:5]...))
	info, err := Inspect(context.Background(), path, Limits{})
	if err != nil || info.TopDirectory != "shop-1.0" {
		t.Fatalf("got %q, %v", info.TopDirectory, err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	if err := Unpack(context.Background(), path, dir, info.TopDirectory, -1, -1, Limits{}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(unpackedApplication, listing(t, dir)); d != "" {
		t.Error(d)
	}
	for _, c := range []struct {
		name, want string
		members    []member
	}{
		{"file-beside-it", "", []member{file("shop/a", ""), file("README", "")}},
		{"two-directories", "", []member{file("shop/a", ""), file("lib/b", "")}},
		{"one-file", "", []member{file("index.php", "")}},
		{"dot-slash", "shop", []member{other(tar.TypeDir, "./", ""), file("./shop//a", "")}},
		{"macos-notes", "shop", []member{file("shop/a", ""), file("__MACOSX/shop/._a", "")}},
		{"web-inf-stays", "", []member{file("WEB-INF/web.xml", "")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			info, err := Inspect(context.Background(), onDisk(t, "a.tar", tarOf(t, c.members...)), Limits{})
			if err != nil || info.TopDirectory != c.want {
				t.Errorf("got %q, %v, want %q", info.TopDirectory, err, c.want)
			}
		})
	}
	if err := Unpack(context.Background(), path, filepath.Join(t.TempDir(), "out"), "other", -1, -1, Limits{}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("strip of a directory that is not there: got %v", err)
	}
}

func TestUnpackIsWholeOrNothing(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "out")
	bad := onDisk(t, "bad.tar", tarOf(t, file("a", "1"), file("../b", "2")))
	if err := Unpack(context.Background(), bad, dir, "", -1, -1, Limits{}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("got %v, want code invalid", err)
	}
	good := onDisk(t, "good.tar", tarOf(t, file("a", "1")))
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Unpack(ended, good, dir, "", -1, -1, Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if left := listing(t, parent); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	leftover := filepath.Join(parent, partialPrefix(dir)+"123")
	if err := os.MkdirAll(filepath.Join(leftover, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(leftover, time.Time{}, time.Now().Add(-2*leftoverAge)); err != nil {
		t.Fatal(err)
	}
	if err := Unpack(context.Background(), good, dir, "", -1, -1, Limits{}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"-rw-r--r-- out/a = 1", "drwxr-xr-x out"}, listing(t, parent)); d != "" {
		t.Error(d)
	}
	if err := Unpack(context.Background(), good, dir, "", -1, -1, Limits{}); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("unpack over what is there: got %v, want code conflict", err)
	}
}

func TestUnpackGivesToUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := filepath.Join(t.TempDir(), "out")
	if err := Unpack(context.Background(), onDisk(t, "a.tar", tarOf(t, application("")...)), dir, "", 33, 34, Limits{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".", "index.php", "bin", "bin/home", "again.php"} {
		out, err := exec.Command("stat", "-c", "%u:%g", filepath.Join(dir, name)).Output()
		if err != nil || strings.TrimSpace(string(out)) != "33:34" {
			t.Errorf("%s: owner %s, %v, want 33:34", name, out, err)
		}
	}
}

func TestTimesAreKept(t *testing.T) {
	when := time.Date(2015, 3, 4, 5, 6, 7, 0, time.UTC)
	m, undated := file("a", ""), file("b", "")
	m.ModTime = when
	undated.ModTime = time.Unix(0, 0)
	dir := filepath.Join(t.TempDir(), "out")
	if err := Unpack(context.Background(), onDisk(t, "a.tar", tarOf(t, m, undated)), dir, "", -1, -1, Limits{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]time.Time{"a": when, "b": time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if s, err := os.Stat(filepath.Join(dir, name)); err != nil || !s.ModTime().Equal(want) {
			t.Errorf("%s: got %v, %v, want %v", name, s.ModTime(), err, want)
		}
	}
}

func TestCreateIsDeterministic(t *testing.T) {
	files := map[string]string{"index.html": "<p>hello", "run.sh": "#!/bin/sh", "lib/a": "x"}
	var first, second bytes.Buffer
	if err := errors.Join(Create(&first, files), Create(&second, files)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same files made different bytes")
	}
	dir := filepath.Join(t.TempDir(), "out")
	if err := Unpack(context.Background(), onDisk(t, "default.tar.gz", first.Bytes()), dir, "", -1, -1, Limits{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"-rw-r--r-- index.html = <p>hello", "-rw-r--r-- lib/a = x", "-rwxr-xr-x run.sh = #!/bin/sh", "drwxr-xr-x lib"}
	if d := cmp.Diff(want, listing(t, dir)); d != "" {
		t.Error(d)
	}
}

func TestDefaultLimits(t *testing.T) {
	if d := cmp.Diff(Limits{Files: 100_000, Bytes: 4 << 30, Names: 1000}, Limits{}.withDefaults()); d != "" {
		t.Error(d)
	}
	path := onDisk(t, "a.tar", tarOf(t, file("a", "12345"), file("b", "12345"), file("c", "")))
	for name, c := range map[string]struct {
		limits Limits
		want   api.Code
	}{
		"files-exactly": {Limits{Files: 3}, ""}, "one-file-too-many": {Limits{Files: 2}, api.CodeTooLarge},
		"bytes-exactly": {Limits{Bytes: 10}, ""}, "one-byte-too-many": {Limits{Bytes: 9}, api.CodeTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Inspect(context.Background(), path, c.limits); api.CodeOf(err) != c.want {
				t.Errorf("got %v, want code %q", err, c.want)
			}
		})
	}
	if info, err := Inspect(context.Background(), path, Limits{Names: 2}); err != nil || len(info.Names) != 2 || info.Files != 3 {
		t.Errorf("got %+v, %v", info, err)
	}
}

// TestUnpackOnAFullDisk fills a real, small file system.
func TestUnpackOnAFullDisk(t *testing.T) {
	mount := t.TempDir()
	if err := unix.Mount("nutshell-test", mount, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("cannot mount a small file system: ", err) // not root
	}
	defer unix.Unmount(mount, 0)
	path := onDisk(t, "big.tar", tarOf(t, file("small", "1"), file("big", strings.Repeat("x", 4<<20))))
	if err := Unpack(context.Background(), path, filepath.Join(mount, "out"), "", -1, -1, Limits{}); api.CodeOf(err) != api.CodeNoSpace {
		t.Errorf("got %v, want code no_space", err)
	}
	if left := listing(t, mount); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
