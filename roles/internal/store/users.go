package store

import (
	"context"
	"database/sql"
	"strconv"

	"nutshell/roles/api"
)

// User is a user with the hash of the password, which never leaves the
// director.
type User struct {
	api.User
	Password string
}

const userColumns = `id, name, email, password, first_name, last_name, affiliation, admin, credit, created, EXISTS (SELECT 1 FROM totp WHERE totp.user = user.id)`

func scanUser(r *sql.Rows) (User, error) {
	var u User
	var created int64
	err := r.Scan(&u.ID, &u.Name, &u.Email, &u.Password, &u.FirstName, &u.LastName, &u.Affiliation, &u.Admin, &u.Credit, &created, &u.SecondFactor)
	u.Created = timeOf(created)
	return u, err
}

// Users lists all users by name.
func (v View) Users(ctx context.Context) ([]User, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT `+userColumns+` FROM user ORDER BY name`)
	return scanAll(rows, err, scanUser)
}

// User finds a user by id or name. Names are never numbers.
func (v View) User(ctx context.Context, ref string) (User, error) {
	id, _ := strconv.ParseInt(ref, 10, 64)
	rows, err := v.q.QueryContext(ctx, `SELECT `+userColumns+` FROM user WHERE id = ? OR name = ?`, id, ref)
	list, err := scanAll(rows, err, scanUser)
	return one(list, err, func() error { return api.NotFoundf("there is no user %s", api.Shorten(ref)) })
}

// InsertUser stores a new user and returns it with its id. The credits that it
// begins with are the first line of its ledger.
func (t *Tx) InsertUser(ctx context.Context, u User) (User, error) {
	u.Created = t.now
	first := u.Credit
	u.Credit = 0
	err := t.tx.QueryRowContext(ctx, `INSERT INTO user (name, email, password, first_name, last_name, affiliation, admin, credit, created)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
		u.Name, u.Email, u.Password, u.FirstName, u.LastName, u.Affiliation, u.Admin, u.Credit, micros(u.Created)).Scan(&u.ID)
	if isUnique(err) {
		return u, &api.Error{Code: api.CodeConflict, Op: "create", Object: "user " + u.Name, Message: "the name or the e-mail address is taken"}
	}
	if err != nil {
		return u, err
	}
	if first == 0 {
		return u, t.event(ctx, "user", u.ID, 0, 0, u.Name, u.User)
	}
	u.Credit, err = t.Enter(ctx, u.ID, api.LedgerEntry{Amount: first, Kind: "grant", Reason: "to begin with", Actor: "nutshell"})
	return u, err
}

// SaveUser stores a changed user. Credits are changed by Enter only.
func (t *Tx) SaveUser(ctx context.Context, u User) error {
	_, err := t.exec(ctx, `UPDATE user SET email = ?, password = ?, first_name = ?, last_name = ?, affiliation = ?, admin = ? WHERE id = ?`,
		u.Email, u.Password, u.FirstName, u.LastName, u.Affiliation, u.Admin, u.ID)
	if isUnique(err) {
		return &api.Error{Code: api.CodeConflict, Op: "change", Object: "user " + u.Name, Message: "the e-mail address is taken"}
	}
	if err != nil {
		return err
	}
	return t.event(ctx, "user", u.ID, 0, 0, u.Name, u.User)
}

// DeleteUser removes a user with sessions and tokens. Applications must be
// gone before.
func (t *Tx) DeleteUser(ctx context.Context, u User) error {
	if _, err := t.exec(ctx, `DELETE FROM user WHERE id = ?`, u.ID); err != nil {
		return err
	}
	return t.event(ctx, "user.deleted", u.ID, 0, 0, u.Name, u.User)
}

func scanToken(r *sql.Rows) (api.Token, error) {
	var k api.Token
	var created, expires, used int64
	err := r.Scan(&k.ID, &k.Name, &k.Scope, &created, &expires, &used)
	k.Created, k.Expires, k.Used = timeOf(created), timeOf(expires), timeOf(used)
	return k, err
}

// Tokens lists a user's tokens, newest first.
func (v View) Tokens(ctx context.Context, user int64) ([]api.Token, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT id, name, scope, created, expires, used FROM token WHERE user = ? ORDER BY created DESC, id`, user)
	return scanAll(rows, err, scanToken)
}

// InsertToken stores a token with the hash of its secret.
func (t *Tx) InsertToken(ctx context.Context, user int64, k api.Token, hash string) error {
	_, err := t.exec(ctx, `INSERT INTO token (id, user, name, hash, scope, created, expires, used) VALUES (?, ?, ?, ?, ?, ?, ?, 0)`,
		k.ID, user, k.Name, hash, k.Scope, micros(k.Created), micros(k.Expires))
	return err
}

// TokenUser finds the token and its user by the hash of the secret.
func (v View) TokenUser(ctx context.Context, hash string) (api.Token, User, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT id, name, scope, created, expires, used FROM token WHERE hash = ?`, hash)
	list, err := scanAll(rows, err, scanToken)
	k, err := one(list, err, func() error { return api.NotFoundf("there is no such token") })
	if err != nil {
		return k, User{}, err
	}
	var id int64
	if err := v.q.QueryRowContext(ctx, `SELECT user FROM token WHERE id = ?`, k.ID).Scan(&id); err != nil {
		return k, User{}, storeError(err)
	}
	u, err := v.User(ctx, strconv.FormatInt(id, 10))
	return k, u, err
}

// TouchToken notes that a token was used.
func (t *Tx) TouchToken(ctx context.Context, id string) error {
	_, err := t.exec(ctx, `UPDATE token SET used = ? WHERE id = ?`, micros(t.now), id)
	return err
}

// DeleteToken revokes a user's token.
func (t *Tx) DeleteToken(ctx context.Context, user int64, id string) error {
	n, err := t.exec(ctx, `DELETE FROM token WHERE user = ? AND id = ?`, user, id)
	if err == nil && n == 0 {
		return api.NotFoundf("there is no token %s", api.Shorten(id))
	}
	return err
}
