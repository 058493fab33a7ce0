package deb

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"nutshell/roles/api"
)

// maxLinks bounds how many symbolic links lead from one to the next, and how
// deep linked directories lie in each other.
const maxLinks = 40

// tree is a web application within the unpacked packages, its links resolved.
type tree struct {
	root  *os.Root
	files map[string]string // path in the archive to path in root
	lost  []string          // where links lead that nothing was unpacked at
}

// webRoot finds the directory that visitors see.
func webRoot(root *os.Root, name string) (string, error) {
	for _, dir := range []string{"var/lib/" + name, "usr/share/" + name, "usr/share/" + name + "/htdocs", "usr/share/" + name + "/public", "usr/share/" + name + "/www", "var/www/" + name, "var/www/html"} {
		for _, index := range []string{"index.php", "index.html"} {
			if _, err := root.Lstat(dir + "/" + index); err == nil {
				return dir, nil
			}
		}
	}
	return "", &api.Error{Code: api.CodeInvalid, Op: "make code", Object: "of Debian package " + name, Message: "it has no index.php or index.html where packages of web applications have it",
		Hint: "unpack it and make an archive of what visitors shall see"}
}

// gather follows the links below dir, seen from within root.
func gather(root *os.Root, dir string) (*tree, error) {
	t := &tree{root: root, files: map[string]string{}}
	err := t.add(dir, "", 0)
	slices.Sort(t.lost)
	t.lost = slices.Compact(t.lost)
	return t, err
}

func (t *tree) add(dir, to string, depth int) error {
	if depth > maxLinks {
		return nil // links that lead in a circle
	}
	entries, err := fs.ReadDir(t.root.FS(), dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		source, isDir, err := t.resolve(path.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		target := path.Join(to, e.Name())
		switch {
		case source == "":
		case isDir:
			down := depth
			if e.Type()&fs.ModeSymlink != 0 {
				down++
			}
			if strings.HasPrefix(dir+"/", source+"/") {
				continue // a link to a directory above
			}
			if err := t.add(source, target, down); err != nil {
				return err
			}
		default:
			t.files[target] = source
		}
	}
	return nil
}

// resolve follows links; empty: they lead out of what there is.
func (t *tree) resolve(name string) (source string, isDir bool, err error) {
	rest, at := strings.Split(name, "/"), ""
	for links := 0; len(rest) > 0; {
		next := path.Join(at, rest[0])
		rest = rest[1:]
		info, err := t.root.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) {
			t.lost = append(t.lost, path.Join(append([]string{next}, rest...)...))
			return "", false, nil
		}
		if err != nil {
			return "", false, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at, isDir = next, info.IsDir()
			if !isDir && !info.Mode().IsRegular() {
				return "", false, nil
			}
			continue
		}
		if links++; links > maxLinks {
			return "", false, nil
		}
		link, err := t.root.Readlink(next)
		if err != nil {
			return "", false, err
		}
		if !path.IsAbs(link) {
			link = path.Join("/", path.Dir(next), link)
		}
		at, rest = "", append(strings.Split(strings.TrimPrefix(path.Clean(link), "/"), "/"), rest...)
	}
	return at, isDir, nil
}

// pack writes a tar.zst. The same packages make the same bytes.
func (t *tree) pack(ctx context.Context, w io.Writer) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(2))
	if err != nil {
		return err
	}
	out := tar.NewWriter(z)
	names := make([]string, 0, len(t.files))
	for n := range t.files {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if err := ctx.Err(); err != nil {
			return errors.Join(err, z.Close())
		}
		if err := t.packFile(out, n); err != nil {
			return errors.Join(fmt.Errorf("pack %s: %w", n, err), z.Close())
		}
	}
	return errors.Join(out.Close(), z.Close())
}

func (t *tree) packFile(out *tar.Writer, name string) error {
	f, err := t.root.Open(t.files[name])
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: 0o644, Size: info.Size(), ModTime: info.ModTime(), Format: tar.FormatPAX}
	if info.Mode()&0o111 != 0 {
		h.Mode = 0o755
	}
	if err := out.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(out, f)
	return err
}
