package director

import (
	"context"
	"fmt"
	"strconv"

	"nutshell/roles/api"
	"nutshell/roles/director/credit"
	"nutshell/roles/internal/store"
)

// holdInstances takes a credit for each instance that a manager asks for and
// that has none yet.
func (d *Director) holdInstances(ctx context.Context, t *store.Tx, s store.Service, rows []store.Instance) error {
	added := 0
	err := d.eachPurse(ctx, t, rows, func(p *purse, i store.Instance) error {
		if _, ok, err := t.Meter(ctx, i.ID); ok || err != nil {
			return err
		}
		added++
		return p.holdInstance(ctx, i, "launch", "service "+s.Name)
	})
	if err != nil || added == 0 {
		return err
	}
	return d.roomFor(ctx, t, s.OwnerID, api.Quota{Instances: -1})
}

// holdInstance takes a credit for one instance: out of the hold of the
// operation under way, or, where one is only being replaced, out of what is
// left.
func (p *purse) holdInstance(ctx context.Context, i store.Instance, op, object string) error {
	drawn, err := p.draw(ctx, i.Application, i.Service, 1)
	if err != nil {
		return err
	}
	if drawn == 0 {
		if p.bound() && p.user.Credit < 1 {
			return p.tooLittle(ctx, 1, op, object)
		}
		p.enter(api.LedgerEntry{Amount: -1, Kind: entryHold, Reason: "held until the instance has started", Application: i.Application, Service: i.Service, Instance: i.ID})
	}
	return p.t.SaveMeter(ctx, store.Meter{Instance: i.ID, User: p.user.ID, Application: i.Application, Service: i.Service})
}

// metersStart lets the time of instances count that their cloud has started,
// and charges the hour that begins.
func (d *Director) metersStart(ctx context.Context, t *store.Tx, rows []store.Instance) error {
	return d.eachPurse(ctx, t, rows, func(p *purse, i store.Instance) error {
		row, ok, err := t.Meter(ctx, i.ID)
		if err != nil {
			return err
		}
		m := credit.Meter(row)
		if !ok {
			m = credit.Meter{Instance: i.ID, User: p.user.ID, Application: i.Application, Service: i.Service, Paused: d.meterTime(), Began: d.meterTime()}
		}
		if m.Runs() {
			return nil
		}
		var held int64
		if m.Held() {
			held = 1
		}
		now := d.meterTime()
		m.Start(now)
		owed := m.Owed(now)
		drawn, err := p.draw(ctx, i.Application, i.Service, owed-held)
		if err != nil {
			return err
		}
		p.enter(api.LedgerEntry{Amount: held + drawn, Kind: entryRefund, Reason: "no longer held: the instance has started", Application: i.Application, Service: i.Service, Instance: i.ID})
		return p.charge(ctx, m, owed)
	})
}

// charge pays hours of a meter, as many as the credit allows where it is a
// bound, and stores the meter.
func (p *purse) charge(ctx context.Context, m credit.Meter, hours int64) error {
	if p.bound() {
		hours = min(hours, max(0, p.user.Credit))
	}
	p.pay(&m, hours)
	return p.t.SaveMeter(ctx, store.Meter(m))
}

func (p *purse) pay(m *credit.Meter, hours int64) {
	reason := "hour " + strconv.FormatInt(m.Hours+1, 10)
	if hours > 1 {
		reason = fmt.Sprintf("hours %d to %d", m.Hours+1, m.Hours+hours)
	}
	m.Hours += hours
	p.enter(api.LedgerEntry{Amount: -hours, Kind: entryCharge, Reason: reason, Application: m.Application, Service: m.Service, Instance: m.Instance})
}

// metersPause lets the time of instances count no longer that are stopped and
// kept.
func (d *Director) metersPause(ctx context.Context, t *store.Tx, rows []store.Instance) error {
	return d.eachPurse(ctx, t, rows, func(p *purse, i store.Instance) error {
		row, ok, err := t.Meter(ctx, i.ID)
		m := credit.Meter(row)
		if err != nil || !ok || !m.Runs() {
			return err
		}
		now := d.meterTime()
		m.Pause(now)
		return p.charge(ctx, m, m.Owed(now))
	})
}

// metersEnd is for instances that are gone: what is due is charged, what was
// held is given back.
func (d *Director) metersEnd(ctx context.Context, t *store.Tx, rows []store.Instance) error {
	return d.eachPurse(ctx, t, rows, func(p *purse, i store.Instance) error {
		row, ok, err := t.Meter(ctx, i.ID)
		m := credit.Meter(row)
		if err != nil || !ok {
			return err
		}
		if m.Held() {
			p.enter(api.LedgerEntry{Amount: 1, Kind: entryRefund, Reason: "no longer held: the instance did not start", Application: i.Application, Service: i.Service, Instance: i.ID})
		} else if err := p.charge(ctx, m, m.Owed(d.meterTime())); err != nil {
			return err
		}
		return t.DeleteMeter(ctx, i.ID)
	})
}

// eachPurse runs f for each row with the purse of its application's owner, and
// enters what was collected.
func (d *Director) eachPurse(ctx context.Context, t *store.Tx, rows []store.Instance, f func(*purse, store.Instance) error) error {
	purses := map[int64]*purse{}
	for _, r := range rows {
		owner, err := ownerOf(ctx, t, r)
		if api.CodeOf(err) == api.CodeNotFound {
			continue // neither a meter nor an application: nobody pays
		}
		if err != nil {
			return err
		}
		p := purses[owner]
		if p == nil {
			if p, err = d.purse(ctx, t, owner); err != nil {
				return err
			}
			purses[owner] = p
		}
		if err := f(p, r); err != nil {
			return err
		}
	}
	for _, p := range purses {
		if err := p.close(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ownerOf is who pays for an instance. Its meter knows so even when its
// application is gone.
func ownerOf(ctx context.Context, t *store.Tx, i store.Instance) (int64, error) {
	m, ok, err := t.Meter(ctx, i.ID)
	if err != nil || ok {
		return m.User, err
	}
	a, err := t.ApplicationByID(ctx, i.Application)
	return a.OwnerID, err
}
