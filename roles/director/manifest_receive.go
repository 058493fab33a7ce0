package director

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/archive"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/manifest"
)

const (
	manifestTimes = 4                 // as large as one upload may a manifest be with its files
	manifestKept  = 24 * time.Hour    // of one that failed, so that it can be tried again
	manifestYoung = 3 * time.Hour     // what is being received
	roomEvery     = int64(64) << 20   // bytes between two looks at the free space
	sealedName    = "manifest.sealed" // the text, which may hold passwords
	sealedAbout   = "manifest"
	undoName      = "undo" // why what was made is being taken away again
)

var manifestNames = []string{"manifest.yaml", "manifest.yml", "manifest.json"}

// staged is a manifest with the files that came with it, in a directory of its
// own until its operation has ended.
type staged struct {
	dir string
	m   manifest.Manifest
}

func (d *Director) manifests() string { return filepath.Join(d.c.Dir, "manifests") }

// base is where the files beside the manifest are.
func (s *staged) base() string { return filepath.Join(s.dir, "files") }

func (s *staged) drop() { _ = os.RemoveAll(s.dir) }

// keep seals the manifest's text and gives the directory to an operation.
func (d *Director) keepManifest(s *staged, operation string) error {
	text, err := s.m.Format("json", "")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.dir, sealedName), []byte(d.secrets.Seal(text, sealedAbout)), 0o600); err != nil {
		return err
	}
	to := filepath.Join(d.manifests(), operation)
	if err := os.Rename(s.dir, to); err != nil {
		return err
	}
	s.dir = to
	return nil
}

// keptManifest is the one of an operation.
func (d *Director) keptManifest(operation string) (*staged, error) {
	s := &staged{dir: filepath.Join(d.manifests(), operation)}
	sealed, err := os.ReadFile(filepath.Join(s.dir, sealedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &api.Error{Code: api.CodeNotFound, Op: "read", Object: "manifest of operation " + operation, Message: "it is not kept any more", Hint: "send it again"}
	}
	if err != nil {
		return nil, err
	}
	text, err := d.secrets.Open(string(sealed), sealedAbout)
	if err != nil {
		return nil, err
	}
	if s.m, err = manifest.Parse(text); err != nil {
		return nil, err
	}
	err = s.m.Complete()
	for i := range s.m.Services {
		s.m.Services[i].Line = 0 // of our text, not of the user's
	}
	return s, err
}

// receiveManifest takes a manifest, or an archive of one with its files. The
// caller drops or keeps it.
func (d *Director) receiveManifest(ctx context.Context) (*staged, error) {
	if err := os.MkdirAll(d.manifests(), 0o700); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(d.manifests(), "new-")
	if err != nil {
		return nil, err
	}
	s := &staged{dir: dir}
	body := bufio.NewReaderSize(httpapi.Body(ctx), archive.HeadBytes)
	head, _ := body.Peek(archive.HeadBytes) // a short text is all there is
	var text []byte
	if _, e := archive.Detect("manifest", head); e == nil {
		text, err = d.receiveArchive(ctx, s, body)
	} else {
		text, err = readManifest(body)
	}
	if err == nil {
		s.m, err = manifest.Parse(text)
	}
	if err != nil {
		d.hearOut(body)
		s.drop()
		return nil, err
	}
	return s, nil
}

func readManifest(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, manifest.MaxBytes+1))
	if err != nil {
		return nil, &api.Error{Code: api.CodeInvalid, Op: "read", Object: "manifest", Message: "it did not come whole", Err: err, Hint: "send it again"}
	}
	return text, nil
}

func (d *Director) receiveArchive(ctx context.Context, s *staged, body io.Reader) ([]byte, error) {
	sent := filepath.Join(s.dir, "sent")
	most := manifestTimes * d.tune().upload
	if err := d.saveFile(ctx, sent, body, most); err != nil {
		return nil, err
	}
	// Names of files in it count for what they are, so nothing is taken off here.
	err := archive.Unpack(ctx, sent, s.base(), "", -1, -1, archive.Limits{Bytes: most})
	if err = errors.Join(err, os.Remove(sent)); err != nil {
		return nil, err
	}
	if err := s.unwrap(); err != nil {
		return nil, err
	}
	for _, name := range manifestNames {
		f, err := os.Open(filepath.Join(s.base(), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		text, err := readManifest(f)
		return text, errors.Join(err, f.Close())
	}
	return nil, &api.Error{Code: api.CodeInvalid, Op: "read", Object: "manifest", Message: "the archive has no " + strings.Join(manifestNames, " or ") + " at its top", Hint: "put it beside the files that it names"}
}

// unwrap takes off a single directory that holds everything.
func (s *staged) unwrap() error {
	entries, err := os.ReadDir(s.base())
	if err != nil || len(entries) != 1 || !entries[0].IsDir() {
		return err
	}
	inner := filepath.Join(s.dir, "inner")
	if err := os.Rename(filepath.Join(s.base(), entries[0].Name()), inner); err != nil {
		return err
	}
	if err := os.Remove(s.base()); err != nil {
		return err
	}
	return os.Rename(inner, s.base())
}

// file is a file beside the manifest. Links are not followed out of there.
func (s *staged) file(name string) (string, error) {
	path := filepath.Join(s.base(), filepath.FromSlash(name))
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	base, err := filepath.EvalSymlinks(s.base())
	if err != nil {
		return "", err
	}
	info, err := os.Stat(real)
	if err != nil || !strings.HasPrefix(real, base+string(filepath.Separator)) || !info.Mode().IsRegular() {
		return "", fs.ErrNotExist
	}
	return real, nil
}

// missing lists the files that the manifest names and that are not there.
func (s *staged) missing() []string {
	list := []string{}
	for _, name := range s.m.Needs() {
		if _, err := s.file(name); err != nil {
			list = append(list, name)
		}
	}
	return list
}

// saveFile writes what r gives, as long as the disk has room.
func (d *Director) saveFile(ctx context.Context, path string, r io.Reader, most int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n := int64(0)
	for err == nil {
		if err = errors.Join(ctx.Err(), d.code.Room(roomEvery)); err != nil {
			break
		}
		var more int64
		more, err = io.CopyN(f, r, min(roomEvery, most+1-n))
		if n += more; n > most {
			err = &api.Error{Code: api.CodeTooLarge, Op: "receive", Object: filepath.Base(path), Message: fmt.Sprintf("it is larger than %d bytes", most), Hint: "leave out what is not needed, or raise upload.max_bytes in the director's configuration"}
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// dropManifests removes what belongs to no operation, or to one that has ended
// and was tried again or will not be.
func (d *Director) dropManifests(ctx context.Context) {
	entries, err := os.ReadDir(d.manifests())
	if err != nil {
		return // there was none yet
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue
		}
		age := d.c.Now().Sub(info.ModTime())
		o, err := d.store.Operation(ctx, 0, e.Name())
		keep := false
		switch {
		case ctx.Err() != nil:
			return
		case api.CodeOf(err) == api.CodeNotFound:
			keep = age < manifestYoung
		case err != nil:
			keep = true
		case !o.State.Final():
			keep = true
		default:
			keep = slices.Contains([]api.OperationState{api.OperationFailed, api.OperationCancelled}, o.State) && o.Ended != nil && d.c.Now().Sub(*o.Ended) < manifestKept
		}
		if keep {
			continue
		}
		if err := os.RemoveAll(filepath.Join(d.manifests(), e.Name())); err != nil {
			d.c.Log.Warn("files of a manifest not removed", "operation", e.Name(), "error", err)
		}
	}
}
