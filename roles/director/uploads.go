package director

import (
	"context"
	"fmt"
	"slices"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/director/codestore"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

const (
	uploadLife = 24 * time.Hour // since somebody went on with it
	uploadMost = 8              // of one user at a time
	uploadID   = 16             // letters; the first six name the version, so that a lost answer can be asked for again
)

// takesCode refuses code for a service whose kind keeps none.
func (d *Director) takesCode(a store.Application, s store.Service) error {
	kind, err := d.c.Services.Get(s.Kind)
	if err == nil && !kind.Code.Accepts {
		err = &api.Error{Code: api.CodeInvalid, Op: "upload code", Object: "service " + a.Name + "/" + s.Name, Message: kind.Name + " services keep no code"}
	}
	return err
}

func (d *Director) startUpload(ctx context.Context, in *struct {
	ServicePath
	Body api.StartUpload
}) (api.Upload, error) {
	b := in.Body
	a, s, err := d.service(ctx, in.ServicePath)
	if err == nil {
		err = d.takesCode(a, s)
	}
	if err != nil {
		return api.Upload{}, err
	}
	name, err := codestore.CleanFilename(b.Filename)
	if err != nil {
		return api.Upload{}, err
	}
	refuse := func(code api.Code, field, message, hint string) (api.Upload, error) {
		return api.Upload{}, &api.Error{Code: code, Op: "upload code", Object: "file " + name, Message: message, Hint: hint, Fields: []string{field}}
	}
	switch {
	case b.Bytes <= 0:
		return refuse(api.CodeInvalid, "bytes", "an upload says how many bytes it has, and has some", "")
	case b.Bytes > d.tune().upload:
		return refuse(api.CodeTooLarge, "bytes", fmt.Sprintf("it has %d bytes, at most %d are allowed", b.Bytes, d.tune().upload), "leave out what is not needed, or raise upload.max_bytes in the director's configuration")
	case b.SHA256 != "" && !sha256Pattern.MatchString(b.SHA256):
		return refuse(api.CodeInvalid, "sha256", "a SHA-256 is 64 digits of 0-9 and a-f", "")
	case len(b.Description) > maxDescription:
		return refuse(api.CodeInvalid, "description", fmt.Sprintf("it is longer than %d bytes", maxDescription), "")
	}
	user := httpapi.Who(ctx).User
	u := store.Upload{Upload: api.Upload{ID: api.NewID(uploadID), Filename: name, Bytes: b.Bytes}, Application: a.ID, Service: s.ID, User: user.ID, SHA256: b.SHA256}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		mine, err := t.UserUploads(ctx, user.ID)
		if err != nil {
			return err
		}
		again := slices.IndexFunc(mine, func(o store.Upload) bool {
			return b.SHA256 != "" && o.Application == a.ID && o.Service == s.ID && o.Filename == name && o.Bytes == b.Bytes && o.SHA256 == b.SHA256
		})
		if again >= 0 {
			u = mine[again]
		}
		u.Description, u.Strip, u.Expires = b.Description, b.Strip, t.Now().Add(uploadLife)
		if again >= 0 {
			return t.SaveUpload(ctx, u)
		}
		if len(mine) >= uploadMost {
			return &api.Error{Code: api.CodeQuota, Op: "upload code", Object: "file " + name, Message: fmt.Sprintf("you have %d uploads that are not finished", len(mine)),
				Hint: "finish or delete one of them; the first is of " + mine[0].Filename + " and is forgotten at " + mine[0].Expires.Format(time.RFC3339), Related: mine[0].ID}
		}
		if _, err := t.ServiceByID(ctx, a.ID, s.ID); err != nil { // deleted a moment ago
			return err
		}
		return t.InsertUpload(ctx, u)
	})
	if err != nil {
		return api.Upload{}, err
	}
	out, err := d.uploadNow(u)
	if err == nil {
		err = d.code.Room(out.Bytes - out.Offset)
	}
	if err != nil && out.Offset == 0 {
		d.endUpload(ctx, u.ID) // nothing is lost with it
	}
	return out, err
}

// uploadNow is an upload with how much of it has come.
func (d *Director) uploadNow(u store.Upload) (api.Upload, error) {
	var err error
	u.Offset, err = d.code.Offset(u.ID)
	return u.Upload, err
}

// endUpload forgets an upload with what came of it.
func (d *Director) endUpload(ctx context.Context, id string) {
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.DeleteUpload(ctx, id) })
	if err == nil {
		err = d.code.Discard(id)
	}
	if err != nil {
		d.c.Log.Warn("upload not removed, the sweep tries again", "upload", id, "error", err)
	}
}

// UploadPath names an upload in a path.
type UploadPath struct {
	ServicePath
	Upload string `path:"upload"`
}

func (d *Director) findUpload(ctx context.Context, in UploadPath) (store.Service, store.Upload, error) {
	_, s, err := d.service(ctx, in.ServicePath)
	if err != nil {
		return s, store.Upload{}, err
	}
	u, err := d.store.Upload(ctx, s.Application, s.ID, in.Upload)
	if err == nil && !d.c.Now().Before(u.Expires) {
		err = &api.Error{Code: api.CodeNotFound, Op: "upload code", Object: "upload " + u.ID, Message: "it has expired", Hint: "begin it again"}
	}
	return s, u, err
}

func (d *Director) listUploads(ctx context.Context, in *ServicePath) ([]api.Upload, error) {
	_, s, err := d.service(ctx, *in)
	if err != nil {
		return nil, err
	}
	rows, err := d.store.ServiceUploads(ctx, s.Application, s.ID)
	if err != nil {
		return nil, err
	}
	out := make([]api.Upload, len(rows))
	for i, u := range rows {
		if out[i], err = d.uploadNow(u); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (d *Director) getUpload(ctx context.Context, in *UploadPath) (api.Upload, error) {
	_, u, err := d.findUpload(ctx, *in)
	if err != nil {
		return api.Upload{}, err
	}
	return d.uploadNow(u)
}

func (d *Director) deleteUpload(ctx context.Context, in *UploadPath) (httpapi.None, error) {
	_, u, err := d.findUpload(ctx, *in)
	if err == nil {
		d.endUpload(ctx, u.ID)
	}
	return httpapi.None{}, err
}

// appendUpload takes the next bytes of an upload, as many as come.
func (d *Director) appendUpload(ctx context.Context, in *struct {
	UploadPath
	Offset int64 `query:"offset" minimum:"0"`
}) (api.Upload, error) {
	_, u, err := d.findUpload(ctx, in.UploadPath)
	if err != nil {
		d.hearOut(httpapi.Body(ctx))
		return api.Upload{}, err
	}
	u.Offset, err = d.code.Append(ctx, u.ID, in.Offset, u.Bytes, httpapi.Body(ctx))
	if err != nil && api.CodeOf(err) == api.CodeInvalid { // it is no archive, or not what was announced
		d.endUpload(ctx, u.ID)
	}
	if err != nil {
		d.hearOut(httpapi.Body(ctx))
		return api.Upload{}, err
	}
	if expires := d.c.Now().Add(uploadLife); expires.Sub(u.Expires) > time.Hour { // not with each piece
		u.Expires = expires
		err = d.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.SaveUpload(ctx, u) })
	}
	return u.Upload, err
}

// finishUpload makes the version. Asked again after an answer that was lost,
// it answers the same. Whether a leading directory is to be taken off is often
// known only when it was tried, so that may be said here too.
func (d *Director) finishUpload(ctx context.Context, in *struct {
	UploadPath
	Strip bool `query:"strip"`
}) (api.CodeVersion, error) {
	s, u, err := d.findUpload(ctx, in.UploadPath)
	if api.CodeOf(err) == api.CodeNotFound && len(in.Upload) == uploadID && s.ID != 0 {
		if v, e := d.store.Version(ctx, s.Application, s.ID, versionOfUpload(in.Upload)); e == nil {
			return v, nil
		}
	}
	if err != nil {
		return api.CodeVersion{}, err
	}
	d.blobs.RLock() // until the row is there, nothing says that the blob is needed
	defer d.blobs.RUnlock()
	v, err := d.code.Complete(ctx, u.ID, u.Filename, u.Strip || in.Strip, u.Bytes, u.SHA256)
	if err != nil {
		if !mayFinish(err) {
			d.endUpload(ctx, u.ID)
		}
		return api.CodeVersion{}, err
	}
	v.ID, v.By, v.Description = versionOfUpload(u.ID), httpapi.Who(ctx).User.Name, u.Description
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if s, err = t.ServiceByID(ctx, s.Application, s.ID); err != nil {
			return err
		}
		_, err := t.Upload(ctx, s.Application, s.ID, u.ID)
		if api.CodeOf(err) == api.CodeNotFound { // two finish it at once
			v, err = t.Version(ctx, s.Application, s.ID, v.ID)
			return err
		}
		if err != nil {
			return err
		}
		if err := t.DeleteUpload(ctx, u.ID); err != nil {
			return err
		}
		v, err = d.addVersion(ctx, t, s, v)
		return err
	})
	if err != nil {
		d.dropBlob(v.SHA256)
		return v, err
	}
	if err := d.code.Discard(u.ID); err != nil {
		d.c.Log.Warn("upload not removed, the sweep tries again", "upload", u.ID, "error", err)
	}
	return v, nil
}

func versionOfUpload(id string) string { return "code-" + id[:6] }

// mayFinish reports whether an upload that could not be finished may be later:
// when its rest has come, when it is begun again with another strip, or when
// there is room.
func mayFinish(err error) bool {
	e := api.AsError(err)
	return e.Code != api.CodeInvalid && e.Code != api.CodeTooLarge || slices.Contains(e.Fields, "strip")
}

// dropUploads removes uploads that nobody went on with, and what is left of
// those whose row went with their service.
func (d *Director) dropUploads(ctx context.Context) {
	files, err := d.code.Unfinished() // before the rows: a file comes after its row
	if err != nil {
		d.c.Log.Warn("uploads not swept", "error", err)
		return
	}
	rows, err := d.store.Uploads(ctx)
	if err == nil && len(rows) > 0 && !d.c.Now().Before(rows[0].Expires) {
		err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
			if _, err := t.DeleteExpiredUploads(ctx, t.Now()); err != nil {
				return err
			}
			rows, err = t.Uploads(ctx)
			return err
		})
	}
	if err != nil {
		d.c.Log.Warn("uploads not swept", "error", err)
		return
	}
	for _, id := range files {
		if slices.ContainsFunc(rows, func(u store.Upload) bool { return u.ID == id }) {
			continue
		}
		if err := d.code.Discard(id); err != nil {
			d.c.Log.Warn("rest of an upload not removed", "upload", id, "error", err)
		}
	}
}
