package archive

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// site is a directory as users pack it, and what is to come of it.
func site(t *testing.T) (dir string, want []string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{"index.html": "<h1>nuts</h1>", "größe/日本.txt": "utf-8", "caf\xe9.txt": "latin-1", "WEB-INF/web.xml": "<web-app/>", ".hidden": "x", "empty": ""} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "run.sh"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("index.html", filepath.Join(dir, "home")); err != nil {
		t.Fatal(err)
	}
	// Half a megabyte of hole, which tar -S leaves out.
	if err := os.Truncate(filepath.Join(dir, "empty"), 1<<19); err != nil {
		t.Fatal(err)
	}
	return dir, []string{
		"-rw-r--r-- .hidden = x", "-rw-r--r-- WEB-INF/web.xml = <web-app/>", "-rw-r--r-- caf\xe9.txt = latin-1", "-rw-r--r-- empty = " + strings.Repeat("\x00", 1<<19),
		"-rw-r--r-- größe/日本.txt = utf-8", "-rw-r--r-- index.html = <h1>nuts</h1>", "-rwxr-xr-x run.sh = #!/bin/sh\n",
		"drwxr-xr-x WEB-INF", "drwxr-xr-x größe", "link home -> index.html",
	}
}

// TestRealTools unpacks what the programs make that people pack with.
func TestRealTools(t *testing.T) {
	dir, want := site(t)
	for _, line := range []string{
		"tar cf $OUT .", "tar cf $OUT --format=v7 .", "tar cf $OUT --format=ustar .", "tar cf $OUT --format=oldgnu .", "tar cf $OUT --format=posix .", "tar cSf $OUT --format=gnu .", "tar cSf $OUT --format=posix .",
		"tar czf $OUT .", "tar cjf $OUT .", "tar cJf $OUT .", "tar c --zstd -f $OUT .", "tar c . | gzip -1 > $OUT", "tar c . | gzip --rsyncable > $OUT", "tar c . | bzip2 -1 > $OUT",
		"tar c . | xz -T2 --block-size=64KiB > $OUT", "tar c . | xz --check=none -0 > $OUT", "tar c . | zstd -19 --long=27 > $OUT", "tar c . | zstd --no-check > $OUT", "tar c --owner=nobody --group=12345678 -f $OUT .",
		"zip -qry $OUT .", "zip -qry0 $OUT .", "zip -qryX $OUT . -fz", "zip -qry - . > $OUT",
	} {
		t.Run(strings.ReplaceAll(line, "/", "-"), func(t *testing.T) {
			for _, tool := range []string{"tar", "gzip", "bzip2", "xz", "zstd", "zip"} {
				if strings.Contains(line, tool) {
					needTool(t, tool)
				}
			}
			path := filepath.Join(t.TempDir(), "app.war") // whose name says nothing
			c := exec.Command("bash", "-o", "pipefail", "-c", line)
			c.Dir, c.Env = dir, append(os.Environ(), "OUT="+path, "LC_ALL=C.UTF-8")
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			info, err := Inspect(t.Context(), path, Limits{})
			if err != nil || info.Files != 8 {
				t.Fatalf("%+v, %v", info, err)
			}
			out := filepath.Join(t.TempDir(), "out")
			if err := Unpack(t.Context(), path, out, "", -1, -1, Limits{}); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, listing(t, out)); d != "" {
				t.Error(d)
			}
			list, err := List(t.Context(), path, "", Limits{})
			if err != nil || len(list) != 8 {
				t.Errorf("listed %d files, %v", len(list), err)
			}
			sameAsOnDisk(t, out, list)
		})
	}
}

// sameAsOnDisk compares what List tells with what Unpack wrote.
func sameAsOnDisk(t *testing.T, dir string, list []File) {
	t.Helper()
	for _, f := range list {
		info, err := os.Lstat(filepath.Join(dir, f.Path))
		if err != nil {
			t.Error(err)
			continue
		}
		if f.Mode != info.Mode() && info.Mode()&fs.ModeSymlink == 0 || info.Mode().Type() != f.Mode.Type() || info.Mode().IsRegular() && f.Bytes != info.Size() {
			t.Errorf("%s: listed as %v with %d bytes, unpacked as %v with %d", f.Path, f.Mode, f.Bytes, info.Mode(), info.Size())
		}
	}
}

func needTool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// TestJar: a jar program is part of no server; where it is, it must do.
func TestJar(t *testing.T) {
	jar, err := exec.LookPath("jar")
	if err != nil {
		t.Skip(err)
	}
	dir, _ := site(t)
	for _, name := range []string{"caf\xe9.txt", "home"} { // jar knows neither
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "app.war")
	c := exec.Command(jar, "-c", "-f", path, ".")
	c.Dir, c.Env = dir, append(os.Environ(), "LC_ALL=C.UTF-8")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	info, err := Inspect(t.Context(), path, Limits{})
	if err != nil || info.Format != Zip || info.Files != 7 || info.TopDirectory != "" { // with its manifest
		t.Errorf("%+v, %v", info, err)
	}
}

func TestNamesOfZipFiles(t *testing.T) {
	extra := func(name, unicode string) []byte {
		b := binary.LittleEndian.AppendUint16(nil, unicodePath)
		b = binary.LittleEndian.AppendUint16(b, uint16(5+len(unicode)))
		b = append(b, 1)
		b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE([]byte(name)))
		return append(b, unicode...)
	}
	const unix = 3 << 8
	for _, c := range []struct {
		what string
		h    zip.FileHeader
		want string
	}{
		{"of Windows", zip.FileHeader{Name: "gr\x94\xe1e.txt", NonUTF8: true}, "größe.txt"},
		{"of Windows, with backslashes", zip.FileHeader{Name: "b\\gr\x94\xe1e.txt", NonUTF8: true}, "b/größe.txt"},
		{"of Unix", zip.FileHeader{Name: "caf\xe9.txt", NonUTF8: true, CreatorVersion: unix}, "caf\xe9.txt"},
		{"UTF-8 of Unix without the flag", zip.FileHeader{Name: "größe.txt", NonUTF8: true, CreatorVersion: unix}, "größe.txt"},
		{"in the extra field", zip.FileHeader{Name: "gr?\xff", NonUTF8: true, Extra: extra("gr?\xff", "größe")}, "größe"},
		{"extra field of another name", zip.FileHeader{Name: "caf\xe9", NonUTF8: true, CreatorVersion: unix, Extra: extra("other", "größe")}, "caf\xe9"},
		{"extra field that is cut off", zip.FileHeader{Name: "caf\xe9", NonUTF8: true, CreatorVersion: unix, Extra: extra("caf\xe9", "größe")[:12]}, "caf\xe9"},
	} {
		t.Run(c.what, func(t *testing.T) {
			if strings.HasPrefix(c.what, "extra field that") {
				if got := zipName(&c.h); got != c.want { // the zip reader refuses the file before
					t.Errorf("got %q", got)
				}
				return
			}
			var b bytes.Buffer
			w := zip.NewWriter(&b)
			f, err := w.CreateRaw(&c.h)
			if err == nil {
				_, err = f.Write(nil)
			}
			if err == nil {
				err = w.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			list, err := List(t.Context(), onDisk(t, "a.zip", b.Bytes()), "", Limits{})
			if err != nil || len(list) != 1 || list[0].Path != c.want {
				t.Errorf("got %+v, %v, want %q", list, err, c.want)
			}
		})
	}
}
