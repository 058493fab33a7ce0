package director

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"nutshell/cloud/cloudtest"
	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// stopUp ends the house's director in order, as Ctrl-C does to nutshell up.
func (h *house) stopUp() {
	h.t.Helper()
	if err := h.d.Shutdown(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	h.stopDirector()
}

func (h *house) names() []string {
	list, err := h.sim.List(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	var names []string
	for _, i := range list {
		names = append(names, i.Name)
	}
	return names
}

// TestEndedWhileLaunched: an instance that is ended while it is being started
// again stays ended.
func TestEndedWhileLaunched(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	old := h.admin.service("/applications/shop/services/test").Instances[0].ID
	h.stopUp()
	gate := make(chan struct{})
	h.sim.Set(func(s *cloudtest.Sim) { s.Gate = gate })
	h.start()
	var row store.Instance
	h.eventually("the instance is shown as booting to a manager", func() bool {
		d, err := h.d.desiredOf(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		row, err = h.d.store.Instance(t.Context(), old)
		if err != nil {
			t.Fatal(err)
		}
		return len(d.Services[0].Instances) == 1 && d.Services[0].Instances[0].State == api.InstanceBooting
	})
	if list, err := h.sim.List(t.Context()); err != nil || len(list) != 2 || list[0].Running || list[1].Running {
		t.Fatalf("it is booting only once it was launched: %v %v", list, err)
	}
	h.sim.Set(func(s *cloudtest.Sim) { s.Gate = nil }) // ending overtakes the launch
	err := h.d.terminate(t.Context(), []store.Instance{row})
	close(gate)
	if err != nil {
		t.Fatal(err)
	}
	h.eventually("another one has taken its place", func() bool {
		s := h.admin.service("/applications/shop/services/test")
		names := h.names()
		return len(s.Instances) == 1 && s.Instances[0].ID != old && len(names) == 2 && !slices.Contains(names, old)
	})
}

// TestStoppedWhileLaunched: an application is stopped while its instances are
// still being started again.
func TestStoppedWhileLaunched(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	h.admin.done("POST", "/applications/shop/stop", nil)
	rows, err := h.d.store.Instances(t.Context())
	if err != nil || len(rows) != 2 {
		t.Fatalf("%v %v", rows, err)
	}
	if up, err := h.d.launch(t.Context(), rows, func(string, float64) {}); err != nil || len(up) != 0 {
		t.Errorf("launched for a stopped application: %v %v", up, err)
	}
	list, err := h.sim.List(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("%v %v", list, err)
	}
	for _, i := range list {
		if i.Running {
			t.Errorf("%s runs though its application is stopped", i.Name)
		}
	}
}

// TestWantedFitsTogether reads what is wanted while operations begin and end:
// none may be seen with what was wanted before it.
func TestWantedFitsTogether(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	h.admin.must("POST", "/applications/shop/services", api.CreateService{Kind: "test"}, nil, 201)
	ctx := t.Context()
	set := func(goal api.Goal, o store.Operation, save bool) error {
		return h.d.store.Write(ctx, func(tx *store.Tx) error {
			s, err := tx.ServiceByID(ctx, 1, 1)
			if err != nil {
				return err
			}
			s.Desired = goal
			if save {
				return errors.Join(tx.SaveService(ctx, s), tx.SaveOperation(ctx, o))
			}
			_, err = tx.InsertOperation(ctx, o, 1, "")
			return errors.Join(err, tx.SaveService(ctx, s))
		})
	}
	var wg sync.WaitGroup
	over := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				d, err := h.d.desiredOf(ctx, 1)
				if err != nil {
					t.Error(err)
					return
				}
				if s := d.Services[0]; (s.Operation != nil) != (s.Service.Desired == api.GoalStarted) {
					t.Errorf("wanted %s with the operation %v", s.Service.Desired, s.Operation)
					return
				}
			}
		})
	}
	for range 300 {
		o := store.Operation{User: 1, Operation: api.Operation{ID: api.NewID(12), Kind: serviceStart, Application: 1, Service: 1, State: api.OperationPending}}
		err := set(api.GoalStarted, o, false)
		o.State = api.OperationDone
		if err = errors.Join(err, set(api.GoalStopped, o, true)); err != nil {
			t.Fatal(err)
		}
	}
	close(over)
	wg.Wait()
}
