package director

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"nutshell/cloud"
	"nutshell/roles/api"
)

// binned is a house whose bin keeps things for an hour, with a service that has
// a volume of its kind and one of its owner's.
func binned(t *testing.T) (*house, *cabinet, client, string) {
	t.Helper()
	h, shelf, ann, path := keeping(t, 1)
	h.keepDeleted("1h")
	ann.done("POST", path+"/volumes", api.CreateVolume{Name: "mine", Bytes: 20 << 20})
	return h, shelf, ann, path
}

func (h *house) keepDeleted(span string) {
	h.t.Helper()
	h.admin.must("PATCH", "/settings", api.ChangeSystem{Set: map[string]string{"bin.keep": span}}, nil, 200)
}

func (c client) bin() []api.Binned {
	c.h.t.Helper()
	var list []api.Binned
	c.must("GET", "/bin", nil, &list, 200)
	return list
}

// onlyBinned is the one entry of a bin.
func (c client) onlyBinned() api.Binned {
	c.h.t.Helper()
	list := c.bin()
	if len(list) != 1 {
		c.h.t.Fatalf("the bin has %d entries, want 1: %+v", len(list), list)
	}
	return list[0]
}

func (c client) restore(id string) api.Restored {
	c.h.t.Helper()
	var r api.Restored
	c.must("POST", "/bin/"+id+"/restore", nil, &r, 200)
	return r
}

func TestAServiceComesBackFromTheBin(t *testing.T) {
	t.Parallel()
	h, shelf, ann, path := binned(t)
	eve := h.user("eve")
	ann.must("PATCH", path+"/environment", api.ChangeEnvironment{Set: []api.Variable{{Name: "TOKEN", Value: "geheim", Secret: true}}}, nil, 202)
	h.eventually("the change is carried out", func() bool { return ann.service(path).Operation == "" })
	before := ann.service(path)
	volumes := ann.volumes(path)
	o := ann.done("DELETE", path, nil)
	if o.Kind != serviceDelete {
		t.Errorf("the operation is %s", o.Kind)
	}
	ann.refused("GET", path, nil, api.CodeNotFound)
	for _, list := range []string{"/services", "/applications/shop/services", "/applications/shop/volumes"} {
		var got []any
		if ann.must("GET", list, nil, &got, 200); len(got) != 0 {
			t.Errorf("%s shows what is in the bin: %v", list, got)
		}
	}
	b := ann.onlyBinned()
	if b.Kind != api.BinnedService || b.Name != before.Name || b.By != "ann" || b.Until.Sub(b.Deleted).Hours() != 1 || b.Bytes < 20<<20 ||
		!slices.ContainsFunc(b.Holds, func(x api.Held) bool { return x.What == "volume" && x.Count == 2 }) {
		t.Errorf("the entry: %+v", b)
	}
	if len(eve.bin()) != 0 {
		t.Error("somebody else sees it")
	}
	eve.refused("POST", "/bin/"+b.ID+"/restore", nil, api.CodeNotFound)
	eve.refused("DELETE", "/bin/"+b.ID, nil, api.CodeNotFound)
	h.eventually("its instances have ended", func() bool {
		rows, err := h.d.store.ServiceInstances(t.Context(), b.Application, b.Service)
		return err == nil && len(rows) == 0
	})
	h.d.sweep(t.Context())
	if list, _ := shelf.ListVolumes(t.Context()); len(list) != len(volumes) {
		t.Fatalf("volumes in the cloud: %d, want %d", len(list), len(volumes))
	}
	// Its name is free at once, and another that has it by then keeps it.
	ann.must("POST", "/applications/shop/services", api.CreateService{Kind: "keeper", Name: before.Name}, nil, 201)
	r := ann.restore(b.ID)
	if r.Name != before.Name+"-2" || len(r.Notes) != 1 {
		t.Errorf("restored: %+v", r)
	}
	back := ann.service("/applications/shop/services/" + r.Name)
	if back.ID != before.ID || back.State != api.Stopped || back.Desired != api.GoalStopped || string(back.Settings) != string(before.Settings) || back.Version != before.Version {
		t.Errorf("it came back as %+v", back)
	}
	again := "/applications/shop/services/" + r.Name
	ann.done("POST", again+"/start", nil)
	got := ann.volumes(again)
	if len(got) != len(volumes) || got[0].ID != volumes[0].ID || got[0].State != api.VolumeAttached {
		t.Errorf("its volumes: %+v, want %+v", got, volumes)
	}
	var env []api.Variable
	if ann.must("GET", again+"/environment", nil, &env, 200); len(env) != 1 || env[0].Name != "TOKEN" {
		t.Errorf("its environment: %+v", env)
	}
	if len(ann.bin()) != 0 {
		t.Error("the bin is not empty")
	}
	ann.refused("POST", "/bin/"+b.ID+"/restore", nil, api.CodeNotFound)
}

func TestAnApplicationComesBackFromTheBin(t *testing.T) {
	t.Parallel()
	h, shelf, ann, path := binned(t)
	service := ann.service(path)
	ann.done("DELETE", "/applications/shop", nil)
	ann.refused("GET", "/applications/shop", nil, api.CodeNotFound)
	ann.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	b := ann.onlyBinned()
	if b.Kind != api.BinnedApplication || b.Name != "shop" || b.Holds[0].What != "service" || b.Holds[0].Names[0] != service.Name {
		t.Errorf("the entry: %+v", b)
	}
	h.stopDirector() // nothing of it is in memory
	h.start()
	if rows, err := h.d.store.Volumes(t.Context()); err != nil || len(rows) != 2 {
		t.Fatalf("volumes: %+v, %v", rows, err)
	}
	h.d.sweep(t.Context())
	if list, _ := shelf.ListVolumes(t.Context()); len(list) != 2 {
		t.Fatalf("volumes in the cloud: %+v", list)
	}
	h.admin.must("PUT", "/users/ann/quota", api.Quota{Applications: 1}, nil, 200)
	if e := ann.refused("POST", "/bin/"+b.ID+"/restore", nil, api.CodeQuota); e.Hint == "" {
		t.Error("no hint")
	}
	h.admin.must("PUT", "/users/ann/quota", api.Quota{Applications: 2}, nil, 200)
	r := ann.restore(b.ID)
	if r.Name != "shop-2" || r.Application != b.Application {
		t.Errorf("restored: %+v", r)
	}
	var a api.Application
	if ann.must("GET", "/applications/shop-2", nil, &a, 200); a.State != api.Stopped || len(a.Services) != 1 || a.Services[0].ID != service.ID {
		t.Errorf("it came back as %+v", a)
	}
	ann.done("POST", "/applications/shop-2/start", nil)
	h.eventually("its service serves again", func() bool {
		return ann.service("/applications/shop-2/services/"+service.Name).State == api.Running
	})
}

// TestWhatIsInsideWaits deletes parts of a whole before the whole.
func TestWhatIsInsideWaits(t *testing.T) {
	t.Parallel()
	h, _, ann, path := binned(t)
	ann.done("DELETE", path+"/volumes/mine", nil)
	volume := ann.onlyBinned()
	ann.done("DELETE", path, nil)
	ann.done("DELETE", "/applications/shop", nil)
	in := map[string]string{}
	id := map[string]string{}
	for _, b := range ann.bin() {
		in[b.Kind], id[b.Kind] = b.In, b.ID
	}
	if in["application"] != "" || in["service"] != id["application"] || in["volume"] != id["application"] {
		t.Fatalf("inside: %v of %v", in, id)
	}
	if e := ann.refused("POST", "/bin/"+volume.ID+"/restore", nil, api.CodeConflict); e.Related != id["application"] {
		t.Errorf("refused: %+v", e)
	}
	ann.restore(id["application"])
	ann.refused("POST", "/bin/"+volume.ID+"/restore", nil, api.CodeConflict)
	ann.restore(id["service"])
	if r := ann.restore(volume.ID); r.Name != "mine" {
		t.Errorf("restored: %+v", r)
	}
	if got := ann.volumes(path); len(got) != 2 {
		t.Errorf("volumes: %+v", got)
	}
	// And all of it at once, for good.
	ann.done("DELETE", path+"/volumes/mine", nil)
	ann.done("DELETE", path, nil)
	ann.done("DELETE", "/applications/shop?now=true", nil)
	if list := ann.bin(); len(list) != 0 {
		t.Errorf("the bin still has %+v", list)
	}
	h.eventually("no volume is left", func() bool {
		rows, err := h.d.store.Volumes(t.Context())
		return err == nil && len(rows) == 0
	})
}

func TestTheBinEmptiesItself(t *testing.T) {
	t.Parallel()
	h, shelf, ann, _ := binned(t)
	h.keepDeleted("1ms")
	ann.done("DELETE", "/applications/shop", nil)
	b := ann.onlyBinned()
	shelf.set(func() { shelf.refuse["delete"] = cloud.ErrUnavailable })
	h.d.emptyBin(t.Context())
	if len(ann.bin()) != 0 {
		t.Fatal("its time is up, and it is still there")
	}
	ann.refused("POST", "/bin/"+b.ID+"/restore", nil, api.CodeNotFound)
	h.stopDirector() // killed before the cloud has deleted the volumes
	shelf.set(func() { clear(shelf.refuse) })
	h.start()
	h.eventually("the volumes are gone", func() bool {
		h.d.sweep(t.Context())
		list, _ := shelf.ListVolumes(context.Background())
		rows, err := h.d.store.Volumes(context.Background())
		return err == nil && len(list)+len(rows) == 0
	})
}

func TestVersionsComeBackFromTheBin(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.keepDeleted("1h")
	ann := h.user("ann")
	path := ann.shopWith("shop")
	first := ann.upload(path, map[string]string{"index.html": "one"})
	second := ann.upload(path, map[string]string{"index.html": "two"})
	ann.must("DELETE", path+"/versions/"+first.ID, nil, nil, 204)
	b := ann.onlyBinned()
	h.d.dropBlobs(t.Context())
	if b.Kind != api.BinnedVersion || b.Object != first.ID {
		t.Errorf("the entry: %+v", b)
	}
	if r := ann.restore(b.ID); r.Object != first.ID {
		t.Errorf("restored: %+v", r)
	}
	var list []api.CodeVersion
	ann.must("GET", path+"/versions", nil, &list, 200)
	if got := ids(list); !slices.Equal(got, []string{second.ID, first.ID, DefaultVersion}) || !list[1].Created.Equal(first.Created) {
		t.Errorf("versions: %v", list)
	}
	resp := ann.raw("GET", path+"/versions/"+first.ID+"/download", nil, nil)
	bytes, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK || int64(len(bytes)) != first.Bytes {
		t.Errorf("its code: %d, %d bytes, %v", resp.StatusCode, len(bytes), err)
	}
	ann.must("DELETE", path+"/versions/"+first.ID+"?now=true", nil, nil, 204)
	if len(ann.bin()) != 0 {
		t.Error("the bin is not empty")
	}
}

func TestUsersWithABin(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.keepDeleted("1h")
	ann := h.user("ann")
	ann.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	ann.done("DELETE", "/applications/shop", nil)
	if e := h.admin.refused("DELETE", "/users/ann", nil, api.CodeConflict); !strings.Contains(e.Message, "bin") {
		t.Errorf("refused: %+v", e)
	}
	var all []api.Binned
	h.admin.must("GET", "/bin?all=true", nil, &all, 200)
	ann.refused("GET", "/bin?all=true", nil, api.CodeForbidden)
	h.admin.must("DELETE", "/bin/"+all[0].ID, nil, nil, 204)
	h.admin.must("DELETE", "/users/ann", nil, nil, 204)
}

func TestSettingsOfTheInstallation(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.user("ann")
	ann.refused("GET", "/settings", nil, api.CodeForbidden)
	set := func(key, value string) api.ChangeSystem {
		return api.ChangeSystem{Set: map[string]string{key: value}}
	}
	ann.refused("PATCH", "/settings", set("bin.keep", "1h"), api.CodeForbidden)
	for key, value := range map[string]string{"bin.keep": "soon", "quota.applications": "-1", "credit.enforce": "some", "listen": "127.0.0.1:1", "nonsense": "1", "history.audit": "1m"} {
		if e := h.admin.refused("PATCH", "/settings", set(key, value), api.CodeInvalid); e.Fields[0] != key {
			t.Errorf("%s: %+v", key, e)
		}
	}
	find := func(key string) (found api.SystemSetting) {
		var list []api.SystemSetting
		h.admin.must("GET", "/settings", nil, &list, 200)
		for _, s := range list {
			if s.Key == key {
				found = s
			}
		}
		return found
	}
	h.admin.must("PATCH", "/settings", set("quota.applications", "1"), nil, 200)
	if s := find("quota.applications"); s.Value != "1" || s.Origin != "here" || s.By != "admin" || s.Default != "0" {
		t.Errorf("changed: %+v", s)
	}
	ann.must("POST", "/applications", api.CreateApplication{Name: "one"}, nil, 201)
	ann.refused("POST", "/applications", api.CreateApplication{Name: "two"}, api.CodeQuota)
	h.stopDirector()
	h.start()
	if s := find("quota.applications"); s.Value != "1" {
		t.Errorf("after a restart: %+v", s)
	}
	h.admin.must("PATCH", "/settings", set("quota.applications", ""), nil, 200)
	if s := find("quota.applications"); s.Value != "0" || s.Origin != "default" {
		t.Errorf("put back: %+v", s)
	}
	ann.must("POST", "/applications", api.CreateApplication{Name: "two"}, nil, 201)
}
