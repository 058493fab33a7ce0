package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/flate"

	"nutshell/roles/api"
)

// TestRefused is the list of what must never be unpacked. Inspect and Unpack
// must agree, the message must name the fault, and nothing may be left.
func TestRefused(t *testing.T) {
	good := tarOf(t, application("")...)
	noise := make([]byte, 4096)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	tars := func(m ...member) func(*testing.T) []byte {
		return func(t *testing.T) []byte { return tarOf(t, m...) }
	}
	zips := func(m ...member) func(*testing.T) []byte {
		return func(t *testing.T) []byte { return zipOf(t, m...) }
	}
	raw := func(b []byte) func(*testing.T) []byte { return func(*testing.T) []byte { return b } }
	ok := file("ok", "1")
	for _, c := range []struct {
		name string
		data func(*testing.T) []byte
		want string // part of the message
	}{
		{"nothing", raw(nil), "empty"},
		{"text", raw([]byte("hello")), "not an archive"},
		{"php-file", raw([]byte("<?php phpinfo();")), "PHP file"},
		{"noise", raw(noise), "not an archive"},
		{"seven-zip", raw([]byte("7z\xbc\xaf\x27\x1c....")), "7z"},
		{"gz-of-text", func(t *testing.T) []byte { return gz(t, []byte("hello")) }, "no tar archive"},
		{"gz-of-noise", func(t *testing.T) []byte { return gz(t, noise) }, "no tar archive"},
		{"gz-of-nothing", func(t *testing.T) []byte { return gz(t, nil) }, "no files"},
		{"tar-without-files", tars(), "no files"},
		{"only-directories", tars(other(tar.TypeDir, "a/", ""), other(tar.TypeDir, "a/b/", "")), "no files"},
		{"zip-without-files", zips(), "no files"},
		{"tar-cut-off", raw(good[:len(good)-2048]), "damaged"},
		{"gz-cut-off", func(t *testing.T) []byte { b := gz(t, good); return b[:len(b)-9] }, "damaged"},
		{"gz-checksum", func(t *testing.T) []byte { b := gz(t, good); b[len(b)-6] ^= 1; return b }, "damaged"},
		{"xz-cut-off", func(t *testing.T) []byte { b := packed(t, good, "xz"); return b[:len(b)-20] }, "damaged"},
		{"zst-cut-off", func(t *testing.T) []byte { b := packed(t, good, "zstd"); return b[:len(b)-9] }, "damaged"},
		{"zip-cut-off", func(t *testing.T) []byte { b := zipOf(t, ok); return b[:len(b)-9] }, "damaged"},
		{"xz-wants-4-gib-of-memory", func(t *testing.T) []byte { return greedyXz(packed(t, good, "xz")) }, "memory"},

		{"dot-dot", tars(ok, file("../x", "")), `".."`},
		{"dot-dot-inside", tars(ok, file("a/../../x", "")), `".."`},
		{"dot-dot-that-stays", tars(ok, file("a/../x", "")), `".."`},
		{"dot-dot-zip", zips(ok, file("../x", "")), `".."`},
		{"dot-dot-backslash-zip", zips(ok, file(`a\..\..\x`, "")), `".."`},
		{"absolute", tars(ok, file("/etc/cron.d/x", "")), "absolute"},
		{"absolute-zip", zips(ok, file("/x", "")), "absolute"},
		{"drive-zip", zips(ok, file(`C:\x`, "")), "absolute"},
		{"new-line-in-name", tars(ok, file("a\nb", "")), "control"},
		{"escape-in-name", tars(ok, file("a\x1b[2Jb", "")), "control"},
		{"nul-in-name-zip", zips(ok, file("a\x00b", "")), "control"},
		{"long-part", tars(ok, file(strings.Repeat("a", 256), "")), "bytes long"},
		{"long-path", tars(ok, file(strings.Repeat("abcdefg/", 600)+"x", "")), "bytes long"},
		{"too-deep", tars(ok, file(strings.Repeat("a/", 150)+"x", "")), "directories deep"},

		{"symlink-absolute", tars(ok, other(tar.TypeSymlink, "l", "/etc/passwd")), "outside"},
		{"symlink-out", tars(ok, other(tar.TypeSymlink, "a/l", "../../etc/passwd")), "outside"},
		{"symlink-out-zip", zips(ok, other(tar.TypeSymlink, "l", "../x")), "outside"},
		{"symlink-by-way-of-links", tars(ok, other(tar.TypeSymlink, "a/b/up", ".."), other(tar.TypeSymlink, "l", "a/b/up/../../x")), "outside"},
		{"symlink-by-later-link", tars(ok, other(tar.TypeSymlink, "l", "a/b/up/../../x"), other(tar.TypeSymlink, "a/b/up", "..")), "outside"},
		{"symlink-in-circles", tars(ok, other(tar.TypeSymlink, "a", "b"), other(tar.TypeSymlink, "b", "a")), "outside"},
		{"symlink-out-of-top-directory", tars(file("shop/a", ""), other(tar.TypeSymlink, "shop/l", "../x")), "outside"},
		{"symlink-empty", zips(ok, other(tar.TypeSymlink, "l", "")), "target"},
		{"write-through-symlink", tars(ok, other(tar.TypeDir, "d", ""), other(tar.TypeSymlink, "l", "d"), file("l/x", "")), "as a directory"},
		{"symlink-over-directory", tars(ok, other(tar.TypeDir, "d/", ""), other(tar.TypeSymlink, "d", "ok")), "twice"},
		{"hard-link-out", tars(ok, other(tar.TypeLink, "l", "../../etc/passwd")), `".."`},
		{"hard-link-absolute", tars(ok, other(tar.TypeLink, "l", "/etc/passwd")), "absolute"},
		{"hard-link-to-nothing", tars(ok, other(tar.TypeLink, "l", "missing")), "no file that came before"},
		{"hard-link-to-symlink", tars(ok, other(tar.TypeSymlink, "s", "ok"), other(tar.TypeLink, "l", "s")), "no file that came before"},
		{"hard-link-to-directory", tars(ok, other(tar.TypeDir, "d", ""), other(tar.TypeLink, "l", "d")), "no file that came before"},

		{"device", tars(ok, other(tar.TypeChar, "null", "")), "device"},
		{"block-device", tars(ok, other(tar.TypeBlock, "sda", "")), "device"},
		{"pipe", tars(ok, other(tar.TypeFifo, "p", "")), "device"},
		{"pipe-zip", zips(ok, other(tar.TypeFifo, "p", "")), "device"},
		{"twice", tars(ok, ok), "twice"},
		{"twice-by-dots", tars(file("a/b", ""), file("./a//b", "")), "twice"},
		{"twice-zip", zips(ok, ok), "twice"},
		{"file-as-directory", tars(ok, file("ok/x", "")), "as a directory"},
		{"directory-as-file", tars(file("a/x", ""), file("a", "")), "twice"},
		{"encrypted-zip", func(t *testing.T) []byte { return encrypted(zipOf(t, ok)) }, "encrypted"},
		{"zip-lies-about-size", func(t *testing.T) []byte { return lying(zipOf(t, file("a", strings.Repeat("x", 5000)))) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := onDisk(t, "upload.bin", c.data(t))
			_, err := Inspect(context.Background(), path, Limits{})
			if code := api.CodeOf(err); code != api.CodeInvalid && code != api.CodeTooLarge || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Inspect: got %v, want a refusal with %q", err, c.want)
			} else if e := api.AsError(err); e.Op == "" || e.Object != "upload.bin" || e.Hint == "" {
				t.Errorf("Inspect: the error says too little: %+v", e)
			}
			parent := t.TempDir()
			if err := Unpack(context.Background(), path, filepath.Join(parent, "out"), "", -1, -1, Limits{}); err == nil {
				t.Error("Unpack: no error")
			}
			if left := listing(t, parent); len(left) != 0 {
				t.Errorf("Unpack left %v", left)
			}
		})
	}
}

func TestHarmlessThingsAreAccepted(t *testing.T) {
	for _, c := range []struct {
		name    string
		members []member
	}{
		{"blanks-quotes-emoji", []member{file("my \"file\" ' 🥜.php", "1")}},
		{"dots-in-names", []member{file("a..b", ""), file("...", ""), file(".htaccess", "")}},
		{"directory-twice", []member{other(tar.TypeDir, "a/", ""), other(tar.TypeDir, "a/", ""), file("a/b", "")}},
		{"directory-after-its-file", []member{file("a/b", ""), other(tar.TypeDir, "a/", "")}},
		{"upper-and-lower-case", []member{file("readme", ""), file("README", "")}},
		{"dangling-symlink-inside", []member{file("a", ""), other(tar.TypeSymlink, "cache", "data/cache")}},
		{"symlink-to-root", []member{file("a", ""), other(tar.TypeSymlink, "b/l", "..")}},
		{"long-name", []member{file(strings.Repeat("a", 255), "")}},
		{"latin-1-name", []member{{tar.Header{Name: "caf\xe9", Typeflag: tar.TypeReg, Format: tar.FormatGNU}, ""}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := onDisk(t, "a.tar", tarOf(t, c.members...))
			if _, err := Inspect(context.Background(), path, Limits{}); err != nil {
				t.Error(err)
			}
			if err := Unpack(context.Background(), path, filepath.Join(t.TempDir(), "out"), "", -1, -1, Limits{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBombs feeds what would fill a disk. Each must be refused in seconds,
// with a small part of it unpacked.
func TestBombs(t *testing.T) {
	zeros := make([]byte, 16<<20)
	header := func(size int64) []byte {
		var b bytes.Buffer
		if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Size: size, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	// tenGigabytes is a tar with 10 GB of zeros, as one compressed stream after the other.
	tenGigabytes := func(pack func([]byte) []byte, declared int64) []byte {
		out := pack(header(declared))
		chunk := pack(zeros)
		return append(out, bytes.Repeat(chunk, 640)...)
	}
	gzip := func(b []byte) []byte { return gz(t, b) }
	tool := func(argv ...string) func([]byte) []byte {
		return func(b []byte) []byte { return packed(t, b, argv...) }
	}
	for _, c := range []struct {
		name string
		data func(t *testing.T) []byte
	}{
		{"ten-gigabytes-of-zeros-gz", func(*testing.T) []byte { return tenGigabytes(gzip, 10<<30) }},
		{"ten-gigabytes-of-zeros-gz-within-size-limit", func(*testing.T) []byte { return tenGigabytes(gzip, 3<<30) }},
		{"ten-gigabytes-of-zeros-bz2", func(*testing.T) []byte { return tenGigabytes(tool("bzip2"), 3<<30) }},
		{"ten-gigabytes-of-zeros-xz", func(*testing.T) []byte { return tenGigabytes(tool("xz", "-1"), 3<<30) }},
		{"ten-gigabytes-of-zeros-zst", func(*testing.T) []byte { return tenGigabytes(tool("zstd"), 3<<30) }},
		{"zeros-after-the-end-mark", func(t *testing.T) []byte {
			return append(gz(t, tarOf(t, file("a", "1"))), bytes.Repeat(gz(t, zeros), 640)...)
		}},
		{"sparse-file", func(t *testing.T) []byte { return sparse(t, 3<<30) }},
		{"zip", func(t *testing.T) []byte {
			var b bytes.Buffer
			w := zip.NewWriter(&b)
			w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.BestSpeed) })
			f, err := w.Create("zeros")
			for range 8 {
				if err == nil {
					_, err = f.Write(zeros)
				}
			}
			if err != nil || w.Close() != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}},
		{"many-files", func(t *testing.T) []byte {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for i := range 1001 {
				if err := w.WriteHeader(&tar.Header{Name: "f" + strconv.Itoa(i), Typeflag: tar.TypeReg}); err != nil {
					t.Fatal(err)
				}
			}
			return gz(t, b.Bytes())
		}},
		{"many-directories-in-few-names", func(t *testing.T) []byte {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for i := range 20 {
				if err := w.WriteHeader(&tar.Header{Name: strconv.Itoa(i) + strings.Repeat("/d", 90), Typeflag: tar.TypeReg}); err != nil {
					t.Fatal(err)
				}
			}
			return gz(t, b.Bytes())
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := onDisk(t, "bomb", c.data(t))
			began := spent(t)
			_, err := Inspect(context.Background(), path, Limits{Files: 1000})
			if api.CodeOf(err) != api.CodeTooLarge {
				t.Errorf("got %v, want code too_large", err)
			}
			took := spent(t) - began
			t.Logf("refused after %v: %v", took.Round(time.Millisecond), err)
			if took > 20*time.Second { // seconds where it is slow; unpacking all of it takes minutes
				t.Errorf("it took %v", took)
			}
		})
	}
}

// spent is the processor time of this process: the machine may have other work.
func spent(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// greedyXz sets the dictionary of the first block to 4 GiB. The header's
// checksum does not matter: the check must come first.
func greedyXz(b []byte) []byte {
	b = bytes.Clone(b)
	at := bytes.Index(b[12:24], []byte{0x21, 1}) + 12
	b[at+2] = 40
	return b
}

// encrypted sets the flag of encryption in both headers of a zip's first file.
func encrypted(b []byte) []byte {
	b = bytes.Clone(b)
	b[6] |= 1
	b[bytes.Index(b, []byte("PK\x01\x02"))+8] |= 1
	return b
}

// lying makes the directory of a zip say that its first file is one byte long.
func lying(b []byte) []byte {
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint32(b[bytes.Index(b, []byte("PK\x01\x02"))+24:], 1)
	return b
}

// sparse is a tar in GNU's old sparse format: a header, no data, and a size.
func sparse(t *testing.T, size int64) []byte {
	t.Helper()
	b := tarOf(t, file("zeros", ""))
	h := b[:512]
	h[156] = tar.TypeGNUSparse
	copy(h[257:], "ustar  \x00")
	octal := func(at, n int, v int64) {
		copy(h[at:at+n], bytes.Repeat([]byte("0"), n-1))
		for i := at + n - 2; v > 0; i-- {
			h[i] = byte('0' + v&7)
			v >>= 3
		}
		h[at+n-1] = 0
	}
	clear(h[345:])
	octal(386, 12, size) // one empty piece at the end
	octal(398, 12, 0)
	octal(483, 12, size) // real size
	copy(h[148:156], "        ")
	var sum int64
	for _, c := range h {
		sum += int64(c)
	}
	octal(148, 7, sum)
	h[155] = ' '
	return b
}

// FuzzArchive looks for an archive that Inspect accepts and Unpack does not,
// or that writes outside of its directory.
func FuzzArchive(f *testing.F) {
	good := tarOf(f, application("")...)
	f.Add(good)
	f.Add(gz(f, good))
	f.Add(zipOf(f, application("")[:4]...))
	f.Add(tarOf(f, file("../x", ""), other(tar.TypeSymlink, "l", "a/../.."), other(tar.TypeLink, "h", "l")))
	f.Add(tarOf(f, other(tar.TypeSymlink, "l", "."), file("l/x", "1")))
	f.Add([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3"))
	f.Add([]byte("\x28\xb5\x2f\xfd\x04\x00"))
	f.Add([]byte("BZh91AY&SY"))
	limits := Limits{Files: 100, Bytes: 1 << 20}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := onDisk(t, "fuzz", data)
		info, inspected := Inspect(context.Background(), path, limits)
		parent := t.TempDir()
		unpacked := Unpack(context.Background(), path, filepath.Join(parent, "in", "out"), "", -1, -1, limits)
		if unpacked == nil {
			t.Fatal("unpacked into a directory that is not there")
		}
		if err := os.Mkdir(filepath.Join(parent, "in"), 0o700); err != nil {
			t.Fatal(err)
		}
		unpacked = Unpack(context.Background(), path, filepath.Join(parent, "in", "out"), "", -1, -1, limits)
		if (inspected == nil) != (unpacked == nil) {
			t.Fatalf("Inspect says %v, Unpack says %v", inspected, unpacked)
		}
		if inspected != nil {
			if left := listing(t, parent); len(left) != 1 { // "in"
				t.Fatalf("left behind: %v", left)
			}
			return
		}
		if info.TopDirectory != "" {
			if err := Unpack(context.Background(), path, filepath.Join(parent, "stripped"), info.TopDirectory, -1, -1, limits); err != nil {
				t.Fatalf("accepted, but cannot be stripped: %v", err)
			}
		}
		if entries, err := os.ReadDir(parent); err != nil || len(entries) > 2 {
			t.Fatalf("outside of the directory: %v %v", entries, err)
		}
		_ = filepath.WalkDir(parent, func(p string, d os.DirEntry, err error) error {
			if err == nil && d.Type()&os.ModeSymlink != 0 {
				if to, err := filepath.EvalSymlinks(p); err == nil && !strings.HasPrefix(to, parent) {
					t.Fatalf("%s leads to %s", p, to)
				}
			}
			return nil
		})
	})
}
