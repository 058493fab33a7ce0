package imagebuild

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// What a layer may unpack to, at most.
const (
	mostLayer   = 16 << 30 // bytes
	mostEntries = 2_000_000
	mostMeta    = 16 << 20 // bytes of layer.json, which is read into memory
	mostBehind  = 1 << 20  // bytes behind the end of the tar
	mostWindow  = 32 << 20 // bytes that unpacking keeps in memory: four times what Pack takes
)

// unpackLayer writes what Export has packed below dir, and nothing outside. The
// description comes first; admit is asked when it is there.
func unpackLayer(ctx context.Context, dir string, r io.Reader, admit func() error) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	in := tar.NewReader(r)
	var bytes int64
	described := false
	for entries := 0; ; entries++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			// The end of the tar is not yet the end of what was sent.
			if n, err := io.CopyN(io.Discard, r, mostBehind); n == mostBehind || !errors.Is(err, io.EOF) {
				return errors.Join(errors.New("something follows its end"), err)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if bytes += h.Size; bytes > mostLayer || entries > mostEntries {
			return errors.New("it is larger than any layer")
		}
		name := path.Clean(h.Name)
		if name == "." {
			continue
		}
		if name != layerMeta && !described {
			return fmt.Errorf("it begins with /%.80s, not with /%s", name, layerMeta)
		}
		if name != layerMeta && name != layerRoot && !strings.HasPrefix(name, layerRoot+"/") {
			return fmt.Errorf("it has /%.80s, which is no part of a layer", name)
		}
		// Both are opened by their path later: as links they could lead anywhere on this machine.
		if name == layerMeta && (h.Typeflag != tar.TypeReg || h.Size > mostMeta) || name == layerRoot && h.Typeflag != tar.TypeDir {
			return fmt.Errorf("/%s is not what it is in a layer", name)
		}
		if err := unpackEntry(root, name, h, in); err != nil {
			return fmt.Errorf("/%s: %w", name, err)
		}
		if name == layerMeta {
			if err := admit(); err != nil {
				return err
			}
			described = true
		}
	}
}

func unpackEntry(root *os.Root, name string, h *tar.Header, in io.Reader) error {
	mode := h.FileInfo().Mode()
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, in)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	case tar.TypeLink:
		return root.Link(path.Clean(h.Linkname), name)
	case tar.TypeSymlink:
		if err := root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		return root.Lchown(name, h.Uid, h.Gid)
	case tar.TypeChar:
		if h.Devmajor != 0 || h.Devminor != 0 { // whoever reaches the store could open this machine's disk by it
			return errors.New("it is a device, and a layer has none but whiteouts")
		}
		if err := whiteout(root, name); err != nil {
			return err
		}
		return root.Lchown(name, h.Uid, h.Gid)
	default:
		return fmt.Errorf("it is of a kind (%q) that no layer has", h.Typeflag)
	}
	if err := root.Lchown(name, h.Uid, h.Gid); err != nil {
		return err
	}
	if err := setAttributes(root, name, h); err != nil { // behind the owner, who takes capabilities away
		return err
	}
	if err := root.Chmod(name, mode.Perm()|mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeReg {
		return root.Chtimes(name, h.ModTime, h.ModTime)
	}
	return nil
}

// whiteout makes the mark of overlayfs for what the layer takes away.
func whiteout(root *os.Root, name string) error {
	dir, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Mknodat(int(dir.Fd()), path.Base(name), unix.S_IFCHR, 0) // a file descriptor
}

func setAttributes(root *os.Root, name string, h *tar.Header) error {
	var f *os.File
	for key, value := range h.PAXRecords {
		attribute, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok {
			continue
		}
		if f == nil {
			var err error
			if f, err = root.Open(name); err != nil {
				return err
			}
			defer f.Close()
		}
		if err := unix.Fsetxattr(int(f.Fd()), attribute, []byte(value), 0); err != nil {
			return fmt.Errorf("attribute %s: %w", attribute, err)
		}
	}
	return nil
}
