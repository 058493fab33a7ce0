package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"nutshell/roles/api"
)

// leftoverAge is when a directory that an Unpack left behind is surely not
// being written any more.
const leftoverAge = time.Hour

// Unpack writes the content of an archive to dir, which must not exist; it
// appears complete or not at all. strip is a leading directory to take off.
// Everything is given to uid and gid, -1 keeps ours. Files are 0644, or 0755
// if anybody may run them; nothing else of their modes is kept.
func Unpack(ctx context.Context, path, dir, strip string, uid, gid int, limits Limits) (err error) {
	limits = limits.withDefaults()
	if _, err := os.Lstat(dir); err == nil {
		return api.Conflictf("unpack %s: %s exists already", filepath.Base(path), dir)
	}
	if strip, err = cleanName(strip); err != nil {
		return readError(path, err)
	}
	a, err := open(path, limits)
	if err != nil {
		return readError(path, err)
	}
	defer a.file.Close()
	removeLeftovers(dir)
	temp, err := os.MkdirTemp(filepath.Dir(dir), partialPrefix(dir))
	if err != nil {
		return readError(path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	if err := writeTree(ctx, a, temp, strip, uid, gid); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("unpack %s: %w", filepath.Base(path), ctx.Err())
		}
		return readError(path, err)
	}
	return os.Rename(temp, dir)
}

func partialPrefix(dir string) string { return "." + filepath.Base(dir) + ".partial-" }

// removeLeftovers removes what a killed Unpack of the same directory left.
func removeLeftovers(dir string) {
	old, err := filepath.Glob(filepath.Join(filepath.Dir(dir), partialPrefix(dir)+"*"))
	if err != nil {
		return // the name is no pattern: nothing of ours
	}
	for _, o := range old {
		if s, err := os.Lstat(o); err == nil && time.Since(s.ModTime()) > leftoverAge {
			_ = os.RemoveAll(o) // tried again next time
		}
	}
}

func writeTree(ctx context.Context, a *reader, temp, strip string, uid, gid int) error {
	root, err := os.OpenRoot(temp)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	w := &writer{root: root, uid: uid, gid: gid, buffer: make([]byte, 128<<10)}
	defer w.close()
	t := newTree(a.limits, a.size)
	err = a.walk(ctx, func(e entry, body io.Reader) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := stripEntry(&e, strip); err != nil {
			return err
		}
		parents, fresh, err := t.add(e)
		if err != nil {
			return err
		}
		for _, p := range parents {
			if err := w.dir(p); err != nil {
				return err
			}
		}
		if !fresh {
			return nil
		}
		return w.entry(e, body)
	})
	if err == nil {
		err = t.finish()
	}
	if err != nil {
		return err
	}
	return w.own(root, ".", 0o755)
}

func stripEntry(e *entry, strip string) error {
	if strip == "" {
		return nil
	}
	for _, name := range []*string{&e.name, &e.link} {
		if name == &e.link && e.kind != kindHardLink {
			continue
		}
		rest, ok := strings.CutPrefix(*name, strip)
		switch {
		case ok && strings.HasPrefix(rest, "/"):
			*name = rest[1:]
		case e.kind == kindDir && (rest == "" || strings.HasPrefix(strip+"/", e.name+"/")), *name == "":
			*name = "" // the directory itself, or one above it
		default:
			return refusef("upload it again without --strip", "%s is not in the directory %s", quote(*name), quote(strip))
		}
	}
	return nil
}

// writer puts entries below root. os.Root keeps it there, whatever links say.
type writer struct {
	root     *os.Root
	uid, gid int
	buffer   []byte

	// The directory that was written to last stays open: os.Root walks down
	// every path from the top, and the next file is mostly beside this one.
	open     *os.Root
	openName string
}

// at returns the directory of an entry and the entry's name in it.
func (w *writer) at(name string) (*os.Root, string, error) {
	dir, base := path.Split(name)
	switch {
	case dir == "":
		return w.root, base, nil
	case w.open != nil && dir == w.openName:
		return w.open, base, nil
	}
	w.close()
	var err error
	w.open, err = w.root.OpenRoot(dir)
	w.openName = dir
	return w.open, base, err
}

func (w *writer) close() {
	if w.open != nil {
		_ = w.open.Close() // nothing is written by closing a directory
	}
	w.open = nil
}

func (w *writer) entry(e entry, body io.Reader) error {
	if e.kind == kindHardLink {
		return w.root.Link(e.link, e.name) // two directories at once
	}
	if e.kind == kindDir {
		return w.dir(e.name)
	}
	at, base, err := w.at(e.name)
	if err != nil {
		return err
	}
	if e.kind == kindFile {
		return w.file(at, base, e, body)
	}
	if err := at.Symlink(e.link, base); err != nil {
		return err
	}
	return w.own(at, base, 0)
}

func (w *writer) dir(name string) error {
	at, base, err := w.at(name)
	if err != nil {
		return err
	}
	if err := at.Mkdir(base, 0o755); err != nil {
		return err
	}
	return w.own(at, base, 0o755)
}

// own sets owner and mode; the mode is set again because of the umask.
func (w *writer) own(at *os.Root, name string, mode fs.FileMode) error {
	if mode != 0 {
		if err := at.Chmod(name, mode); err != nil {
			return err
		}
	}
	if w.uid < 0 && w.gid < 0 {
		return nil
	}
	return at.Lchown(name, w.uid, w.gid)
}

func (w *writer) file(at *os.Root, base string, e entry, body io.Reader) error {
	mode := fs.FileMode(0o644)
	if e.runnable {
		mode = 0o755
	}
	f, err := at.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(onlyWriter{f}, io.LimitReader(body, e.size+1), w.buffer)
	if err == nil && n != e.size {
		err = refuse("a file in it has another size than its header says", "the archive is damaged, make it again")
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil && (w.uid >= 0 || w.gid >= 0) {
		err = f.Chown(w.uid, w.gid)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	// The same file has the same time on every instance: web servers make
	// ETag and Last-Modified of it, and clients meet any of them.
	when := e.modified
	if when.Year() < 1980 || when.Year() > 2200 {
		when = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return at.Chtimes(base, when, when)
}

// onlyWriter hides ReadFrom, so that io.CopyBuffer uses the buffer.
type onlyWriter struct{ io.Writer }
