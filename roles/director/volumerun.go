package director

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"nutshell/cloud"
	"nutshell/roles/api"
	"nutshell/roles/internal/operation"
	"nutshell/roles/internal/store"
)

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
		return d.runDelVolume(ctx, run, p, v, c.Now)
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
	default:
		return err
	}
}

func (d *Director) runDelVolume(ctx context.Context, run *operation.Run, p *place, v store.Volume, forGood bool) error {
	if v.Binned != "" { // done before
		return nil
	}
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
	if !forGood && d.binKeep() > 0 && v.CloudID != "" && v.State != api.VolumeFailed {
		if err := run.Step(ctx, "put it into the bin"); err != nil {
			return err
		}
		return d.binVolume(ctx, run, v)
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
