package store

import (
	"context"
	"database/sql"
	"time"

	"nutshell/roles/api"
)

// Upload is an upload under way. How many bytes are there is known to the code
// store alone.
type Upload struct {
	api.Upload  // without Offset
	Application int64
	Service     int64
	User        int64
	Description string
	Strip       bool
	SHA256      string // as promised, or empty
}

const uploadColumns = `id, application, service, user, filename, description, strip, bytes, sha256, expires`

func scanUpload(r *sql.Rows) (Upload, error) {
	var u Upload
	var expires int64
	err := r.Scan(&u.ID, &u.Application, &u.Service, &u.User, &u.Filename, &u.Description, &u.Strip, &u.Bytes, &u.SHA256, &expires)
	u.Expires = timeOf(expires)
	return u, err
}

func (v View) uploads(ctx context.Context, where string, args ...any) ([]Upload, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT `+uploadColumns+` FROM upload WHERE `+where+` ORDER BY expires, id`, args...)
	return scanAll(rows, err, scanUpload)
}

// Uploads lists all uploads under way, those that expire first before others.
func (v View) Uploads(ctx context.Context) ([]Upload, error) { return v.uploads(ctx, `1`) }

// ServiceUploads lists the uploads to a service.
func (v View) ServiceUploads(ctx context.Context, application, service int64) ([]Upload, error) {
	return v.uploads(ctx, `application = ? AND service = ?`, application, service)
}

// UserUploads lists the uploads that a user has begun.
func (v View) UserUploads(ctx context.Context, user int64) ([]Upload, error) {
	return v.uploads(ctx, `user = ?`, user)
}

// Upload finds an upload to a service.
func (v View) Upload(ctx context.Context, application, service int64, id string) (Upload, error) {
	found, err := v.uploads(ctx, `application = ? AND service = ? AND id = ?`, application, service, id)
	return one(found, err, func() error {
		return &api.Error{Code: api.CodeNotFound, Object: "upload " + api.Shorten(id), Message: "the service has no such upload", Hint: "it has ended or expired; begin it again"}
	})
}

// InsertUpload stores a new upload.
func (t *Tx) InsertUpload(ctx context.Context, u Upload) error {
	_, err := t.exec(ctx, `INSERT INTO upload (`+uploadColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		u.ID, u.Application, u.Service, u.User, u.Filename, u.Description, u.Strip, u.Bytes, u.SHA256, micros(u.Expires))
	return err
}

// SaveUpload stores what may change of an upload: what is done with it at the
// end, and when it is forgotten.
func (t *Tx) SaveUpload(ctx context.Context, u Upload) error {
	_, err := t.exec(ctx, `UPDATE upload SET description = ?, strip = ?, expires = ? WHERE id = ?`, u.Description, u.Strip, micros(u.Expires), u.ID)
	return err
}

// DeleteUpload forgets an upload.
func (t *Tx) DeleteUpload(ctx context.Context, id string) error {
	_, err := t.exec(ctx, `DELETE FROM upload WHERE id = ?`, id)
	return err
}

// DeleteExpiredUploads forgets uploads that nobody went on with.
func (t *Tx) DeleteExpiredUploads(ctx context.Context, now time.Time) (int64, error) {
	return t.exec(ctx, `DELETE FROM upload WHERE expires < ?`, micros(now))
}
