package director

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/auth"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// How long things that let people in live.
const (
	sessionLife  = 7 * 24 * time.Hour
	passwordLife = time.Minute // a right password is not hashed again for so long: scripts send it with each request
	tokenTouch   = time.Hour   // how exactly "last used" is kept: each change is a write
	sessionTouch = 5 * time.Minute
)

// guard finds out who asks. It is the director, seen from httpapi.
type guard struct{ *Director }

func wrongSignIn() error {
	return &api.Error{Code: api.CodeUnauthorized, Op: "sign in", Message: "the name or the password is wrong"}
}

// Session accepts the secret of a session's cookie.
func (g guard) Session(ctx context.Context, secret string) (httpapi.Principal, error) {
	s, u, err := g.store.SessionUser(ctx, auth.HashSecret(secret))
	now := g.c.Now()
	if api.CodeOf(err) == api.CodeNotFound || (err == nil && now.After(s.Expires)) {
		return httpapi.Principal{}, sessionEnded()
	}
	if err == nil && (now.Sub(s.Seen) > sessionTouch || now.Sub(s.Seen) > time.Minute && s.Remote != httpapi.Remote(ctx)) {
		err = g.write(ctx, func(ctx context.Context, t *store.Tx) error {
			return t.TouchSession(ctx, s.Hash, httpapi.Remote(ctx), httpapi.Browser(ctx))
		})
	}
	return httpapi.Principal{User: u.User, Session: secret, CSRF: auth.CSRFToken(secret)}, err
}

// Token accepts the secret of an API token.
func (g guard) Token(ctx context.Context, secret string) (httpapi.Principal, error) {
	k, u, err := g.store.TokenUser(ctx, auth.HashSecret(secret))
	now := g.c.Now()
	if api.CodeOf(err) == api.CodeNotFound || (err == nil && now.After(k.Expires)) {
		return httpapi.Principal{}, &api.Error{Code: api.CodeUnauthorized, Message: "the token is not known or has expired", Hint: "make a new one"}
	}
	if err != nil {
		return httpapi.Principal{}, err
	}
	if now.Sub(k.Used) > tokenTouch {
		err = g.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.TouchToken(ctx, k.ID) })
	}
	return httpapi.Principal{User: u.User, Token: k.ID, ReadOnly: k.Scope == "read", Local: k.Name == clientTokenName}, err
}

// Password accepts a name with its password, or with a token in its place. A
// password alone is not enough for who has turned a second factor on.
func (g guard) Password(ctx context.Context, name, password, remote string) (httpapi.Principal, error) {
	u, err := g.named(ctx, name)
	if err != nil {
		return httpapi.Principal{}, err
	}
	if strings.HasPrefix(password, auth.SecretPrefix) {
		if k, owner, err := g.store.TokenUser(ctx, auth.HashSecret(password)); err == nil && owner.ID == u.ID && g.c.Now().Before(k.Expires) {
			return g.Token(ctx, password)
		}
	}
	if err := g.rightPassword(ctx, u, name, password, remote); err != nil {
		return httpapi.Principal{}, err
	}
	g.limits.Forget("name " + name) // its owner is not held back by mistypings
	if u.SecondFactor {
		return httpapi.Principal{}, &api.Error{Code: api.CodeSecondFactor, Op: "sign in", Object: "user " + u.Name, Message: "a second factor is on, so the password alone is not enough here",
			Hint: "send a token in its place: make one by nutshell login or under Profile, Tokens", Factors: []string{factorTOTP}}
	}
	return httpapi.Principal{User: u.User, Password: true}, nil
}

// named finds a user, or one without an id and a password for a name that
// nobody has.
func (g guard) named(ctx context.Context, name string) (store.User, error) {
	u, err := g.store.User(ctx, name)
	if err != nil && api.CodeOf(err) != api.CodeNotFound {
		return u, err
	}
	return u, nil
}

// rightPassword refuses a wrong one. Tries are limited by name and by address;
// the caller gives them back by limits.Forget once nothing more is to be proved.
func (g guard) rightPassword(ctx context.Context, u store.User, name, password, remote string) error {
	sum := sha256.Sum256([]byte(u.Password + "\x00" + password)) // with the stored hash, so that a change of password forgets it
	if at, ok := g.known.Load(sum); ok && u.ID != 0 {
		if g.c.Now().Sub(at.(time.Time)) < passwordLife {
			return nil
		}
		g.known.Delete(sum)
	}
	for _, key := range []string{"name " + name, "from " + remote} {
		if ok, wait := g.limits.Allow(key); !ok {
			return tooManyTries(wait)
		}
	}
	// An unknown name costs as much time as a wrong password, so that nobody
	// can find out which names there are.
	right, _, err := g.passwords.Verify(ctx, u.Password, password)
	if err != nil {
		return err
	}
	if !right {
		return wrongSignIn()
	}
	g.known.Store(sum, g.c.Now())
	return nil
}

// Peer accepts the certificate of a manager or agent whose instance is still
// one of ours, and of a node that was not removed.
func (g guard) Peer(ctx context.Context, cs *tls.ConnectionState, renewing bool) (httpapi.Principal, error) {
	identity, ok := g.ca.PeerIdentity(cs)
	if renewing {
		identity, ok = g.ca.RenewingIdentity(cs)
	}
	if !ok {
		return httpapi.Principal{}, &api.Error{Code: api.CodeUnauthorized, Message: "this needs the certificate of a manager, an agent or a node"}
	}
	if identity.Role == api.RoleNode {
		return g.node(ctx, identity)
	}
	if identity.Role != api.RoleManager && identity.Role != api.RoleAgent {
		return httpapi.Principal{}, &api.Error{Code: api.CodeForbidden, Message: "this is not for a " + string(identity.Role)}
	}
	i, err := g.store.Instance(ctx, identity.Name)
	if api.CodeOf(err) == api.CodeNotFound || (err == nil && (i.Application != identity.Application || i.Service != identity.Service)) {
		return httpapi.Principal{}, &api.Error{Code: api.CodeUnauthorized, Message: "the instance " + identity.Name + " was removed"}
	}
	return httpapi.Principal{Identity: identity}, err
}

// Audit stores what was asked for. A full disk must not hide the answer.
func (g guard) Audit(ctx context.Context, e api.AuditEntry) {
	err := g.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.InsertAudit(ctx, e) })
	if err != nil {
		g.c.Log.Error("audit entry lost", "action", e.Action, "actor", e.Actor, "object", e.Object, "result", e.Result, "error", err)
	}
}
