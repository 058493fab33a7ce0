package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"nutshell/roles/api"
)

// Overlay writes the archive at path anew, as a tar.zst, with files in it that
// come in the place of those of the same name. strip is a leading directory to
// take off. An empty path: files alone.
func Overlay(ctx context.Context, w io.Writer, path, strip string, files map[string]string, limits Limits) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	err = overlayFiles(t, files)
	if err == nil && path != "" {
		err = overlayOn(ctx, t, path, strip, files, limits.withDefaults())
	}
	if err != nil {
		_ = z.Close() // frees it; what it writes is thrown away
		return err
	}
	return errors.Join(t.Close(), z.Close())
}

func overlayFiles(t *tar.Writer, files map[string]string) error {
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		h := &tar.Header{Name: n, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[n])), ModTime: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), Format: tar.FormatPAX}
		if filepath.Ext(n) == ".sh" {
			h.Mode = 0o755
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.WriteString(t, files[n]); err != nil {
			return err
		}
	}
	return nil
}

func overlayOn(ctx context.Context, t *tar.Writer, path, strip string, files map[string]string, limits Limits) error {
	strip, err := cleanName(strip)
	if err != nil {
		return readError(path, err)
	}
	a, err := open(path, limits)
	if err != nil {
		return readError(path, err)
	}
	defer func() { _ = a.file.Close() }()
	var out error // of writing, which is no fault of the archive
	err = a.walk(ctx, func(e entry, body io.Reader) error {
		if err := stripEntry(&e, strip); err != nil {
			return err
		}
		if _, replaced := files[e.name]; replaced || e.name == "" || e.kind == kindDir {
			return nil
		}
		h := &tar.Header{Name: e.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: e.size, Format: tar.FormatPAX}
		if e.runnable {
			h.Mode = 0o755
		}
		switch e.kind {
		case kindSymlink:
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, e.link, 0
		case kindHardLink:
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, e.link, 0
		case kindFile, kindDir:
		}
		if out = t.WriteHeader(h); out != nil {
			return out
		}
		if body == nil || h.Typeflag != tar.TypeReg {
			return nil
		}
		return copyBody(t, body, e.size)
	})
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("read archive %s: %w", filepath.Base(path), ctx.Err())
	case out != nil:
		return out
	case err != nil:
		return readError(path, err)
	}
	return nil
}

// Extract writes one file of the archive at path to w.
func Extract(ctx context.Context, w io.Writer, path, name string, limits Limits) error {
	a, err := open(path, limits.withDefaults())
	if err != nil {
		return readError(path, err)
	}
	defer func() { _ = a.file.Close() }()
	found := false
	err = a.walk(ctx, func(e entry, body io.Reader) error {
		if found || e.name != name || e.kind != kindFile {
			return nil
		}
		found = true
		return copyBody(w, body, e.size)
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("read archive %s: %w", filepath.Base(path), ctx.Err())
	case err != nil:
		return readError(path, err)
	case !found:
		return &api.Error{Code: api.CodeNotFound, Op: "read archive", Object: filepath.Base(path), Message: "it has no file " + quote(name)}
	}
	return nil
}
