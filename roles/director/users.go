package director

import (
	"context"
	"net/mail"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/auth"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// firstUser makes the user admin in a new installation, with a random
// password that is shown once.
func (d *Director) firstUser(ctx context.Context) error {
	users, err := d.store.Users(ctx)
	if err != nil || len(users) > 0 {
		return err
	}
	password := auth.NewPassword()
	hash, err := d.passwords.Hash(ctx, password)
	if err != nil {
		return err
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if _, err := t.InsertUser(ctx, store.User{User: api.User{Name: "admin", Admin: true, Credit: firstCredit}, Password: hash}); err != nil {
			return err
		}
		if err := t.SetMeta(ctx, metaSetup, "needed"); err != nil {
			return err
		}
		return t.SetMeta(ctx, metaGenerated, auth.HashSecret(hash))
	})
	if err == nil {
		d.password = password
	}
	return err
}

const firstCredit = 50 // of a new user, as in ConPaaS

func (d *Director) users(ctx context.Context, _ *struct{}) ([]api.User, error) {
	list, err := d.store.Users(ctx)
	out := make([]api.User, len(list))
	for i := range list {
		out[i] = list[i].User
	}
	return out, err
}

func checkEmail(s string) error {
	if s == "" {
		return nil
	}
	if a, err := mail.ParseAddress(s); err != nil || a.Address != s || len(s) > 254 {
		return &api.Error{Code: api.CodeInvalid, Message: "this is no e-mail address: " + api.Shorten(s), Fields: []string{"email"}}
	}
	return nil
}

func checkTexts(texts map[string]string) error {
	for field, s := range texts {
		if len(s) > 256 || strings.ContainsAny(s, "\x00\r\n") {
			return &api.Error{Code: api.CodeInvalid, Message: "at most 256 characters on one line are allowed", Fields: []string{field}}
		}
	}
	return nil
}

func (d *Director) createUser(ctx context.Context, in *struct{ Body api.CreateUser }) (api.User, error) {
	b := in.Body
	if err := api.CheckName("user", b.Name); err != nil {
		return api.User{}, err
	}
	if err := checkEmail(b.Email); err != nil {
		return api.User{}, err
	}
	if err := checkTexts(map[string]string{"first_name": b.FirstName, "last_name": b.LastName, "affiliation": b.Affiliation}); err != nil {
		return api.User{}, err
	}
	u := store.User{User: api.User{Name: b.Name, Email: b.Email, FirstName: b.FirstName, LastName: b.LastName, Affiliation: b.Affiliation, Admin: b.Admin, Credit: firstCredit}}
	if b.Credit != nil {
		if *b.Credit < 0 || *b.Credit > mostCredit {
			return api.User{}, &api.Error{Code: api.CodeInvalid, Message: "credit cannot be negative, nor beyond all bounds", Fields: []string{"credit"}}
		}
		u.Credit = *b.Credit
	}
	var err error
	if u.Password, err = d.passwords.Hash(ctx, b.Password); err != nil {
		return api.User{}, err
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		u, err = t.InsertUser(ctx, u)
		return err
	})
	return u.User, err
}

// UserPath names a user in a path.
type UserPath struct {
	User string `path:"user"`
}

// user finds a user that the asker may see: themselves, or anybody for an
// administrator.
func (d *Director) user(ctx context.Context, ref string) (store.User, error) {
	p := httpapi.Who(ctx)
	u, err := d.store.User(ctx, ref)
	if err == nil && !p.User.Admin && u.ID != p.User.ID {
		return store.User{}, api.NotFoundf("there is no user %s", api.Shorten(ref))
	}
	return u, err
}

func (d *Director) getUser(ctx context.Context, in *UserPath) (api.User, error) {
	u, err := d.user(ctx, in.User)
	return u.User, err
}

func (d *Director) changeUser(ctx context.Context, in *struct {
	UserPath
	Body api.ChangeUser
}) (api.User, error) {
	p, b := httpapi.Who(ctx), in.Body
	u, err := d.user(ctx, in.User)
	if err != nil {
		return api.User{}, err
	}
	if !p.User.Admin && (b.Admin != nil || b.AddCredit != nil) {
		return api.User{}, &api.Error{Code: api.CodeForbidden, Op: "change", Object: "user " + u.Name, Message: "only an administrator may change this"}
	}
	hash := ""
	if b.Password != nil {
		// Whoever has the director's files can do anything; so a forgotten
		// password is set anew on the director's machine.
		if (!p.User.Admin || u.ID == p.User.ID) && !p.Local {
			if b.Current == nil {
				b.Current = new(string)
			}
			if err := (guard{d}).rightPassword(ctx, u, u.Name, *b.Current, httpapi.Remote(ctx)); err != nil {
				if api.CodeOf(err) != api.CodeUnauthorized {
					return api.User{}, err
				}
				return api.User{}, &api.Error{Code: api.CodeForbidden, Op: "change password", Message: "the current password is missing or wrong", Fields: []string{"current"}}
			}
		}
		if hash, err = d.passwords.Hash(ctx, *b.Password); err != nil {
			return api.User{}, err
		}
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if u, err = t.User(ctx, in.User); err != nil {
			return err
		}
		return d.applyUser(ctx, t, &u, b, hash)
	})
	return u.User, err
}

func (d *Director) applyUser(ctx context.Context, t *store.Tx, u *store.User, b api.ChangeUser, hash string) error {
	texts := map[string]string{}
	for field, change := range map[string]struct {
		to   *string
		from *string
	}{"email": {&u.Email, b.Email}, "first_name": {&u.FirstName, b.FirstName}, "last_name": {&u.LastName, b.LastName}, "affiliation": {&u.Affiliation, b.Affiliation}} {
		if change.from != nil {
			*change.to = *change.from
			texts[field] = *change.from
		}
	}
	if err := checkTexts(texts); err != nil {
		return err
	}
	if err := checkEmail(u.Email); err != nil {
		return err
	}
	if b.AddCredit != nil && *b.AddCredit != 0 {
		var err error
		if u.Credit, err = d.grant(ctx, t, u.ID, api.Grant{Amount: *b.AddCredit}); err != nil {
			return err
		}
	}
	if b.Admin != nil && *b.Admin != u.Admin {
		if !*b.Admin {
			if err := otherAdmin(ctx, t, u.ID); err != nil {
				return err
			}
		}
		u.Admin = *b.Admin
	}
	if hash != "" { // whoever else is signed in as this user no longer is
		u.Password = hash
		keep := ""
		if s := httpapi.Who(ctx).Session; s != "" {
			keep = auth.HashSecret(s)
		}
		if err := d.endSessions(ctx, t, u.ID, "", keep); err != nil {
			return err
		}
	}
	return t.SaveUser(ctx, *u)
}

func otherAdmin(ctx context.Context, t *store.Tx, id int64) error {
	users, err := t.Users(ctx)
	if err != nil {
		return err
	}
	for _, u := range users {
		if u.Admin && u.ID != id {
			return nil
		}
	}
	return api.Conflictf("this is the only administrator")
}

func (d *Director) deleteUser(ctx context.Context, in *UserPath) (httpapi.None, error) {
	if _, err := d.user(ctx, in.User); err != nil {
		return httpapi.None{}, err
	}
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		u, err := t.User(ctx, in.User)
		if err != nil {
			return err
		}
		apps, err := t.Applications(ctx, u.ID)
		if err != nil {
			return err
		}
		if len(apps) > 0 {
			return &api.Error{Code: api.CodeConflict, Op: "delete", Object: "user " + u.Name, Message: "there are still applications of this user, such as " + apps[0].Name,
				Hint: "delete them first"}
		}
		waiting, err := t.OwnBin(ctx, u.ID)
		if err != nil {
			return err
		}
		if len(waiting) > 0 {
			return &api.Error{Code: api.CodeConflict, Op: "delete", Object: "user " + u.Name, Message: "the bin still holds " + waiting[len(waiting)-1].Kind + " " + waiting[len(waiting)-1].Name + " of this user",
				Hint: "delete it there for good first, or wait until its time is up"}
		}
		if u.Admin {
			if err := otherAdmin(ctx, t, u.ID); err != nil {
				return err
			}
		}
		shared, err := t.Memberships(ctx, u.ID)
		if err != nil {
			return err
		}
		for _, m := range shared {
			if err := t.DeleteMember(ctx, m); err != nil {
				return err
			}
		}
		t.After(func() { d.present.end(func(a attendant) bool { return a.user == u.ID }) })
		return t.DeleteUser(ctx, u)
	})
}

func (d *Director) tokens(ctx context.Context, _ *struct{}) ([]api.Token, error) {
	return d.store.Tokens(ctx, httpapi.Who(ctx).User.ID)
}

func (d *Director) createToken(ctx context.Context, in *struct{ Body api.CreateToken }) (api.NewToken, error) {
	b := in.Body
	if err := api.CheckName("token", b.Name); err != nil {
		return api.NewToken{}, err
	}
	if b.Name == clientTokenName {
		return api.NewToken{}, &api.Error{Code: api.CodeInvalid, Object: "token " + b.Name, Message: "the director keeps this name for its own", Hint: "choose another", Fields: []string{"name"}}
	}
	switch {
	case b.Scope == "":
		b.Scope = "write"
	case b.Scope != "read" && b.Scope != "write":
		return api.NewToken{}, &api.Error{Code: api.CodeInvalid, Message: "the scope is read or write, not " + api.Shorten(b.Scope), Fields: []string{"scope"}}
	}
	if b.Days == 0 {
		b.Days = 90
	}
	if b.Days < 1 || b.Days > 366 {
		return api.NewToken{}, &api.Error{Code: api.CodeInvalid, Message: "a token lives 1 to 366 days", Fields: []string{"days"}}
	}
	return d.newToken(ctx, httpapi.Who(ctx).User.ID, b)
}

func (d *Director) newToken(ctx context.Context, user int64, b api.CreateToken) (api.NewToken, error) {
	secret, hash := auth.NewSecret()
	now := d.c.Now().UTC().Truncate(time.Second)
	k := api.Token{ID: api.NewID(8), Name: b.Name, Scope: b.Scope, Created: now, Expires: now.AddDate(0, 0, b.Days)}
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.InsertToken(ctx, user, k, hash) })
	return api.NewToken{Token: k, Secret: secret}, err
}

func (d *Director) deleteToken(ctx context.Context, in *struct {
	ID string `path:"id"`
}) (httpapi.None, error) {
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		t.After(func() { d.present.end(func(a attendant) bool { return a.token == in.ID }) })
		return t.DeleteToken(ctx, httpapi.Who(ctx).User.ID, in.ID)
	})
}
