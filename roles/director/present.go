package director

import (
	"context"
	"sync"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/auth"
	"nutshell/roles/internal/httpapi"
)

// attendance knows what people have open at the moment, streams of events and
// terminals, and by which sign-in, so that it ends when that does.
type attendance struct {
	mu   sync.Mutex
	last int
	open map[int]attendant
}

type attendant struct {
	user    int64
	session string // hash of the secret
	token   string // id
	end     context.CancelFunc
}

func newAttendance() *attendance { return &attendance{open: map[int]attendant{}} }

// end ends what matches has open.
func (a *attendance) end(matches func(attendant) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range a.open {
		if matches(x) {
			x.end()
		}
	}
}

// whileSignedIn is ctx, the context of a request, that also ends when what its
// asker came in with does: a session or token that is revoked, a user who is
// deleted. Whatever outlasts the moment of its request runs under it.
func (d *Director) whileSignedIn(ctx context.Context) (context.Context, error) {
	p := httpapi.Who(ctx)
	ctx, end := context.WithCancel(ctx)
	x := attendant{user: p.User.ID, token: p.Token, end: end}
	if p.Session != "" {
		x.session = auth.HashSecret(p.Session)
	}
	a := d.present
	a.mu.Lock()
	a.last++
	id := a.last
	a.open[id] = x
	a.mu.Unlock()
	context.AfterFunc(ctx, func() {
		a.mu.Lock()
		delete(a.open, id)
		a.mu.Unlock()
	})
	if x.session != "" { // it may have been revoked between the beginning of the request and now
		if _, _, err := d.store.SessionUser(ctx, x.session); err != nil {
			end()
			if api.CodeOf(err) == api.CodeNotFound {
				err = sessionEnded()
			}
			return ctx, err
		}
	}
	return ctx, nil
}

// proofs remembers for a while who has shown again who they are.
type proofs struct {
	mu    sync.Mutex
	given map[string]time.Time // by sign-in
}

// proofLife is how long a proof is enough.
const proofLife = 10 * time.Minute

func newProofs() *proofs { return &proofs{given: map[string]time.Time{}} }

func (x *proofs) give(by string, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for key, at := range x.given {
		if now.Sub(at) > proofLife {
			delete(x.given, key)
		}
	}
	x.given[by] = now
}

func (x *proofs) holds(by string, now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	at, ok := x.given[by]
	return ok && now.Sub(at) <= proofLife
}

// signedInBy names what the asker came in with.
func signedInBy(p httpapi.Principal) string {
	if p.Session != "" {
		return "session " + auth.HashSecret(p.Session)
	}
	return "token " + p.Token
}

// needProof refuses what a stolen session or token must not be enough for,
// until its user has shown who they are a moment ago. Whoever has the
// director's files can do anything.
func (d *Director) needProof(ctx context.Context) error {
	p := httpapi.Who(ctx)
	if p.Local || p.Password || d.proofs.holds(signedInBy(p), d.c.Now()) {
		return nil
	}
	factors := []string{"password"}
	keys, err := d.store.Passkeys(ctx, p.User.ID)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.Host == httpapi.Host(ctx) {
			factors = append(factors, factorPasskey)
			break
		}
	}
	return &api.Error{Code: api.CodeProof, Message: "this needs your password or a passkey once more", Hint: "send it to POST /proof, then do this again within 10 minutes", Factors: factors}
}

// prove takes the password or a passkey of whoever is signed in already.
func (d *Director) prove(ctx context.Context, in *struct{ Body api.Proof }) (httpapi.None, error) {
	p := httpapi.Who(ctx)
	u, err := d.store.User(ctx, p.User.Name)
	if err != nil {
		return httpapi.None{}, err
	}
	if in.Body.Passkey != nil {
		_, owner, err := d.usePasskey(ctx, *in.Body.Passkey)
		if err == nil && owner.ID != u.ID {
			err = &api.Error{Code: api.CodeForbidden, Message: "this passkey is of another user"}
		}
		if err != nil {
			return httpapi.None{}, notSignedOut(err)
		}
	} else if err := (guard{d}).rightPassword(ctx, u, u.Name, in.Body.Password, httpapi.Remote(ctx)); err != nil {
		if api.CodeOf(err) == api.CodeUnauthorized {
			err = &api.Error{Code: api.CodeForbidden, Op: "prove", Message: "the password is wrong", Fields: []string{"password"}}
		}
		return httpapi.None{}, err
	} else {
		d.limits.Forget("name " + u.Name)
	}
	d.proofs.give(signedInBy(p), d.c.Now())
	return httpapi.None{}, nil
}

// notSignedOut makes of a proof that failed an error that does not say that
// its sender is not signed in.
func notSignedOut(err error) error {
	if e := api.AsError(err); e.Code == api.CodeUnauthorized {
		e.Code = api.CodeForbidden
		return e
	}
	return err
}
