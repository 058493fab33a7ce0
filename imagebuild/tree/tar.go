package tree

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// WriteTar writes the tree as a tar, sorted. What is younger than at bears
// that time: it was made by this build. Sockets are left out. Progress is told
// how much of the bytes is written, 0 to 1; it may be nil.
func (t *Tree) WriteTar(ctx context.Context, w io.Writer, at time.Time, progress func(float64)) error {
	out := tar.NewWriter(w)
	if err := t.AddTo(ctx, out, ".", at, progress); err != nil {
		return err
	}
	return out.Close()
}

// AddTo is WriteTar into a tar that holds other things beside, below dir.
func (t *Tree) AddTo(ctx context.Context, out *tar.Writer, dir string, at time.Time, progress func(float64)) error {
	if progress == nil {
		progress = func(float64) {}
	}
	first := map[[2]uint64]string{}
	total, done := max(t.Bytes(), 1), int64(0)
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		e := t.entries[name]
		h, ok := e.header(dir+"/"+name, at)
		if !ok {
			continue
		}
		if e.inode != ([2]uint64{}) {
			if before, again := first[e.inode]; again {
				h.Typeflag, h.Linkname, h.Size = tar.TypeLink, before, 0
			} else {
				first[e.inode] = h.Name
			}
		}
		if err := out.WriteHeader(h); err != nil {
			return fmt.Errorf("write /%s: %w", name, err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := e.copy(out); err != nil {
			return fmt.Errorf("write /%s: %w", name, err)
		}
		done += e.size
		progress(float64(done) / float64(total))
	}
	return nil
}

// header describes an entry; false: it has no place in a tar.
func (e *entry) header(name string, at time.Time) (*tar.Header, bool) {
	h := &tar.Header{Name: name, Mode: int64(e.mode.Perm()), Uid: e.uid, Gid: e.gid, ModTime: at, Format: tar.FormatPAX}
	if young := time.Unix(e.modified, 0); e.modified != 0 && young.Before(at) {
		h.ModTime = young
	}
	for bit, in := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if e.mode&bit != 0 {
			h.Mode |= in
		}
	}
	switch {
	case e.mode.IsRegular():
		h.Typeflag, h.Size = tar.TypeReg, e.size
	case e.mode.IsDir():
		h.Typeflag = tar.TypeDir
		h.Name = strings.TrimSuffix(name, "/") + "/"
	case e.mode&fs.ModeSymlink != 0:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.target
	case e.mode&fs.ModeCharDevice != 0:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(unix.Major(e.device)), int64(unix.Minor(e.device))
	case e.mode&fs.ModeDevice != 0:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, int64(unix.Major(e.device)), int64(unix.Minor(e.device))
	case e.mode&fs.ModeNamedPipe != 0:
		h.Typeflag = tar.TypeFifo
	default:
		return nil, false
	}
	for name, value := range e.attrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+name] = value
	}
	return h, true
}

func (e *entry) copy(w io.Writer) error {
	if e.from == "" {
		_, err := w.Write(e.content)
		return err
	}
	f, err := os.Open(e.from)
	if err != nil {
		return err
	}
	defer f.Close()
	if n, err := io.Copy(w, io.LimitReader(f, e.size)); err != nil {
		return err
	} else if n != e.size {
		return fmt.Errorf("%s has become shorter", e.from)
	}
	return nil
}
