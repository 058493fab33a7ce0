package director

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/archive"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

// maxDescription bounds what users write about a version.
const maxDescription = 1000

// DefaultVersion is the code that a new service has.
const DefaultVersion = "code-default"

// refusedTime is how long the rest of a refused upload is still read.
const refusedTime = 10 * time.Second

// defaultCode stores the kind's own first version, nil if it has none.
func (d *Director) defaultCode(ctx context.Context, kind services.Kind) (*api.CodeVersion, error) {
	if !kind.Code.Accepts || len(kind.DefaultCode) == 0 {
		return nil, nil
	}
	d.blobs.RLock()
	defer d.blobs.RUnlock()
	return d.packDefault(ctx, kind)
}

// packDefault is called with d.blobs held for reading.
func (d *Director) packDefault(ctx context.Context, kind services.Kind) (*api.CodeVersion, error) {
	if !kind.Code.Accepts || len(kind.DefaultCode) == 0 {
		return nil, nil
	}
	var packed bytes.Buffer
	if err := archive.Create(&packed, kind.DefaultCode); err != nil {
		return nil, err
	}
	v, err := d.code.Version(ctx, &packed, "code-default.tar.gz", false, d.tune().upload)
	if err != nil {
		return nil, err
	}
	v.ID, v.By, v.Description = DefaultVersion, "nutshell", "Initial version"
	return &v, nil
}

func (d *Director) listVersions(ctx context.Context, in *ServicePath) ([]api.CodeVersion, error) {
	a, s, err := d.service(ctx, *in)
	if err != nil {
		return nil, err
	}
	return d.store.Versions(ctx, a.ID, s.ID)
}

func (d *Director) upload(ctx context.Context, in *struct {
	ServicePath
	Filename    string `query:"filename" maxLength:"255"`
	Description string `query:"description" maxLength:"1000"`
	Strip       bool   `query:"strip"`
}) (api.CodeVersion, error) {
	a, s, err := d.service(ctx, in.ServicePath)
	if err != nil {
		return api.CodeVersion{}, err
	}
	if err := d.takesCode(a, s); err != nil {
		return api.CodeVersion{}, err
	}
	name := in.Filename
	if name == "" {
		name = "code"
	}
	d.blobs.RLock() // until the row is there, nothing says that the blob is needed
	defer d.blobs.RUnlock()
	v, err := d.code.Version(ctx, httpapi.Body(ctx), name, in.Strip, d.tune().upload)
	if err != nil {
		d.hearOut(httpapi.Body(ctx))
		return api.CodeVersion{}, err
	}
	v.By, v.Description = httpapi.Who(ctx).User.Name, in.Description
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if s, err = t.ServiceByID(ctx, a.ID, s.ID); err != nil {
			return err
		}
		v, err = d.addVersion(ctx, t, s, v)
		return err
	})
	if err != nil {
		d.dropBlob(v.SHA256)
	}
	return v, err
}

// hearOut reads for a while what a client still sends of a refused upload.
// Clients that cannot go on sending see a broken connection, not why.
func (d *Director) hearOut(body io.Reader) {
	block := make([]byte, 64<<10)
	for until := d.c.Now().Add(refusedTime); d.c.Now().Before(until); {
		if _, err := body.Read(block); err != nil {
			return // its end, or the client went away
		}
	}
}

// VersionPath names a code version in a path.
type VersionPath struct {
	ServicePath
	Version string `path:"version"`
}

func (d *Director) version(ctx context.Context, in VersionPath) (store.Service, api.CodeVersion, error) {
	a, s, err := d.service(ctx, in.ServicePath)
	if err != nil {
		return s, api.CodeVersion{}, err
	}
	v, err := d.store.Version(ctx, a.ID, s.ID, in.Version)
	return s, v, err
}

func (d *Director) getVersion(ctx context.Context, in *VersionPath) (api.CodeVersion, error) {
	_, v, err := d.version(ctx, *in)
	return v, err
}

func (d *Director) deleteVersion(ctx context.Context, in *struct {
	VersionPath
	Now bool `query:"now" doc:"for good, instead of into the bin"`
}) (httpapi.None, error) {
	s, v, err := d.version(ctx, in.VersionPath)
	if err != nil {
		return httpapi.None{}, err
	}
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if s, err = t.ServiceByID(ctx, s.Application, s.ID); err != nil {
			return err
		}
		if v, err = t.Version(ctx, s.Application, s.ID, v.ID); err != nil {
			return err
		}
		refuse := func(why, hint string) error {
			return &api.Error{Code: api.CodeConflict, Op: "delete", Object: "code version " + v.ID, Message: why, Hint: hint, Related: s.Operation}
		}
		switch {
		case v.Current:
			return refuse("it is the service's current version", "activate another one first")
		case v.ID == s.Serving:
			return refuse("it still serves", "wait until the version that was activated does")
		case v.ID == s.Previous && s.Operation != "":
			return refuse("the operation under way may have to go back to it", "wait until it has ended")
		}
		if keep := d.binKeep(); keep > 0 && !in.Now {
			return d.binVersion(ctx, t, s, v)
		}
		t.After(func() { d.dropBlob(v.SHA256) })
		return t.DeleteVersion(ctx, s, v)
	})
}

// dropBlob removes code that no version needs any more. While somebody
// uploads it waits for the next sweep, because it could be the same bytes.
func (d *Director) dropBlob(sha256 string) {
	d.mu.Lock()
	d.garbage = append(d.garbage, sha256)
	d.mu.Unlock()
	d.goWork(d.dropBlobs)
}

func (d *Director) dropBlobs(ctx context.Context) {
	if !d.blobs.TryLock() {
		return
	}
	defer d.blobs.Unlock()
	d.mu.Lock()
	list := d.garbage
	d.garbage = nil
	d.mu.Unlock()
	for _, sum := range list {
		needed, err := d.store.HasBlob(ctx, 0, 0, sum)
		if err == nil && !needed {
			err = d.code.Remove(sum)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			d.c.Log.Warn("code of a deleted version could not be removed", "sha256", sum, "error", err)
		}
	}
}

func (d *Director) download(ctx context.Context, in *VersionPath) (*httpapi.Stream, error) {
	_, v, err := d.version(ctx, *in)
	if err != nil {
		return nil, err
	}
	return d.blobStream(v.SHA256, filepath.Base(v.Filename))
}

func (d *Director) blobStream(sha256, filename string) (*httpapi.Stream, error) {
	f, err := d.code.File(sha256)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &httpapi.Stream{Type: "application/octet-stream", Filename: filename, Size: info.Size(), Read: f}, nil
}

var sha256Pattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// blob gives an agent the code of its own service and no other's.
func (d *Director) blob(ctx context.Context, in *struct {
	SHA256 string `path:"sha256"`
}) (*httpapi.Stream, error) {
	id := httpapi.Who(ctx).Identity
	if !sha256Pattern.MatchString(in.SHA256) {
		return nil, api.NotFoundf("this is no SHA-256: %s", api.Shorten(in.SHA256))
	}
	ok, err := d.store.HasBlob(ctx, id.Application, id.Service, in.SHA256)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, api.NotFoundf("your service has no code version with the bytes %s", in.SHA256[:12])
	}
	return d.blobStream(in.SHA256, "")
}

func (d *Director) activate(ctx context.Context, in *struct {
	ServicePath
	Body api.Activate
}) (httpapi.Either, error) {
	return d.now(ctx, in.ServicePath, func(a, s int64) order { return d.activateOrder(a, s, in.Body) })
}

// rollback activates the version that served before the wanted one; done
// twice, all is as it was. Where that is not known or was deleted it is the one
// before it in the list.
func (d *Director) rollback(ctx context.Context, in *ServicePath) (httpapi.Either, error) {
	a, s, err := d.service(ctx, *in)
	if err != nil {
		return httpapi.Either{}, err
	}
	all, err := d.store.Versions(ctx, a.ID, s.ID)
	if err != nil {
		return httpapi.Either{}, err
	}
	to, ok := before(s, all)
	if !ok {
		return httpapi.Either{}, &api.Error{Code: api.CodeConflict, Op: "roll back", Object: "service " + a.Name + "/" + s.Name, Message: "there is no version before the current one", Hint: "list its versions and activate one of them"}
	}
	return d.now(ctx, *in, func(a, s int64) order { return d.activateOrder(a, s, api.Activate{Version: to}) })
}

// before is pure; all comes newest first.
func before(s store.Service, all []api.CodeVersion) (id string, ok bool) {
	has := func(id string) int {
		return slices.IndexFunc(all, func(v api.CodeVersion) bool { return v.ID == id })
	}
	if s.Previous != "" && s.Previous != s.Version && has(s.Previous) >= 0 {
		return s.Previous, true
	}
	if i := has(s.Version); i >= 0 && i+1 < len(all) {
		return all[i+1].ID, true
	}
	return "", false
}

func (d *Director) activateOrder(application, service int64, b api.Activate) order {
	return order{kind: serviceActivate, title: "activate " + api.Shorten(b.Version) + " of", application: application, service: service, request: b,
		change: func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (bool, error) {
			v, err := t.Version(ctx, s.Application, s.ID, b.Version)
			if err != nil {
				return false, err
			}
			if v.ID != s.Version {
				s.Previous, s.Version = s.Version, v.ID
			}
			return d.adapt(ctx, t, a, s, "code version "+v.ID+" is activated")
		}}
}
