package cloudtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"nutshell/cloud"
)

const mib = 1 << 20

// volumes skips the case when the driver keeps none.
func (s *suite) volumes() cloud.Volumes {
	s.t.Helper()
	v, ok := s.d.(cloud.Volumes)
	if !ok {
		s.t.Skip("the driver keeps no volumes")
	}
	return v
}

// volume makes volumes of 32 MiB in the suite's group.
func (s *suite) volume(names ...string) cloud.Volumes {
	s.t.Helper()
	d := s.volumes()
	for _, n := range names {
		spec := cloud.VolumeSpec{Name: n, Group: "shop", Bytes: 32 * mib, Tags: map[string]string{"of": n}}
		v, err := d.CreateVolume(s.t.Context(), spec)
		if err != nil || v.Name != n || v.ID == "" || v.Bytes < spec.Bytes || v.Instance != "" || v.Tags["of"] != n || v.Group != "shop" {
			s.t.Fatalf("CreateVolume = %+v, %v", v, err)
		}
	}
	return d
}

// with is a spec with volumes, given as pairs of volume and name.
func (s *suite) with(name string, pairs ...string) cloud.Spec {
	spec := s.spec(name)
	for k := 0; k+1 < len(pairs); k += 2 {
		spec.Volumes = append(spec.Volumes, cloud.Mount{Volume: pairs[k], Name: pairs[k+1]})
	}
	return spec
}

func (s *suite) findVolume(name string) *cloud.Volume {
	s.t.Helper()
	list, err := s.volumes().ListVolumes(s.t.Context())
	if err != nil {
		s.t.Fatalf("ListVolumes: %v", err)
	}
	for _, v := range list {
		if v.Name == name {
			return &v
		}
	}
	return nil
}

// has checks which instance has a volume.
func (s *suite) has(volume, instance string) {
	s.t.Helper()
	if v := s.findVolume(volume); v == nil || v.Instance != instance {
		s.t.Errorf("volume %s is %+v; want it at %q", volume, v, instance)
	}
}

// ok fails the case at once.
func (s *suite) ok(what string, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

func (s *suite) is(want error, what string, err error) {
	s.t.Helper()
	if !errors.Is(err, want) {
		s.t.Errorf("%s = %v; want %v", what, err, want)
	}
}

func (s *suite) list(i cloud.Instance, want string) {
	s.t.Helper()
	if got := s.ask(i, "/list", "path", "@"); got != want {
		s.t.Errorf("%s sees the volumes %q, want %q", i.Name, got, want)
	}
}

func (s *suite) reads(i cloud.Instance, path, want string) {
	s.t.Helper()
	if got, err := Ask(s.t.Context(), i, "/read", map[string][]string{"path": {path}}); err != nil || got != want {
		s.t.Errorf("%s reads %s = %q, %v; want %q", i.Name, path, got, err, want)
	}
}

func (s *suite) volumeSnapshots() {
	d := s.volume("vol-1")
	snap, ok := s.d.(cloud.Snapshots)
	if !ok {
		s.t.Skip("the driver makes no snapshots")
	}
	ctx := s.t.Context()
	i := s.must(s.with("web-1", "vol-1", "data"))[0]
	s.ask(i, "/write", "path", "@data/file", "text", "one")
	if _, err := snap.Snapshot(ctx, "vol-1", "live"); err != nil {
		s.is(cloud.ErrInUse, "Snapshot while it is attached", err)
	}
	s.is(cloud.ErrInUse, "RestoreSnapshot while it is attached", s.attempt(snap))
	s.ok("Detach", d.Detach(ctx, "vol-1"))
	first, err := snap.Snapshot(ctx, "vol-1", "at_One")
	s.ok("Snapshot", err)
	again, err := snap.Snapshot(ctx, "vol-1", "at_One")
	if err != nil || again != first || first.Name != "at_One" || time.Since(first.Created) > time.Minute {
		s.t.Errorf("Snapshot = %+v, again %+v, %v", first, again, err)
	}
	s.ok("Attach", d.Attach(ctx, "vol-1", "web-1", "data"))
	s.ask(i, "/write", "path", "@data/file", "text", "two")
	s.ask(i, "/write", "path", "@data/later", "text", "two")
	s.ok("Detach", d.Detach(ctx, "vol-1"))
	s.ok("GrowVolume", d.GrowVolume(ctx, "vol-1", 64*mib))
	s.ok("RestoreSnapshot", snap.RestoreSnapshot(ctx, "vol-1", "at_One"))
	s.ok("Attach", d.Attach(ctx, "vol-1", "web-1", "data"))
	s.reads(i, "@data/file", "one")
	if got := s.ask(i, "/list", "path", "@data"); got != "file" {
		s.t.Errorf("after the restore it holds %q", got)
	}
	if got := s.ask(i, "/fill", "path", "@data/big", "mb", "40"); got != "" {
		s.t.Errorf("the volume lost its new size when an older snapshot was restored: %q", got)
	}
	for _, name := range []string{"", "..", "a/b", strings.Repeat("a", 33)} {
		_, err := snap.Snapshot(ctx, "vol-1", name)
		s.is(cloud.ErrInvalid, fmt.Sprintf("Snapshot of name %.40q", name), err)
		s.ok("DeleteSnapshot of a bad name", snap.DeleteSnapshot(ctx, "vol-1", name))
	}
	list, err := snap.ListSnapshots(ctx, "vol-1")
	if err != nil || len(list) == 0 || list[len(list)-1] != first {
		s.t.Errorf("ListSnapshots = %+v, %v", list, err)
	}
	for range 2 {
		for _, k := range list {
			s.ok("DeleteSnapshot", snap.DeleteSnapshot(ctx, "vol-1", k.Name))
		}
	}
	if list, err := snap.ListSnapshots(ctx, "vol-1"); err != nil || len(list) > 0 {
		s.t.Errorf("ListSnapshots = %+v, %v; want none", list, err)
	}
	s.reads(i, "@data/file", "one")
}

// attempt restores a snapshot that is there, or is not: the volume is in use
// or the snapshot missing, and either way nothing may happen.
func (s *suite) attempt(snap cloud.Snapshots) error {
	err := snap.RestoreSnapshot(s.t.Context(), "vol-1", "live")
	if list, e := snap.ListSnapshots(s.t.Context(), "vol-1"); e == nil && len(list) == 0 && errors.Is(err, cloud.ErrInvalid) {
		return cloud.ErrInUse
	}
	return err
}

// cleanVolumes deletes all, when no instance is left.
func (s *suite) cleanVolumes(ctx context.Context) {
	d, ok := s.d.(cloud.Volumes)
	if !ok {
		return
	}
	list, err := d.ListVolumes(ctx)
	if err != nil {
		s.t.Errorf("ListVolumes at the end: %v", err)
	}
	for _, v := range list {
		if v.Instance != "" {
			s.t.Errorf("volume %s is still at %s, which is gone", v.ID, v.Instance)
		}
		if err := d.DeleteVolume(ctx, v.ID); err != nil {
			s.t.Errorf("DeleteVolume at the end: %v", err)
		}
	}
	if list, err := d.ListVolumes(ctx); err != nil || len(list) > 0 {
		s.t.Errorf("ListVolumes at the end = %v, %v", list, err)
	}
}
