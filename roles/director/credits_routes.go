package director

import (
	"context"
	"fmt"
	"strconv"

	"nutshell/roles/api"
	"nutshell/roles/director/credit"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// mostCredit bounds what one grant gives and what a user can have, so that no
// sum overflows and browsers count exactly.
const mostCredit = 1 << 50

func (d *Director) account(ctx context.Context, in *UserPath) (api.Account, error) {
	u, err := d.user(ctx, in.User)
	if err != nil {
		return api.Account{}, err
	}
	return d.accountOf(ctx, u.ID)
}

// accountOf reads all of an account from one state of the database.
func (d *Director) accountOf(ctx context.Context, id int64) (api.Account, error) {
	var out api.Account
	err := d.store.Snapshot(ctx, func(v store.View) error {
		u, err := v.User(ctx, strconv.FormatInt(id, 10))
		if err != nil {
			return err
		}
		out = api.Account{User: u.Name, Credit: u.Credit, Enforced: d.enforced(u)}
		if out.Held, err = d.heldBy(ctx, v, id); err != nil {
			return err
		}
		rows, err := v.Meters(ctx, id)
		if err != nil {
			return err
		}
		meters := make([]credit.Meter, len(rows))
		for i, r := range rows {
			meters[i] = credit.Meter(r)
		}
		now := d.meterTime()
		per, end := credit.Forecast(u.Credit, meters, now)
		out.PerHour = per
		if !end.IsZero() {
			at := d.c.Now().UTC().Add(end.Sub(now))
			out.Exhausted = &at
		}
		if out.Quota, err = d.quotaOf(ctx, v, u); err != nil {
			return err
		}
		out.Used, err = v.Used(ctx, id)
		return err
	})
	return out, err
}

func (d *Director) ledger(ctx context.Context, in *struct {
	UserPath
	Limit  int   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Before int64 `query:"before" minimum:"0" doc:"id of the oldest entry that one has"`
}) ([]api.LedgerEntry, error) {
	u, err := d.user(ctx, in.User)
	if err != nil {
		return nil, err
	}
	return d.store.Ledger(ctx, u.ID, in.Before, in.Limit)
}

func (d *Director) grantCredit(ctx context.Context, in *struct {
	UserPath
	Body api.Grant
}) (api.Account, error) {
	if err := checkTexts(map[string]string{"reason": in.Body.Reason}); err != nil {
		return api.Account{}, err
	}
	u, err := d.user(ctx, in.User)
	if err != nil {
		return api.Account{}, err
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		_, err := d.grant(ctx, t, u.ID, in.Body)
		return err
	})
	if err != nil {
		return api.Account{}, err
	}
	return d.accountOf(ctx, u.ID)
}

// grant gives credits, or takes them: not more than there are.
func (d *Director) grant(ctx context.Context, t *store.Tx, user int64, g api.Grant) (int64, error) {
	p, err := d.purse(ctx, t, user)
	if err != nil {
		return 0, err
	}
	if g.Amount == 0 || g.Amount > mostCredit || g.Amount < -mostCredit || p.user.Credit+g.Amount > mostCredit {
		return 0, &api.Error{Code: api.CodeInvalid, Op: "give credits to", Object: "user " + p.user.Name, Message: fmt.Sprintf("%d credits cannot be given", g.Amount),
			Hint: "give a number, or a negative one to take some away", Fields: []string{"amount"}}
	}
	if g.Amount < 0 {
		g.Amount = max(g.Amount, -max(0, p.user.Credit))
	}
	if g.Reason == "" {
		g.Reason = "given by an administrator"
		if g.Amount < 0 {
			g.Reason = "taken by an administrator"
		}
	}
	p.enter(api.LedgerEntry{Amount: g.Amount, Kind: entryGrant, Reason: g.Reason, Actor: httpapi.Who(ctx).User.Name})
	return p.user.Credit, p.close(ctx)
}
