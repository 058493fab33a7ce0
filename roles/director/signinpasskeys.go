package director

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/auth/passkey"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

const (
	ceremonyLife   = 5 * time.Minute
	ceremoniesMost = 4096 // strangers begin them, too
	maxPasskeys    = 20   // of one user
)

// ceremonies are questions to browsers that are not answered yet. Each is
// taken once.
type ceremonies struct {
	mu   sync.Mutex
	open map[string]ceremony
}

type ceremony struct {
	passkey.Ceremony
	user  int64 // who makes a passkey; 0: one is used
	until time.Time
}

func newCeremonies() *ceremonies { return &ceremonies{open: map[string]ceremony{}} }

func (x *ceremonies) put(c ceremony, now time.Time) (string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.open) >= ceremoniesMost/2 {
		for id, o := range x.open {
			if now.After(o.until) {
				delete(x.open, id)
			}
		}
	}
	if len(x.open) >= ceremoniesMost {
		return "", &api.Error{Code: api.CodeTooMany, Op: "begin", Object: "passkey", Message: "too many are signing in at the moment", Hint: "try again in a few minutes, or use the password"}
	}
	id := api.NewID(20)
	c.until = now.Add(ceremonyLife)
	x.open[id] = c
	return id, nil
}

func (x *ceremonies) take(id string, user int64, now time.Time) (ceremony, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	c, ok := x.open[id]
	delete(x.open, id)
	if !ok || c.user != user || now.After(c.until) {
		return c, &api.Error{Code: api.CodeUnauthorized, Op: "use", Object: "passkey", Message: "this answer comes too late, or for the second time", Hint: "begin again"}
	}
	return c, nil
}

func site(ctx context.Context) passkey.Site {
	return passkey.Site{Host: httpapi.Host(ctx), Origin: httpapi.Origin(ctx)}
}

// owner is a user as authenticators know them: by a handle that is the same
// for all their passkeys and tells nothing.
func (d *Director) owner(u api.User, keys []store.Passkey) passkey.Owner {
	sum := sha256.Sum256([]byte("nutshell user " + d.installation + " " + strconv.FormatInt(u.ID, 10)))
	o := passkey.Owner{Handle: sum[:16], Name: u.Name, Title: strings.TrimSpace(u.FirstName + " " + u.LastName)}
	if o.Title == "" {
		o.Title = u.Name
	}
	for _, k := range keys {
		o.Keys = append(o.Keys, passkey.Key{ID: k.Credential, Data: k.Data})
	}
	return o
}

func (d *Director) beginPasskey(ctx context.Context, _ *struct{}) (api.Ceremony, error) {
	if err := d.needProof(ctx); err != nil {
		return api.Ceremony{}, err
	}
	u := httpapi.Who(ctx).User
	keys, err := d.store.Passkeys(ctx, u.ID)
	if err != nil {
		return api.Ceremony{}, err
	}
	if len(keys) >= maxPasskeys {
		return api.Ceremony{}, &api.Error{Code: api.CodeQuota, Op: "add", Object: "passkey", Message: fmt.Sprintf("a user may have %d passkeys", maxPasskeys), Hint: "delete those that are not used"}
	}
	c, options, err := passkey.BeginNew(site(ctx), d.owner(u, keys))
	if err != nil {
		return api.Ceremony{}, err
	}
	id, err := d.ceremonies.put(ceremony{Ceremony: c, user: u.ID}, d.c.Now())
	return api.Ceremony{ID: id, Options: options}, err
}

func (d *Director) addPasskey(ctx context.Context, in *struct{ Body api.AddPasskey }) (api.Passkey, error) {
	u, b := httpapi.Who(ctx).User, in.Body
	if b.Name == "" {
		b.Name = "Passkey"
	}
	if err := api.CheckName("passkey", b.Name); err != nil {
		return api.Passkey{}, err
	}
	c, err := d.ceremonies.take(b.Ceremony, u.ID, d.c.Now())
	if err != nil {
		return api.Passkey{}, notSignedOut(err)
	}
	k, err := c.FinishNew(d.owner(u, nil), b.Credential)
	if err != nil {
		return api.Passkey{}, notSignedOut(err)
	}
	row := store.Passkey{User: u.ID, Credential: k.ID, Data: k.Data,
		Passkey: api.Passkey{ID: api.NewID(8), Name: b.Name, Host: httpapi.Host(ctx), Synced: k.Synced, Created: d.c.Now().UTC().Truncate(time.Second)}}
	return row.Passkey, d.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.InsertPasskey(ctx, row) })
}

func (d *Director) renamePasskey(ctx context.Context, in *struct {
	ID   string `path:"id"`
	Body api.Rename
}) (httpapi.None, error) {
	if err := api.CheckName("passkey", in.Body.Name); err != nil {
		return httpapi.None{}, err
	}
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		return t.RenamePasskey(ctx, httpapi.Who(ctx).User.ID, in.ID, in.Body.Name)
	})
}

func (d *Director) deletePasskey(ctx context.Context, in *struct {
	ID string `path:"id"`
}) (httpapi.None, error) {
	me := httpapi.Who(ctx).User.ID
	mine, err := d.store.Passkeys(ctx, me)
	if err != nil {
		return httpapi.None{}, err
	}
	if slices.ContainsFunc(mine, func(k store.Passkey) bool { return k.ID == in.ID }) { // what is not there needs no proof
		if err := d.needProof(ctx); err != nil {
			return httpapi.None{}, err
		}
	}
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.DeletePasskey(ctx, me, in.ID) })
}

// askForPasskey begins a sign-in, or a proof of who is signed in already.
func (d *Director) askForPasskey(ctx context.Context, _ *struct{}) (api.Ceremony, error) {
	if ok, wait := d.limits.Allow("passkey " + httpapi.Remote(ctx)); !ok {
		return api.Ceremony{}, tooManyTries(wait)
	}
	c, options, err := passkey.BeginUse(site(ctx))
	if err != nil {
		return api.Ceremony{}, err
	}
	id, err := d.ceremonies.put(ceremony{Ceremony: c}, d.c.Now())
	return api.Ceremony{ID: id, Options: options}, err
}

// usePasskey checks the answer of a browser and says whose passkey it was.
func (d *Director) usePasskey(ctx context.Context, use api.UsePasskey) (store.Passkey, store.User, error) {
	var row store.Passkey
	var u store.User
	c, err := d.ceremonies.take(use.Ceremony, 0, d.c.Now())
	if err != nil {
		return row, u, err
	}
	k, err := c.FinishUse(use.Credential, func(id string) (passkey.Owner, error) {
		var err error
		if row, err = d.store.PasskeyOf(ctx, id); err != nil {
			return passkey.Owner{}, err
		}
		if u, err = d.store.User(ctx, strconv.FormatInt(row.User, 10)); err != nil {
			return passkey.Owner{}, err
		}
		httpapi.Actor(ctx, u.Name)
		return d.owner(u.User, []store.Passkey{row}), nil
	})
	if err != nil {
		return row, u, err
	}
	return row, u, d.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.UsePasskey(ctx, row.ID, k.Data, k.Synced) })
}

func (d *Director) signInByPasskey(ctx context.Context, in *struct{ Body api.UsePasskey }) (api.Session, error) {
	if ok, wait := d.limits.Allow("from " + httpapi.Remote(ctx)); !ok {
		return api.Session{}, tooManyTries(wait)
	}
	_, u, err := d.usePasskey(ctx, in.Body)
	if err != nil {
		return api.Session{}, err
	}
	return d.openSession(ctx, u)
}
