package director

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nutshell/cloud/cloudtest"
	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// meterHouse is a house whose machine's uptime the test turns.
func meterHouse(t *testing.T, c CreditConfig) (h *house, pass func(time.Duration)) {
	t.Helper()
	var up atomic.Int64
	up.Store(int64(1000 * time.Hour))
	c.Uptime = func() (string, time.Duration) { return "boot", time.Duration(up.Load()) }
	h = newHouseWith(t, c)
	return h, func(d time.Duration) {
		t.Helper()
		up.Add(int64(d))
		if _, err := (&keeper{}).look(context.Background(), h.d); err != nil {
			t.Fatal(err)
		}
	}
}

func (h *house) userWith(name string, credits int64) client {
	h.t.Helper()
	c := h.user(name)
	var a api.Account
	h.admin.must("GET", "/users/"+name+"/account", nil, &a, 200)
	h.admin.must("POST", "/users/"+name+"/credit", api.Grant{Amount: credits - a.Credit, Reason: "for the test"}, nil, 200)
	return c
}

func (c client) account(name string) api.Account {
	c.h.t.Helper()
	var a api.Account
	c.must("GET", "/users/"+name+"/account", nil, &a, 200)
	return a
}

// checkLedger looks at what must be true of each ledger at any time: every line
// adds up, the credit is the last balance, what is held is what was held and
// not given back, and each paid hour was charged once.
func (h *house) checkLedger(name string) []api.LedgerEntry {
	h.t.Helper()
	var list []api.LedgerEntry
	h.admin.must("GET", "/users/"+name+"/ledger?limit=1000", nil, &list, 200)
	a := h.admin.account(name)
	var sum, held int64
	hours := map[string]int64{}
	for i := len(list) - 1; i >= 0; i-- {
		e := list[i]
		if sum += e.Amount; sum != e.Balance {
			h.t.Fatalf("line %d says %d, the sum is %d: %+v", e.ID, e.Balance, sum, e)
		}
		if a.Enforced && e.Balance < 0 {
			h.t.Fatalf("below zero: %+v", e)
		}
		switch e.Kind {
		case entryHold, entryRefund:
			held -= e.Amount
		case entryCharge:
			hours[e.Instance] -= e.Amount
		}
	}
	if sum != a.Credit || held != a.Held {
		h.t.Fatalf("ledger of %s says %d left and %d held, the account %+v", name, sum, held, a)
	}
	u, err := h.d.store.User(context.Background(), name)
	if err != nil {
		h.t.Fatal(err)
	}
	meters, err := h.d.store.Meters(context.Background(), u.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, m := range meters {
		if m.Hours != hours[m.Instance] {
			h.t.Fatalf("%+v is charged for %d hours", m, hours[m.Instance])
		}
	}
	return list
}

func TestCreditsAreHeldChargedAndRefunded(t *testing.T) {
	h, pass := meterHouse(t, CreditConfig{})
	ann := h.userWith("ann", 4)
	ann.running("shop")
	if a := ann.account("ann"); a.Credit != 2 || a.Held != 0 || a.PerHour != 2 || !a.Enforced || a.Used.Instances != 2 || a.Used.Applications != 1 {
		t.Errorf("after the start: %+v", a)
	}
	const scale = "/applications/shop/services/test/scale"
	e := ann.refused("POST", scale, api.Scale{Set: map[string]int{"web": 4}}, api.CodeQuota)
	if !strings.Contains(e.Error(), "3 credits are needed, 2 left") || !strings.Contains(e.Error(), "ask an administrator") {
		t.Errorf("says %v", e)
	}
	if s := ann.service("/applications/shop/services/test"); s.Parts["web"] != 1 || s.Operation != "" {
		t.Errorf("a refused scaling changed %+v", s)
	}
	h.mu.Lock()
	h.fail[serviceScale] = errors.New("no luck")
	h.mu.Unlock()
	if o := ann.finish("POST", scale, api.Scale{Set: map[string]int{"web": 2}}); o.State != api.OperationFailed {
		t.Errorf("operation is %s", o.State)
	}
	if a := ann.account("ann"); a.Credit != 2 || a.Held != 0 {
		t.Errorf("what a failed scaling held is not given back: %+v", a)
	}
	h.mu.Lock()
	delete(h.fail, serviceScale)
	h.mu.Unlock()
	ann.done("POST", scale, api.Scale{Set: map[string]int{"web": 2}})
	pass(30 * time.Minute)
	if a := ann.account("ann"); a.Credit != 1 || a.PerHour != 3 || a.Exhausted == nil || time.Until(*a.Exhausted) > 31*time.Minute {
		t.Errorf("with three: %+v", a)
	}
	h.checkLedger("ann")
}

// While credits are held, nobody else gets them, and who asks is told so.
func TestHeldCreditsAreNotSpentTwice(t *testing.T) {
	h, _ := meterHouse(t, CreditConfig{})
	ann := h.userWith("ann", 4)
	ann.running("shop")
	hold := make(chan struct{})
	h.mu.Lock()
	h.hold[serviceScale] = hold
	h.mu.Unlock()
	var o api.Operation
	ann.must("POST", "/applications/shop/services/test/scale", api.Scale{Set: map[string]int{"web": 2}}, &o, 202)
	if a := ann.account("ann"); a.Credit != 1 || a.Held != 1 {
		t.Errorf("while it scales: %+v", a)
	}
	ann.must("POST", "/applications", api.CreateApplication{Name: "two"}, nil, 201)
	ann.done("POST", "/applications/two/start", nil)
	ann.must("POST", "/applications", api.CreateApplication{Name: "three"}, nil, 201)
	if e := ann.refused("POST", "/applications/three/start", nil, api.CodeQuota); !strings.Contains(e.Error(), "0 left (and 1 held") {
		t.Errorf("says %v", e)
	}
	h.stopDirector() // as at any death: what is held stays so
	h.start()
	if a := h.admin.account("ann"); a.Held != 1 {
		t.Errorf("after a restart: %+v", a)
	}
	close(hold)
	ann = h.again("ann")
	if o = ann.wait(o.ID); o.State != api.OperationDone {
		t.Fatalf("the scaling is %s: %v", o.State, o.Error)
	}
	if a := ann.account("ann"); a.Credit != 0 || a.Held != 0 || a.PerHour != 4 {
		t.Errorf("at the end: %+v", a)
	}
	h.checkLedger("ann")
}

// again signs a user in at a director that was started again.
func (h *house) again(name string) client {
	h.t.Helper()
	c := h.admin
	c.auth, c.basic = "", [2]string{name, "correct horse " + name}
	return c
}

func TestHoursAreCharged(t *testing.T) {
	h, pass := meterHouse(t, CreditConfig{})
	ann := h.userWith("ann", 20)
	ann.running("shop") // 2 credits
	left := func(what string, want int64) {
		t.Helper()
		if a := h.admin.account("ann"); a.Credit != want {
			t.Errorf("%s: %d left, want %d", what, a.Credit, want)
		}
		h.checkLedger("ann")
	}
	pass(59 * time.Minute)
	left("within the hour", 18)
	pass(2 * time.Minute)
	left("in the second hour", 16)
	pass(0)
	pass(0)
	left("looked at again", 16)
	h.stopDirector()
	h.start()
	pass(3 * time.Hour) // that nobody looked at
	left("after three hours without a director", 10)
	h.stopDirector()
	h.start()
	pass(0)
	left("and another restart", 10)
	ann = h.again("ann")
	ann.done("POST", "/applications/shop/stop", nil)
	pass(100 * time.Hour)
	left("stopped for days", 10)
	ann.done("POST", "/applications/shop/start", nil)
	h.eventually("the service runs again", func() bool { return ann.service("/applications/shop/services/test").State == api.Running })
	left("started again within the hour that is paid", 10)
	pass(time.Hour)
	left("an hour later", 8)
}

func TestCreditUsedUpStopsAndKeeps(t *testing.T) {
	h, pass := meterHouse(t, CreditConfig{})
	ann := h.userWith("ann", 3)
	bob := h.userWith("bob", 5)
	ann.running("shop")
	bob.running("other")
	state := func(c client, app string) (a api.Application) {
		t.Helper()
		c.must("GET", "/applications/"+app, nil, &a, 200)
		return a
	}
	pass(time.Minute)
	if a := state(ann, "shop"); a.Reason != nearlyUp {
		t.Errorf("nobody is warned: %s %s", a.State, a.Reason)
	}
	if a := state(bob, "other"); a.Reason == nearlyUp {
		t.Errorf("bob has enough and is warned")
	}
	instance := state(ann, "shop").Services[0].Instances[0].ID
	pass(time.Hour)
	h.eventually("the application is stopped", func() bool { a := state(ann, "shop"); return a.State == api.Stopped && a.Operation == "" })
	a := state(ann, "shop")
	if !strings.Contains(a.Reason, "credits are used up: ask an administrator") || !strings.Contains(a.Reason, "everything is kept") {
		t.Errorf("it says %q", a.Reason)
	}
	if len(a.Services) != 1 || a.Services[0].Desired != api.GoalStarted || a.Services[0].State != api.Stopped {
		t.Errorf("services are %+v", a.Services)
	}
	if s := state(bob, "other").State; s != api.Running {
		t.Errorf("bob's application is %s", s)
	}
	if e := ann.refused("POST", "/applications/shop/start", nil, api.CodeQuota); !strings.Contains(e.Error(), "credits are used up") {
		t.Errorf("says %v", e)
	}
	h.checkLedger("ann")
	h.admin.must("POST", "/users/ann/credit", api.Grant{Amount: 10}, nil, 200)
	pass(time.Minute)
	if a := state(ann, "shop"); a.State != api.Stopped {
		t.Errorf("a grant started it: %s", a.State)
	}
	ann.done("POST", "/applications/shop/start", nil)
	h.eventually("the service runs again", func() bool { return ann.service("/applications/shop/services/test").State == api.Running })
	if got := state(ann, "shop").Services[0].Instances[0].ID; got != instance {
		t.Errorf("instance %s came instead of %s", got, instance)
	}
	h.checkLedger("ann")
}

// Credits that run out in the middle of a start fail it, and everything that
// was held comes back.
func TestLaunchWithoutCreditIsRefused(t *testing.T) {
	h, _ := meterHouse(t, CreditConfig{})
	ann := h.userWith("ann", 3)
	ann.running("shop")
	h.admin.must("POST", "/users/ann/credit", api.Grant{Amount: -100}, nil, 200)
	if a := h.admin.account("ann"); a.Credit != 0 {
		t.Errorf("taking more than there is left %d", a.Credit)
	}
	rows, err := h.d.store.ServiceInstances(t.Context(), 1, 1)
	if err != nil || len(rows) != 1 {
		t.Fatalf("%v, %v", rows, err)
	}
	h.sim.Kill(rows[0].ID)
	if err := h.d.terminate(t.Context(), rows); err != nil { // its manager wants another, which nobody pays
		t.Fatal(err)
	}
	h.eventually("the launch is refused", func() bool {
		var o []api.AuditEntry
		h.admin.must("GET", "/audit?limit=50", nil, &o, 200)
		for _, e := range o {
			if strings.Contains(e.Action, "launch") && strings.Contains(e.Result, "quota") {
				return true
			}
		}
		return false
	})
	h.checkLedger("ann")
}

func TestCloudThatFailsCostsNothing(t *testing.T) {
	h, _ := meterHouse(t, CreditConfig{})
	ann := h.userWith("ann", 10)
	ann.running("shop")
	h.sim.Set(func(s *cloudtest.Sim) { s.Quota = 2 })
	o := ann.finish("POST", "/applications/shop/services/test/scale", api.Scale{Set: map[string]int{"web": 3}})
	if o.State != api.OperationFailed {
		t.Fatalf("operation is %s", o.State)
	}
	h.eventually("everything held is given back", func() bool { return h.admin.account("ann").Held == 0 })
	if a := h.admin.account("ann"); a.Credit < 7 {
		t.Errorf("a cloud without room has cost %+v", a)
	}
	h.checkLedger("ann")
}

func TestWhoIsBound(t *testing.T) {
	for _, c := range []struct {
		enforce string
		admin   bool
		want    bool
	}{
		{"", false, true}, {"", true, false}, {EnforceUsers, true, false}, {EnforceEverybody, true, true}, {EnforceNobody, false, false},
	} {
		t.Run(fmt.Sprintf("%s-admin-%v", c.enforce, c.admin), func(t *testing.T) {
			d := &Director{}
			d.tuned.Store(&tuning{enforce: c.enforce})
			if got := d.enforced(store.User{User: api.User{Admin: c.admin}}); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
	h, pass := meterHouse(t, CreditConfig{})
	h.admin.must("POST", "/users/admin/credit", api.Grant{Amount: -49}, nil, 200)
	h.admin.running("shop")
	pass(2*time.Hour + time.Minute)
	a := h.admin.account("admin")
	if a.Credit != -5 || a.Enforced || a.PerHour != 2 {
		t.Errorf("an administrator's hours are not counted: %+v", a)
	}
	var app api.Application
	h.admin.must("GET", "/applications/shop", nil, &app, 200)
	if app.State != api.Running {
		t.Errorf("an administrator's application is %s", app.State)
	}
	h.checkLedger("admin")
}

// Whatever transaction somebody dies in, and whenever, nothing is charged
// twice and nothing is lost: the same happens as without the death.
func TestKilledAnywhereChargesOnce(t *testing.T) {
	h, pass := meterHouse(t, CreditConfig{})
	ann := h.userWith("ann", 40)
	ann.running("shop")
	ctx := context.Background()
	killed := errors.New("killed")
	rows, err := h.d.store.ApplicationInstances(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []func(ctx context.Context, tx *store.Tx) error{
		func(ctx context.Context, tx *store.Tx) error { return h.d.metersEnd(ctx, tx, rows) },
		func(ctx context.Context, tx *store.Tx) error { return h.d.metersPause(ctx, tx, rows) },
		func(ctx context.Context, tx *store.Tx) error {
			p, err := h.d.purse(ctx, tx, 2)
			if err != nil {
				return err
			}
			if err := p.reserve(ctx, 1, 1, 5, "test", "", "held"); err != nil {
				return err
			}
			return p.close(ctx)
		},
	} {
		before := h.admin.account("ann")
		err := h.d.write(ctx, func(ctx context.Context, tx *store.Tx) error {
			if err := f(ctx, tx); err != nil {
				t.Error(err)
			}
			return killed
		})
		if !errors.Is(err, killed) {
			t.Fatal(err)
		}
		if after := h.admin.account("ann"); after.Credit != before.Credit || after.Held != before.Held || after.PerHour != before.PerHour {
			t.Errorf("%+v became %+v", before, after)
		}
	}
	for range 3 { // and the hour that a new director finds is charged by it alone
		pass(0)
		want := h.admin.account("ann").Credit - 2
		h.stopDirector()
		h.start()
		pass(time.Hour)
		pass(0)
		if a := h.admin.account("ann"); a.Credit != want {
			t.Errorf("got %d, want %d", a.Credit, want)
		}
	}
	h.checkLedger("ann")
}

// Meters that do not fit what there is, for whatever reason, are put right.
func TestMetersAreMadeToFit(t *testing.T) {
	h, pass := meterHouse(t, CreditConfig{})
	ann := h.userWith("ann", 10)
	ann.running("shop")
	ctx := context.Background()
	u, err := h.d.store.User(ctx, "ann")
	if err != nil {
		t.Fatal(err)
	}
	err = h.d.write(ctx, func(ctx context.Context, tx *store.Tx) error {
		meters, err := tx.Meters(ctx, u.ID)
		if err != nil {
			return err
		}
		for _, m := range meters { // as in an installation from before there were meters
			if err := tx.DeleteMeter(ctx, m.Instance); err != nil {
				return err
			}
		}
		if err := tx.SaveMeter(ctx, store.Meter{Instance: "a9-s9-gone", User: u.ID, Application: 9, Service: 9}); err != nil {
			return err
		}
		if err := tx.AddHold(ctx, store.Hold{Application: 1, Service: 1, User: u.ID, Credits: 2}); err != nil {
			return err
		}
		_, err = tx.Enter(ctx, u.ID, api.LedgerEntry{Amount: -3, Kind: entryHold})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	h.eventually("they fit", func() bool {
		pass(0)
		a := h.admin.account("ann")
		return a.Held == 0 && a.PerHour == 2
	})
	if a := h.admin.account("ann"); a.Credit != 6 {
		t.Errorf("left %d, want 6: 10, and twice two instances", a.Credit)
	}
}

// Clients see the credit change without asking.
func TestCreditIsTold(t *testing.T) {
	h, pass := meterHouse(t, CreditConfig{})
	ann := h.userWith("ann", 10)
	ann.running("shop")
	_, before, err := h.d.store.EventRange(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pass(61 * time.Minute)
	events, err := h.d.store.Events(t.Context(), 2, false, before, 100)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, e := range events {
		if e.Type == "user" && strings.Contains(string(e.Data), `"credit":6`) {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times in %+v", told, events)
	}
}

func TestLedgerPagesAndIsOnesOwn(t *testing.T) {
	h, _ := meterHouse(t, CreditConfig{})
	ann := h.userWith("ann", 1)
	for n := range 5 {
		h.admin.must("PATCH", "/users/ann", map[string]int{"add_credit": n + 1}, nil, 200) // the way of old clients
	}
	var page, rest []api.LedgerEntry
	ann.must("GET", "/users/ann/ledger?limit=2", nil, &page, 200)
	if len(page) != 2 || page[0].Amount != 5 || page[0].Balance != 16 || page[0].Actor != "admin" {
		t.Fatalf("got %+v", page)
	}
	ann.must("GET", fmt.Sprintf("/users/ann/ledger?before=%d", page[1].ID), nil, &rest, 200)
	if len(rest) != 5 || rest[0].ID >= page[1].ID {
		t.Errorf("got %+v", rest)
	}
	bob := h.user("bob")
	bob.refused("GET", "/users/ann/ledger", nil, api.CodeNotFound)
	bob.refused("GET", "/users/ann/account", nil, api.CodeNotFound)
	bob.refused("POST", "/users/bob/credit", api.Grant{Amount: 5}, api.CodeForbidden)
	bob.refused("PUT", "/users/bob/quota", api.Quota{}, api.CodeForbidden)
	for _, n := range []int64{0, 1 << 60, -1 << 60} {
		h.admin.refused("POST", "/users/ann/credit", api.Grant{Amount: n}, api.CodeInvalid)
	}
}

func TestQuotas(t *testing.T) {
	h, _ := meterHouse(t, CreditConfig{Quota: api.Quota{Applications: 2}})
	ann := h.userWith("ann", 100)
	if a := ann.account("ann"); a.Quota.Applications != 2 {
		t.Errorf("the installation's quota is not ann's: %+v", a)
	}
	ann.running("one")
	ann.must("POST", "/applications", api.CreateApplication{Name: "two"}, nil, 201)
	if e := ann.refused("POST", "/applications", api.CreateApplication{Name: "three"}, api.CodeQuota); !strings.Contains(e.Error(), "there would be 3 applications and the quota is 2") {
		t.Errorf("says %v", e)
	}
	h.admin.must("PUT", "/users/ann/quota", api.Quota{Applications: 3, Instances: 4}, nil, 200)
	ann.must("POST", "/applications", api.CreateApplication{Name: "three"}, nil, 201)
	const scale = "/applications/one/services/test/scale"
	ann.done("POST", scale, api.Scale{Set: map[string]int{"web": 3}})
	ann.refused("POST", scale, api.Scale{Set: map[string]int{"web": 4}}, api.CodeQuota)
	ann.refused("POST", "/applications/two/start", nil, api.CodeQuota)
	if a := ann.account("ann"); a.Used.Instances != 4 || a.Used.Applications != 3 || a.Held != 0 {
		t.Errorf("used %+v", a)
	}
	ann.done("POST", scale, api.Scale{Set: map[string]int{"web": 1}})
	ann.done("POST", "/applications/two/start", nil)
	h.admin.refused("PUT", "/users/ann/quota", api.Quota{Instances: -1}, api.CodeInvalid)
	h.admin.must("PUT", "/users/ann/quota", api.Quota{}, nil, 200) // no bound, whatever the installation's is
	ann.must("POST", "/applications", api.CreateApplication{Name: "four"}, nil, 201)
	for n := range 3 {
		h.admin.must("POST", "/applications", api.CreateApplication{Name: fmt.Sprintf("a%d", n)}, nil, 201)
	}
	err := h.d.write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		if err := tx.SetQuota(ctx, 2, api.Quota{VolumeBytes: 1 << 30}); err != nil {
			return err
		}
		if err := h.d.roomFor(ctx, tx, 2, api.Quota{VolumeBytes: 1 << 30}); err != nil {
			return err
		}
		return h.d.roomFor(ctx, tx, 2, api.Quota{VolumeBytes: 1<<30 + 1})
	})
	if api.CodeOf(err) != api.CodeQuota {
		t.Errorf("a volume beyond the quota: %v", err)
	}
}

// An operation that makes an application holds for all of its parts at once.
func TestHoldAhead(t *testing.T) {
	h, pass := meterHouse(t, CreditConfig{})
	ann := h.userWith("ann", 3)
	ann.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	a, err := h.d.store.ApplicationByID(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	ahead := func(n int) error {
		return h.d.write(t.Context(), func(ctx context.Context, tx *store.Tx) error { return h.d.holdAhead(ctx, tx, a, n, "make shop") })
	}
	if err := ahead(4); api.CodeOf(err) != api.CodeQuota {
		t.Errorf("four of three: %v", err)
	}
	if err := ahead(3); err != nil {
		t.Fatal(err)
	}
	ann.refused("POST", "/applications/shop/start", nil, api.CodeQuota) // no part of it
	var o api.Operation
	start := h.d.startApplicationOrder(1, api.Start{})
	start.parent, start.actor = "anything", "ann"
	if o, err = h.d.submit(t.Context(), start); err != nil {
		t.Fatal(err)
	}
	ann.wait(o.ID)
	h.eventually("the rest is given back when nobody works on it", func() bool {
		pass(0)
		a := ann.account("ann")
		return a.Credit == 2 && a.Held == 0 && a.PerHour == 1
	})
	h.checkLedger("ann")
}
