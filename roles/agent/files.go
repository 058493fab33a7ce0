package agent

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
)

const (
	entriesMost = 5000 // of one directory that is listed
	filesTime   = 20 * time.Second
)

// place is what files of the instance are reached through: the whole machine
// where the instance is one, its own directory, out of which no link leads,
// where it shares the director's.
type place struct {
	root *os.Root // nil: the whole machine
	dir  string   // of root
}

func (a *Agent) place() (*place, error) {
	if !a.shared() {
		return &place{}, nil
	}
	r, err := os.OpenRoot(a.c.Dir)
	if err != nil {
		return nil, err
	}
	return &place{root: r, dir: a.c.Dir}, nil
}

func (p *place) close() {
	if p.root != nil {
		_ = p.root.Close()
	}
}

// inside turns an absolute path into one below root; an empty one is where a
// shell begins.
func (p *place) inside(asked, begin string) (full, name string, err error) {
	if asked == "" {
		asked = begin
	}
	full = path.Clean(asked)
	if !path.IsAbs(full) || strings.ContainsRune(full, 0) {
		return "", "", &api.Error{Code: api.CodeInvalid, Object: "path " + api.Shorten(asked), Message: "it is not absolute", Hint: "begin it with /", Fields: []string{"path"}}
	}
	if p.root == nil {
		return full, full, nil
	}
	name, err = filepath.Rel(p.dir, full)
	if err != nil || !filepath.IsLocal(name) {
		return "", "", &api.Error{Code: api.CodeForbidden, Object: "path " + api.Shorten(full), Message: "it is outside of the instance, which shares the director's machine",
			Hint: "stay below " + p.dir, Fields: []string{"path"}}
	}
	return full, name, nil
}

func (p *place) open(name string, flag int, mode os.FileMode) (*os.File, error) {
	if p.root == nil {
		return os.OpenFile(name, flag, mode)
	}
	return p.root.OpenFile(name, flag, mode)
}

func (p *place) stat(name string) (fs.FileInfo, error) {
	if p.root == nil {
		return os.Stat(name)
	}
	return p.root.Stat(name)
}

func (p *place) readlink(name string) (string, error) {
	if p.root == nil {
		return os.Readlink(name)
	}
	return p.root.Readlink(name)
}

func (p *place) rename(from, to string) error {
	if p.root == nil {
		return os.Rename(from, to)
	}
	return p.root.Rename(from, to)
}

func (p *place) remove(name string) error {
	if p.root == nil {
		return os.Remove(name)
	}
	return p.root.Remove(name)
}

// fileError says for people what a file does not allow.
func fileError(op, name string, err error) error {
	var known *api.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	e := &api.Error{Code: api.CodeInvalid, Op: op, Object: api.Shorten(name), Err: err}
	var cause *fs.PathError
	if errors.As(err, &cause) {
		e.Err = cause.Err // the path is there already, and perhaps a temporary one
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Code, e.Message, e.Err = api.CodeNotFound, "there is no such file", nil
	case errors.Is(err, fs.ErrPermission):
		e.Code, e.Message, e.Err = api.CodeForbidden, "the agent's account may not", nil
	case strings.Contains(err.Error(), "escapes from parent"): // os.Root has no error of its own for it
		e.Code, e.Message, e.Err = api.CodeForbidden, "a link there leads out of the instance, which shares the director's machine", nil
	case isNoSpace(err):
		e.Code, e.Message, e.Hint, e.Err = api.CodeNoSpace, "the disk is full", "remove something first", nil
	}
	return e
}

// listFiles answers with what a directory holds.
func (a *Agent) listFiles(_ context.Context, r *http.Request, _ struct{}) (api.Directory, error) {
	p, err := a.place()
	if err != nil {
		return api.Directory{}, err
	}
	defer p.close()
	full, name, err := p.inside(r.URL.Query().Get("path"), a.c.Dir)
	if err != nil {
		return api.Directory{}, err
	}
	d, err := p.list(full, name)
	return d, fileError("list", full, err)
}

func (p *place) list(full, name string) (api.Directory, error) {
	out := api.Directory{Path: full, Entries: []api.Entry{}}
	if st, err := p.stat(name); err != nil {
		return out, err
	} else if !st.IsDir() {
		return out, &api.Error{Code: api.CodeInvalid, Op: "list", Object: api.Shorten(full), Message: "it is no directory"}
	}
	f, err := p.open(name, os.O_RDONLY, 0)
	if err != nil {
		return out, err
	}
	defer func() { _ = f.Close() }()
	list, err := f.ReadDir(entriesMost + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return out, err
	}
	if len(list) > entriesMost {
		list, out.More = list[:entriesMost], true
	}
	for _, d := range list {
		st, err := d.Info()
		if err != nil {
			continue // gone meanwhile
		}
		e := api.Entry{Name: strings.ToValidUTF8(d.Name(), "\ufffd"), Type: typeOf(st.Mode()), Bytes: st.Size(), Mode: st.Mode().String(), Modified: st.ModTime().UTC()}
		if e.Type == "link" {
			at := path.Join(name, d.Name())
			e.Target, _ = p.readlink(at)
			e.Target = strings.ToValidUTF8(e.Target, "\ufffd")
			if st, err := p.stat(at); err == nil {
				e.Of = typeOf(st.Mode())
			}
		}
		out.Entries = append(out.Entries, e)
	}
	slices.SortFunc(out.Entries, func(a, b api.Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func typeOf(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "file"
	case m.IsDir():
		return "directory"
	case m&fs.ModeSymlink != 0:
		return "link"
	}
	return "other"
}

// giveFile answers with a file's bytes.
func (a *Agent) giveFile(w http.ResponseWriter, r *http.Request) {
	f, st, err := a.openFile(r.URL.Query().Get("path"))
	if err != nil {
		rpc.WriteError(w, err)
		return
	}
	defer func() { _ = f.Close() }()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	body := io.Reader(f)
	if st.Size() > 0 { // the files of /proc say 0
		w.Header().Set("Content-Length", strconv.FormatInt(st.Size(), 10))
		body = io.LimitReader(f, st.Size()) // a log may grow meanwhile
	}
	if _, err := io.Copy(w, body); err != nil {
		a.c.Log.Warn("file not sent", "error", err)
		panic(http.ErrAbortHandler) // what came must not look like the whole
	}
}

func (a *Agent) openFile(asked string) (*os.File, fs.FileInfo, error) {
	p, err := a.place()
	if err != nil {
		return nil, nil, err
	}
	defer p.close()
	full, name, err := p.inside(asked, a.c.Dir)
	if err != nil {
		return nil, nil, err
	}
	f, err := p.open(name, os.O_RDONLY|nonBlocking, 0) // a pipe would wait for its writer
	if err != nil {
		return nil, nil, fileError("read", full, err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &api.Error{Code: api.CodeInvalid, Op: "read", Object: api.Shorten(full), Message: "it is a " + typeOf(st.Mode()) + ", not a file"}
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, fileError("read", full, err)
	}
	return f, st, nil
}
