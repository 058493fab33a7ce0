package director

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
	"nutshell/roles/internal/operation"
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

// volumeChange is the request of such an operation.
type volumeChange struct {
	Do       string `json:"do"`
	Volume   string `json:"volume"` // id
	Name     string `json:"name"`
	Bytes    int64  `json:"bytes,omitempty"`
	Instance string `json:"instance,omitempty"`
	Snapshot string `json:"snapshot,omitempty"`
}

// volumeOrder is a change of one volume. The service itself stays as it is.
func (d *Director) volumeOrder(application, service int64, c volumeChange) order {
	o := order{kind: serviceVolume, title: c.Do + " volume " + c.Name + " of", application: application, service: service, request: c,
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

// runVolume carries out a change of a volume. It may be called again from the
// start after the director's death: what is done already is not done twice.
func (d *Director) runVolume(ctx context.Context, run *operation.Run, o store.Operation) error {
	var c volumeChange
	if err := json.Unmarshal(o.Request, &c); err != nil {
		return fmt.Errorf("operation %s: %w", o.ID, err)
	}
	v, err := d.store.Volume(ctx, c.Volume)
	if err != nil {
		if api.CodeOf(err) == api.CodeNotFound && c.Do == volumeDelete {
			return nil // done before
		}
		return err
	}
	p, err := d.place(v.Cloud)
	if err != nil {
		return err
	}
	switch c.Do {
	case volumeCreate:
		return d.runCreate(ctx, run, p, v, c)
	case volumeAttach:
		return d.runAttach(ctx, run, p, v, c.Instance)
	case volumeDetach:
		run.Undo("the volume stays attached", func(ctx context.Context) error { return d.unmark(ctx, v.ID) })
		return d.runDetach(ctx, run, p, v)
	case volumeDelete:
		return d.runDelVolume(ctx, run, p, v)
	case volumeGrow:
		if err := run.Step(ctx, fmt.Sprintf("grow to %d MB", c.Bytes>>20)); err != nil {
			return err
		}
		_, err := d.grown(ctx, p, v, c.Bytes)
		return err
	}
	return d.runSnapshot(ctx, run, p, v, c)
}

// changeVolume changes the row of a volume as it is now.
func (d *Director) changeVolume(ctx context.Context, id string, f func(*store.Volume)) error {
	return d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		v, err := t.Volume(ctx, id)
		if err != nil {
			return err
		}
		f(&v)
		return t.SaveVolume(ctx, v)
	})
}

func (d *Director) unmark(ctx context.Context, id string) error {
	return d.changeVolume(ctx, id, func(v *store.Volume) {
		if v.State != api.VolumeFailed {
			v.Reason = ""
		}
	})
}

func (d *Director) runCreate(ctx context.Context, run *operation.Run, p *place, v store.Volume, c volumeChange) error {
	run.Undo("delete the volume", func(ctx context.Context) error {
		if err := d.changeVolume(ctx, v.ID, func(v *store.Volume) { v.State, v.Reason, v.Instance = api.VolumeLeaving, "it could not be made", "" }); err != nil {
			return err
		}
		return d.deleteVolumeNow(ctx, v)
	})
	if err := run.Step(ctx, fmt.Sprintf("make %d MB", v.Bytes>>20)); err != nil {
		return err
	}
	v, err := d.made(ctx, p, v)
	if err != nil {
		return err
	}
	next := func(v *store.Volume) { v.State, v.Reason = api.VolumeFree, "" }
	if c.Instance == "" {
		return d.changeVolume(ctx, v.ID, next)
	}
	row, err := d.store.Instance(ctx, c.Instance)
	if err != nil {
		return err
	}
	err = d.changeVolume(ctx, v.ID, func(v *store.Volume) {
		if v.State != api.VolumeAttached { // it is, where this runs again
			v.State, v.Reason, v.Instance, v.Held = api.VolumeAsked, "", row.ID, row.Parts
		}
	})
	if err != nil {
		return err
	}
	if v, err = d.store.Volume(ctx, v.ID); err != nil {
		return err
	}
	return d.runAttach(ctx, run, p, v, row.ID)
}

func (d *Director) runAttach(ctx context.Context, run *operation.Run, p *place, v store.Volume, instance string) error {
	row, err := d.store.Instance(ctx, instance)
	if err != nil {
		return err
	}
	run.Undo("detach the volume", func(ctx context.Context) error {
		if driver, err := p.volumes(); err != nil {
			return err
		} else if err := driver.Detach(ctx, v.InCloud()); err != nil {
			return volumeError("detach", v, err)
		}
		return d.changeVolume(ctx, v.ID, func(v *store.Volume) { v.State, v.Instance, v.Held = api.VolumeFree, "", nil })
	})
	if err := run.Step(ctx, "attach to "+row.ID); err != nil {
		return err
	}
	_, err = d.attach(ctx, p, v, row)
	return err
}

// runDetach takes a volume away from its instance, unless the service uses it.
func (d *Director) runDetach(ctx context.Context, run *operation.Run, p *place, v store.Volume) error {
	if err := run.Step(ctx, "detach from "+v.Instance); err != nil {
		return err
	}
	driver, err := p.volumes()
	if err != nil {
		return err
	}
	if v.Wanted() {
		if err := d.unused(ctx, v); err != nil {
			return err
		}
		if err := driver.Detach(ctx, v.InCloud()); err != nil {
			return volumeError("detach", v, err)
		}
	}
	return d.changeVolume(ctx, v.ID, func(v *store.Volume) { v.State, v.Instance, v.Held, v.Reason = api.VolumeFree, "", nil, "" })
}

// unused asks the service's manager whether the volume may go. Where nobody
// answers, the cloud still tells when files are open.
func (d *Director) unused(ctx context.Context, v store.Volume) error {
	a, err := d.store.ApplicationByID(ctx, v.Application)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, called)
	defer cancel()
	err = d.call(ctx, a, http.MethodGet, "/v1/services/"+strconv.FormatInt(v.Service, 10)+"/busy", nil, nil)
	switch api.CodeOf(err) {
	case api.CodeUnavailable, api.CodeDeadline, api.CodeNotFound:
		d.c.Log.Warn("nobody could say whether a volume is in use", "app", v.Application, "volume", v.ID, "error", err)
		return ctx.Err()
	}
	return err
}

func (d *Director) runDelVolume(ctx context.Context, run *operation.Run, p *place, v store.Volume) error {
	run.Undo("the volume stays", func(ctx context.Context) error {
		now, err := d.store.Volume(ctx, v.ID)
		if err != nil || now.State == api.VolumeLeaving { // begun: the sweep ends it
			return err
		}
		return d.unmark(ctx, v.ID)
	})
	if v.Wanted() {
		if err := d.runDetach(ctx, run, p, v); err != nil {
			return err
		}
	}
	if err := run.Step(ctx, "delete it"); err != nil {
		return err
	}
	err := d.changeVolume(ctx, v.ID, func(v *store.Volume) { v.State, v.Reason = api.VolumeLeaving, "its owner deleted it" })
	if api.CodeOf(err) == api.CodeNotFound { // where this runs again, the sweep may have been quicker
		return nil
	}
	if err != nil {
		return err
	}
	return d.deleteVolumeNow(ctx, v)
}

func (d *Director) runSnapshot(ctx context.Context, run *operation.Run, p *place, v store.Volume, c volumeChange) error {
	driver, ok := p.driver.(cloud.Snapshots)
	if !ok {
		return &api.Error{Code: api.CodeInvalid, Op: c.Do, Object: "volume " + c.Name, Message: "cloud " + p.name + " keeps no snapshots"}
	}
	if err := run.Step(ctx, c.Do+" "+c.Snapshot); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotTime)
	defer cancel()
	var err error
	switch c.Do {
	case volumeSnapshot:
		run.Undo("delete the snapshot", func(ctx context.Context) error { return driver.DeleteSnapshot(ctx, v.CloudID, c.Snapshot) })
		var kept []cloud.Snapshot
		if kept, err = driver.ListSnapshots(ctx, v.CloudID); err == nil && !slices.ContainsFunc(kept, func(s cloud.Snapshot) bool { return s.Name == c.Snapshot }) {
			_, err = driver.Snapshot(ctx, v.CloudID, c.Snapshot)
		}
	case volumeRestore:
		run.Undo("the volume can be used again", func(ctx context.Context) error { return d.unmark(ctx, v.ID) })
		err = driver.RestoreSnapshot(ctx, v.CloudID, c.Snapshot)
	case snapshotDelete:
		err = driver.DeleteSnapshot(ctx, v.CloudID, c.Snapshot)
	}
	if err != nil {
		return volumeError(c.Do, v, err)
	}
	kept, err := driver.ListSnapshots(ctx, v.CloudID)
	if err != nil {
		return volumeError(c.Do, v, err)
	}
	return d.changeVolume(ctx, v.ID, func(v *store.Volume) {
		v.Snapshots = []api.Snapshot{}
		for _, s := range kept {
			v.Snapshots = append(v.Snapshots, api.Snapshot{Name: s.Name, Bytes: s.Bytes, Created: s.Created.UTC()})
		}
		slices.SortFunc(v.Snapshots, func(a, b api.Snapshot) int { return strings.Compare(b.Name, a.Name) })
		if strings.HasPrefix(v.Reason, beingChanged) {
			v.Reason = ""
		}
	})
}

const (
	mostSnapshots = 32
	snapshotTime  = 30 * time.Minute // copying a large volume where the file system cannot share
)
