package nodes

import (
	"context"
	"fmt"
	"net/netip"

	"nutshell/cloud"
	"nutshell/cloud/wire"
)

// A machine that somebody took over says what it likes. It owns what runs on
// it, and must not get at anything else by its answers.

// mostTold is how many instances, volumes or snapshots a machine may tell of.
const mostTold = 4096

// believe refuses an instance that a machine cannot have: ids are names, so that
// one does not stand for another's, and its address is in the machine's network.
// Addresses outside are not the machine's to choose.
func (d *driver) believe(m cloud.Machine, i cloud.Instance) (cloud.Instance, error) {
	if err := cloud.CheckName(i.Name); err != nil {
		return i, err
	}
	if i.ID != i.Name {
		return i, fmt.Errorf("%w: instance %s has the id %.40q", cloud.ErrInvalid, i.Name, i.ID)
	}
	if i.Group != "" {
		if err := cloud.CheckName(i.Group); err != nil {
			return i, fmt.Errorf("group of instance %s: %w", i.Name, err)
		}
	}
	if a, err := netip.ParseAddr(i.Address); i.Address != "" && (err != nil || d.layered && m.Subnet.IsValid() && !m.Subnet.Contains(a)) {
		return i, fmt.Errorf("%w: instance %s has the address %.40q, which is not in the machine's network %s", cloud.ErrInvalid, i.Name, i.Address, m.Subnet)
	}
	i.Machine, i.Public = m.ID, d.publicOf(i.Name)
	return i, nil
}

func believeVolume(v cloud.Volume) error {
	if err := cloud.CheckName(v.Name); err != nil {
		return err
	}
	if v.ID != v.Name || v.Bytes < 0 || v.Bytes > cloud.MaxVolume || v.Used < 0 {
		return fmt.Errorf("%w: volume %s has the id %.40q, %d bytes, %d of them used", cloud.ErrInvalid, v.Name, v.ID, v.Bytes, v.Used)
	}
	return nil
}

// listOn asks a machine what it has. What cannot be is left out and told of.
func (d *driver) listOn(ctx context.Context, m cloud.Machine) ([]cloud.Instance, error) {
	got, err := d.far(m.ID).List(ctx)
	if err != nil {
		return nil, err
	}
	return sift(d, m, "instances", got, func(i cloud.Instance) (cloud.Instance, error) { return d.believe(m, i) })
}

func (d *driver) volumesOn(ctx context.Context, m cloud.Machine) ([]cloud.Volume, error) {
	got, err := d.far(m.ID).ListVolumes(ctx)
	if err != nil {
		return nil, err
	}
	return sift(d, m, "volumes", got, func(v cloud.Volume) (cloud.Volume, error) { return v, believeVolume(v) })
}

func sift[T any](d *driver, m cloud.Machine, what string, got []T, believe func(T) (T, error)) ([]T, error) {
	if len(got) > mostTold {
		return nil, fmt.Errorf("%w: it tells of %d %s", cloud.ErrInvalid, len(got), what)
	}
	var good []T
	var first error
	for _, g := range got {
		g, err := believe(g)
		if err == nil {
			good = append(good, g)
		} else if first == nil {
			first = err
		}
	}
	if first != nil {
		d.log.Warn("machine tells of what it cannot have, which is not believed", "machine", m.ID, "name", m.Name, "what", what, "count", len(got)-len(good), "first", first)
	}
	return good, nil
}

// launchFar launches one instance and looks whether the answer is about it.
func (d *driver) launchFar(ctx context.Context, m cloud.Machine, s cloud.Spec) (cloud.Instance, error) {
	// Layers may take many minutes on their way to a slow card. Who does not
	// answer in the meantime is lost, and that is found out without this call.
	ctx, stop := d.whileUp(ctx, m.ID)
	defer stop()
	got, err := d.far(m.ID).Launch(ctx, []cloud.Spec{s})
	if err != nil {
		return cloud.Instance{}, err
	}
	if len(got) != 1 {
		return cloud.Instance{}, fmt.Errorf("%w: the machine launched %d instances in place of one", cloud.ErrUnavailable, len(got))
	}
	i, err := d.believe(m, got[0])
	if err == nil && (i.Name != s.Name || i.Group != s.Group || i.Address == "") {
		err = fmt.Errorf("it was asked for instance %s of group %q and has launched %s of %q at %q", s.Name, s.Group, i.Name, i.Group, i.Address)
	}
	if err != nil {
		return cloud.Instance{}, fmt.Errorf("%w: the machine's answer is not believed: %v", cloud.ErrUnavailable, err) //nolint:errorlint // its kind is the machine's fault, not the order's
	}
	return i, nil
}

// createFar does the same for a volume.
func (d *driver) createFar(ctx context.Context, machine string, v cloud.VolumeSpec) (cloud.Volume, error) {
	got, err := d.far(machine).CreateVolume(ctx, v)
	if err != nil {
		return got, err
	}
	if err := believeVolume(got); err != nil || got.Name != v.Name || got.Group != v.Group {
		return cloud.Volume{}, fmt.Errorf("%w: the machine's answer is not believed: it was asked for volume %s of group %q and made %.40q of %.40q", wire.ErrUnreached, v.Name, v.Group, got.Name, got.Group)
	}
	return got, nil
}
