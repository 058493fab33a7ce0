package shelf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"nutshell/cloud"
)

// Holder is an instance that can have volumes. Its lock is the driver's, and
// is taken before any volume's.
type Holder struct {
	Name, Group string
}

// Attach gives a volume to an instance.
func (s *Shelf) Attach(ctx context.Context, volume, instance, name string) error {
	s.c.Ready(ctx)
	if err := cloud.CheckName(instance); err != nil {
		return fmt.Errorf("instance: %w", err)
	}
	h, release, err := s.c.Hold(ctx, instance)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: there is no such instance", cloud.ErrInvalid)
	}
	if err == nil {
		defer release()
		err = s.attach(ctx, volume, h, name)
	}
	if err != nil {
		return fmt.Errorf("attach volume %.40s to %s: %w", volume, instance, err)
	}
	return nil
}

func (s *Shelf) attach(ctx context.Context, id string, h Holder, name string) error {
	if err := cloud.CheckMountName(name); err != nil {
		return err
	}
	have, err := s.Held(h.Name)
	if err != nil {
		return err
	}
	for _, other := range have {
		if other.Mount == name && other.Name != id {
			return fmt.Errorf("%w: the instance has volume %s at the name %s", cloud.ErrInvalid, other.Name, name)
		}
	}
	r, unlock, err := s.open(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if err := free(r, h); err != nil {
		return err
	}
	if r.Holder == h.Name && r.Mount != name {
		return fmt.Errorf("%w: the instance has it at the name %s", cloud.ErrInvalid, r.Mount)
	}
	if r.Holder == "" {
		// A holder that has just ended may still write; two must never.
		if err := s.c.Keeper.Idle(ctx, r); err != nil {
			return err
		}
		r.Holder, r.Mount = h.Name, name
		if err := s.save(r); err != nil {
			return err
		}
	}
	err = s.c.Keeper.Show(ctx, r)
	if err != nil && ctx.Err() == nil && s.c.Keeper.Hide(ctx, r) == nil {
		// It is not there, so it must not count as there.
		r.Holder, r.Mount = "", ""
		err = errors.Join(err, s.save(r))
	}
	return err
}

// free says whether the instance could have the volume.
func free(r Record, h Holder) error {
	if r.Holder != "" && r.Holder != h.Name {
		return fmt.Errorf("%w: instance %s has it", cloud.ErrInUse, r.Holder)
	}
	if r.Group != h.Group {
		return fmt.Errorf("%w: it is of group %q, the instance of %q", cloud.ErrInvalid, r.Group, h.Group)
	}
	return nil
}

// Detach takes a volume from the instance that has it.
func (s *Shelf) Detach(ctx context.Context, volume string) error {
	s.c.Ready(ctx)
	if err := cloud.CheckName(volume); err != nil {
		return fmt.Errorf("volume: %w", err)
	}
	r, err := s.load(volume)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no volume %s: %w", cloud.ErrInvalid, volume, err)
	}
	if err != nil || r.Holder == "" {
		return err
	}
	// The instance's lock comes first; should another have the volume by then,
	// whoever gave it there wants that more recently.
	_, release, err := s.c.Hold(ctx, r.Holder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone since, and the volume is free
	}
	if err != nil {
		return err
	}
	defer release()
	return s.detach(ctx, volume, r.Holder)
}

// detach takes a volume from the instance, whose lock the caller has. If
// another one has it, or none, nothing is done.
func (s *Shelf) detach(ctx context.Context, id, instance string) error {
	r, unlock, err := s.open(ctx, id)
	if err != nil {
		return fmt.Errorf("detach volume %.40s: %w", id, err)
	}
	defer unlock()
	if r.Holder != instance || instance == "" {
		return nil
	}
	if err = s.c.Keeper.Hide(ctx, r); err == nil {
		r.Holder, r.Mount = "", ""
		err = s.save(r)
	}
	if err != nil {
		return fmt.Errorf("detach volume %s from %s: %w", id, instance, err)
	}
	return nil
}

// Held returns the volumes that an instance has.
func (s *Shelf) Held(instance string) ([]Record, error) {
	all, err := s.records()
	if err != nil {
		return nil, err
	}
	var list []Record
	for _, r := range all {
		if r.Holder == instance {
			list = append(list, r)
		}
	}
	return list, nil
}

// Arrange gives an instance that does not run, and whose lock the caller has,
// these volumes and no others. It changes nothing if it cannot have them all.
func (s *Shelf) Arrange(ctx context.Context, h Holder, mounts []cloud.Mount) error {
	want := map[string]string{}
	for _, m := range mounts {
		r, err := s.load(m.Volume)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: there is no such volume", cloud.ErrInvalid)
		}
		if err == nil {
			err = free(r, h)
		}
		if err != nil {
			return fmt.Errorf("volume %s: %w", m.Volume, err)
		}
		want[m.Volume] = m.Name
	}
	have, err := s.Held(h.Name)
	if err != nil {
		return err
	}
	for _, r := range have {
		if want[r.Name] == r.Mount {
			continue
		}
		if err := s.detach(ctx, r.Name, h.Name); err != nil {
			return err
		}
	}
	for _, m := range mounts {
		if err := s.attach(ctx, m.Volume, h, m.Name); err != nil {
			return fmt.Errorf("volume %s: %w", m.Volume, err)
		}
	}
	return nil
}

// Release takes all volumes from an instance that has ended, and whose lock
// the caller has.
func (s *Shelf) Release(ctx context.Context, instance string) error {
	have, err := s.Held(instance)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range have {
		errs = append(errs, s.detach(ctx, r.Name, instance))
	}
	return errors.Join(errs...)
}
