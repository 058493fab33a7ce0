package gitserver

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/klauspost/compress/gzip"

	"nutshell/roles/api"
)

// Snapshot is one commit, open for reading.
type Snapshot struct {
	ID, Subject string
	When        time.Time

	o    *objects
	root map[string]treeEntry
}

// Open opens a commit. The caller closes it.
func (s *Server) Open(ctx context.Context, id int64, commitID string) (*Snapshot, error) {
	r, err := s.repository(id, false)
	if err != nil {
		return nil, err
	}
	o, err := r.objects(ctx)
	if err != nil {
		return nil, err
	}
	snap, err := o.snapshot(commitID)
	if err != nil {
		o.close()
	}
	return snap, err
}

func (o *objects) snapshot(id string) (*Snapshot, error) {
	h := plumbing.NewHash(id)
	c, err := o.commit(h)
	if err != nil {
		return nil, err
	}
	snap := &Snapshot{ID: h.String(), Subject: c.subject, When: time.Unix(c.when, 0).UTC(), o: o, root: map[string]treeEntry{}}
	b, err := o.meta(c.tree, plumbing.TreeObject)
	if err != nil {
		return nil, err
	}
	return snap, eachEntry(b, func(e treeEntry) error {
		snap.root[e.name] = e
		return nil
	})
}

// Close closes it.
func (s *Snapshot) Close() { s.o.close() }

// Folder is the id of the tree of a folder at the top, empty if there is none
// of that name.
func (s *Snapshot) Folder(name string) (tree string, err error) {
	e, ok := s.root[name]
	switch {
	case !ok:
		return "", nil
	case e.mode == filemode.Dir:
		return e.hash.String(), nil
	case e.mode == filemode.Submodule:
		return "", api.Invalidf("%s is a submodule, whose files are in another repository", api.Shorten(name))
	}
	return "", api.Invalidf("%s is a file, but the code of a service lies in a folder", api.Shorten(name))
}

// Archive writes a folder, by its name and tree, as tar.gz: the same folder gives the same bytes. The
// notes tell what a person should know about it; what they tell of is missing
// in the archive.
func (s *Snapshot) Archive(folder, tree string, w io.Writer) (notes []string, err error) {
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	x := &export{s: s, shown: folder, tar: tar.NewWriter(z)}
	if err := x.folder(plumbing.NewHash(tree), ""); err != nil {
		return nil, err
	}
	if err := x.tar.Close(); err != nil {
		return nil, err
	}
	return x.notes, z.Close()
}

type export struct {
	s     *Snapshot
	shown string // name of the folder, for people
	tar   *tar.Writer
	notes []string
}

const (
	maxNotes   = 10
	lfsPointer = "version https://git-lfs.github.com/spec/"
	maxLevels  = 100
)

func (x *export) note(format string, args ...any) {
	if len(x.notes) < maxNotes {
		x.notes = append(x.notes, fmt.Sprintf(format, args...))
	}
}

// epoch is the time of all files: that of a commit would make other bytes of
// the same folder.
func epoch() time.Time { return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) }

// name is where a file is in the repository.
func (x *export) name(inside string) string { return api.Shorten(path.Join(x.shown, inside)) }

func (x *export) folder(tree plumbing.Hash, under string) error {
	if strings.Count(under, "/") > maxLevels {
		return api.Invalidf("%s is more than %d folders deep", x.name(under), maxLevels)
	}
	b, err := x.s.o.meta(tree, plumbing.TreeObject)
	if err != nil {
		return err
	}
	return eachEntry(b, func(e treeEntry) error {
		name := path.Join(under, e.name)
		if !utf8.ValidString(e.name) {
			return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("the name %q is not UTF-8", path.Join(x.shown, name)), Hint: "rename it with git mv and push again"}
		}
		h := &tar.Header{Name: name, ModTime: epoch(), Format: tar.FormatPAX, Mode: 0o644}
		switch e.mode {
		case filemode.Dir:
			h.Name, h.Mode, h.Typeflag = name+"/", 0o755, tar.TypeDir
			if err := x.tar.WriteHeader(h); err != nil {
				return err
			}
			return x.folder(e.hash, name)
		case filemode.Submodule:
			x.note("%s is a submodule: its files are in another repository and not in this version", x.name(name))
			return nil
		case filemode.Symlink:
			return x.link(h, e)
		case filemode.Executable:
			h.Mode = 0o755
		default:
		}
		return x.file(h, e)
	})
}

func (x *export) link(h *tar.Header, e treeEntry) error {
	target, err := x.s.o.meta(e.hash, plumbing.BlobObject)
	if err != nil {
		return err
	}
	to := string(target)
	inside := path.Join(path.Dir(h.Name), to)
	if path.IsAbs(to) || inside == ".." || strings.HasPrefix(inside, "../") {
		return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("%s is a symbolic link to %s, outside of the service's folder", x.name(h.Name), api.Shorten(to)),
			Hint: "put the file itself there, or a link that stays in the folder, and push again"}
	}
	h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, to, 0o777
	return x.tar.WriteHeader(h)
}

func (x *export) file(h *tar.Header, e treeEntry) error {
	f, err := x.s.o.file(e.hash)
	if err != nil {
		return err
	}
	defer f.close()
	h.Typeflag, h.Size = tar.TypeReg, f.size
	if err := x.tar.WriteHeader(h); err != nil {
		return err
	}
	var head bytes.Buffer
	var out io.Writer = x.tar
	if f.size < 1024 {
		out = io.MultiWriter(x.tar, &head)
	}
	if err := f.write(out); err != nil {
		return err
	}
	if bytes.HasPrefix(head.Bytes(), []byte(lfsPointer)) {
		x.note("%s is a Git LFS pointer, not the file itself: LFS is not supported, commit the file", x.name(h.Name))
	}
	return nil
}
