package cloudtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"nutshell/cloud"
)

// simVolume is a volume in memory. What it holds is on disk if Sim.Media is set.
type simVolume struct {
	vol   cloud.Volume
	mount string
	snaps []cloud.Snapshot
}

var (
	_ cloud.Volumes   = (*Sim)(nil)
	_ cloud.Snapshots = (*Sim)(nil)
)

// CreateVolume gives volumes of at most Disk bytes together.
func (s *Sim) CreateVolume(ctx context.Context, v cloud.VolumeSpec) (cloud.Volume, error) {
	if err := s.delay(ctx); err != nil {
		return cloud.Volume{}, err
	}
	if err := v.Check(); err != nil {
		return cloud.Volume{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.volumes[v.Name]; ok {
		if have.vol.Group != v.Group {
			return cloud.Volume{}, fmt.Errorf("%w: it exists in group %q", cloud.ErrInvalid, have.vol.Group)
		}
		return have.vol, nil
	}
	if err := s.room(v.Bytes); err != nil {
		return cloud.Volume{}, err
	}
	if s.Media != "" {
		if err := os.MkdirAll(s.data(v.Name), 0o755); err != nil {
			return cloud.Volume{}, err
		}
	}
	if s.volumes == nil {
		s.volumes = map[string]*simVolume{}
	}
	s.volumes[v.Name] = &simVolume{vol: cloud.Volume{
		ID: v.Name, Name: v.Name, Group: v.Group, Bytes: v.Bytes,
		Created: time.Now().UTC().Truncate(time.Second), Tags: maps.Clone(v.Tags),
	}}
	return s.volumes[v.Name].vol, nil
}

func (s *Sim) room(more int64) error {
	have := int64(0)
	for _, v := range s.volumes {
		have += v.vol.Bytes
	}
	if s.Disk > 0 && more > s.Disk-have {
		return fmt.Errorf("%w: %d bytes are asked for, %d are free", cloud.ErrQuota, more, s.Disk-have)
	}
	return nil
}

func (s *Sim) data(volume string) string { return filepath.Join(s.Media, ".volumes", volume) }
func (s *Sim) kept(volume, name string) string {
	return filepath.Join(s.Media, ".snapshots", volume, name)
}

// ListVolumes returns the volumes by name.
func (s *Sim) ListVolumes(ctx context.Context) ([]cloud.Volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Broken != nil {
		return nil, s.Broken
	}
	list := make([]cloud.Volume, 0, len(s.volumes))
	for _, name := range slices.Sorted(maps.Keys(s.volumes)) {
		list = append(list, s.volumes[name].vol)
	}
	return list, ctx.Err()
}

// with runs an order on a volume that exists.
func (s *Sim) with(ctx context.Context, id string, do func(*simVolume) error) error {
	if err := s.delay(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.volumes[id]
	if !ok {
		return fmt.Errorf("%w: there is no volume %.40s: %w", cloud.ErrInvalid, id, fs.ErrNotExist)
	}
	return do(v)
}

// gone makes an order on what is gone already no error.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// DeleteVolume forgets a volume that no instance has.
func (s *Sim) DeleteVolume(ctx context.Context, id string) error {
	return gone(s.with(ctx, id, func(v *simVolume) error {
		if v.vol.Instance != "" {
			return fmt.Errorf("%w: instance %s has it", cloud.ErrInUse, v.vol.Instance)
		}
		delete(s.volumes, id)
		if s.Media == "" {
			return nil
		}
		return errors.Join(os.RemoveAll(s.data(id)), os.RemoveAll(filepath.Dir(s.kept(id, "x"))))
	}))
}

// Attach gives a volume to an instance.
func (s *Sim) Attach(ctx context.Context, volume, instance, name string) error {
	return s.with(ctx, volume, func(v *simVolume) error {
		g, ok := s.guest[instance]
		if !ok {
			return fmt.Errorf("%w: there is no instance %s", cloud.ErrInvalid, instance)
		}
		return s.attach(v, g.inst, name)
	})
}

func (s *Sim) attach(v *simVolume, i cloud.Instance, name string) error {
	if err := cloud.CheckMountName(name); err != nil {
		return err
	}
	if v.vol.Instance != "" && v.vol.Instance != i.Name {
		return fmt.Errorf("%w: instance %s has volume %s", cloud.ErrInUse, v.vol.Instance, v.vol.Name)
	}
	if v.vol.Group != i.Group || v.vol.Instance == i.Name && v.mount != name {
		return fmt.Errorf("%w: volume %s is of group %q, at %q", cloud.ErrInvalid, v.vol.Name, v.vol.Group, v.mount)
	}
	for _, other := range s.volumes {
		if other != v && other.vol.Instance == i.Name && other.mount == name {
			return fmt.Errorf("%w: the instance has volume %s at the name %s", cloud.ErrInvalid, other.vol.Name, name)
		}
	}
	if s.Media != "" {
		link := filepath.Join(s.Media, i.Name, name)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(s.data(v.vol.Name), link); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	v.vol.Instance, v.mount = i.Name, name
	return nil
}

// Detach takes it away; the simulation does not know what its guests use.
func (s *Sim) Detach(ctx context.Context, volume string) error {
	return s.with(ctx, volume, s.detach)
}

func (s *Sim) detach(v *simVolume) error {
	if v.vol.Instance != "" && s.Media != "" {
		if err := os.Remove(filepath.Join(s.Media, v.vol.Instance, v.mount)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	v.vol.Instance, v.mount = "", ""
	return nil
}

// arrange gives an instance that does not run these volumes and no others.
func (s *Sim) arrange(i cloud.Instance, mounts []cloud.Mount) error {
	want := map[string]string{}
	for _, m := range mounts {
		v, ok := s.volumes[m.Volume]
		switch {
		case !ok:
			return fmt.Errorf("%w: there is no volume %s", cloud.ErrInvalid, m.Volume)
		case v.vol.Instance != "" && v.vol.Instance != i.Name:
			return fmt.Errorf("%w: instance %s has volume %s", cloud.ErrInUse, v.vol.Instance, m.Volume)
		}
		want[m.Volume] = m.Name
	}
	for id, v := range s.volumes {
		if v.vol.Instance == i.Name && want[id] != v.mount {
			if err := s.detach(v); err != nil {
				return err
			}
		}
	}
	for _, m := range mounts {
		if err := s.attach(s.volumes[m.Volume], i, m.Name); err != nil {
			return err
		}
	}
	return nil
}

// release is for an instance that is forgotten.
func (s *Sim) release(instance string) error {
	var errs []error
	for _, v := range s.volumes {
		if v.vol.Instance == instance {
			errs = append(errs, s.detach(v))
		}
	}
	if s.Media != "" {
		errs = append(errs, os.RemoveAll(filepath.Join(s.Media, instance)))
	}
	return errors.Join(errs...)
}

// GrowVolume makes it at least this large.
func (s *Sim) GrowVolume(ctx context.Context, id string, bytes int64) error {
	return s.with(ctx, id, func(v *simVolume) error {
		if err := cloud.CheckVolumeSize(bytes); err != nil {
			return err
		}
		if err := s.room(bytes - v.vol.Bytes); err != nil {
			return err
		}
		v.vol.Bytes = max(v.vol.Bytes, bytes)
		return nil
	})
}

// Snapshot keeps what the volume holds, while it is in use only if LiveSnapshots.
func (s *Sim) Snapshot(ctx context.Context, volume, name string) (kept cloud.Snapshot, err error) {
	return kept, s.with(ctx, volume, func(v *simVolume) error {
		if err := cloud.CheckMountName(name); err != nil {
			return err
		}
		for _, k := range v.snaps {
			if k.Name == name {
				kept = k
				return nil
			}
		}
		if v.vol.Instance != "" && !s.LiveSnapshots {
			return fmt.Errorf("%w: instance %s has it", cloud.ErrInUse, v.vol.Instance)
		}
		if s.Media != "" {
			if err := os.CopyFS(s.kept(volume, name), os.DirFS(s.data(volume))); err != nil {
				return err
			}
		}
		kept = cloud.Snapshot{Name: name, Created: time.Now().UTC().Truncate(time.Second)}
		v.snaps = append(v.snaps, kept)
		return nil
	})
}

// ListSnapshots lists them, oldest first.
func (s *Sim) ListSnapshots(ctx context.Context, volume string) (list []cloud.Snapshot, err error) {
	return list, s.with(ctx, volume, func(v *simVolume) error {
		list = slices.Clone(v.snaps)
		return nil
	})
}

// RestoreSnapshot brings it back to a volume that no instance has.
func (s *Sim) RestoreSnapshot(ctx context.Context, volume, name string) error {
	return s.with(ctx, volume, func(v *simVolume) error {
		switch {
		case !slices.ContainsFunc(v.snaps, func(k cloud.Snapshot) bool { return k.Name == name }):
			return fmt.Errorf("%w: there is no snapshot %.40s", cloud.ErrInvalid, name)
		case v.vol.Instance != "":
			return fmt.Errorf("%w: instance %s has it", cloud.ErrInUse, v.vol.Instance)
		case s.Media == "":
			return nil
		}
		if err := os.RemoveAll(s.data(volume)); err != nil {
			return err
		}
		return os.CopyFS(s.data(volume), os.DirFS(s.kept(volume, name)))
	})
}

// DeleteSnapshot forgets one.
func (s *Sim) DeleteSnapshot(ctx context.Context, volume, name string) error {
	if cloud.CheckMountName(name) != nil {
		return nil
	}
	return gone(s.with(ctx, volume, func(v *simVolume) error {
		v.snaps = slices.DeleteFunc(v.snaps, func(k cloud.Snapshot) bool { return k.Name == name })
		if s.Media == "" {
			return nil
		}
		return os.RemoveAll(s.kept(volume, name))
	}))
}
