package store

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"nutshell/roles/api"
)

// Key is a public key with the line that was given for it.
type Key struct {
	api.Key
	User   int64
	Public string
}

func scanKey(r *sql.Rows) (Key, error) {
	var k Key
	var created, used int64
	err := r.Scan(&k.ID, &k.User, &k.Name, &k.Type, &k.Fingerprint, &k.Public, &created, &used)
	k.Created, k.Used = timeOf(created), timeOf(used)
	return k, err
}

func (v View) keys(ctx context.Context, where string, args ...any) ([]Key, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT id, user, name, type, fingerprint, public, created, used FROM ssh_key WHERE `+where+` ORDER BY created, id`, args...)
	return scanAll(rows, err, scanKey)
}

// Keys lists a user's keys, oldest first.
func (v View) Keys(ctx context.Context, user int64) ([]Key, error) {
	return v.keys(ctx, `user = ?`, user)
}

// KeysLike lists everybody's keys with a fingerprint: several users may have
// given the same one.
func (v View) KeysLike(ctx context.Context, fingerprint string) ([]Key, error) {
	return v.keys(ctx, `fingerprint = ?`, fingerprint)
}

// InsertKey stores a key of a user. One that the user has already stays as it is.
func (t *Tx) InsertKey(ctx context.Context, k Key) error {
	_, err := t.exec(ctx, `INSERT INTO ssh_key (id, user, name, type, fingerprint, public, created, used) VALUES (?, ?, ?, ?, ?, ?, ?, 0)
		ON CONFLICT (user, fingerprint) DO NOTHING`, k.ID, k.User, k.Name, k.Type, k.Fingerprint, k.Public, micros(t.now))
	return err
}

// TouchKey notes that a key was used.
func (t *Tx) TouchKey(ctx context.Context, id string) error {
	_, err := t.exec(ctx, `UPDATE ssh_key SET used = ? WHERE id = ?`, micros(t.now), id)
	return err
}

// DeleteKey revokes a key of a user.
func (t *Tx) DeleteKey(ctx context.Context, user int64, id string) error {
	n, err := t.exec(ctx, `DELETE FROM ssh_key WHERE user = ? AND id = ?`, user, id)
	if err == nil && n == 0 {
		return &api.Error{Code: api.CodeNotFound, Object: "key " + api.Shorten(id), Message: "you have no such key", Hint: "list your keys to see their ids"}
	}
	return err
}

// Repository is what was made of the last push to an application's default branch.
type Repository struct {
	Head   string // commit that was looked at last, empty for none
	Pushed time.Time
	By     string
}

// Folder is what was made of a service's folder in the repository.
type Folder struct {
	Service int64
	Tree    string
	Version string // empty where it was refused
	Pending bool   // it is still to be activated
}

// Repository tells of an application's repository and its services' folders.
func (v View) Repository(ctx context.Context, application int64) (Repository, []Folder, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT head, pushed, by FROM repository WHERE application = ?`, application)
	list, err := scanAll(rows, err, func(r *sql.Rows) (Repository, error) {
		var x Repository
		var pushed int64
		err := r.Scan(&x.Head, &pushed, &x.By)
		x.Pushed = timeOf(pushed)
		return x, err
	})
	if err != nil {
		return Repository{}, nil, err
	}
	var repo Repository
	if len(list) > 0 {
		repo = list[0]
	}
	rows, err = v.q.QueryContext(ctx, `SELECT service, tree, version, pending FROM folder WHERE application = ? ORDER BY service`, application)
	folders, err := scanAll(rows, err, func(r *sql.Rows) (Folder, error) {
		var f Folder
		err := r.Scan(&f.Service, &f.Tree, &f.Version, &f.Pending)
		return f, err
	})
	return repo, folders, err
}

// PendingRepositories lists the applications with versions that are still to
// be activated.
func (v View) PendingRepositories(ctx context.Context) ([]int64, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT DISTINCT application FROM folder WHERE pending ORDER BY application`)
	return scanAll(rows, err, func(r *sql.Rows) (int64, error) {
		var id int64
		err := r.Scan(&id)
		return id, err
	})
}

// SaveRepository notes what was made of a push.
func (t *Tx) SaveRepository(ctx context.Context, application int64, r Repository) error {
	_, err := t.exec(ctx, `INSERT INTO repository (application, head, pushed, by) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT (application) DO UPDATE SET head = ?2, pushed = ?3, by = ?4`, application, r.Head, micros(r.Pushed), strings.ToValidUTF8(r.By, "?"))
	return err
}

// SaveFolder notes what was made of a service's folder.
func (t *Tx) SaveFolder(ctx context.Context, application int64, f Folder) error {
	_, err := t.exec(ctx, `INSERT INTO folder (application, service, tree, version, pending) VALUES (?1, ?2, ?3, ?4, ?5)
		ON CONFLICT (application, service) DO UPDATE SET tree = ?3, version = ?4, pending = ?5`, application, f.Service, f.Tree, f.Version, f.Pending)
	return err
}
