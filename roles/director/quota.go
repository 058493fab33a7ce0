package director

import (
	"context"
	"fmt"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// quotaOf is what bounds a user: their own quota, or the installation's, which
// does not bind administrators.
func (d *Director) quotaOf(ctx context.Context, v store.View, u store.User) (api.Quota, error) {
	q, own, err := v.Quota(ctx, u.ID)
	if !own && err == nil && !u.Admin {
		q = d.tune().quota
	}
	return q, err
}

// roomFor refuses what would be more than a user's quota. Call it in the
// transaction that creates something, before it is stored, with what is to
// come; a negative number means that it is stored already and only the sum
// has to be looked at.
func (d *Director) roomFor(ctx context.Context, t *store.Tx, user int64, more api.Quota) error {
	p, err := d.purse(ctx, t, user)
	if err != nil {
		return err
	}
	q, err := d.quotaOf(ctx, t.View, p.user)
	if err != nil || q == (api.Quota{}) {
		return err
	}
	used, err := t.Used(ctx, user)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		more, used, most int64
		what             string
	}{
		{int64(more.Applications), int64(used.Applications), int64(q.Applications), "applications"},
		{int64(more.Instances), int64(used.Instances), int64(q.Instances), "instances, managers included,"},
		{more.VolumeBytes, used.VolumeBytes, q.VolumeBytes, "bytes of volumes"},
	} {
		sum := c.used + max(0, c.more)
		if c.most == 0 || c.more == 0 || sum <= c.most {
			continue
		}
		return &api.Error{Code: api.CodeQuota, Op: "make room", Object: "user " + p.user.Name, Message: fmt.Sprintf("there would be %d %s and the quota is %d", sum, c.what, c.most),
			Hint: "give up what is not needed, or ask an administrator for a larger quota"}
	}
	return nil
}

func (d *Director) setQuota(ctx context.Context, in *struct {
	UserPath
	Body api.Quota
}) (api.Account, error) {
	b := in.Body
	for field, n := range map[string]int64{"applications": int64(b.Applications), "instances": int64(b.Instances), "volume_bytes": b.VolumeBytes} {
		if n < 0 || n > 1<<52 {
			return api.Account{}, &api.Error{Code: api.CodeInvalid, Op: "set", Object: "quota of " + api.Shorten(in.User), Message: fmt.Sprintf("%d is no bound", n),
				Hint: "give a positive number, or 0 for no bound", Fields: []string{field}}
		}
	}
	u, err := d.user(ctx, in.User)
	if err != nil {
		return api.Account{}, err
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if _, err := t.User(ctx, in.User); err != nil {
			return err
		}
		return t.SetQuota(ctx, u.ID, b)
	})
	if err != nil {
		return api.Account{}, err
	}
	return d.accountOf(ctx, u.ID)
}
