package nodes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"nutshell/cloud"
	"nutshell/cloud/wire"
)

// A volume lies on one machine, and the instances that have it run there. One
// that no instance ever had is made anew where it is wanted first.

var (
	_ cloud.Clustered = (*driver)(nil)
	_ cloud.Stopper   = (*driver)(nil)
	_ cloud.Layered   = (*driver)(nil)
	_ cloud.Mixed     = (*driver)(nil)
	_ cloud.Gateway   = (*driver)(nil)
	_ cloud.Console   = (*driver)(nil)
	_ cloud.Volumes   = (*driver)(nil)
	_ cloud.Snapshots = (*driver)(nil)
	_ cloud.Closer    = (*driver)(nil)
)

// lockVolume keeps orders for one volume apart. No instance's name has a blank.
func (d *driver) lockVolume(ctx context.Context, id string) (func(), error) {
	return d.names.Lock(ctx, "volume "+id)
}

// CreateVolume makes a volume on the machine that has the most free memory, or
// on the next that has the disk for it.
func (d *driver) CreateVolume(ctx context.Context, v cloud.VolumeSpec) (cloud.Volume, error) {
	if err := v.Check(); err != nil {
		return cloud.Volume{}, err
	}
	f, list, err := d.machines(ctx)
	if err != nil {
		return cloud.Volume{}, err
	}
	unlock, err := d.lockVolume(ctx, v.Name)
	if err != nil {
		return cloud.Volume{}, err
	}
	defer unlock()
	d.mu.Lock()
	have, known := d.book.Volumes[v.Name]
	d.mu.Unlock()
	if known && have.Group != v.Group {
		return cloud.Volume{}, fmt.Errorf("%w: create volume %s: it exists in group %q", cloud.ErrInvalid, v.Name, have.Group)
	}
	if m, there := f[have.Machine]; known && there && (m.Up || !have.Fresh) {
		if !have.Created.IsZero() {
			return have.Volume, nil
		}
		return d.createOn(ctx, v, have.Machine) // asked for before, and never heard of
	}
	tried := map[string]bool{}
	var errs []error
	for range tries {
		d.mu.Lock()
		machine, err := place(0, d.candidates(cloud.Spec{Group: v.Group}, list, tried))
		d.mu.Unlock()
		if err != nil {
			errs = append(errs, err)
			break
		}
		got, err := d.createOn(ctx, v, machine)
		if err == nil {
			return got, nil
		}
		errs = append(errs, fmt.Errorf("on %s: %w", f.name(machine), err))
		if tried[machine] = true; ctx.Err() != nil || len(tried) == len(list) {
			break
		}
	}
	return cloud.Volume{}, errors.Join(errs...)
}

// createOn writes down where the volume will be before it asks for it. The
// caller holds the volume's lock.
func (d *driver) createOn(ctx context.Context, v cloud.VolumeSpec, machine string) (cloud.Volume, error) {
	d.mu.Lock()
	old, known := d.book.Volumes[v.Name]
	if known && old.Machine != machine {
		mark(d.book.StaleVolumes, old.Machine, v.Name)
	}
	unmark(d.book.StaleVolumes, machine, v.Name)
	d.book.Volumes[v.Name] = volume{cloud.Volume{ID: v.Name, Name: v.Name, Group: v.Group, Bytes: v.Bytes, Tags: v.Tags}, machine, true}
	err := d.save()
	d.mu.Unlock()
	if err != nil {
		return cloud.Volume{}, err
	}
	got, err := d.createFar(ctx, machine, v)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		d.book.Volumes[v.Name] = volume{got, machine, true}
	case errors.Is(err, wire.ErrUnreached):
		return cloud.Volume{}, err // it may be there: the next try asks the same machine
	default:
		delete(d.book.Volumes, v.Name)
	}
	return got, errors.Join(err, d.save())
}

// ListVolumes asks all machines. What a machine has that does not answer is
// listed as it was: a volume is gone when its machine was removed.
func (d *driver) ListVolumes(ctx context.Context) ([]cloud.Volume, error) {
	f, list, err := d.machines(ctx)
	if err != nil {
		return nil, err
	}
	d.forgetRemoved(f)
	all := make([][]cloud.Volume, len(list))
	_ = cloud.Each(list, func(n int, m cloud.Machine) error {
		all[n] = d.rememberedVolumes(m.ID)
		if !m.Up || d.hangs(m.ID) {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, listTime)
		defer cancel()
		got, err := d.volumesOn(ctx, m)
		if err != nil {
			d.log.Warn("machine does not tell what volumes it has, they are taken for unchanged", "machine", m.ID, "error", err)
			return nil
		}
		all[n] = d.compareVolumes(m.ID, got) //nolint:contextcheck // as in list
		return nil
	})
	found := slices.Concat(all...)
	slices.SortFunc(found, func(a, b cloud.Volume) int { return strings.Compare(a.Name, b.Name) })
	return found, ctx.Err()
}

func (d *driver) rememberedVolumes(machine string) (list []cloud.Volume) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, v := range d.book.Volumes {
		if v.Machine != machine || v.Created.IsZero() {
			continue
		}
		if _, there := d.book.Instances[v.Instance]; !there {
			v.Instance = "" // it was given up with its machine
		}
		list = append(list, v.Volume)
	}
	return list
}

// compareVolumes takes over what a machine said. It forgets nothing: DeleteVolume
// does, and a volume that a machine has lost is missed by who listed it.
func (d *driver) compareVolumes(machine string, got []cloud.Volume) (list []cloud.Volume) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dirty := false
	for _, v := range got {
		e, known := d.book.Volumes[v.Name]
		switch {
		case d.book.StaleVolumes[machine][v.Name]:
			go d.deleteStale(machine, v.Name)
			continue
		case known && e.Machine != machine:
			// Both may hold data, and which is right is for people to say.
			d.log.Error("two machines have a volume of one name", "volume", v.Name, "used", e.Machine, "other", machine)
			continue
		case !known || !sameVolume(e.Volume, v):
			d.book.Volumes[v.Name] = volume{v, machine, e.Fresh && v.Instance == ""}
			dirty = true
		}
		list = append(list, v)
	}
	if dirty {
		if err := d.save(); err != nil {
			d.log.Error("book of the cluster not written", "error", err)
		}
	}
	return list
}

// sameVolume compares what matters; the use of a volume changes all the time.
func sameVolume(a, b cloud.Volume) bool {
	return a.Bytes == b.Bytes && a.Instance == b.Instance && a.Created.Equal(b.Created) && maps.Equal(a.Tags, b.Tags)
}

// deleteStale removes an empty volume that was made elsewhere, too.
func (d *driver) deleteStale(machine, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	if err := d.far(machine).DeleteVolume(ctx, name); err != nil {
		d.log.Warn("empty volume not removed, the next look at the machine tries again", "machine", machine, "volume", name, "error", err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	unmark(d.book.StaleVolumes, machine, name)
	if err := d.save(); err != nil {
		d.log.Error("book of the cluster not written", "error", err)
	}
}

// dataOf is the machine that has the volumes of a spec; empty: any will do. The
// caller holds mu.
func (d *driver) dataOf(s cloud.Spec, f fleet) (string, error) {
	machine := ""
	for _, m := range s.Volumes {
		v, known := d.book.Volumes[m.Volume]
		switch {
		case !known:
			return "", fmt.Errorf("%w: there is no volume %s", cloud.ErrInvalid, m.Volume)
		case v.Fresh:
		case !f[v.Machine].Up:
			return "", away(v, f)
		case machine != "" && machine != v.Machine:
			return "", fmt.Errorf("%w: its volumes are on %s and on %s", cloud.ErrInvalid, f.name(machine), f.name(v.Machine))
		default:
			machine = v.Machine
		}
	}
	return machine, nil
}

func away(v volume, f fleet) error {
	return fmt.Errorf("%w: volume %s is on %s, which does not answer: bring that machine back, or delete the volume and restore a backup", cloud.ErrUnavailable, v.Name, f.name(v.Machine))
}

// bring makes volumes that no instance ever had anew on the machine where one
// wants them, and takes note that one has them now.
func (d *driver) bring(ctx context.Context, mounts []cloud.Mount, machine string) error {
	for _, m := range mounts {
		if err := d.bringOne(ctx, m.Volume, machine); err != nil {
			return fmt.Errorf("volume %s: %w", m.Volume, err)
		}
	}
	return nil
}

func (d *driver) bringOne(ctx context.Context, id, machine string) error {
	unlock, err := d.lockVolume(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	d.mu.Lock()
	v, known := d.book.Volumes[id]
	d.mu.Unlock()
	if !known || v.Machine == machine && !v.Fresh {
		return nil
	}
	if !v.Fresh {
		return fmt.Errorf("%w: it lies on another machine", cloud.ErrInvalid)
	}
	if v.Machine != machine || v.Created.IsZero() {
		if _, err := d.createOn(ctx, cloud.VolumeSpec{Name: v.Name, Group: v.Group, Bytes: v.Bytes, Tags: v.Tags}, machine); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v = d.book.Volumes[id]
	v.Fresh = false
	d.book.Volumes[id] = v
	return d.save()
}

// onVolume passes an order on to the machine of a volume.
func (d *driver) onVolume(ctx context.Context, id string, do func(c *wire.Client, v volume) error) error {
	f, _, err := d.machines(ctx)
	if err != nil {
		return err
	}
	unlock, err := d.lockVolume(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	d.mu.Lock()
	v, known := d.book.Volumes[id]
	d.mu.Unlock()
	if _, there := f[v.Machine]; !known || !there {
		if err := cloud.CheckName(id); err != nil {
			return err
		}
		return fmt.Errorf("%w: %w %s", cloud.ErrInvalid, errNone, id)
	}
	if !f[v.Machine].Up {
		return away(v, f)
	}
	return do(d.far(v.Machine), v)
}

var errNone = errors.New("there is no volume")

// DeleteVolume removes a volume with its snapshots. One on a lost machine is
// removed when that machine is back or was removed itself.
func (d *driver) DeleteVolume(ctx context.Context, id string) error {
	err := d.onVolume(ctx, id, func(c *wire.Client, _ volume) error {
		if err := c.DeleteVolume(ctx, id); err != nil {
			return err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.book.Volumes, id)
		return d.save()
	})
	if errors.Is(err, errNone) || cloud.CheckName(id) != nil {
		return nil
	}
	return err
}

// Attach gives a volume to an instance on the same machine.
func (d *driver) Attach(ctx context.Context, id, instance, name string) error {
	d.mu.Lock()
	i, known := d.book.Instances[instance]
	v := d.book.Volumes[id]
	d.mu.Unlock()
	if known && v.Fresh && v.Group == i.Group && cloud.CheckMountName(name) == nil {
		if err := d.bring(ctx, []cloud.Mount{{Volume: id, Name: name}}, i.Machine); err != nil {
			return err
		}
	}
	return d.onVolume(ctx, id, func(c *wire.Client, v volume) error {
		if known && v.Machine != i.Machine {
			return fmt.Errorf("%w: volume %s is on %s and instance %s on %s, and data does not move between machines", cloud.ErrInvalid, id, v.Machine, instance, i.Machine)
		}
		return d.noteHolder(v, instance, c.Attach(ctx, id, instance, name))
	})
}

// Detach takes a volume away. One whose machine is lost, with the instance that
// had it given up, is free.
func (d *driver) Detach(ctx context.Context, id string) error {
	err := d.onVolume(ctx, id, func(c *wire.Client, v volume) error { return d.noteHolder(v, "", c.Detach(ctx, id)) })
	if errors.Is(err, cloud.ErrUnavailable) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if v := d.book.Volumes[id]; d.book.Stale[v.Machine][v.Instance] {
			return nil
		}
	}
	return err
}

// GrowVolume makes it at least this large.
func (d *driver) GrowVolume(ctx context.Context, id string, bytes int64) error {
	return d.onVolume(ctx, id, func(c *wire.Client, v volume) error {
		if err := c.GrowVolume(ctx, id, bytes); err != nil {
			return err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		v.Bytes = max(v.Bytes, bytes) // the size to make it with where it is wanted first
		d.book.Volumes[id] = v
		return d.save()
	})
}

// Snapshot keeps what a volume holds now, on the same machine.
func (d *driver) Snapshot(ctx context.Context, id, name string) (s cloud.Snapshot, err error) {
	err = d.onVolume(ctx, id, func(c *wire.Client, _ volume) error {
		s, err = c.Snapshot(ctx, id, name)
		return err
	})
	return s, err
}

// ListSnapshots returns a volume's snapshots.
func (d *driver) ListSnapshots(ctx context.Context, id string) (list []cloud.Snapshot, err error) {
	err = d.onVolume(ctx, id, func(c *wire.Client, _ volume) error {
		list, err = c.ListSnapshots(ctx, id)
		return err
	})
	return list, err
}

// RestoreSnapshot puts a volume back.
func (d *driver) RestoreSnapshot(ctx context.Context, id, name string) error {
	return d.onVolume(ctx, id, func(c *wire.Client, _ volume) error { return c.RestoreSnapshot(ctx, id, name) })
}

// DeleteSnapshot forgets one.
func (d *driver) DeleteSnapshot(ctx context.Context, id, name string) error {
	err := d.onVolume(ctx, id, func(c *wire.Client, _ volume) error { return c.DeleteSnapshot(ctx, id, name) })
	if errors.Is(err, errNone) {
		return nil
	}
	return err
}
