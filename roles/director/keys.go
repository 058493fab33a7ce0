package director

import (
	"context"
	"fmt"
	"strings"

	"nutshell/roles/api"
	"nutshell/roles/director/gitserver"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// maxKeys is how many public keys a user may have.
const maxKeys = 200

func (d *Director) listKeys(ctx context.Context, _ *struct{}) ([]api.Key, error) {
	return d.keysOf(ctx, httpapi.Who(ctx).User.ID)
}

func (d *Director) keysOf(ctx context.Context, user int64) ([]api.Key, error) {
	rows, err := d.store.Keys(ctx, user)
	list := make([]api.Key, len(rows))
	for i := range rows {
		list[i] = rows[i].Key
	}
	return list, err
}

// addKeys stores the keys of a text and answers them. Those that the user has
// already stay as they are.
func (d *Director) addKeys(ctx context.Context, in *struct{ Body api.AddKey }) ([]api.Key, error) {
	if len(in.Body.Text) > 256<<10 {
		return nil, &api.Error{Code: api.CodeTooLarge, Op: "add", Object: "keys", Message: "the text is larger than 256 KiB", Fields: []string{"text"}}
	}
	keys, err := gitserver.ParseKeys(in.Body.Text)
	if err != nil {
		return nil, err
	}
	if in.Body.Name != "" {
		if len(keys) > 1 {
			return nil, &api.Error{Code: api.CodeInvalid, Op: "add", Object: "keys", Message: "a name can be given to a single key only", Hint: "leave it out: each key is named by its comment", Fields: []string{"name"}}
		}
		if err := api.CheckName("key", in.Body.Name); err != nil {
			return nil, err
		}
	}
	who := httpapi.Who(ctx).User.ID
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		for _, k := range keys {
			row := store.Key{User: who, Public: k.Line, Key: api.Key{ID: api.NewID(8), Name: keyName(in.Body.Name, k), Type: k.Type, Fingerprint: k.Fingerprint}}
			if err := t.InsertKey(ctx, row); err != nil {
				return err
			}
		}
		all, err := t.Keys(ctx, who)
		if err == nil && len(all) > maxKeys {
			err = &api.Error{Code: api.CodeQuota, Op: "add", Object: "keys", Message: fmt.Sprintf("a user may have %d keys", maxKeys), Hint: "revoke those that are not used"}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	all, err := d.keysOf(ctx, who)
	added := []api.Key{}
	for _, k := range keys {
		for _, have := range all {
			if have.Fingerprint == k.Fingerprint {
				added = append(added, have)
			}
		}
	}
	return added, err
}

// keyName is the name given, or what of the comment can be shown.
func keyName(given string, k gitserver.PublicKey) string {
	if given != "" {
		return given
	}
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(k.Comment, ""))
	if len(clean) > 100 {
		clean = strings.ToValidUTF8(clean[:100], "")
	}
	if clean = strings.TrimSpace(clean); clean == "" {
		return k.Type
	}
	return clean
}

// deleteKey revokes a key. Sessions that it opens from now on fail, also on
// connections that are open.
func (d *Director) deleteKey(ctx context.Context, in *struct {
	ID string `path:"id"`
}) (httpapi.None, error) {
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		return t.DeleteKey(ctx, httpapi.Who(ctx).User.ID, in.ID)
	})
}
