package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// File is one file or link of an archive. Hard links are the files they
// point to.
type File struct {
	Path   string // as Unpack writes it; may be no UTF-8
	Mode   fs.FileMode
	Bytes  int64
	Link   string // of a symbolic link
	SHA256 string // of a regular file
}

// List reads the whole archive and tells what Unpack with the same strip would
// write, sorted by path. Directories are not told of.
func List(ctx context.Context, path, strip string, limits Limits) ([]File, error) {
	limits = limits.withDefaults()
	strip, err := cleanName(strip)
	if err != nil {
		return nil, readError(path, err)
	}
	a, err := open(path, limits)
	if err != nil {
		return nil, readError(path, err)
	}
	defer func() { _ = a.file.Close() }()
	t := newTree(limits, a.size)
	list := []File{}
	at := map[string]int{} // by path, for hard links
	err = a.walk(ctx, func(e entry, body io.Reader) error {
		if err := stripEntry(&e, strip); err != nil {
			return err
		}
		if _, _, err := t.add(e); err != nil || e.kind == kindDir {
			return err
		}
		f := File{Path: e.name, Mode: 0o644}
		if e.runnable {
			f.Mode = 0o755
		}
		switch e.kind {
		case kindHardLink:
			f = list[at[e.link]]
			f.Path = e.name
		case kindSymlink:
			f.Mode, f.Link = fs.ModeSymlink|0o777, e.link
		case kindFile, kindDir:
			sum := sha256.New()
			if err := copyBody(sum, body, e.size); err != nil {
				return err
			}
			f.Bytes, f.SHA256 = e.size, hex.EncodeToString(sum.Sum(nil))
		}
		at[f.Path] = len(list)
		list = append(list, f)
		return nil
	})
	if err == nil {
		err = t.finish()
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("read archive %s: %w", filepath.Base(path), ctx.Err())
	}
	if err != nil {
		return nil, readError(path, err)
	}
	slices.SortFunc(list, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}
