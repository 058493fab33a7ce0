package archive

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The tree refuses such entries before; the writer must not rely on it.
func TestWriterStaysBelow(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "kept"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		e    entry
	}{
		{"through-a-link", entry{name: "way/new"}},
		{"over-a-link", entry{name: "file"}},
		{"directory-through-a-link", entry{name: "way/new", kind: kindDir}},
		{"hard-link-from-a-link", entry{name: "new", kind: kindHardLink, link: "way/kept"}},
		{"dots", entry{name: "../new"}},
		{"dots-inside", entry{name: "way/../new"}},
		{"ends-in-dots", entry{name: "way/.."}},
		{"nothing", entry{name: ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			top := filepath.Join(t.TempDir(), "top")
			if err := os.Mkdir(top, 0o755); err != nil {
				t.Fatal(err)
			}
			for link, target := range map[string]string{"way": outside, "file": filepath.Join(outside, "kept")} {
				if err := os.Symlink(target, filepath.Join(top, link)); err != nil {
					t.Fatal(err)
				}
			}
			w, err := newWriter(top, -1, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			tt.e.size = 1
			if err := w.entry(tt.e, strings.NewReader("y")); err == nil {
				t.Error("got no error")
			}
			left, err := os.ReadDir(outside)
			if err != nil || len(left) != 1 {
				t.Errorf("got %v outside, want what was there", left)
			}
			if b, err := os.ReadFile(filepath.Join(outside, "kept")); err != nil || string(b) != "x" {
				t.Errorf("got %q, %v outside, want it untouched", b, err)
			}
			if _, err := os.Lstat(filepath.Join(filepath.Dir(top), "new")); err == nil {
				t.Error("it is above the top")
			}
		})
	}
}

func TestWriterWithMoreDirectoriesThanStayOpen(t *testing.T) {
	top := t.TempDir()
	w, err := newWriter(top, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	var dirs []string
	for i := range 3 * openDirs {
		dirs = append(dirs, "a/b/"+strconv.Itoa(i))
	}
	for _, d := range append([]string{"a", "a/b"}, dirs...) {
		if err := w.entry(entry{name: d, kind: kindDir}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range dirs {
		if err := w.entry(entry{name: d + "/f", size: 1}, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		if err := w.entry(entry{name: d + "/hard", kind: kindHardLink, link: dirs[0] + "/f"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.dirs) > openDirs {
		t.Errorf("%d directories are open, want at most %d", len(w.dirs), openDirs)
	}
	for _, d := range dirs {
		if b, err := os.ReadFile(filepath.Join(top, d, "hard")); err != nil || string(b) != "x" {
			t.Fatalf("%s: got %q, %v", d, b, err)
		}
	}
}

func TestQueue(t *testing.T) {
	var written []string
	broken := errors.New("disk full")
	q := newQueue(func(e entry, body io.Reader) error {
		if e.name == "bad" {
			return broken
		}
		b, err := io.ReadAll(body)
		written = append(written, e.name+"="+strconv.Itoa(len(b)))
		return err
	})
	put := func(name string, size int) error {
		return q.put(entry{name: name, size: int64(size)}, strings.NewReader(strings.Repeat("x", size)))
	}
	var want []string
	for i := range 100 {
		size := i * 7
		if i%25 == 10 {
			size = queueFile + i // not read ahead, and still in its place
		}
		if err := put(strconv.Itoa(i), size); err != nil {
			t.Fatal(err)
		}
		want = append(want, strconv.Itoa(i)+"="+strconv.Itoa(size))
	}
	err := put("bad", 1)
	for range 2 * queueFiles {
		if err == nil {
			err = put("late", queueFile+1)
		}
	}
	if err2 := q.close(); !errors.Is(err, broken) || !errors.Is(err2, broken) {
		t.Errorf("got %v and %v at the end, want the first error", err, err2)
	}
	if !slices.Equal(written, want) {
		t.Errorf("got %v, want %v", written, want)
	}
}
