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

// mostLayer bounds what a layer may unpack to, in bytes and in entries.
const (
	mostLayer   = 16 << 30
	mostEntries = 2_000_000
)

// unpackLayer writes what Export has packed below dir, and nothing outside.
func unpackLayer(ctx context.Context, dir string, r io.Reader) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	in := tar.NewReader(r)
	var bytes int64
	for entries := 0; ; entries++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			// The end of the tar is not yet the end of what was sent.
			_, err := io.Copy(io.Discard, r)
			return err
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
		if name != layerMeta && name != layerRoot && !strings.HasPrefix(name, layerRoot+"/") {
			return fmt.Errorf("it has /%.80s, which is no part of a layer", name)
		}
		if err := unpackEntry(root, name, h, in); err != nil {
			return fmt.Errorf("/%s: %w", name, err)
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
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		if err := makeNode(root, name, h); err != nil {
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

// makeNode makes a whiteout or another device, or a pipe.
func makeNode(root *os.Root, name string, h *tar.Header) error {
	dir, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
	device := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))                                //nolint:gosec // what does not fit is no device
	return unix.Mknodat(int(dir.Fd()), path.Base(name), kind|uint32(h.Mode&0o777), int(device)) //nolint:gosec // as above
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
