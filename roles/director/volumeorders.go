package director

import (
	"context"
	"fmt"
	"slices"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// What an operation of kind service.volume does.
const (
	volumeCreate   = "create"
	volumeAttach   = "attach"
	volumeDetach   = "detach"
	volumeDelete   = "delete"
	volumeGrow     = "grow"
	volumeSnapshot = "snapshot"
	volumeRestore  = "restore"
	snapshotDelete = "delete snapshot"
)

// beingChanged begins the reason of a volume that an operation works on, which
// keeps it from being given away meanwhile.
const beingChanged = "being changed: "

const (
	mostSnapshots = 32
	snapshotTime  = 30 * time.Minute // copying a large volume where the file system cannot share
)

// volumeChange is the request of such an operation.
type volumeChange struct {
	Do       string `json:"do"`
	Volume   string `json:"volume"` // id
	Name     string `json:"name"`
	Bytes    int64  `json:"bytes,omitempty"`
	Instance string `json:"instance,omitempty"`
	Snapshot string `json:"snapshot,omitempty"`
	Now      bool   `json:"now,omitempty"` // of a deletion: for good, instead of into the bin
}

// volumeOrder is a change of one volume. The service itself stays as it is.
func (d *Director) volumeOrder(application, service int64, c volumeChange) order {
	o := order{kind: serviceVolume, sort: c.Do, title: c.Do + " volume " + c.Name + " of", application: application, service: service, request: c,
		change: func(ctx context.Context, t *store.Tx, _ *store.Application, s *store.Service) (bool, error) {
			if s.Deleting {
				return false, api.Conflictf("service %s is being deleted", s.Name)
			}
			return d.beginVolume(ctx, t, *s, c)
		}}
	switch c.Do {
	case volumeDelete:
		o.title, o.final = "delete volume "+c.Name+" with all that it holds, of", true
	case volumeSnapshot:
		o.title = "take snapshot " + c.Snapshot + " of volume " + c.Name + " of"
	case volumeRestore:
		o.title, o.final = "put volume "+c.Name+" back to snapshot "+c.Snapshot+", of", true
	case snapshotDelete:
		o.title, o.final = "delete snapshot "+c.Snapshot+" of volume "+c.Name+" of", true
	}
	return o
}

func volumeRefused(c volumeChange, message, hint string, fields ...string) error {
	return &api.Error{Code: api.CodeConflict, Op: c.Do, Object: "volume " + c.Name, Message: message, Hint: hint, Fields: fields}
}

// beginVolume refuses what cannot be, and stores what must be stored before
// the cloud is asked.
func (d *Director) beginVolume(ctx context.Context, t *store.Tx, s store.Service, c volumeChange) (bool, error) {
	if c.Do == volumeCreate {
		return false, d.beginCreate(ctx, t, s, c)
	}
	v, err := t.Volume(ctx, c.Volume)
	if err != nil {
		return false, err
	}
	has := v.Wanted()
	switch {
	case v.State == api.VolumeLeaving:
		return false, volumeRefused(c, "it is being deleted", "")
	case v.State == api.VolumeFailed && c.Do != volumeDelete:
		return false, volumeRefused(c, "it cannot be used: "+v.Reason, "")
	case v.CloudID == "" && c.Do != volumeDelete:
		return false, volumeRefused(c, "it is not there yet", "try again in a moment")
	case has && v.Part != "" && (c.Do == volumeDetach || c.Do == volumeDelete):
		return false, volumeRefused(c, "instance "+v.Instance+" needs it for its part "+v.Part, "it is free when that instance is gone")
	case c.Do == volumeAttach:
		return d.beginAttach(ctx, t, s, v, c)
	case c.Do == volumeDetach && !has:
		return v.Instance == "", keepFree(ctx, t, v)
	case c.Do == volumeGrow && c.Bytes == v.Bytes:
		return true, nil
	case c.Do == volumeGrow && c.Bytes < v.Bytes:
		return false, &api.Error{Code: api.CodeInvalid, Op: c.Do, Object: "volume " + c.Name, Message: fmt.Sprintf("it has %d MB, and %d MB are less: volumes only grow", v.Bytes>>20, c.Bytes>>20), Fields: []string{"bytes"}}
	case c.Do == volumeGrow:
		return false, d.roomFor(ctx, t, v.OwnerID, api.Quota{VolumeBytes: c.Bytes - v.Bytes})
	case c.Do == volumeRestore && has:
		return false, volumeRefused(c, "instance "+v.Instance+" has it", "detach it, or stop the service, first")
	case c.Do == volumeDetach || c.Do == volumeDelete || c.Do == volumeRestore:
		v.Reason = beingChanged + c.Do // nobody gets it meanwhile
		return false, t.SaveVolume(ctx, v)
	case c.Do == volumeSnapshot && slices.ContainsFunc(v.Snapshots, func(s api.Snapshot) bool { return s.Name == c.Snapshot }):
		return false, volumeRefused(c, "it has a snapshot "+c.Snapshot+" already", "choose another name", "name")
	case c.Do == volumeSnapshot && len(v.Snapshots) >= mostSnapshots:
		return false, volumeRefused(c, fmt.Sprintf("it has %d snapshots, as many as are allowed", len(v.Snapshots)), "delete old ones first")
	}
	return false, nil
}

// keepFree forgets who had a free volume, so that no new instance inherits it.
func keepFree(ctx context.Context, t *store.Tx, v store.Volume) error {
	v.Instance, v.Held = "", nil
	return t.SaveVolume(ctx, v)
}

func (d *Director) beginCreate(ctx context.Context, t *store.Tx, s store.Service, c volumeChange) error {
	kind, err := d.c.Services.Get(s.Kind)
	if err != nil {
		return err
	}
	if !kind.Volumes {
		return volumeRefused(c, "services of kind "+kind.Name+" take no volumes of users", "")
	}
	for _, p := range kind.Parts {
		if p.Volume != nil && p.Volume.Name == c.Name {
			return volumeRefused(c, "the kind itself has volumes of this name", "choose another name", "name")
		}
	}
	where := s.Cloud
	if c.Instance != "" {
		row, err := d.holder(ctx, t, s, c)
		if err != nil {
			return err
		}
		where = row.Cloud
	}
	p, err := d.place(where)
	if err != nil {
		return err
	}
	if _, err := p.volumes(); err != nil {
		return err
	}
	if err := d.roomFor(ctx, t, s.OwnerID, api.Quota{VolumeBytes: c.Bytes}); err != nil {
		return err
	}
	_, err = t.InsertVolume(ctx, store.Volume{OwnerID: s.OwnerID, Volume: api.Volume{ID: c.Volume, Application: s.Application, Service: s.ID, Name: c.Name,
		Cloud: p.name, Bytes: c.Bytes, State: api.VolumeAsked, Reason: beingChanged + c.Do}})
	return err
}

// holder finds the instance that a volume is for.
func (d *Director) holder(ctx context.Context, t *store.Tx, s store.Service, c volumeChange) (store.Instance, error) {
	row, err := t.Instance(ctx, c.Instance)
	if err != nil || row.Application != s.Application || row.Service != s.ID {
		return row, &api.Error{Code: api.CodeNotFound, Op: c.Do, Object: "volume " + c.Name, Message: "service " + s.Name + " has no instance " + api.Shorten(c.Instance), Fields: []string{"instance"}}
	}
	if row.State == api.InstanceLeaving {
		return row, volumeRefused(c, "instance "+row.ID+" is leaving", "choose another", "instance")
	}
	have, err := t.InstanceVolumes(ctx, row.ID)
	if err != nil {
		return row, err
	}
	have = slices.DeleteFunc(have, func(v store.Volume) bool { return !v.Wanted() })
	if len(have) >= mostVolumes {
		return row, volumeRefused(c, fmt.Sprintf("instance %s has %d volumes, as many as are allowed", row.ID, len(have)), "choose another", "instance")
	}
	return row, nil
}

func (d *Director) beginAttach(ctx context.Context, t *store.Tx, s store.Service, v store.Volume, c volumeChange) (bool, error) {
	row, err := d.holder(ctx, t, s, c)
	switch {
	case err != nil:
		return false, err
	case v.Part != "":
		return false, volumeRefused(c, "it belongs to the part "+v.Part, "instances with that part get it by themselves")
	case v.Wanted() && v.Instance == row.ID && v.State == api.VolumeAttached:
		return true, nil
	case v.Wanted() && v.Instance != row.ID:
		return false, volumeRefused(c, "instance "+v.Instance+" has it", "detach it first")
	case v.Cloud != row.Cloud:
		return false, volumeRefused(c, "it is in cloud "+v.Cloud+", and instance "+row.ID+" in "+row.Cloud, "choose an instance of its cloud", "instance")
	}
	v.State, v.Instance, v.Held = api.VolumeAsked, row.ID, row.Parts
	return false, t.SaveVolume(ctx, v)
}
