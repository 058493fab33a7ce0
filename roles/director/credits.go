package director

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"nutshell/roles/api"
	"nutshell/roles/director/credit"
	"nutshell/roles/internal/store"
)

// Kinds of lines in a ledger.
const (
	entryGrant  = "grant"
	entryHold   = "hold"
	entryCharge = "charge"
	entryRefund = "refund"
)

// ahead is the service of a hold for an operation that makes a whole
// application: its parts draw on it.
const ahead = -1

// purse is one user's credit in a transaction: lines are collected and entered
// together, so that clients are told once.
type purse struct {
	d       *Director
	t       *store.Tx
	user    store.User
	entries []api.LedgerEntry
}

func (d *Director) purse(ctx context.Context, t *store.Tx, user int64) (*purse, error) {
	u, err := t.User(ctx, strconv.FormatInt(user, 10))
	return &purse{d: d, t: t, user: u}, err
}

// bound reports whether the credit must not go below zero.
func (p *purse) bound() bool { return p.d.enforced(p.user) }

func (p *purse) enter(e api.LedgerEntry) {
	if e.Amount == 0 {
		return
	}
	if e.Actor == "" {
		e.Actor = "nutshell"
	}
	p.user.Credit += e.Amount
	p.entries = append(p.entries, e)
}

func (p *purse) close(ctx context.Context) error {
	_, err := p.t.Enter(ctx, p.user.ID, p.entries...)
	p.entries = nil
	return err
}

// enforced reports whether a user's applications stop when the credit is used
// up. The others' hours are only counted.
func (d *Director) enforced(u store.User) bool {
	switch d.tune().enforce {
	case EnforceEverybody:
		return true
	case EnforceNobody:
		return false
	}
	return !u.Admin
}

// reserve takes credits of a user for instances of a service that will be
// asked for, or refuses that with what is missing.
func (p *purse) reserve(ctx context.Context, application, service, credits int64, op, object, why string) error {
	if credits <= 0 {
		return nil
	}
	if p.bound() && p.user.Credit < credits {
		return p.tooLittle(ctx, credits, op, object)
	}
	p.enter(api.LedgerEntry{Amount: -credits, Kind: entryHold, Reason: why, Application: application, Service: max(0, service)})
	return p.t.AddHold(ctx, store.Hold{Application: application, Service: service, User: p.user.ID, Credits: credits})
}

// tooLittle says how many credits are needed, held and left.
func (p *purse) tooLittle(ctx context.Context, credits int64, op, object string) error {
	held, err := p.d.heldBy(ctx, p.t.View, p.user.ID)
	if err != nil {
		return err
	}
	message := fmt.Sprintf("%s needed, %d left", countOf(credits, "credit is", "credits are"), max(0, p.user.Credit))
	if held > 0 {
		message += fmt.Sprintf(" (and %d held for instances that are being started)", held)
	}
	if p.user.Credit <= 0 {
		message = "credits are used up: " + message
	}
	return &api.Error{Code: api.CodeQuota, Op: op, Object: object, Message: message,
		Hint: "ask an administrator for credits, or stop something that is not needed: each started instance costs one credit for each hour that begins"}
}

func countOf(n int64, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// heldBy is what a user has in holds, of services and of single instances.
func (d *Director) heldBy(ctx context.Context, v store.View, user int64) (int64, error) {
	holds, err := v.Holds(ctx, user)
	if err != nil {
		return 0, err
	}
	meters, err := v.Meters(ctx, user)
	var held int64
	for _, h := range holds {
		held += h.Credits
	}
	for _, m := range meters {
		if credit.Meter(m).Held() {
			held++
		}
	}
	return held, err
}

// draw takes up to so many credits out of a service's hold. They stay held:
// the caller says for what.
func (p *purse) draw(ctx context.Context, application, service, credits int64) (int64, error) {
	holds, err := p.t.ApplicationHolds(ctx, application)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(holds, func(h store.Hold) bool { return h.Service == service })
	if i < 0 || credits <= 0 {
		return 0, nil
	}
	h := holds[i]
	credits = min(credits, h.Credits)
	h.Credits = -credits
	return credits, p.t.AddHold(ctx, h)
}

// holdFor takes credits for all instances that an operation is going to start,
// in the transaction that stores it, after the change that it makes.
func (d *Director) holdFor(ctx context.Context, t *store.Tx, o order, a store.Application, s store.Service) error {
	wants := map[int64]int64{}
	var err error
	switch o.kind {
	case applicationStart:
		wants, err = d.lackingAll(ctx, t, a)
	case serviceStart, serviceScale:
		wants[s.ID], err = d.lacking(ctx, t, s)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	p, err := d.purse(ctx, t, a.OwnerID)
	if err != nil {
		return err
	}
	var need, starts int64
	sorted := slices.Sorted(maps.Keys(wants))
	for _, service := range sorted {
		n := wants[service]
		starts += n
		if o.parent != "" { // its parent has held for all of its parts
			drawn, err := p.draw(ctx, a.ID, ahead, n)
			if err != nil {
				return err
			}
			if drawn > 0 {
				if err := t.AddHold(ctx, store.Hold{Application: a.ID, Service: service, User: p.user.ID, Credits: drawn}); err != nil {
					return err
				}
			}
			wants[service] = n - drawn
		}
		need += wants[service]
	}
	if p.bound() && need > p.user.Credit { // all that is missing, not the first part of it
		return p.tooLittle(ctx, need, o.title, "")
	}
	for _, service := range sorted {
		if err := p.reserve(ctx, a.ID, service, wants[service], o.title, "", "held: "+o.title); err != nil {
			return err
		}
	}
	if err := p.close(ctx); err != nil || starts == 0 {
		return err
	}
	return d.roomFor(ctx, t, a.OwnerID, api.Quota{Instances: -1})
}

// holdAhead takes credits for an operation that makes a whole application, for
// all instances that its parts will start: they draw on them. What they do not
// need is given back when the operation has ended.
func (d *Director) holdAhead(ctx context.Context, t *store.Tx, a store.Application, credits int, why string) error {
	p, err := d.purse(ctx, t, a.OwnerID)
	if err != nil {
		return err
	}
	if err := p.reserve(ctx, a.ID, ahead, int64(credits), why, "application "+a.Name, "held: "+why); err != nil {
		return err
	}
	if err := p.close(ctx); err != nil {
		return err
	}
	return d.roomFor(ctx, t, a.OwnerID, api.Quota{Instances: -1})
}

// lackingAll is what the start of an application needs, by service: its
// manager, and the instances of services that run whenever it does.
func (d *Director) lackingAll(ctx context.Context, t *store.Tx, a store.Application) (map[int64]int64, error) {
	wants := map[int64]int64{0: 1}
	managers, err := t.ServiceInstances(ctx, a.ID, 0)
	if err != nil {
		return nil, err
	}
	for _, r := range managers {
		if r.State != api.InstanceLeaving {
			if wants[0], err = d.toRun(ctx, t, r.ID); err != nil {
				return nil, err
			}
			break
		}
	}
	rows, err := t.Services(ctx, store.Selection{Application: a.ID})
	if err != nil {
		return nil, err
	}
	for _, s := range rows {
		if s.Desired != api.GoalStarted {
			continue
		}
		if wants[s.ID], err = d.lacking(ctx, t, s); err != nil {
			return nil, err
		}
	}
	return wants, nil
}

// lacking is how many credits a service needs to run as it is wanted: one for
// each instance that its kind would start, and what stopped ones owe.
func (d *Director) lacking(ctx context.Context, t *store.Tx, s store.Service) (int64, error) {
	kind, err := d.c.Services.Get(s.Kind)
	if err != nil {
		return 0, err
	}
	rows, err := t.ServiceInstances(ctx, s.Application, s.ID)
	if err != nil {
		return 0, err
	}
	have := []api.Instance{}
	for _, r := range rows {
		if r.State != api.InstanceLeaving {
			have = append(have, r.Instance)
		}
	}
	layout, err := kind.Manager(nil).Plan(have, s.Parts, s.Remove)
	if err != nil {
		return 0, nil //nolint:nilerr // whoever carries the operation out says what is wrong with it
	}
	n := int64(len(layout.Launch))
	for _, i := range layout.Have {
		more, err := d.toRun(ctx, t, i.ID)
		if err != nil {
			return 0, err
		}
		n += more
	}
	return n, nil
}

// toRun is how many credits an instance that has a row needs to run.
func (d *Director) toRun(ctx context.Context, t *store.Tx, instance string) (int64, error) {
	row, ok, err := t.Meter(ctx, instance)
	m := credit.Meter(row)
	switch {
	case err != nil || !ok:
		return 1, err
	case m.Held() || m.Runs():
		return 0, nil
	}
	now := d.meterTime()
	m.Start(now)
	return m.Owed(now), nil
}
