package director

import (
	"context"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/auth"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// What proves who somebody is beside the password, as errors name it.
const (
	factorTOTP     = "totp"
	factorRecovery = "recovery"
	factorPasskey  = "passkey"
)

func sessionEnded() error {
	return &api.Error{Code: api.CodeUnauthorized, Message: "your session has ended", Hint: "sign in again"}
}

// signIn opens a session for a name, its password and, where the user wants
// it so, a code. A token opens none: it may be allowed less than its user.
func (d *Director) signIn(ctx context.Context, in *struct{ Body api.SignIn }) (api.Session, error) {
	b, g := in.Body, guard{d}
	httpapi.Actor(ctx, b.Name)
	u, err := g.named(ctx, b.Name)
	if err != nil {
		return api.Session{}, err
	}
	if err := g.rightPassword(ctx, u, b.Name, b.Password, httpapi.Remote(ctx)); err != nil {
		return api.Session{}, err
	}
	if err := d.secondFactor(ctx, u, b.Code); err != nil {
		return api.Session{}, err
	}
	d.limits.Forget("name " + b.Name) // its owner is not held back by mistypings
	return d.openSession(ctx, u)
}

// openSession signs a user in who has proved who they are.
func (d *Director) openSession(ctx context.Context, u store.User) (api.Session, error) {
	secret, hash := auth.NewSecret()
	s := store.Session{Hash: hash, User: u.ID, OpenSession: api.OpenSession{ID: api.NewID(8), Expires: d.c.Now().Add(sessionLife), Remote: httpapi.Remote(ctx), Agent: httpapi.Browser(ctx)}}
	if err := d.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.InsertSession(ctx, s) }); err != nil {
		return api.Session{}, err
	}
	d.proofs.give("session "+hash, d.c.Now())
	httpapi.SetSession(ctx, secret, s.Expires)
	return api.Session{User: u.User, CSRF: auth.CSRFToken(secret)}, nil
}

func (d *Director) session(ctx context.Context, _ *struct{}) (api.Session, error) {
	p := httpapi.Who(ctx)
	return api.Session{User: p.User, CSRF: p.CSRF}, nil
}

func (d *Director) signOut(ctx context.Context, _ *struct{}) (httpapi.None, error) {
	p := httpapi.Who(ctx)
	if p.Session == "" {
		return httpapi.None{}, nil // a token or password opens no session
	}
	httpapi.SetSession(ctx, "", time.Unix(1, 0))
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		return d.endSessions(ctx, t, p.User.ID, auth.HashSecret(p.Session), "")
	})
}

// endSessions ends one session of a user, or all but keep when hash is "",
// with what is open by them.
func (d *Director) endSessions(ctx context.Context, t *store.Tx, user int64, hash, keep string) error {
	t.After(func() {
		d.present.end(func(a attendant) bool {
			return a.user == user && a.session != "" && (hash == "" || a.session == hash) && a.session != keep
		})
	})
	return t.DeleteSessions(ctx, user, hash, keep)
}

func (d *Director) listSessions(ctx context.Context, _ *struct{}) ([]api.OpenSession, error) {
	p := httpapi.Who(ctx)
	rows, err := d.store.Sessions(ctx, p.User.ID, d.c.Now())
	list := make([]api.OpenSession, len(rows))
	for i, r := range rows {
		list[i] = r.OpenSession
		list[i].This = p.Session != "" && r.Hash == auth.HashSecret(p.Session)
	}
	return list, err
}

func (d *Director) deleteSession(ctx context.Context, in *struct {
	ID string `path:"id"`
}) (httpapi.None, error) {
	p := httpapi.Who(ctx)
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		rows, err := t.Sessions(ctx, p.User.ID, d.c.Now())
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.ID == in.ID {
				return d.endSessions(ctx, t, p.User.ID, r.Hash, "")
			}
		}
		return &api.Error{Code: api.CodeNotFound, Object: "session " + api.Shorten(in.ID), Message: "you have no such session", Hint: "it may have ended; list your sessions to see their ids"}
	})
}

// deleteSessions ends all sessions of the asker but the one that asks.
func (d *Director) deleteSessions(ctx context.Context, _ *struct{}) (httpapi.None, error) {
	p := httpapi.Who(ctx)
	keep := ""
	if p.Session != "" {
		keep = auth.HashSecret(p.Session)
	}
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		return d.endSessions(ctx, t, p.User.ID, "", keep)
	})
}

// endUserSessions signs a user out everywhere.
func (d *Director) endUserSessions(ctx context.Context, in *UserPath) (httpapi.None, error) {
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		u, err := t.User(ctx, in.User)
		if err != nil {
			return err
		}
		return d.endSessions(ctx, t, u.ID, "", "")
	})
}

// resetFactors takes a user's authenticator app and passkeys away, who then
// signs in with the password alone. Whoever got in by them is signed out.
func (d *Director) resetFactors(ctx context.Context, in *UserPath) (httpapi.None, error) {
	if err := d.needProof(ctx); err != nil {
		return httpapi.None{}, err
	}
	p := httpapi.Who(ctx)
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		u, err := t.User(ctx, in.User)
		if err != nil {
			return err
		}
		if err := t.DeletePasskeys(ctx, u.ID); err != nil {
			return err
		}
		keep := ""
		if p.User.ID == u.ID && p.Session != "" {
			keep = auth.HashSecret(p.Session)
		}
		if err := d.endSessions(ctx, t, u.ID, "", keep); err != nil {
			return err
		}
		return t.DeleteTOTP(ctx, u)
	})
}
