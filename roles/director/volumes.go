package director

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

// mostVolumes bounds the volumes of one instance.
const mostVolumes = 16

// volumesTime bounds what one instance's volumes may take: making a large one
// on a slow disk is the longest.
const volumesTime = 5 * time.Minute

// volumesOf is the part of a cloud that keeps data apart from instances.
func (p *place) volumes() (cloud.Volumes, error) {
	if p.broken != nil {
		return nil, p.broken
	}
	v, ok := p.driver.(cloud.Volumes)
	if !ok {
		return nil, &api.Error{Code: api.CodeInvalid, Object: "cloud " + p.name, Message: "it cannot keep volumes", Hint: "use another cloud for this service", Fields: []string{"cloud"}}
	}
	return v, nil
}

// reserve gives an instance the volumes that its parts need, in the rows only:
// free ones, the one in use last before others so that the newest data wins, or
// new ones. Which instance has a volume is decided here and nowhere else, in
// the transaction that decides on the instance, so that no two have one.
func (d *Director) reserve(ctx context.Context, t *store.Tx, s store.Service, instance store.Instance, parts []string) error {
	kind, err := d.c.Services.Get(s.Kind)
	if err != nil {
		return err
	}
	for _, p := range kind.Parts {
		if p.Volume == nil || !slices.Contains(parts, p.Name) {
			continue
		}
		if err := d.reserveFor(ctx, t, s, instance, p, parts); err != nil {
			return err
		}
	}
	return nil
}

func (d *Director) reserveFor(ctx context.Context, t *store.Tx, s store.Service, instance store.Instance, p services.Part, parts []string) error {
	all, err := t.ServiceVolumes(ctx, s.Application, s.ID)
	if err != nil {
		return err
	}
	var free []store.Volume
	var missed *store.Volume // data that is not at hand
	alive := false           // another instance has the service's data
	for _, v := range all {
		switch {
		case v.Part != p.Name || v.State == api.VolumeLeaving:
		case v.Wanted() && v.Instance == instance.ID:
			return nil
		case v.Wanted():
			alive = true
		case v.State == api.VolumeFailed, v.Reason != "":
			missed = &v
		case v.Cloud == instance.Cloud:
			free = append(free, v)
		case v.State == api.VolumeFree && missed == nil:
			missed = &v
		}
	}
	elsewhere := missed != nil && missed.State == api.VolumeFree && missed.Reason == ""
	if missed != nil && !alive && (!elsewhere || len(free) == 0) {
		return notAtHand(s, *missed)
	}
	if len(free) > 0 {
		v := slices.MaxFunc(free, newer)
		v.State, v.Instance, v.Held = api.VolumeAsked, instance.ID, parts
		return t.SaveVolume(ctx, v)
	}
	place, err := d.place(instance.Cloud)
	if err != nil {
		return err
	}
	if _, err := place.volumes(); err != nil {
		return err
	}
	bytes := p.Volume.Bytes(s.Settings)
	if err := d.roomFor(ctx, t, s.OwnerID, api.Quota{VolumeBytes: bytes}); err != nil {
		return err
	}
	_, err = t.InsertVolume(ctx, store.Volume{OwnerID: s.OwnerID, Held: parts, Volume: api.Volume{ID: newVolumeID(s), Application: s.Application, Service: s.ID,
		Name: p.Volume.Name, Part: p.Name, Cloud: instance.Cloud, Bytes: bytes, Instance: instance.ID, State: api.VolumeAsked}})
	return err
}

// notAtHand keeps a service from starting while some of its data is out of
// reach: an empty volume, or an old one, in its place would look like lost
// data, to its users and to the service itself. It is another thing while
// other instances run, from which a new one learns what there is.
func notAtHand(s store.Service, v store.Volume) error {
	e := &api.Error{Code: api.CodeUnavailable, Op: "start", Object: "service " + s.Name, Message: "its volume " + v.ID + " cannot be used: " + v.Reason,
		Hint: "bring it back, or delete it to go on without what it held"}
	switch {
	case v.State == api.VolumeFailed:
	case v.Reason != "":
		e.Hint = "wait until that is done"
	default:
		e.Code, e.Message, e.Hint = api.CodeConflict, "its data is on volumes in cloud "+v.Cloud, "start it there, or delete those volumes to begin without their data"
	}
	return e
}

// newer orders free volumes of a part by how likely they hold the newest data:
// one that was never used comes last, and before it one that holds nothing, as
// a start that failed leaves it, however late that was.
func newer(a, b store.Volume) int {
	return cmp.Or(cmp.Compare(btoi(a.State == api.VolumeFree), btoi(b.State == api.VolumeFree)), cmp.Compare(btoi(a.Used > 0), btoi(b.Used > 0)), a.Since.Compare(b.Since), cmp.Compare(a.Used, b.Used), b.Created.Compare(a.Created), cmp.Compare(b.ID, a.ID))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func newVolumeID(s store.Service) string {
	return fmt.Sprintf("a%d-s%d-v%s", s.Application, s.ID, api.NewID(6))
}

// inherit gives a new instance the volumes of users that one with the same
// parts had when it ended: a service that is started again finds its data
// where it was.
func (d *Director) inherit(ctx context.Context, t *store.Tx, s store.Service, instance store.Instance) error {
	all, err := t.ServiceVolumes(ctx, s.Application, s.ID)
	if err != nil {
		return err
	}
	orphan := func(v store.Volume) bool {
		return v.Part == "" && v.State == api.VolumeFree && v.Reason == "" && v.Instance != "" && v.Cloud == instance.Cloud && slices.Equal(v.Held, instance.Parts)
	}
	last := ""
	var since time.Time
	for _, v := range all {
		if orphan(v) && (last == "" || v.Since.After(since)) {
			last, since = v.Instance, v.Since
		}
	}
	for _, v := range all {
		if last == "" || v.Instance != last || !orphan(v) {
			continue
		}
		v.State, v.Instance = api.VolumeAsked, instance.ID
		if err := t.SaveVolume(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

// mounts are the volumes that an instance has from its start on. Those that do
// not exist yet are made.
func (d *Director) mounts(ctx context.Context, p *place, instance string) ([]cloud.Mount, error) {
	rows, err := d.store.InstanceVolumes(ctx, instance)
	if err != nil {
		return nil, err
	}
	var list []cloud.Mount
	for _, v := range rows {
		if !v.Wanted() {
			continue
		}
		if v, err = d.made(ctx, p, v); err != nil {
			return nil, err
		}
		// Before the start, because some machines cannot do it while the volume is in use.
		wanted, err := d.wantedSize(ctx, v)
		if err != nil {
			return nil, err
		}
		if _, err := d.grown(ctx, p, v, wanted); err != nil && !errors.Is(err, cloud.ErrInUse) {
			return nil, err
		}
		list = append(list, cloud.Mount{Volume: v.CloudID, Name: v.Name})
	}
	return list, nil
}

// made makes a volume in its cloud unless that is done. One that the cloud has
// lost is not made again: it would be empty.
func (d *Director) made(ctx context.Context, p *place, v store.Volume) (store.Volume, error) {
	if v.CloudID != "" {
		return v, nil
	}
	driver, err := p.volumes()
	if err != nil {
		return v, err
	}
	ctx, cancel := context.WithTimeout(ctx, volumesTime)
	defer cancel()
	got, err := driver.CreateVolume(ctx, cloud.VolumeSpec{Name: v.ID, Group: groupOf(v.Application), Bytes: max(v.Bytes, cloud.MinVolume), Tags: map[string]string{
		"application": strconv.FormatInt(v.Application, 10), "service": strconv.FormatInt(v.Service, 10), "name": v.Name, "part": v.Part}})
	if err != nil {
		return v, volumeError("create", v, err)
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		now, err := t.Volume(ctx, v.ID)
		if err != nil {
			return err
		}
		now.CloudID, now.Bytes = got.ID, max(got.Bytes, now.Bytes)
		v = now
		return t.SaveVolume(ctx, now)
	})
	return v, err
}

func groupOf(application int64) string { return "a" + strconv.FormatInt(application, 10) }

// volumeError says what a cloud said of a volume.
func volumeError(op string, v store.Volume, err error) error {
	var known *api.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	object := "volume " + v.Name + " (" + v.ID + ")"
	switch {
	case errors.Is(err, cloud.ErrInUse) && op == "grow":
		return &api.Error{Code: api.CodeConflict, Op: op, Object: object, Message: "it is in use", Hint: "stop the service, make it larger, and start the service again", Err: err}
	case errors.Is(err, cloud.ErrInUse):
		return &api.Error{Code: api.CodeConflict, Op: op, Object: object, Message: "it is in use", Hint: "stop what uses it first", Err: err}
	case errors.Is(err, cloud.ErrQuota):
		return &api.Error{Code: api.CodeQuota, Op: op, Object: object, Hint: "ask for less, or free some space", Fields: []string{"bytes"}, Err: err}
	case errors.Is(err, cloud.ErrInvalid):
		return &api.Error{Code: api.CodeInvalid, Op: op, Object: object, Err: err}
	}
	return cloudError(op, object, err)
}

// attached stores that a cloud has given volumes to an instance.
func attached(ctx context.Context, t *store.Tx, instance string, mounts []cloud.Mount) error {
	rows, err := t.InstanceVolumes(ctx, instance)
	if err != nil {
		return err
	}
	for _, v := range rows {
		if v.State != api.VolumeAsked || !slices.ContainsFunc(mounts, func(m cloud.Mount) bool { return m.Volume == v.CloudID }) {
			continue
		}
		v.State = api.VolumeAttached
		if err := t.SaveVolume(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

// giveVolumes makes, attaches and grows, for a manager, the volumes that parts
// of one of its instances need. Asking twice changes nothing.
func (d *Director) giveVolumes(ctx context.Context, in *struct{ Body api.VolumesRequest }) ([]api.Volume, error) {
	id := httpapi.Who(ctx).Identity
	var row store.Instance
	var s store.Service
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		var err error
		if s, err = t.ServiceByID(ctx, id.Application, in.Body.Service); err != nil {
			return err
		}
		if row, err = t.Instance(ctx, in.Body.Instance); err != nil {
			return err
		}
		if row.Application != id.Application || row.Service != s.ID || row.State == api.InstanceLeaving {
			return api.NotFoundf("service %s has no instance %s", s.Name, api.Shorten(in.Body.Instance))
		}
		return d.reserve(ctx, t, s, row, in.Body.Parts)
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), volumesTime)
	defer cancel()
	if err := d.attachAll(ctx, row, in.Body.Parts); err != nil {
		return nil, err
	}
	rows, err := d.store.InstanceVolumes(ctx, row.ID)
	list := []api.Volume{}
	for _, v := range rows {
		if v.State == api.VolumeAttached {
			list = append(list, v.Volume)
		}
	}
	return list, err
}

func (d *Director) attachAll(ctx context.Context, instance store.Instance, parts []string) error {
	p, err := d.place(instance.Cloud)
	if err != nil {
		return err
	}
	rows, err := d.store.InstanceVolumes(ctx, instance.ID)
	if err != nil {
		return err
	}
	for _, v := range rows {
		if !v.Wanted() || !slices.Contains(parts, v.Part) {
			continue
		}
		if v, err = d.attach(ctx, p, v, instance); err != nil {
			return err
		}
		wanted, err := d.wantedSize(ctx, v)
		if err != nil {
			return err
		}
		if _, err := d.grown(ctx, p, v, wanted); err != nil {
			return err
		}
	}
	return nil
}

// attach gives an instance in its cloud a volume that it has in the rows.
func (d *Director) attach(ctx context.Context, p *place, v store.Volume, instance store.Instance) (store.Volume, error) {
	v, err := d.made(ctx, p, v)
	if err != nil {
		return v, err
	}
	driver, err := p.volumes()
	if err != nil {
		return v, err
	}
	if err := driver.Attach(ctx, v.CloudID, cloudIDs([]store.Instance{instance})[0], v.Name); err != nil {
		return v, volumeError("attach", v, err)
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		now, err := t.Volume(ctx, v.ID)
		if err != nil {
			return err
		}
		if v = now; !now.Wanted() || now.Instance != instance.ID {
			return api.Conflictf("instance %s has ended while volume %s was attached to it", instance.ID, v.Name)
		}
		v.State = api.VolumeAttached
		return t.SaveVolume(ctx, v)
	})
	return v, err
}

// volumesTold are those that a service's manager knows of: all that are not
// being deleted, without what changes all the time.
func volumesTold(ctx context.Context, v store.View, s store.Service) ([]api.Volume, error) {
	rows, err := v.ServiceVolumes(ctx, s.Application, s.ID)
	var list []api.Volume
	for _, r := range rows {
		if r.State == api.VolumeLeaving {
			continue
		}
		r.Used, r.Snapshots = 0, []api.Snapshot{}
		list = append(list, r.Volume)
	}
	return list, err
}
