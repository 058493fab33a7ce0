package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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
	w, err := newWriter(temp, uid, gid)
	if err != nil {
		return err
	}
	defer w.close()
	q := newQueue(w.entry)
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
			if err := q.put(entry{name: p, kind: kindDir}, nil); err != nil {
				return err
			}
		}
		if !fresh {
			return nil
		}
		return q.put(e, body)
	})
	if err == nil {
		err = t.finish()
	}
	if e := q.close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return w.own(w.dirs[""], 0o755)
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
