package director

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// dropVolumes marks the volumes of a service that is deleted, and deletes them
// once that is stored. Those that a cloud keeps for now, because their instance
// has not ended yet, the sweep deletes.
func (d *Director) dropVolumes(ctx context.Context, t *store.Tx, s store.Service) error {
	rows, err := t.ServiceVolumes(ctx, s.Application, s.ID)
	if err != nil || len(rows) == 0 {
		return err
	}
	for _, v := range rows {
		v.State, v.Reason = api.VolumeLeaving, "its service was deleted"
		if err := t.SaveVolume(ctx, v); err != nil {
			return err
		}
	}
	t.After(func() { d.goWork(d.deleteVolumes) })
	return nil
}

// doomed names the volumes that a deletion takes with it, for the operation.
func doomed(ctx context.Context, t *store.Tx, application, service int64) ([]string, error) {
	rows, err := t.ServiceVolumes(ctx, application, service)
	var names []string
	for _, v := range rows {
		if v.State != api.VolumeLeaving {
			names = append(names, fmt.Sprintf("%s %s (%d MB)", v.ID, v.Name, v.Bytes>>20))
		}
	}
	return names, err
}

// withVolumes adds the names of volumes to a request of an operation.
func withVolumes(request json.RawMessage, names []string) (json.RawMessage, error) {
	all := map[string]any{}
	if len(request) > 0 {
		if err := json.Unmarshal(request, &all); err != nil {
			return nil, err
		}
	}
	all["volumes"] = names
	return json.Marshal(all)
}

// deleteVolumes deletes what is marked so. Rows go when the cloud has done it.
func (d *Director) deleteVolumes(ctx context.Context) {
	rows, err := d.store.LeavingVolumes(ctx)
	if err != nil {
		d.c.Log.Warn("volumes not deleted", "error", err)
		return
	}
	for _, v := range rows {
		if ctx.Err() != nil {
			return
		}
		if err := d.deleteVolumeNow(ctx, v); err != nil {
			d.c.Log.Warn("volume not deleted, the sweep tries again", "app", v.Application, "volume", v.ID, "error", err)
		}
	}
}

func (d *Director) deleteVolumeNow(ctx context.Context, v store.Volume) error {
	p, err := d.place(v.Cloud)
	if err != nil {
		return err
	}
	driver, err := p.volumes()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, volumesTime)
	defer cancel()
	if err := driver.DeleteVolume(ctx, v.InCloud()); err != nil {
		return volumeError("delete", v, err)
	}
	d.c.Log.Info("volume deleted", "app", v.Application, "service", v.Service, "volume", v.ID, "why", v.Reason)
	return d.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.DeleteVolume(ctx, v) })
}

// sweepVolumes compares rows with the volumes that clouds really have. A volume
// that no row knows may hold somebody's data: it is told of and left alone.
func (d *Director) sweepVolumes(ctx context.Context, p *place) error {
	driver, err := p.volumes()
	if err != nil {
		return nil //nolint:nilerr // a cloud without volumes has none to look at
	}
	list, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	got, err := driver.ListVolumes(list)
	if err != nil {
		return err
	}
	rows, err := d.store.Volumes(ctx) // after the cloud: what is made in between is in both
	if err != nil {
		return err
	}
	have, known := map[string]*cloud.Volume{}, map[string]bool{}
	for i := range got {
		have[got[i].Name] = &got[i]
	}
	now := d.c.Now()
	var differ []string
	for _, v := range rows {
		if v.Cloud != p.name {
			continue
		}
		known[v.ID] = true
		c := have[v.ID]
		if c != nil {
			d.strays.Delete("missing " + v.ID)
		} else if _, missed := d.strays.LoadOrStore("missing "+v.ID, true); !missed {
			continue // made since the cloud was asked, perhaps: the next sweep knows
		}
		if judge(&v, c, now) {
			differ = append(differ, v.ID)
		}
	}
	for _, c := range got {
		if known[c.Name] || now.Sub(c.Created) <= youth {
			continue
		}
		key := p.name + "/" + c.Name // told of once, when it is seen the second time: it may just have been deleted
		if fresh, seen := d.strays.LoadOrStore(key, true); seen && fresh == true {
			d.strays.Store(key, false)
			d.c.Log.Warn("the cloud has a volume that no row knows; it is left alone", "cloud", p.name, "volume", c.Name, "bytes", c.Bytes, "used", c.Used,
				"hint", "delete it by the cloud's own means if nobody needs it")
		}
	}
	if len(differ) == 0 {
		return nil
	}
	return d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		for _, id := range differ {
			v, err := t.Volume(ctx, id)
			if err != nil || !judge(&v, have[id], now) {
				continue // it was deleted or changed in between
			}
			if err := t.SaveVolume(ctx, v); err != nil {
				return err
			}
		}
		return nil
	})
}

const goneFromCloud = "its cloud does not have it any more"

// judge makes a row fit what its cloud has, and reports whether it changed.
func judge(v *store.Volume, c *cloud.Volume, now time.Time) bool {
	young := now.Sub(v.Since) < youth
	switch {
	case v.State == api.VolumeLeaving:
		return false
	case v.CloudID == "":
		// Asked for by what has ended since; it never held anything.
		if v.State == api.VolumeAsked && v.Instance == "" && now.Sub(v.Since) > 3*volumesTime {
			v.State, v.Reason = api.VolumeLeaving, "nobody needs it any more"
			return true
		}
		return false
	case c == nil && (young || v.State == api.VolumeFailed):
		return false
	case c == nil:
		v.State, v.Reason = api.VolumeFailed, goneFromCloud
		return true
	case v.State == api.VolumeFailed && v.Reason == goneFromCloud:
		if v.State, v.Reason = api.VolumeFree, ""; c.Instance != "" && c.Instance == v.Instance {
			v.State = api.VolumeAttached
		}
		return true
	}
	changed := false
	if c.Bytes > v.Bytes {
		v.Bytes, changed = c.Bytes, true
	}
	// Written when it tells something new: that there is data, or a hundredth of the volume.
	if diff := max(c.Used-v.Used, v.Used-c.Used); diff > 1<<20 && (v.Used == 0 || diff > v.Bytes/100) {
		v.Used, changed = c.Used, true
	}
	return changed
}
