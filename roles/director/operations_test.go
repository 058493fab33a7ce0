package director

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"nutshell/cloud/cloudtest"
	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

func (h *house) setFail(kind string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail[kind] = err
}

// holdBack makes managers wait in the middle of a kind of operation.
func (h *house) holdBack(kind string) (release func()) {
	c := make(chan struct{})
	h.mu.Lock()
	h.hold[kind] = c
	h.mu.Unlock()
	return func() {
		h.mu.Lock()
		delete(h.hold, kind)
		h.mu.Unlock()
		close(c)
	}
}

func TestTwoScalingsAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	path := "/applications/shop/services/test"
	release := h.holdBack(serviceScale)
	results := make(chan *api.Error, 8)
	first := make(chan api.Operation, 8)
	for range 8 {
		go func() {
			var o api.Operation
			_, e := h.admin.do("POST", path+"/scale", api.Scale{Add: map[string]int{"web": 1}}, &o)
			results <- e
			first <- o
		}()
	}
	var conflicts []*api.Error
	var id string
	for range 8 {
		if e := <-results; e != nil {
			conflicts = append(conflicts, e)
		}
		if o := <-first; o.ID != "" {
			id = o.ID
		}
	}
	if len(conflicts) != 7 {
		t.Fatalf("got %d conflicts of 8, want 7: %v", len(conflicts), conflicts)
	}
	for _, e := range conflicts {
		if e.Code != api.CodeConflict || e.Related != id || e.Hint == "" {
			t.Errorf("conflict does not name operation %s: %+v", id, e)
		}
	}
	if e := h.admin.refused("POST", "/applications/shop/stop", nil, api.CodeConflict); e.Related != id {
		t.Errorf("stop of the application: %+v", e)
	}
	release()
	if o := h.admin.wait(id); o.State != api.OperationDone {
		t.Errorf("operation %+v", o)
	}
	if s := h.admin.service(path); s.Parts["web"] != 2 {
		t.Errorf("got %d webs, want 2", s.Parts["web"])
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	path := "/applications/shop/services/test"
	c := h.admin
	c.key = "one"
	first := c.done("POST", path+"/scale", api.Scale{Add: map[string]int{"web": 1}})
	again := c.done("POST", path+"/scale", api.Scale{Add: map[string]int{"web": 1}})
	if first.ID != again.ID {
		t.Errorf("two operations: %s and %s", first.ID, again.ID)
	}
	if s := c.service(path); s.Parts["web"] != 2 {
		t.Errorf("got %d webs, want 2", s.Parts["web"])
	}
	if e := c.refused("POST", path+"/stop", nil, api.CodeConflict); e.Related != first.ID {
		t.Errorf("the same key for something else: %+v", e)
	}
	c.key = strings.Repeat("x", 65)
	c.refused("POST", path+"/stop", nil, api.CodeInvalid)
}

func TestScaleBounds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	path := "/applications/shop/services/test"
	for name, b := range map[string]api.Scale{
		"negative":       {Set: map[string]int{"web": -1}},
		"zero":           {Set: map[string]int{"web": 0}},
		"too-many":       {Set: map[string]int{"web": 9}},
		"over-quota":     {Set: map[string]int{"web": 7}},
		"huge":           {Add: map[string]int{"web": 1 << 62}},
		"huge-negative":  {Add: map[string]int{"web": -1 << 62}},
		"unknown-part":   {Add: map[string]int{"backend": 1}},
		"fixed-part":     {Add: map[string]int{"master": 1}},
		"add-and-set":    {Add: map[string]int{"web": 1}, Set: map[string]int{"web": 2}},
		"count-and-web":  {Add: map[string]int{"web": 1, "count": 2}},
		"nothing":        {},
		"others-leaving": {Set: map[string]int{"web": 1}, Remove: []string{"a9-s9-zzzzz"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := h.admin.refused("POST", path+"/scale", b, api.CodeInvalid)
			if len(e.Fields) == 0 && name != "over-quota" {
				t.Errorf("no field is named: %+v", e)
			}
			h.admin.refused("POST", path+"/preview", b, api.CodeInvalid)
		})
	}
	if s := h.admin.service(path); s.Parts["web"] != 1 || s.State != api.Running {
		t.Errorf("something changed: %+v", s)
	}
}

func TestFailedStartIsUndoneAndRetried(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	h.admin.must("POST", "/applications/shop/services", api.CreateService{Kind: "test"}, nil, 201)
	path := "/applications/shop/services/test"
	if e := h.admin.refused("POST", path+"/start", nil, api.CodeConflict); e.Hint != "start the application first" {
		t.Errorf("hint %q", e.Hint)
	}
	h.admin.done("POST", "/applications/shop/start", nil)
	h.setFail(serviceStart, &api.Error{Code: api.CodeUnavailable, Op: "start", Object: "nginx", Message: "no such package"})
	o := h.admin.finish("POST", path+"/start", nil)
	if o.State != api.OperationFailed || o.Error == nil || o.Error.Code != api.CodeUnavailable || o.Undone == "" {
		t.Errorf("operation: %+v", o)
	}
	s := h.admin.service(path)
	if s.State != api.Failed || s.Desired != api.GoalStopped || !strings.Contains(s.Reason, "no such package") {
		t.Errorf("service after a failed start: %+v", s)
	}
	time.Sleep(100 * time.Millisecond) // the manager reports STOPPED meanwhile, which must not hide the failure
	if s := h.admin.service(path); s.State != api.Failed {
		t.Errorf("the failure was hidden: %+v", s)
	}
	h.setFail(serviceStart, nil)
	o = h.admin.done("POST", "/operations/"+o.ID+"/retry", nil)
	if o.RetryOf == "" || h.admin.service(path).State != api.Running {
		t.Errorf("after the retry: %+v, %+v", o, h.admin.service(path))
	}
}

func TestFailedScalingIsUndone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	path := "/applications/shop/services/test"
	h.sim.Set(func(s *cloudtest.Sim) { s.Quota = 3 }) // the manager, one web, one more
	o := h.admin.finish("POST", path+"/scale", api.Scale{Set: map[string]int{"web": 4}})
	if o.State != api.OperationFailed || o.Error.Code != api.CodeQuota {
		t.Fatalf("operation: %+v", o)
	}
	h.eventually("the counts are as before and so are the instances", func() bool {
		s := h.admin.service(path)
		list, err := h.sim.List(t.Context())
		return s.Parts["web"] == 1 && s.State == api.Running && len(s.Instances) == 1 && err == nil && len(list) == 2
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	path := "/applications/shop/services/test"
	defer h.holdBack(serviceScale)()
	var o api.Operation
	h.admin.must("POST", path+"/scale", api.Scale{Set: map[string]int{"web": 3}}, &o, 202)
	h.admin.must("POST", "/operations/"+o.ID+"/cancel", nil, nil, 200)
	if o = h.admin.wait(o.ID); o.State != api.OperationCancelled || o.Cancelling || o.Cancellable {
		t.Errorf("operation: %+v", o)
	}
	h.eventually("the count is as before", func() bool {
		s := h.admin.service(path)
		return s.Parts["web"] == 1 && s.State == api.Running
	})
	h.admin.refused("POST", "/operations/"+o.ID+"/cancel", nil, api.CodeConflict)
}

// TestRestart kills the director in the middle of operations.
func TestRestart(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	path := "/applications/shop/services/test"
	release := h.holdBack(serviceScale)
	var scale, start api.Operation
	h.admin.must("POST", path+"/scale", api.Scale{Set: map[string]int{"web": 3}}, &scale, 202)
	h.mu.Lock()
	h.silent = true
	h.mu.Unlock()
	h.admin.must("POST", "/applications", api.CreateApplication{Name: "blog"}, nil, 201)
	h.admin.must("POST", "/applications/blog/start", nil, &start, 202)
	h.eventually("the blog's manager is launched", func() bool {
		list, err := h.sim.List(t.Context())
		h.mu.Lock()
		defer h.mu.Unlock()
		return err == nil && len(list) == 3 && h.boots == 3
	})
	h.mu.Lock()
	boots := h.boots
	h.mu.Unlock()
	h.stopDirector()
	list, err := h.sim.List(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("instances did not outlive the director: %v %v", list, err)
	}
	h.mu.Lock()
	h.silent = false
	h.mu.Unlock()
	for _, i := range list { // a manager that never came up does not get better by itself
		if strings.HasPrefix(i.Name, "a2-s0") {
			h.sim.Kill(i.Name)
		}
	}
	h.start()
	release()
	if o := h.admin.wait(start.ID); o.State != api.OperationDone {
		t.Errorf("start of blog: %+v", o)
	}
	if o := h.admin.wait(scale.ID); o.State != api.OperationDone {
		t.Errorf("scaling of shop: %+v", o)
	}
	s := h.admin.service(path)
	if len(s.Instances) != 3 {
		t.Errorf("service: %+v", s)
	}
	h.eventually("blog's manager has booted once more, and two webs", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.boots >= boots+3
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.boots != boots+3 { // shop's were adopted
		t.Errorf("got %d launches after the restart, want 3", h.boots-boots)
	}
}

// TestShutdown is nutshell up, stopped and started again.
func TestShutdown(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	path := "/applications/shop/services/test"
	before := h.admin.service(path).Instances[0].ID
	if err := h.d.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := h.sim.List(t.Context())
	for _, i := range list {
		if i.Running {
			t.Errorf("%s still runs", i.Name)
		}
	}
	if err != nil || len(list) != 2 {
		t.Errorf("instances: %v %v", list, err)
	}
	if s, err := h.d.store.ServiceByID(t.Context(), 1, 1); err != nil || s.State != api.Adapting {
		t.Errorf("service while nothing runs: %+v %v", s, err)
	}
	h.stopDirector()
	h.start()
	h.eventually("everything is as before", func() bool {
		s := h.admin.service(path)
		var a api.Application
		h.admin.must("GET", "/applications/shop", nil, &a, 200)
		return s.State == api.Running && a.State == api.Running && len(s.Instances) == 1 && s.Instances[0].ID == before
	})
}

func TestLostManagerComesBack(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until a manager counts as lost")
	}
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	var a api.Application
	h.admin.must("GET", "/applications/shop", nil, &a, 200)
	h.sim.Kill(a.Manager.ID)
	h.eventually("the manager is started again", func() bool {
		var ops []api.Operation
		h.admin.must("GET", "/operations?application=shop", nil, &ops, 200)
		return ops[0].Kind == instanceReplace && ops[0].State == api.OperationDone
	})
	h.eventually("the application runs", func() bool {
		h.admin.must("GET", "/applications/shop", nil, &a, 200)
		return a.State == api.Running
	})
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	defer h.holdBack(serviceScale)()
	var o api.Operation
	h.admin.must("POST", "/applications/shop/services/test/scale", api.Scale{Set: map[string]int{"web": 3}}, &o, 202)
	// The deadline is a column; twenty minutes are not worth waiting for.
	if err := h.d.store.Write(t.Context(), func(tx *store.Tx) error { return tx.SetDeadline(t.Context(), o.ID, time.Now()) }); err != nil {
		t.Fatal(err)
	}
	o = h.admin.wait(o.ID)
	if o.State != api.OperationFailed || o.Error == nil || o.Error.Code != api.CodeDeadline {
		t.Errorf("operation: %+v", o)
	}
	if s := h.admin.service("/applications/shop/services/test"); s.Parts["web"] != 1 {
		t.Errorf("service: %+v", s)
	}
}

func TestFailedApplicationStart(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.sim.Set(func(s *cloudtest.Sim) { s.Broken = errors.New("no route to the cloud") })
	h.admin.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	o := h.admin.finish("POST", "/applications/shop/start", nil)
	if o.State != api.OperationFailed || !strings.Contains(o.Error.Error(), "no route to the cloud") {
		t.Errorf("operation: %+v", o)
	}
	var a api.Application
	h.admin.must("GET", "/applications/shop", nil, &a, 200)
	if a.State != api.Failed || a.Desired != api.GoalStopped || !strings.Contains(a.Reason, "no route") {
		t.Errorf("application: %+v", a)
	}
	h.sim.Set(func(s *cloudtest.Sim) { s.Broken = nil })
	h.admin.done("POST", "/operations/"+o.ID+"/retry", nil)
}

func TestSweepEndsStraysAndOnlyThose(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	rows, err := h.d.store.Instances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// An instance whose row is gone, as after a restore from an old backup.
	gone := rows[len(rows)-1]
	if err := h.d.store.Write(context.Background(), func(tx *store.Tx) error { return tx.DeleteInstance(t.Context(), gone) }); err != nil {
		t.Fatal(err)
	}
	h.d.sweep(t.Context())
	if list, _ := h.sim.List(t.Context()); len(list) < 2 {
		t.Fatalf("a young instance was ended: %v", list)
	}
	later := h.d.c.Now().Add(2 * time.Minute)
	h.d.c.Now = func() time.Time { return later }
	h.d.sweep(t.Context())
	h.eventually("the stray is ended", func() bool {
		list, _ := h.sim.List(t.Context())
		for _, i := range list {
			if i.Name == gone.ID {
				return false
			}
		}
		return true
	})
	if list, _ := h.sim.List(t.Context()); len(list) == 0 {
		t.Error("the manager was ended too")
	}
}

// TestLaunchThatNobodyFinished: the director died between the cloud's answer and
// its own note of it.
func TestLaunchThatNobodyFinished(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	d := &Director{began: now.Add(-time.Hour)}
	apps := []store.Application{{Application: api.Application{ID: 1, Desired: api.GoalStarted}}}
	services := []store.Service{{Service: api.Service{ID: 1, Application: 1, Desired: api.GoalStarted}}}
	row := func(change func(*store.Instance)) store.Instance {
		r := store.Instance{Instance: api.Instance{ID: "a1-s1-x", Application: 1, Service: 1, State: api.InstanceAsked, Created: now.Add(-2 * time.Hour)}}
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		row             store.Instance
		exists, running bool
		want            fate
	}{
		"left-behind":            {row(func(*store.Instance) {}), true, true, fateEnd},
		"being-launched":         {row(func(r *store.Instance) { r.Created = now.Add(-10 * time.Minute) }), true, true, fateStay},
		"stopped-to-start-again": {row(func(r *store.Instance) { r.Address = "10.0.0.1" }), true, true, fateStay},
		"serves":                 {row(func(r *store.Instance) { r.State, r.Address = api.InstanceReady, "10.0.0.1" }), true, true, fateStay},
	} {
		t.Run(name, func(t *testing.T) {
			if got := d.verdict(c.row, apps, services, c.exists, c.running, now); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestRequestIsKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	o := h.admin.done("POST", "/applications/shop/services/test/scale", api.Scale{Add: map[string]int{"web": 1}})
	var b api.Scale
	if err := json.Unmarshal(o.Request, &b); err != nil || b.Add["web"] != 1 || len(o.Steps) == 0 || o.Started == nil || o.Ended == nil || o.Progress != 1 {
		t.Errorf("operation: %+v", o)
	}
}
