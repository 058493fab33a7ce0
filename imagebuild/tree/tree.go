// Package tree puts a root file system together from directories that lie over
// each other as overlayfs has them, and files of our own, and writes it as one
// tar: sorted, with owners, devices, hard links and extended attributes. The
// same input gives the same bytes. Nothing is mounted; root is needed only
// where files cannot be read otherwise.
package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Tree is a root file system that is being put together.
type Tree struct {
	entries map[string]*entry // by path without the leading slash; "" is the root
}

// entry is one file, directory, link or device.
type entry struct {
	mode     fs.FileMode
	uid, gid int
	device   uint64
	modified int64 // seconds since 1970
	target   string
	size     int64
	from     string // path of its bytes on this machine; empty: content
	content  []byte
	attrs    map[string]string
	inode    [2]uint64 // device and number, where it has several names; else zero
}

// whole marks what must be kept as it lies: layers of overlayfs within the
// file system that is made, with their whiteouts.
type whole bool

// New puts directories over each other, lowest first. Whiteouts and opaque
// directories of overlayfs hide what is below them.
func New(lowers ...string) (*Tree, error) {
	t := &Tree{entries: map[string]*entry{"": {mode: fs.ModeDir | 0o755}}}
	for _, dir := range lowers {
		if err := t.Lay(dir); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Lay puts one more directory on top.
func (t *Tree) Lay(dir string) error { return t.walk(dir, "", false) }

// Copy puts a directory of this machine below a path, as it lies: also
// whiteouts and marks of overlayfs.
func (t *Tree) Copy(dir, to string) error {
	to = clean(to)
	t.parents(to)
	return t.walk(dir, to, true)
}

// Write puts a file of ours at a path, in place of what was there. Its owner is
// root.
func (t *Tree) Write(name string, content []byte, mode fs.FileMode) {
	name = clean(name)
	t.parents(name)
	t.remove(name)
	t.entries[name] = &entry{mode: mode, content: content, size: int64(len(content))}
}

// WriteFile is Write with the bytes of a file of this machine.
func (t *Tree) WriteFile(name, from string, mode fs.FileMode) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", from)
	}
	t.Write(name, nil, mode)
	e := t.entries[clean(name)]
	e.from, e.size = from, info.Size()
	return nil
}

// Mkdir makes a directory with all that leads to it. One that is there gets
// the mode.
func (t *Tree) Mkdir(name string, mode fs.FileMode) {
	name = clean(name)
	t.parents(name)
	if e := t.entries[name]; e == nil || !e.mode.IsDir() {
		t.remove(name)
		t.entries[name] = &entry{}
	}
	t.entries[name].mode = fs.ModeDir | mode
}

// Symlink puts a symbolic link at a path.
func (t *Tree) Symlink(name, target string) {
	name = clean(name)
	t.parents(name)
	t.remove(name)
	t.entries[name] = &entry{mode: fs.ModeSymlink | 0o777, target: target}
}

// Remove takes away what matches the patterns of package path, with all that
// is below it. Nothing there is no error.
func (t *Tree) Remove(patterns ...string) error {
	for _, p := range patterns {
		p = clean(p)
		for name := range t.entries {
			ok, err := path.Match(p, name)
			if err != nil {
				return fmt.Errorf("pattern %q: %w", p, err)
			}
			if ok && name != "" {
				t.remove(name)
			}
		}
	}
	return nil
}

// Has reports whether there is something at a path.
func (t *Tree) Has(name string) bool { return t.entries[clean(name)] != nil }

// Read returns the content of a regular file.
func (t *Tree) Read(name string) ([]byte, error) {
	e := t.entries[clean(name)]
	switch {
	case e == nil:
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	case !e.mode.IsRegular():
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	case e.from == "":
		return e.content, nil
	}
	return os.ReadFile(e.from)
}

// Names lists all paths below a directory, sorted, without leading slashes.
func (t *Tree) Names(dir string) []string {
	dir = clean(dir)
	var list []string
	for name := range t.entries {
		if dir == "" && name != "" || strings.HasPrefix(name, dir+"/") {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// Bytes is how much all files hold, hard links counted once.
func (t *Tree) Bytes() int64 {
	var sum int64
	seen := map[[2]uint64]bool{}
	for _, e := range t.entries {
		if e.inode == ([2]uint64{}) || !seen[e.inode] {
			sum += e.size
			seen[e.inode] = true
		}
	}
	return sum
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (t *Tree) parents(name string) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if e := t.entries[dir]; e == nil || !e.mode.IsDir() && e.mode&fs.ModeSymlink == 0 {
			t.entries[dir] = &entry{mode: fs.ModeDir | 0o755}
		}
	}
}

// remove takes a path away with all below it.
func (t *Tree) remove(name string) {
	if e := t.entries[name]; e != nil && e.mode.IsDir() {
		for other := range t.entries {
			if strings.HasPrefix(other, name+"/") {
				delete(t.entries, other)
			}
		}
	}
	delete(t.entries, name)
}

// walk takes in a directory of this machine.
func (t *Tree) walk(dir, to string, keep whole) error {
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		name := path.Join(to, filepath.ToSlash(rel))
		if name == "." {
			name = ""
		}
		e, err := read(p)
		if err != nil {
			return err
		}
		if !keep {
			if e.mode&fs.ModeCharDevice != 0 && e.device == 0 {
				t.remove(name)
				return nil
			}
			if e.attrs["trusted.overlay.opaque"] == "y" {
				t.remove(name)
			}
			delete(e.attrs, "trusted.overlay.opaque")
		}
		if old := t.entries[name]; old != nil && old.mode.IsDir() != e.mode.IsDir() {
			t.remove(name)
		}
		t.entries[name] = e
		return nil
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", dir, err)
	}
	return nil
}

func read(p string) (*entry, error) {
	info, err := os.Lstat(p)
	if err != nil {
		return nil, err
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.New("this system does not tell owners of files")
	}
	e := &entry{mode: info.Mode(), uid: int(s.Uid), gid: int(s.Gid), modified: info.ModTime().Unix()}
	switch {
	case info.Mode().IsRegular():
		e.from, e.size = p, info.Size()
		if s.Nlink > 1 {
			e.inode = [2]uint64{s.Dev, s.Ino}
		}
	case info.Mode()&fs.ModeSymlink != 0:
		if e.target, err = os.Readlink(p); err != nil {
			return nil, err
		}
	case info.Mode()&fs.ModeDevice != 0:
		e.device = s.Rdev
	}
	e.attrs, err = attributes(p)
	return e, err
}

// attributes reads the extended attributes that matter in a root file system:
// capabilities of programs, marks of overlayfs, and what users set.
func attributes(p string) (map[string]string, error) {
	buf := make([]byte, 1<<10)
	n, err := unix.Llistxattr(p, buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, 64<<10)
		n, err = unix.Llistxattr(p, buf)
	}
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "list attributes of", Path: p, Err: err}
	}
	var found map[string]string
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		if name != "security.capability" && !strings.HasPrefix(name, "user.") && name != "trusted.overlay.opaque" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(p, name, value)
		if err != nil {
			return nil, &fs.PathError{Op: "read attribute " + name + " of", Path: p, Err: err}
		}
		if found == nil {
			found = map[string]string{}
		}
		found[name] = string(value[:n])
	}
	return found, nil
}
