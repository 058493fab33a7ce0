package director

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
	"nutshell/roles/api"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

// keeperKind is testKind with a volume for each web, volumes of users, and
// secrets.
var keeperKind = func() services.Kind {
	k := testKind
	k.Name, k.Volumes = "keeper", true
	k.Parts = slices.Clone(k.Parts)
	k.Parts[0].Volume = &services.VolumeRule{Name: "data", Title: "Data", Bytes: func(settings json.RawMessage) int64 {
		var s struct{ Memory string }
		if json.Unmarshal(settings, &s) != nil {
			return 0
		}
		return services.Bytes(s.Memory)
	}}
	k.Secrets = []services.Secret{{Name: "root", Title: "Root"}, {Name: "password", Title: "Password", Help: "of the user keeper", Own: true, Check: func(v string) error {
		if strings.Contains(v, "|") {
			return errors.New("it holds |")
		}
		return nil
	}}}
	k.Actions = append(slices.Clone(k.Actions), api.Action{Name: "set_password", Title: "Set the password", Params: []api.Parameter{{Name: "password"}}, Secret: "password"})
	return k
}()

// cabinet is a cloud in memory whose volumes remember who had them.
type cabinet struct {
	*cloudtest.Sim

	mu     sync.Mutex
	shelf  map[string]*shelved
	refuse map[string]error // by operation
	// lose names operations that are carried out and whose answer is lost: the
	// caller hears nothing until it gives up. "before create" is lost on the way.
	lose chan string
	hang map[string]bool
	open map[string]bool // volumes with open files
	// stiff volumes grow only while no instance has them.
	stiff bool
}

type shelved struct {
	cloud.Volume
	had       []string // instances, in order
	snapshots []cloud.Snapshot
}

var (
	_ cloud.Volumes   = (*cabinet)(nil)
	_ cloud.Snapshots = (*cabinet)(nil)
)

func newCabinet(sim *cloudtest.Sim) *cabinet {
	return &cabinet{Sim: sim, shelf: map[string]*shelved{}, refuse: map[string]error{}, hang: map[string]bool{}, open: map[string]bool{}, lose: make(chan string, 100)}
}

func (c *cabinet) do(ctx context.Context, op string, f func() error) error {
	c.mu.Lock()
	before, after, refused := c.hang["before "+op], c.hang["after "+op], c.refuse[op]
	var err error
	if !before && refused == nil {
		err = f()
	}
	c.mu.Unlock()
	if before || after {
		c.lose <- op
		<-ctx.Done()
		return ctx.Err()
	}
	return errors.Join(refused, err)
}

func (c *cabinet) CreateVolume(ctx context.Context, v cloud.VolumeSpec) (cloud.Volume, error) {
	var out cloud.Volume
	err := c.do(ctx, "create", func() error {
		if v.Bytes > 1<<40 {
			return fmt.Errorf("%w: 1 TB is free", cloud.ErrQuota)
		}
		if c.shelf[v.Name] == nil {
			c.shelf[v.Name] = &shelved{Volume: cloud.Volume{ID: v.Name, Name: v.Name, Group: v.Group, Bytes: v.Bytes, Created: time.Now(), Tags: v.Tags}}
		}
		out = c.shelf[v.Name].Volume
		return nil
	})
	return out, err
}

func (c *cabinet) ListVolumes(context.Context) ([]cloud.Volume, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := []cloud.Volume{}
	for _, name := range slices.Sorted(maps.Keys(c.shelf)) {
		list = append(list, c.shelf[name].Volume)
	}
	return list, nil
}

func (c *cabinet) DeleteVolume(ctx context.Context, id string) error {
	return c.do(ctx, "delete", func() error {
		if v := c.shelf[id]; v != nil && v.Instance != "" {
			return cloud.ErrInUse
		}
		delete(c.shelf, id)
		return nil
	})
}

func (c *cabinet) give(volume, instance, group string) error {
	v := c.shelf[volume]
	switch {
	case v == nil:
		return fmt.Errorf("%w: no volume %s", cloud.ErrInvalid, volume)
	case v.Instance == instance:
		return nil
	case v.Instance != "":
		return fmt.Errorf("%w: by %s", cloud.ErrInUse, v.Instance)
	case group != "" && group != v.Group:
		return fmt.Errorf("%w: %s is of group %s", cloud.ErrInvalid, volume, v.Group)
	}
	v.Instance = instance
	v.had = append(v.had, instance)
	return nil
}

func (c *cabinet) Attach(ctx context.Context, volume, instance, _ string) error {
	return c.do(ctx, "attach", func() error { return c.give(volume, instance, "") })
}

func (c *cabinet) Detach(ctx context.Context, volume string) error {
	return c.do(ctx, "detach", func() error {
		if c.open[volume] {
			return cloud.ErrInUse
		}
		if v := c.shelf[volume]; v != nil {
			v.Instance = ""
		}
		return nil
	})
}

func (c *cabinet) GrowVolume(ctx context.Context, id string, bytes int64) error {
	return c.do(ctx, "grow", func() error {
		if bytes > 1<<40 {
			return fmt.Errorf("%w: 1 TB is free", cloud.ErrQuota)
		}
		if c.stiff && c.shelf[id].Instance != "" {
			return fmt.Errorf("%w by %s", cloud.ErrInUse, c.shelf[id].Instance)
		}
		c.shelf[id].Bytes = max(c.shelf[id].Bytes, bytes)
		return nil
	})
}

func (c *cabinet) Snapshot(ctx context.Context, volume, name string) (cloud.Snapshot, error) {
	s := cloud.Snapshot{Name: name, Created: time.Now()}
	return s, c.do(ctx, "snapshot", func() error {
		c.shelf[volume].snapshots = append(c.shelf[volume].snapshots, s)
		return nil
	})
}

func (c *cabinet) ListSnapshots(_ context.Context, volume string) ([]cloud.Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.shelf[volume].snapshots), nil
}

func (c *cabinet) RestoreSnapshot(ctx context.Context, volume, _ string) error {
	return c.do(ctx, "restore", func() error {
		if c.shelf[volume].Instance != "" {
			return cloud.ErrInUse
		}
		return nil
	})
}

func (c *cabinet) DeleteSnapshot(ctx context.Context, volume, name string) error {
	return c.do(ctx, "delete snapshot", func() error {
		c.shelf[volume].snapshots = slices.DeleteFunc(c.shelf[volume].snapshots, func(s cloud.Snapshot) bool { return s.Name == name })
		return nil
	})
}

// Launch gives the volumes first, and takes back those of what did not start.
func (c *cabinet) Launch(ctx context.Context, specs []cloud.Spec) (got []cloud.Instance, err error) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, s := range specs {
			if !slices.ContainsFunc(got, func(i cloud.Instance) bool { return i.Name == s.Name }) {
				c.release(s.Name)
			}
		}
	}()
	err = c.do(ctx, "launch", func() error {
		var errs []error
		for _, s := range specs {
			for _, m := range s.Volumes {
				errs = append(errs, c.give(m.Volume, s.Name, s.Group))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return nil, err
	}
	bare := slices.Clone(specs)
	for i := range bare {
		bare[i].Volumes = nil // they are on this shelf
	}
	return c.Sim.Launch(ctx, bare)
}

func (c *cabinet) release(instance string) {
	for _, v := range c.shelf {
		if v.Instance == instance {
			v.Instance = ""
		}
	}
}

func (c *cabinet) Terminate(ctx context.Context, ids []string) error {
	if err := c.Sim.Terminate(ctx, ids); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		c.release(id)
	}
	return nil
}

// set turns a knob.
func (c *cabinet) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// keeping makes a house whose cloud keeps volumes, with a started service of
// that kind.
func keeping(t *testing.T, webs int) (*house, *cabinet, client, string) {
	t.Helper()
	h := newHouse(t)
	ann := h.user("ann")
	ann.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	ann.done("POST", "/applications/shop/start", nil)
	ann.must("POST", "/applications/shop/services", api.CreateService{Kind: "keeper"}, nil, 201)
	path := "/applications/shop/services/keeper"
	ann.done("POST", path+"/start", nil)
	if webs > 1 {
		ann.done("POST", path+"/scale", api.Scale{Set: map[string]int{"web": webs}})
	}
	return h, h.cabinet, ann, path
}

func (c client) volumes(path string) []api.Volume {
	c.h.t.Helper()
	var list []api.Volume
	c.must("GET", path+"/volumes", nil, &list, 200)
	return list
}

func attachedIDs(list []api.Volume) []string {
	ids := []string{}
	for _, v := range list {
		if v.State == api.VolumeAttached {
			ids = append(ids, v.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// askVolumes does what a manager does before it configures an instance.
func (m *fakeManager) askVolumes(ctx context.Context, d api.DesiredService) error {
	if d.Service.Kind != "keeper" || d.Service.Desired != api.GoalStarted {
		return nil
	}
	for _, i := range d.Instances {
		if i.State == api.InstanceLeaving || i.State == api.InstanceAsked {
			continue
		}
		var got []api.Volume
		err := m.director.Do(ctx, "POST", "/api/v1/manager/volumes", api.VolumesRequest{Service: d.Service.ID, Instance: i.ID, Parts: i.Parts}, &got)
		if err != nil && api.CodeOf(err) != api.CodeNotFound {
			return err
		}
	}
	return nil
}

func TestVolumesOfParts(t *testing.T) {
	t.Parallel()
	h, shelf, ann, path := keeping(t, 2)
	first := ann.volumes(path)
	if ids := attachedIDs(first); len(ids) != 2 || first[0].Instance == first[1].Instance || first[0].Part != "web" || first[0].Name != "data" || first[0].Bytes != 64<<20 {
		t.Fatalf("two webs have: %+v", first)
	}
	ann.done("POST", path+"/stop", nil)
	for _, v := range ann.volumes(path) {
		if v.State != api.VolumeFree || v.Instance == "" {
			t.Errorf("of a stopped service: %+v", v)
		}
	}
	ann.done("POST", path+"/start", nil)
	again := ann.volumes(path)
	if !slices.Equal(attachedIDs(again), attachedIDs(first)) {
		t.Errorf("started again it has %+v, before %+v", again, first)
	}
	// The one that was in use last comes back first.
	ann.done("POST", path+"/scale", api.Scale{Set: map[string]int{"web": 1}})
	left := attachedIDs(ann.volumes(path))
	ann.done("POST", path+"/stop", nil)
	ann.done("POST", path+"/start", nil)
	if now := attachedIDs(ann.volumes(path)); !slices.Equal(now, left) {
		t.Errorf("one web has %v, the last one had %v", now, left)
	}
	// The application stops and starts, and so does the director.
	ann.done("POST", "/applications/shop/stop", nil)
	h.stopDirector()
	h.start()
	ann.done("POST", "/applications/shop/start", nil)
	h.eventually("the volume is back", func() bool { return slices.Equal(attachedIDs(ann.volumes(path)), left) })

	ann.done("PATCH", path+"/settings", map[string]string{"memory": "128M"})
	h.eventually("it has grown", func() bool {
		v := ann.volumes(path)
		i := slices.IndexFunc(v, func(v api.Volume) bool { return v.State == api.VolumeAttached })
		return i >= 0 && v[i].Bytes == 128<<20
	})
	if e := ann.refused("PATCH", path+"/settings", map[string]string{"memory": "32M"}, api.CodeInvalid); !strings.Contains(e.Message, "128 MB") || !strings.Contains(e.Message, "32 MB") {
		t.Errorf("shrinking: %v", e)
	}
	// What the cloud has lost is not made again without a word.
	shelf.set(func() {
		for _, v := range shelf.shelf {
			v.Instance = ""
		}
	})
	ann.done("POST", path+"/stop", nil)
	shelf.set(func() { clear(shelf.shelf) })
	h.d.sweep(t.Context())
	h.d.sweep(t.Context())
	lost := ann.volumes(path)
	if slices.ContainsFunc(lost, func(v api.Volume) bool { return v.State == api.VolumeFailed }) {
		t.Errorf("young ones are given time: %+v", lost)
	}
}

func TestLostVolumeIsNotReplacedByAnEmptyOne(t *testing.T) {
	t.Parallel()
	h, shelf, ann, path := keeping(t, 1)
	ann.done("POST", path+"/stop", nil)
	v := ann.volumes(path)[0]
	if err := h.d.changeVolume(t.Context(), v.ID, func(v *store.Volume) { v.State, v.Reason = api.VolumeFailed, goneFromCloud }); err != nil {
		t.Fatal(err)
	}
	o := ann.finish("POST", path+"/start", nil)
	if o.State != api.OperationFailed || !strings.Contains(o.Error.Error(), v.ID) {
		t.Fatalf("started without its data: %s %v", o.State, o.Error)
	}
	h.d.sweep(t.Context()) // the cloud has it after all
	if got := ann.volumes(path); got[0].State != api.VolumeFree {
		t.Errorf("it came back: %+v", got)
	}
	shelf.set(func() { clear(shelf.shelf) })
	ann.done("DELETE", path+"/volumes/"+v.ID, nil)
	ann.done("POST", path+"/start", nil)
	if got := ann.volumes(path); len(got) != 1 || got[0].ID == v.ID || got[0].State != api.VolumeAttached {
		t.Errorf("after the owner gave it up: %+v", got)
	}
}

// TestVolumesThatGrowOnlyWhileFree is about machines whose kernel or
// privileges let no volume grow while it is in use.
func TestVolumesThatGrowOnlyWhileFree(t *testing.T) {
	t.Parallel()
	_, shelf, ann, path := keeping(t, 1)
	shelf.set(func() { shelf.stiff = true })
	o := ann.finish("PATCH", path+"/settings", map[string]string{"memory": "128M"})
	if o.State != api.OperationFailed || o.Error.Code != api.CodeConflict || !strings.Contains(o.Error.Error(), "stop the service") {
		t.Errorf("grown in use: %s %v", o.State, o.Error)
	}
	ann.done("POST", path+"/stop", nil)
	ann.must("PATCH", path+"/settings", map[string]string{"memory": "128M"}, nil, 200)
	ann.done("POST", path+"/start", nil)
	if v := ann.volumes(path); len(v) != 1 || v[0].Bytes != 128<<20 || v[0].State != api.VolumeAttached {
		t.Errorf("after the next start: %+v", v)
	}
}

func TestQuotaOfVolumes(t *testing.T) {
	t.Parallel()
	h, _, ann, path := keeping(t, 1)
	h.admin.must("PUT", "/users/ann/quota", api.Quota{VolumeBytes: 100 << 20}, nil, 200)
	ann.refused("POST", path+"/volumes", api.CreateVolume{Name: "v", Bytes: 50 << 20}, api.CodeQuota)
	ann.done("POST", path+"/volumes", api.CreateVolume{Name: "v", Bytes: 20 << 20})
	ann.refused("PATCH", path+"/volumes/v", api.ChangeVolume{Bytes: ptr[int64](50 << 20)}, api.CodeQuota)
	ann.refused("PATCH", path+"/settings", map[string]string{"memory": "128M"}, api.CodeQuota)
	if o := ann.finish("POST", path+"/scale", api.Scale{Set: map[string]int{"web": 2}}); o.State != api.OperationFailed || o.Error.Code != api.CodeQuota {
		t.Errorf("one more volume of a part: %s %v", o.State, o.Error)
	}
	h.admin.must("PUT", "/users/ann/quota", api.Quota{VolumeBytes: 300 << 20}, nil, 200)
	ann.done("PATCH", path+"/volumes/v", api.ChangeVolume{Bytes: ptr[int64](50 << 20)})
	ann.done("POST", path+"/scale", api.Scale{Set: map[string]int{"web": 2}})
}

func TestDeletedServicesTakeTheirVolumes(t *testing.T) {
	t.Parallel()
	h, shelf, ann, path := keeping(t, 2)
	o := ann.done("DELETE", path, nil)
	if !strings.Contains(string(o.Request), "data (64 MB)") {
		t.Errorf("the operation does not say what goes: %s", o.Request)
	}
	h.eventually("the volumes are gone", func() bool {
		list, _ := shelf.ListVolumes(t.Context())
		return len(list) == 0 && len(ann.volumes("/applications/shop")) == 0
	})
	ann.must("POST", "/applications/shop/services", api.CreateService{Kind: "keeper"}, nil, 201)
	ann.done("POST", path+"/volumes", api.CreateVolume{Name: "mine", Bytes: 20 << 20})
	shelf.set(func() { shelf.refuse["delete"] = cloud.ErrUnavailable })
	ann.done("DELETE", "/applications/shop", nil)
	time.Sleep(50 * time.Millisecond) // the first try fails
	shelf.set(func() { clear(shelf.refuse) })
	h.d.sweep(t.Context())
	if list, _ := shelf.ListVolumes(t.Context()); len(list) != 0 {
		t.Errorf("left behind: %+v", list)
	}
	if rows, err := h.d.store.Volumes(t.Context()); err != nil || len(rows) != 0 {
		t.Errorf("rows left behind: %+v, %v", rows, err)
	}
}

func TestVolumesOfUsers(t *testing.T) {
	t.Parallel()
	h, shelf, ann, path := keeping(t, 2)
	eve := h.user("eve")
	instances := []api.Instance{}
	ann.must("GET", path+"/instances", nil, &instances, 200)
	make := api.CreateVolume{Name: "photos", Bytes: 100 << 20, Instance: instances[0].ID}
	o := ann.done("POST", path+"/volumes", make)
	if o.Kind != serviceVolume {
		t.Errorf("operation: %+v", o)
	}
	volume := path + "/volumes/photos"
	get := func() api.Volume {
		t.Helper()
		var v api.Volume
		ann.must("GET", volume, nil, &v, 200)
		return v
	}
	if v := get(); v.State != api.VolumeAttached || v.Instance != instances[0].ID || v.Bytes != 100<<20 || v.Part != "" {
		t.Fatalf("made: %+v", v)
	}
	for name, c := range map[string]struct {
		method, path string
		in           any
		code         api.Code
	}{
		"somebody-elses":       {"GET", volume, nil, api.CodeNotFound},
		"name-taken":           {"POST", path + "/volumes", api.CreateVolume{Name: "photos", Bytes: 1 << 20}, api.CodeConflict},
		"name-of-the-kind":     {"POST", path + "/volumes", api.CreateVolume{Name: "data", Bytes: 1 << 20}, api.CodeConflict},
		"no-name":              {"POST", path + "/volumes", api.CreateVolume{Bytes: 1 << 20}, api.CodeInvalid},
		"a-path":               {"POST", path + "/volumes", api.CreateVolume{Name: "../x", Bytes: 1 << 20}, api.CodeInvalid},
		"long-name":            {"POST", path + "/volumes", api.CreateVolume{Name: strings.Repeat("x", 33), Bytes: 1 << 20}, api.CodeInvalid},
		"size-zero":            {"POST", path + "/volumes", api.CreateVolume{Name: "x"}, api.CodeInvalid},
		"size-negative":        {"POST", path + "/volumes", api.CreateVolume{Name: "x", Bytes: -1}, api.CodeInvalid},
		"size-beyond-all":      {"POST", path + "/volumes", api.CreateVolume{Name: "x", Bytes: 1 << 62}, api.CodeInvalid},
		"unknown-instance":     {"POST", path + "/volumes", api.CreateVolume{Name: "x", Bytes: 1 << 20, Instance: "a1-s1-nobody"}, api.CodeNotFound},
		"attached-elsewhere":   {"POST", volume + "/attach", api.AttachVolume{Instance: instances[1].ID}, api.CodeConflict},
		"shrink":               {"PATCH", volume, api.ChangeVolume{Bytes: ptr[int64](1 << 20)}, api.CodeInvalid},
		"grow-to-nothing":      {"PATCH", volume, api.ChangeVolume{}, api.CodeInvalid},
		"detach-a-parts":       {"POST", path + "/volumes/" + ann.part(path) + "/detach", nil, api.CodeConflict},
		"delete-a-parts":       {"DELETE", path + "/volumes/" + ann.part(path), nil, api.CodeConflict},
		"name-of-many":         {"GET", path + "/volumes/data", nil, api.CodeConflict},
		"no-such-snapshot":     {"POST", volume + "/snapshots/x/restore", nil, api.CodeNotFound},
		"snapshots-bad-name":   {"POST", volume + "/snapshots", api.CreateSnapshot{Name: "a b"}, api.CodeInvalid},
		"kind-without-volumes": {"POST", "/applications/shop/services/test/volumes", api.CreateVolume{Name: "x", Bytes: 1 << 20}, api.CodeConflict},
	} {
		who := ann
		if name == "somebody-elses" {
			who = eve
		}
		if name == "kind-without-volumes" {
			ann.must("POST", "/applications/shop/services", api.CreateService{Kind: "test"}, nil, 201)
		}
		t.Run(name, func(t *testing.T) { who.refused(c.method, c.path, c.in, c.code) })
	}
	if o := ann.finish("POST", path+"/volumes", api.CreateVolume{Name: "huge", Bytes: 2 << 40}); o.State != api.OperationFailed || o.Error.Code != api.CodeQuota || !strings.Contains(o.Error.Error(), "1 TB is free") {
		t.Errorf("larger than the disk: %s %v", o.State, o.Error)
	}
	if list := ann.volumes(path); slices.ContainsFunc(list, func(v api.Volume) bool { return v.Name == "huge" }) {
		t.Errorf("what could not be made is still there: %+v", list)
	}

	ann.done("PATCH", volume, api.ChangeVolume{Bytes: ptr[int64](200 << 20)})
	ann.done("POST", volume+"/snapshots", api.CreateSnapshot{Name: "monday"})
	if v := get(); v.Bytes != 200<<20 || len(v.Snapshots) != 1 || v.Snapshots[0].Name != "monday" {
		t.Errorf("grown, with a snapshot: %+v", v)
	}
	ann.refused("POST", volume+"/snapshots/monday/restore", nil, api.CodeConflict)
	ann.refused("POST", volume+"/snapshots", api.CreateSnapshot{Name: "monday"}, api.CodeConflict)

	// Open files, and then a script of the service, keep it where it is.
	id := get().ID
	shelf.set(func() { shelf.open[id] = true })
	for _, try := range []string{"POST " + volume + "/detach", "DELETE " + volume} {
		method, path, _ := strings.Cut(try, " ")
		if o := ann.finish(method, path, nil); o.State != api.OperationFailed || o.Error.Code != api.CodeConflict {
			t.Errorf("%s in use: %s %v", try, o.State, o.Error)
		}
		if v := get(); v.State != api.VolumeAttached || v.Reason != "" {
			t.Errorf("%s in use: %+v", try, v)
		}
	}
	shelf.set(func() { clear(shelf.open) })

	// It comes back to an instance like the one that had it.
	ann.done("POST", path+"/stop", nil)
	if v := get(); v.State != api.VolumeFree {
		t.Errorf("of a stopped service: %+v", v)
	}
	ann.done("POST", volume+"/snapshots/monday/restore", nil)
	ann.done("POST", path+"/start", nil)
	if v := get(); v.State != api.VolumeAttached || v.Instance == instances[0].ID {
		t.Errorf("of the service that was started again: %+v", v)
	}
	ann.done("POST", volume+"/detach", nil)
	if v := get(); v.State != api.VolumeFree || v.Instance != "" {
		t.Errorf("detached: %+v", v)
	}
	ann.done("POST", path+"/stop", nil)
	ann.done("POST", path+"/start", nil)
	if v := get(); v.State != api.VolumeFree {
		t.Errorf("what its owner detached stays so: %+v", v)
	}
	ann.done("DELETE", volume+"/snapshots/monday", nil)
	ann.done("DELETE", volume, nil)
	ann.refused("GET", volume, nil, api.CodeNotFound)
	shelf.mu.Lock()
	defer shelf.mu.Unlock()
	if shelf.shelf[id] != nil {
		t.Error("the cloud still has it")
	}
}

func ptr[T any](v T) *T { return &v }

// part is a volume of a part, attached.
func (c client) part(path string) string {
	c.h.t.Helper()
	return attachedIDs(slices.DeleteFunc(c.volumes(path), func(v api.Volume) bool { return v.Part == "" }))[0]
}

// TestVolumesWhileTheDirectorDies ends the director in each operation on a
// cloud, before it came about and after, and looks what the next one makes of it.
func TestVolumesWhileTheDirectorDies(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"create", "attach", "detach", "delete", "grow", "snapshot", "restore"} {
		for _, when := range []string{"before", "after"} {
			t.Run(when+"-"+op, func(t *testing.T) {
				t.Parallel()
				h, shelf, ann, path := keeping(t, 1)
				var instances []api.Instance
				ann.must("GET", path+"/instances", nil, &instances, 200)
				volume := path + "/volumes/v"
				if op != "create" {
					ann.done("POST", path+"/volumes", api.CreateVolume{Name: "v", Bytes: 20 << 20})
				}
				if op == "restore" {
					ann.done("POST", volume+"/snapshots", api.CreateSnapshot{Name: "s"})
				}
				if op == "detach" {
					ann.done("POST", volume+"/attach", api.AttachVolume{Instance: instances[0].ID})
				}
				ask := map[string]func() (string, string, any){
					"create": func() (string, string, any) {
						return "POST", path + "/volumes", api.CreateVolume{Name: "v", Bytes: 20 << 20, Instance: instances[0].ID}
					},
					"attach": func() (string, string, any) {
						return "POST", volume + "/attach", api.AttachVolume{Instance: instances[0].ID}
					},
					"detach":   func() (string, string, any) { return "POST", volume + "/detach", nil },
					"delete":   func() (string, string, any) { return "DELETE", volume, nil },
					"grow":     func() (string, string, any) { return "PATCH", volume, api.ChangeVolume{Bytes: ptr[int64](30 << 20)} },
					"snapshot": func() (string, string, any) { return "POST", volume + "/snapshots", api.CreateSnapshot{Name: "s"} },
					"restore":  func() (string, string, any) { return "POST", volume + "/snapshots/s/restore", nil },
				}[op]
				shelf.set(func() { shelf.hang[when+" "+op] = true })
				method, to, in := ask()
				var o api.Operation
				ann.must(method, to, in, &o, 202)
				<-shelf.lose
				h.stopDirector()
				shelf.set(func() { clear(shelf.hang) })
				h.start()
				ann.h = h
				if o := ann.wait(o.ID); o.State != api.OperationDone {
					t.Fatalf("after the director's death: %s %v", o.State, o.Error)
				}
				list := slices.DeleteFunc(ann.volumes(path), func(v api.Volume) bool { return v.Part != "" })
				if op == "delete" {
					if len(list) != 0 {
						t.Errorf("deleted: %+v", list)
					}
					return
				}
				want := api.VolumeFree
				if op == "create" || op == "attach" {
					want = api.VolumeAttached
				}
				if len(list) != 1 || list[0].State != want || list[0].Reason != "" || (op == "grow") != (list[0].Bytes == 30<<20) || (op == "snapshot" || op == "restore") != (len(list[0].Snapshots) == 1) {
					t.Errorf("after %s: %+v", op, list)
				}
				shelf.mu.Lock()
				defer shelf.mu.Unlock()
				if len(shelf.shelf) != 2 || (want == api.VolumeAttached) != (shelf.shelf[list[0].ID].Instance == instances[0].ID) {
					t.Errorf("the cloud has %d volumes, this one at %q", len(shelf.shelf), shelf.shelf[list[0].ID].Instance)
				}
			})
		}
	}
}

func TestBusyServicesKeepTheirVolumes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var runs sync.Mutex
	busy := true
	h.answer = func(mux *http.ServeMux) {
		mux.HandleFunc("GET /v1/services/{id}/busy", func(w http.ResponseWriter, _ *http.Request) {
			runs.Lock()
			defer runs.Unlock()
			if busy {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(http.StatusConflict)
				fmt.Fprint(w, `{"code":"conflict","message":"run.sh runs","hint":"interrupt it first"}`)
				return
			}
			fmt.Fprint(w, "{}")
		})
	}
	ann := h.user("ann")
	ann.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	ann.done("POST", "/applications/shop/start", nil)
	ann.must("POST", "/applications/shop/services", api.CreateService{Kind: "keeper"}, nil, 201)
	path := "/applications/shop/services/keeper"
	ann.done("POST", path+"/start", nil)
	var instances []api.Instance
	ann.must("GET", path+"/instances", nil, &instances, 200)
	ann.done("POST", path+"/volumes", api.CreateVolume{Name: "v", Bytes: 20 << 20, Instance: instances[0].ID})
	if o := ann.finish("POST", path+"/volumes/v/detach", nil); o.State != api.OperationFailed || !strings.Contains(o.Error.Error(), "run.sh runs") {
		t.Errorf("detached from under a script: %s %v", o.State, o.Error)
	}
	runs.Lock()
	busy = false
	runs.Unlock()
	ann.done("DELETE", path+"/volumes/v", nil)
}

func TestJudge(t *testing.T) {
	t.Parallel()
	now := time.Now()
	old := now.Add(-time.Hour)
	has := func(bytes, used int64, instance string) *cloud.Volume {
		return &cloud.Volume{Bytes: bytes, Used: used, Instance: instance}
	}
	row := func(state api.VolumeState, since time.Time) store.Volume {
		return store.Volume{CloudID: "v", Volume: api.Volume{State: state, Since: since, Bytes: 1 << 30, Instance: "i1"}}
	}
	failed := row(api.VolumeFailed, old)
	failed.Reason = goneFromCloud
	unmade := row(api.VolumeAsked, old)
	unmade.CloudID, unmade.Instance = "", ""
	for name, c := range map[string]struct {
		row   store.Volume
		there *cloud.Volume
		state api.VolumeState
		used  int64
	}{
		"free":                   {row(api.VolumeFree, old), has(1<<30, 0, ""), api.VolumeFree, 0},
		"missing":                {row(api.VolumeFree, old), nil, api.VolumeFailed, 0},
		"missing-and-young":      {row(api.VolumeAttached, now), nil, api.VolumeAttached, 0},
		"leaving":                {row(api.VolumeLeaving, old), nil, api.VolumeLeaving, 0},
		"back-free":              {failed, has(1<<30, 0, ""), api.VolumeFree, 0},
		"back-at-its-instance":   {failed, has(1<<30, 0, "i1"), api.VolumeAttached, 0},
		"back-at-another":        {failed, has(1<<30, 0, "i2"), api.VolumeFree, 0},
		"little-more-used":       {row(api.VolumeAttached, old), has(1<<30, 1<<20, "i1"), api.VolumeAttached, 0},
		"first-data":             {row(api.VolumeAttached, old), has(1<<30, 5<<20, "i1"), api.VolumeAttached, 5 << 20},
		"much-more-used":         {row(api.VolumeAttached, old), has(1<<30, 100<<20, "i1"), api.VolumeAttached, 100 << 20},
		"never-made-nobody-asks": {unmade, nil, api.VolumeLeaving, 0},
	} {
		t.Run(name, func(t *testing.T) {
			v := c.row
			changed := judge(&v, c.there, now)
			if v.State != c.state || v.Used != c.used || changed != (v.State != c.row.State || v.Used != c.row.Used) {
				t.Errorf("got %s, used %d, changed %t", v.State, v.Used, changed)
			}
		})
	}
}

// TestWhoGetsWhichVolume is about the rows alone: what a new instance of a
// service gets of the volumes there are.
func TestWhoGetsWhichVolume(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.user("ann").must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	h.admin.must("POST", "/applications/1/services", api.CreateService{Kind: "keeper"}, nil, 201)
	type row struct {
		id, cloud, instance, reason string
		state                       api.VolumeState
		ago                         time.Duration
		used                        int64
	}
	free := func(id string, ago time.Duration) row {
		return row{id: id, state: api.VolumeFree, ago: ago, instance: "gone"}
	}
	refused := "refused"
	for name, c := range map[string]struct {
		rows []row
		want string // id, "new" or "refused"
	}{
		"nothing-there":            {nil, "new"},
		"a-free-one":               {[]row{free("a", 0)}, "a"},
		"the-one-used-last":        {[]row{free("a", time.Hour), free("b", time.Minute), free("c", 2*time.Hour)}, "b"},
		"rather-with-data":         {[]row{{id: "a", state: api.VolumeFree, ago: time.Hour, used: 5 << 20}, free("b", 0)}, "a"},
		"at-once-the-fuller":       {[]row{free("a", 0), {id: "b", state: api.VolumeFree, used: 5}}, "b"},
		"its-own":                  {[]row{free("a", 0), {id: "b", state: api.VolumeAttached, instance: "me"}}, "b"},
		"promised-before":          {[]row{free("a", 0), {id: "b", state: api.VolumeAsked, instance: "me"}}, "b"},
		"another-ones":             {[]row{{id: "a", state: api.VolumeAttached, instance: "other"}}, "new"},
		"never-used":               {[]row{{id: "a", state: api.VolumeAsked}}, "a"},
		"rather-used":              {[]row{{id: "a", state: api.VolumeAsked}, free("b", time.Hour)}, "b"},
		"being-deleted":            {[]row{{id: "a", state: api.VolumeLeaving}}, "new"},
		"lost":                     {[]row{{id: "a", state: api.VolumeFailed, reason: goneFromCloud}}, refused},
		"lost-and-an-older-one":    {[]row{{id: "a", state: api.VolumeFailed, reason: goneFromCloud}, free("b", time.Hour)}, refused},
		"lost-while-others-live":   {[]row{{id: "a", state: api.VolumeFailed, reason: goneFromCloud}, {id: "b", state: api.VolumeAttached, instance: "other"}}, "new"},
		"being-restored":           {[]row{{id: "a", state: api.VolumeFree, reason: beingChanged + volumeRestore}}, refused},
		"in-another-cloud":         {[]row{{id: "a", state: api.VolumeFree, cloud: "other"}}, refused},
		"in-both":                  {[]row{{id: "a", state: api.VolumeFree, cloud: "other"}, free("b", time.Hour)}, "b"},
		"elsewhere-while-one-live": {[]row{{id: "a", state: api.VolumeFree, cloud: "other"}, {id: "b", state: api.VolumeAttached, instance: "other", cloud: "other"}}, "new"},
	} {
		t.Run(name, func(t *testing.T) {
			undo := errors.New("leave no trace")
			err := h.d.write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				s, err := tx.ServiceByID(ctx, 1, 1)
				if err != nil {
					return err
				}
				for _, r := range c.rows {
					v := store.Volume{OwnerID: s.OwnerID, CloudID: r.id, Volume: api.Volume{ID: r.id, Application: 1, Service: 1, Name: "data", Part: "web", Cloud: cmp.Or(r.cloud, "default"),
						Instance: r.instance, Reason: r.reason, State: r.state, Used: r.used, Since: tx.Now().Add(-r.ago)}}
					if _, err := tx.InsertVolume(ctx, v); err != nil {
						return err
					}
				}
				err = h.d.reserve(ctx, tx, s, store.Instance{Instance: api.Instance{ID: "me", Application: 1, Service: 1, Cloud: "default", Parts: []string{"web"}}}, []string{"web"})
				if c.want == refused || err != nil {
					if (c.want == refused) != (err != nil) {
						t.Errorf("got %v", err)
					}
					return undo
				}
				rows, err := tx.InstanceVolumes(ctx, "me")
				if err != nil {
					return err
				}
				if len(rows) != 1 || (c.want != "new" && rows[0].ID != c.want) || (c.want == "new" && (rows[0].CloudID != "" || rows[0].State != api.VolumeAsked)) {
					t.Errorf("got %+v, want %s", rows, c.want)
				}
				return undo
			})
			if !errors.Is(err, undo) {
				t.Fatal(err)
			}
		})
	}
}

// TestStrayVolumesAreLeftAlone is about disks that no row knows, after a
// director's data was put back from an old backup for example.
func TestStrayVolumesAreLeftAlone(t *testing.T) {
	t.Parallel()
	h, shelf, ann, path := keeping(t, 1)
	shelf.set(func() {
		shelf.shelf["a9-s9-vstray"] = &shelved{Volume: cloud.Volume{ID: "a9-s9-vstray", Name: "a9-s9-vstray", Created: time.Now().Add(-time.Hour)}}
	})
	for range 3 {
		h.d.sweep(t.Context())
	}
	if told, _ := h.d.strays.Load("default/a9-s9-vstray"); told != false {
		t.Errorf("the log was not told of it: %v", told)
	}
	shelf.set(func() {
		if len(shelf.shelf) != 2 {
			t.Errorf("volumes left: %d", len(shelf.shelf))
		}
		shelf.shelf[slices.Sorted(maps.Keys(shelf.shelf))[0]].Used = 30 << 20
	})
	h.d.sweep(t.Context())
	if v := ann.volumes(path); len(v) != 1 || v[0].State != api.VolumeAttached || v[0].Used != 30<<20 {
		t.Errorf("its own: %+v", v)
	}
}
