package director

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/roles/api"
	"nutshell/roles/director/credit"
	"nutshell/roles/internal/store"
)

// Whose applications stop when the credit is used up.
const (
	EnforceUsers     = "users" // all but administrators
	EnforceEverybody = "everybody"
	EnforceNobody    = "nobody"
)

// CreditConfig says what credits bound; zero fields get defaults.
type CreditConfig struct {
	Enforce string    // users, everybody or nobody
	Quota   api.Quota // of users who have none of their own and are no administrators
	// Uptime tells the machine's boot and how long it has been awake since;
	// nil: this machine's.
	Uptime func() (boot string, up time.Duration)
}

// Times of keeping accounts.
const (
	billEvery  = 5 * time.Minute // hours that have begun are charged together, so that the disk can sleep in between
	clockEvery = 15 * time.Minute
	shortEvery = 15 * time.Second // applications that did not stop are asked again
	accountGap = time.Second      // between two looks
)

// uptime is this machine's: a counter that nobody can set and that does not go
// while the machine sleeps.
func uptime() (string, time.Duration) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	var up unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &up) != nil {
		return "", 0 // no time is charged that cannot be told
	}
	return strings.TrimSpace(string(boot)), time.Duration(up.Nano())
}

// openCredit finds the clock by which instances pay.
func (d *Director) openCredit(ctx context.Context) error {
	c := &d.c.Credit
	switch c.Enforce {
	case "":
		c.Enforce = EnforceUsers
	case EnforceUsers, EnforceEverybody, EnforceNobody:
	default:
		return &api.Error{Code: api.CodeInvalid, Op: "start", Object: "director", Message: "credit.enforce is users, everybody or nobody, not " + api.Shorten(c.Enforce)}
	}
	if c.Uptime == nil {
		c.Uptime = uptime
	}
	text, err := d.store.Meta(ctx, "credit_clock")
	if err != nil {
		return err
	}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &d.clock); err != nil {
			return fmt.Errorf("read clock of credits: %w", err)
		}
	}
	boot, up := c.Uptime()
	d.clock = d.clock.Next(boot, up, d.c.Now())
	return d.write(ctx, d.saveClock)
}

// meterTime is the time by which instances pay.
func (d *Director) meterTime() time.Time {
	_, up := d.c.Credit.Uptime()
	return d.clock.At(up)
}

func (d *Director) saveClock(ctx context.Context, t *store.Tx) error {
	c := d.clock
	c.Last = d.meterTime()
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return t.SetMeta(ctx, "credit_clock", string(b))
}

// keepAccounts charges each hour that begins, and stops what cannot pay. It
// looks at how things are, so that it does not matter what it missed.
func (d *Director) keepAccounts(ctx context.Context) {
	var k keeper
	for {
		changed := d.store.Changed()
		wait := billEvery
		if d.isHalted() {
			return
		}
		switch short, err := k.look(ctx, d); {
		case err != nil && ctx.Err() == nil:
			d.c.Log.Error("accounts not kept", "error", err)
			wait = shortEvery
		case short:
			wait = shortEvery
		}
		sleep(ctx, accountGap)
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// keeper knows when it has charged and stored the clock last.
type keeper struct{ billed, clocked time.Time }

// look puts meters right, charges what is due, warns and stops. short says that
// something that must stop has not stopped yet.
func (k *keeper) look(ctx context.Context, d *Director) (short bool, err error) {
	if err := d.fitMeters(ctx); err != nil {
		return false, err
	}
	now := d.meterTime()
	if now.Sub(k.billed) >= billEvery {
		clock := now.Sub(k.clocked) >= clockEvery
		wrote, err := d.bill(ctx, clock)
		if err != nil {
			return false, err
		}
		k.billed = now
		if wrote {
			k.clocked = now
		}
	}
	users, err := d.store.Users(ctx)
	if err != nil {
		return false, err
	}
	all, err := d.store.Meters(ctx, 0)
	if err != nil {
		return false, err
	}
	for user, meters := range byUser(all) {
		i := slices.IndexFunc(users, func(u store.User) bool { return u.ID == user })
		if i < 0 || !d.enforced(users[i]) {
			continue
		}
		if _, tooLittle := credit.Bill(users[i].Credit, true, meters, now); tooLittle {
			short = true
			if err := d.exhaust(ctx, users[i]); err != nil {
				return short, err
			}
			continue
		}
		_, end := credit.Forecast(users[i].Credit, meters, now)
		if err := d.warn(ctx, users[i], !end.IsZero() && end.Sub(now) < credit.Hour); err != nil {
			return short, err
		}
	}
	return short, nil
}

func byUser(rows []store.Meter) map[int64][]credit.Meter {
	m := map[int64][]credit.Meter{}
	for _, r := range rows {
		m[r.User] = append(m[r.User], credit.Meter(r))
	}
	return m
}

// misfits are instances whose meters do not fit how they are. Nothing makes
// them but a death of the director, or an instance that is lost.
func (d *Director) misfits(ctx context.Context, v store.View) (start, pause, end []store.Instance, err error) {
	rows, err := v.Instances(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	meters, err := v.Meters(ctx, 0)
	if err != nil {
		return nil, nil, nil, err
	}
	metered := map[string]credit.Meter{}
	for _, m := range meters {
		metered[m.Instance] = credit.Meter(m)
	}
	for _, r := range rows {
		m, has := metered[r.ID]
		delete(metered, r.ID)
		switch {
		case r.State == api.InstanceReady && !m.Runs(), r.State == api.InstanceBooting && !has:
			start = append(start, r)
		case (r.State == api.InstanceAsked || r.State == api.InstanceLost) && m.Runs():
			pause = append(pause, r)
		}
	}
	for _, m := range metered {
		end = append(end, store.Instance{Instance: api.Instance{ID: m.Instance, Application: m.Application, Service: m.Service}})
	}
	return start, pause, end, nil
}

// fitMeters makes meters and holds fit what there is.
func (d *Director) fitMeters(ctx context.Context) error {
	start, pause, end, err := d.misfits(ctx, d.store.View)
	if err != nil {
		return err
	}
	if len(start)+len(pause)+len(end) > 0 {
		err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
			start, pause, end, err := d.misfits(ctx, t.View) // as it is now
			if err != nil {
				return err
			}
			if err := d.metersStart(ctx, t, start); err != nil {
				return err
			}
			if err := d.metersPause(ctx, t, pause); err != nil {
				return err
			}
			return d.metersEnd(ctx, t, end)
		})
		if err != nil {
			return err
		}
	}
	holds, err := d.store.Holds(ctx, 0)
	if err != nil {
		return err
	}
	for i, h := range holds {
		if i > 0 && holds[i-1].Application == h.Application {
			continue
		}
		idle, err := idleHolds(ctx, d.store.View, h.Application, 0)
		if err != nil {
			return err
		}
		if len(idle) == 0 {
			continue
		}
		if err := d.write(ctx, func(ctx context.Context, t *store.Tx) error { return d.releaseIdle(ctx, t, h.Application, 0) }); err != nil {
			return err
		}
	}
	return nil
}

// idleHolds are holds of an application that nobody is going to use: no
// operation is under way for them, and the service is not on its way anywhere,
// as it is after a start of its application. ended is the service of an
// operation that has just ended, whose way is over.
func idleHolds(ctx context.Context, v store.View, application, ended int64) ([]store.Hold, error) {
	holds, err := v.ApplicationHolds(ctx, application)
	if err != nil || len(holds) == 0 {
		return nil, err
	}
	active, err := v.Operations(ctx, store.Filter{Active: true, Application: application, Limit: 1000})
	if err != nil {
		return nil, err
	}
	services, err := v.Services(ctx, store.Selection{Application: application})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(holds, func(h store.Hold) bool {
		return slices.ContainsFunc(active, func(o store.Operation) bool { return o.Service == 0 || o.Service == h.Service }) ||
			slices.ContainsFunc(services, func(s store.Service) bool {
				return s.ID == h.Service && s.ID != ended && s.Desired == api.GoalStarted && (s.State == api.Prologue || s.State == api.Adapting)
			})
	}), nil
}

// releaseIdle gives back what an application holds for nothing any more.
func (d *Director) releaseIdle(ctx context.Context, t *store.Tx, application, ended int64) error {
	idle, err := idleHolds(ctx, t.View, application, ended)
	if err != nil || len(idle) == 0 {
		return err
	}
	p, err := d.purse(ctx, t, idle[0].User)
	if err != nil {
		return err
	}
	for _, h := range idle {
		p.enter(api.LedgerEntry{Amount: h.Credits, Kind: entryRefund, Reason: "no longer held: not needed", Application: h.Application, Service: max(0, h.Service)})
		h.Credits = -h.Credits
		if err := t.AddHold(ctx, h); err != nil {
			return err
		}
	}
	return p.close(ctx)
}

// bill charges all hours that have begun and are not paid, in one transaction:
// whoever dies in it has charged nothing.
func (d *Director) bill(ctx context.Context, clock bool) (wrote bool, err error) {
	now := d.meterTime()
	all, err := d.store.Meters(ctx, 0)
	if err != nil {
		return false, err
	}
	owes := slices.ContainsFunc(all, func(m store.Meter) bool { return credit.Meter(m).Runs() && credit.Meter(m).Owed(now) > 0 })
	runs := slices.ContainsFunc(all, func(m store.Meter) bool { return credit.Meter(m).Runs() })
	if !owes && (!clock || !runs) {
		return false, nil
	}
	return true, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		all, err := t.Meters(ctx, 0)
		if err != nil {
			return err
		}
		for user, meters := range byUser(all) {
			p, err := d.purse(ctx, t, user)
			if err != nil {
				return err
			}
			paid, _ := credit.Bill(p.user.Credit, p.bound(), meters, now)
			for i, m := range meters {
				if paid[i] == 0 {
					continue
				}
				p.pay(&m, paid[i])
				if err := t.SaveMeter(ctx, store.Meter(m)); err != nil {
					return err
				}
			}
			if err := p.close(ctx); err != nil {
				return err
			}
		}
		return d.saveClock(ctx, t)
	})
}
