package store

import (
	"context"
	"slices"
	"testing"

	"nutshell/roles/api"
)

func TestSites(t *testing.T) {
	s := fresh(t)
	a, v := site(t, s, "shop")
	b, w := site(t, s, "other")
	put := func(one Site) error {
		return s.Write(t.Context(), func(tx *Tx) error {
			_, err := tx.PutSite(t.Context(), one)
			return err
		})
	}
	for _, one := range []Site{{Name: "shop.apps.org", Automatic: true, URL: "https://shop.apps.org/"}, {Name: "www.shop.org", Certificate: "file", Chain: "c", Key: "sealed", URL: "https://www.shop.org/"}, {Name: "off.shop.org"}} {
		one.Application, one.Service = a.ID, v.ID
		if err := put(one); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(Site{Name: "www.shop.org", Application: b.ID, Service: w.ID}); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a name of another application: got %v", err)
	}
	urls := func(want ...string) {
		t.Helper()
		for _, from := range []func() (Service, error){
			func() (Service, error) { return s.ServiceByID(t.Context(), a.ID, v.ID) },
			func() (Service, error) {
				l, err := s.Services(t.Context(), Selection{Application: a.ID})
				return l[0], err
			},
		} {
			got, err := from()
			if err != nil || !slices.Equal(got.URLs, want) {
				t.Errorf("got %v, %v, want %v", got.URLs, err, want)
			}
		}
	}
	urls() // nothing serves
	write(t, s, func(ctx context.Context, tx *Tx) error {
		v.Reported = []string{"http://10.0.0.1/"}
		return tx.ObserveService(ctx, v)
	})
	urls("https://www.shop.org/", "https://shop.apps.org/", "http://10.0.0.1/")
	again, err := s.ServiceByID(t.Context(), a.ID, v.ID)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, func(ctx context.Context, tx *Tx) error { return tx.ObserveService(ctx, again) }) // what was added is not stored
	one, err := s.Site(t.Context(), "www.shop.org")
	if err != nil || one.Key != "sealed" || one.Created.IsZero() {
		t.Errorf("got %+v, %v", one, err)
	}
	write(t, s, func(ctx context.Context, tx *Tx) error { return tx.TellSite(ctx, one, "it ends") })
	write(t, s, func(ctx context.Context, tx *Tx) error { return tx.DeleteSite(ctx, one) })
	urls("https://shop.apps.org/", "http://10.0.0.1/")
	events, err := s.Events(t.Context(), a.OwnerID, false, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, e := range events {
		kinds[e.Type]++
		if e.Type == "site" && slices.Contains([]string{"sealed"}, string(e.Data)) {
			t.Errorf("an event tells a key: %s", e.Data)
		}
	}
	if kinds["site"] != 4 || kinds["site.deleted"] != 1 {
		t.Errorf("got %v", kinds)
	}
	write(t, s, func(ctx context.Context, tx *Tx) error { return tx.DeleteService(ctx, v) })
	if left, err := s.Sites(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("left after the service: %v, %v", left, err)
	}
}

// site makes an application with one service.
func site(t *testing.T, s *Store, name string) (Application, Service) {
	t.Helper()
	var a Application
	var v Service
	write(t, s, func(ctx context.Context, tx *Tx) error {
		u, err := tx.InsertUser(ctx, User{Password: "hash", User: api.User{Name: name, Email: name + "@example.org"}})
		if err != nil {
			return err
		}
		if a, err = tx.InsertApplication(ctx, Application{OwnerID: u.ID, Application: api.Application{Name: name, State: api.Init, Desired: api.GoalStopped}}); err != nil {
			return err
		}
		id, err := tx.NextServiceID(ctx, a.ID)
		if err != nil {
			return err
		}
		v, err = tx.InsertService(ctx, Service{OwnerID: u.ID, Service: api.Service{Application: a.ID, ID: id, Name: "php", Kind: "php", State: api.Init, Desired: api.GoalStopped,
			Parts: map[string]int{}, Settings: []byte(`{}`), URLs: []string{}}})
		return err
	})
	return a, v
}
