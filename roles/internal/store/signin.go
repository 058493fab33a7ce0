package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"nutshell/roles/api"
)

// Session is a place where a user is signed in, with the hash of the secret
// that its browser has.
type Session struct {
	api.OpenSession
	Hash string
	User int64
}

func (v View) sessions(ctx context.Context, where string, args ...any) ([]Session, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT hash, user, id, created, expires, seen, remote, agent FROM session WHERE `+where+` ORDER BY seen DESC, id`, args...)
	return scanAll(rows, err, func(r *sql.Rows) (Session, error) {
		var s Session
		var created, expires, seen int64
		err := r.Scan(&s.Hash, &s.User, &s.ID, &created, &expires, &seen, &s.Remote, &s.Agent)
		s.Created, s.Expires, s.Seen = timeOf(created), timeOf(expires), timeOf(seen)
		return s, err
	})
}

// Sessions lists where a user is signed in, the last seen first.
func (v View) Sessions(ctx context.Context, user int64, now time.Time) ([]Session, error) {
	return v.sessions(ctx, `user = ? AND expires > ?`, user, micros(now))
}

// OpenSessions lists all that count, the last seen first.
func (v View) OpenSessions(ctx context.Context, now time.Time) ([]Session, error) {
	return v.sessions(ctx, `expires > ?`, micros(now))
}

// SessionUser finds a session by the hash of its secret, and whose it is.
func (v View) SessionUser(ctx context.Context, hash string) (Session, User, error) {
	list, err := v.sessions(ctx, `hash = ?`, hash)
	s, err := one(list, err, func() error { return api.NotFoundf("there is no such session") })
	if err != nil {
		return s, User{}, err
	}
	u, err := v.User(ctx, strconv.FormatInt(s.User, 10))
	return s, u, err
}

// InsertSession stores a new session.
func (t *Tx) InsertSession(ctx context.Context, s Session) error {
	if _, err := t.exec(ctx, `DELETE FROM session WHERE expires < ?`, micros(t.now)); err != nil {
		return err
	}
	_, err := t.exec(ctx, `INSERT INTO session (hash, user, id, created, expires, seen, remote, agent) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Hash, s.User, s.ID, micros(t.now), micros(s.Expires), micros(t.now), s.Remote, s.Agent)
	return err
}

// TouchSession notes where a session was seen.
func (t *Tx) TouchSession(ctx context.Context, hash, remote, agent string) error {
	_, err := t.exec(ctx, `UPDATE session SET seen = ?, remote = ?, agent = ? WHERE hash = ?`, micros(t.now), remote, agent, hash)
	return err
}

// DeleteSessions ends one session of a user, or all but keep when hash is "".
func (t *Tx) DeleteSessions(ctx context.Context, user int64, hash, keep string) error {
	_, err := t.exec(ctx, `DELETE FROM session WHERE user = ? AND (? = '' OR hash = ?) AND hash <> ?`, user, hash, hash, keep)
	return err
}

// TOTP is the authenticator app of a user.
type TOTP struct {
	Secret   string // sealed
	Step     int64  // of the last code that was taken
	Since    time.Time
	Recovery int // recovery codes that are left
}

// TOTP is a user's authenticator app, nil for none.
func (v View) TOTP(ctx context.Context, user int64) (*TOTP, error) {
	var x TOTP
	var since int64
	err := v.q.QueryRowContext(ctx, `SELECT secret, step, created, (SELECT count(*) FROM recovery_code r WHERE r.user = totp.user) FROM totp WHERE user = ?`, user).
		Scan(&x.Secret, &x.Step, &since, &x.Recovery)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // none is no error
	}
	x.Since = timeOf(since)
	return &x, storeError(err)
}

// SetTOTP turns a second factor on, in the place of one that was.
func (t *Tx) SetTOTP(ctx context.Context, u User, x TOTP) error {
	_, err := t.exec(ctx, `INSERT INTO totp (user, secret, step, created) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (user) DO UPDATE SET secret = ?2, step = ?3, created = ?4`,
		u.ID, x.Secret, x.Step, micros(t.now))
	if err != nil {
		return err
	}
	u.SecondFactor = true
	return t.event(ctx, "user", u.ID, 0, 0, u.Name, u.User)
}

// DeleteTOTP turns a second factor off and forgets its recovery codes.
func (t *Tx) DeleteTOTP(ctx context.Context, u User) error {
	for _, q := range []string{`DELETE FROM totp WHERE user = ?`, `DELETE FROM recovery_code WHERE user = ?`} {
		if _, err := t.exec(ctx, q, u.ID); err != nil {
			return err
		}
	}
	u.SecondFactor = false
	return t.event(ctx, "user", u.ID, 0, 0, u.Name, u.User)
}

// TakeStep takes the code of a step, and reports whether that step or a later
// one was not taken before. Of two who send one code, one gets in.
func (t *Tx) TakeStep(ctx context.Context, user, step int64) (bool, error) {
	n, err := t.exec(ctx, `UPDATE totp SET step = ?2 WHERE user = ?1 AND step < ?2`, user, step)
	return n == 1, err
}

// SetRecoveryCodes stores hashes in the place of all that were.
func (t *Tx) SetRecoveryCodes(ctx context.Context, user int64, hashes []string) error {
	if _, err := t.exec(ctx, `DELETE FROM recovery_code WHERE user = ?`, user); err != nil {
		return err
	}
	for _, h := range hashes {
		if _, err := t.exec(ctx, `INSERT INTO recovery_code (user, hash) VALUES (?, ?)`, user, h); err != nil {
			return err
		}
	}
	return nil
}

// TakeRecoveryCode uses a code up, and reports whether there was one.
func (t *Tx) TakeRecoveryCode(ctx context.Context, user int64, hash string) (bool, error) {
	n, err := t.exec(ctx, `DELETE FROM recovery_code WHERE user = ? AND hash = ?`, user, hash)
	return n == 1, err
}

// Passkey is a passkey with what proves it.
type Passkey struct {
	api.Passkey
	User       int64
	Credential string
	Data       string
}

func (v View) passkeys(ctx context.Context, where string, args ...any) ([]Passkey, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT id, user, credential, name, host, synced, data, created, used FROM passkey WHERE `+where+` ORDER BY created, id`, args...)
	return scanAll(rows, err, func(r *sql.Rows) (Passkey, error) {
		var k Passkey
		var created, used int64
		err := r.Scan(&k.ID, &k.User, &k.Credential, &k.Name, &k.Host, &k.Synced, &k.Data, &created, &used)
		k.Created, k.Used = timeOf(created), timeOf(used)
		return k, err
	})
}

// Passkeys lists a user's passkeys, oldest first.
func (v View) Passkeys(ctx context.Context, user int64) ([]Passkey, error) {
	return v.passkeys(ctx, `user = ?`, user)
}

// PasskeyOf finds a passkey by the id that its device has for it.
func (v View) PasskeyOf(ctx context.Context, credential string) (Passkey, error) {
	list, err := v.passkeys(ctx, `credential = ?`, credential)
	return one(list, err, func() error { return api.NotFoundf("there is no such passkey") })
}

// InsertPasskey stores a new passkey.
func (t *Tx) InsertPasskey(ctx context.Context, k Passkey) error {
	_, err := t.exec(ctx, `INSERT INTO passkey (id, user, credential, name, host, synced, data, created, used) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)`,
		k.ID, k.User, k.Credential, k.Name, k.Host, k.Synced, k.Data, micros(t.now))
	if isUnique(err) {
		return &api.Error{Code: api.CodeConflict, Op: "add", Object: "passkey " + k.Name, Message: "this passkey is there already"}
	}
	return err
}

// UsePasskey notes that a passkey was used, with what its device counts now.
func (t *Tx) UsePasskey(ctx context.Context, id, data string, synced bool) error {
	_, err := t.exec(ctx, `UPDATE passkey SET used = ?, data = ?, synced = ? WHERE id = ?`, micros(t.now), data, synced, id)
	return err
}

// RenamePasskey names a user's passkey.
func (t *Tx) RenamePasskey(ctx context.Context, user int64, id, name string) error {
	return onePasskey(id)(t.exec(ctx, `UPDATE passkey SET name = ? WHERE user = ? AND id = ?`, name, user, id))
}

// DeletePasskey lets a passkey in no longer.
func (t *Tx) DeletePasskey(ctx context.Context, user int64, id string) error {
	return onePasskey(id)(t.exec(ctx, `DELETE FROM passkey WHERE user = ? AND id = ?`, user, id))
}

func onePasskey(id string) func(int64, error) error {
	return func(n int64, err error) error {
		if err == nil && n == 0 {
			return &api.Error{Code: api.CodeNotFound, Object: "passkey " + api.Shorten(id), Message: "you have no such passkey", Hint: "list your passkeys to see their ids"}
		}
		return err
	}
}

// DeletePasskeys takes all passkeys of a user away.
func (t *Tx) DeletePasskeys(ctx context.Context, user int64) error {
	_, err := t.exec(ctx, `DELETE FROM passkey WHERE user = ?`, user)
	return err
}
