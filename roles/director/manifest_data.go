package director

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/director/codestore"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// beside is a file beside a manifest that is being sent.
type beside struct {
	name string // in the tar
	path string // on the director's disk
}

// manifestWithData answers a tar of an application. Dumps are made before the
// first byte is sent, so that one that fails is told as what it is.
func (d *Director) manifestWithData(ctx context.Context, a store.Application) (*httpapi.Stream, error) {
	m, rows, err := d.describe(ctx, a, true)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.manifests(), 0o700); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(d.manifests(), "new-")
	if err != nil {
		return nil, err
	}
	drop := func() { _ = os.RemoveAll(dir) }
	var files []beside
	for i, s := range rows {
		code, err := d.codeBeside(ctx, s, dir)
		if err == nil && code.name != "" {
			m.Services[i].Archive = code.name
			files = append(files, code)
		}
		var dump beside
		if err == nil {
			dump, err = d.dumpBeside(ctx, a, s, dir)
		}
		if err != nil {
			drop()
			return nil, err
		}
		if dump.name != "" {
			m.Services[i].Dump = dump.name
			files = append(files, dump)
		}
	}
	text, err := m.Format("yaml", noteData)
	if err != nil {
		drop()
		return nil, err
	}
	r, w := io.Pipe()
	d.goWork(func(context.Context) {
		defer drop()
		_ = w.CloseWithError(writeManifestTar(w, text, files, d.c.Now())) // the reader gets it
	})
	return &httpapi.Stream{Type: "application/x-tar", Filename: fileName(a.Name) + ".tar", Whole: true, Read: r}, nil
}

// codeBeside is the code that a service is wanted to run. A link keeps its
// bytes while they are sent, whatever becomes of the version.
func (d *Director) codeBeside(ctx context.Context, s store.Service, dir string) (beside, error) {
	if s.Version == "" || s.Version == DefaultVersion {
		return beside{}, nil
	}
	v, err := d.store.Version(ctx, s.Application, s.ID, s.Version)
	if err != nil {
		return beside{}, err
	}
	name, err := codestore.CleanFilename(v.Filename)
	if err != nil {
		name = "code"
	}
	to := filepath.Join(dir, "code-"+strconv.FormatInt(s.ID, 10))
	if err := os.Link(d.code.Path(v.SHA256), to); err != nil {
		return beside{}, fmt.Errorf("read code version %s: %w", v.ID, err)
	}
	return beside{path.Join("service-"+strconv.FormatInt(s.ID, 10), name), to}, nil
}

// dumpBeside is the data of a service whose kind gives dumps.
func (d *Director) dumpBeside(ctx context.Context, a store.Application, s store.Service, dir string) (beside, error) {
	kind, err := d.c.Services.Get(s.Kind)
	if err != nil {
		return beside{}, err
	}
	if !slices.ContainsFunc(kind.Actions, func(x api.Action) bool { return x.Name == actionDump && x.Gives != "" }) || s.State == api.Init {
		return beside{}, nil // it has no data, or never had
	}
	if s.State != api.Running {
		return beside{}, &api.Error{Code: api.CodeConflict, Op: "download", Object: "manifest of " + a.Name, Message: "service " + s.Name + " is " + string(s.State) + ", and its data can be read only while it runs",
			Hint: "start it, or download the manifest without data"}
	}
	to := filepath.Join(dir, "dump-"+strconv.FormatInt(s.ID, 10))
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return beside{}, err
	}
	z, err := gzip.NewWriterLevel(&roomy{d: d, w: f}, gzip.BestSpeed)
	if err != nil {
		return beside{}, errors.Join(err, f.Close())
	}
	_, err = d.takeFrom(ctx, a, s, actionDump, map[string]string{}, z)
	if err = errors.Join(err, z.Close(), f.Close()); err != nil {
		return beside{}, fmt.Errorf("dump service %s: %w", s.Name, err)
	}
	return beside{path.Join("service-"+strconv.FormatInt(s.ID, 10), "dump.sql.gz"), to}, nil
}

// roomy writes as long as the director's disk has room.
type roomy struct {
	d     *Director
	w     io.Writer
	since int64
}

// Write writes, and looks at the disk now and then.
func (r *roomy) Write(p []byte) (int, error) {
	if r.since -= int64(len(p)); r.since < 0 {
		r.since = roomEvery
		if err := r.d.code.Room(roomEvery); err != nil {
			return 0, err
		}
	}
	return r.w.Write(p)
}

func writeManifestTar(w io.Writer, text []byte, files []beside, now time.Time) error {
	t := tar.NewWriter(w)
	now = now.Truncate(time.Second)
	if err := t.WriteHeader(&tar.Header{Name: "manifest.yaml", Mode: 0o600, Size: int64(len(text)), ModTime: now}); err != nil {
		return err
	}
	if _, err := t.Write(text); err != nil {
		return err
	}
	for _, b := range files {
		if err := writeBeside(t, b, now); err != nil {
			return fmt.Errorf("send %s: %w", b.name, err)
		}
	}
	return t.Close()
}

func writeBeside(t *tar.Writer, b beside, now time.Time) error {
	f, err := os.Open(b.path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Name: b.name, Mode: 0o600, Size: info.Size(), ModTime: now}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}
