package lxc_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
)

// keeper is the driver with all that it does for volumes.
type keeper interface {
	cloud.Driver
	cloud.Stopper
	cloud.Volumes
	cloud.Snapshots
}

// stored is a driver with a running instance, shop-1, and its volume.
func (b bed) stored(t *testing.T) (keeper, string, cloud.Instance) {
	t.Helper()
	return b.storedIn(t, t.TempDir())
}

func (b bed) storedIn(t *testing.T, dir string) (keeper, string, cloud.Instance) {
	t.Helper()
	driver, _ := b.driverIn(t, dir)
	d := driver.(keeper)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		list, err := d.List(ctx)
		must(t, err)
		for _, i := range list {
			must(t, d.Terminate(ctx, []string{i.ID}))
		}
		volumes, err := d.ListVolumes(ctx)
		must(t, err)
		for _, v := range volumes {
			must(t, d.DeleteVolume(ctx, v.ID))
		}
	})
	_, err := d.CreateVolume(t.Context(), cloud.VolumeSpec{Name: "vol", Group: "shop", Bytes: 32 << 20})
	must(t, err)
	return d, dir, b.relaunch(t, d)
}

func (b bed) relaunch(t *testing.T, d cloud.Driver) cloud.Instance {
	t.Helper()
	list, err := d.Launch(t.Context(), []cloud.Spec{{
		Name: "shop-1", Group: "shop", Layers: []string{b.Layer}, Context: []byte("{}"),
		Volumes: []cloud.Mount{{Volume: "vol", Name: "data"}},
	}})
	must(t, err)
	answers(t, list[0], "/pid")
	return list[0]
}

// does asks for something that has to work.
func does(t *testing.T, i cloud.Instance, path string, pairs ...string) string {
	t.Helper()
	got, err := ask(t, i, path, pairs...)
	if err != nil {
		t.Fatalf("%s%s %q: %v", i.Name, path, pairs, err)
	}
	return got
}

// TestVolumesInDirectories is the fallback of machines without loop devices.
func TestVolumesInDirectories(t *testing.T) {
	b := newBed(t, map[string]string{"volumes": "directory"})
	o := b.suite(t)
	o.Sized, o.GrowsAtRest, o.Only = false, false, "volume"
	cloudtest.Run(t, b.open, o)
}

func TestVolumeSeenFromInside(t *testing.T) {
	b := newBed(t, map[string]string{"privileged": "never"})
	d, dir, i := b.stored(t)
	for line := range strings.Lines(does(t, i, "/read", "path", "/proc/self/mountinfo")) {
		f := strings.Fields(line)
		if f[4] == "/media/data" && (!strings.Contains(f[5], "nosuid") || !strings.Contains(f[5], "nodev") || !strings.Contains(f[5], "idmapped")) {
			t.Errorf("the volume's mount has options %s", f[5])
		}
	}
	if _, err := ask(t, i, "/write", "path", "@intruder", "text", "x"); err == nil {
		t.Error("the instance can write beside its volumes")
	}
	if got := does(t, i, "/umount", "path", "@data"); got == "<nil>" {
		t.Error("the instance can unmount the volume that it was launched with")
	}
	// What was attached later it can unmount, to its own loss only.
	must(t, d.Detach(t.Context(), "vol"))
	must(t, d.Attach(t.Context(), "vol", "shop-1", "data"))
	does(t, i, "/write", "path", "@data/kept", "text", "data")
	does(t, i, "/umount", "path", "@data")
	must(t, d.Detach(t.Context(), "vol"))
	must(t, d.Attach(t.Context(), "vol", "shop-1", "data"))
	if got := does(t, i, "/read", "path", "@data/kept"); got != "data" {
		t.Errorf("file = %q", got)
	}
	// A link in the place of /media leads nowhere.
	must(t, d.Stop(t.Context(), []string{"shop-1"}))
	media := filepath.Join(dir, "shop-1", "upper", "media")
	must(t, os.RemoveAll(media))
	must(t, os.Symlink("/etc", media))
	i = b.relaunch(t, d)
	if got := does(t, i, "/read", "path", "/media/data/kept"); got != "data" {
		t.Errorf("file after a link was put in the place of /media = %q", got)
	}
	if got := does(t, i, "/list", "path", "/etc"); strings.Contains(got, "data") {
		t.Errorf("/etc has %s", got)
	}
}

// TestVolumeInOtherMounts has programs mount a volume elsewhere, or keep it in
// mounts of their own, which no unmount of ours reaches.
func TestVolumeInOtherMounts(t *testing.T) {
	b := newBed(t, map[string]string{"privileged": "never"})
	d, _, i := b.stored(t)
	does(t, i, "/write", "path", "@data/kept", "text", "data")
	does(t, i, "/bind", "path", "@data", "to", "/srv/here")
	if err := d.Detach(t.Context(), "vol"); !errors.Is(err, cloud.ErrInUse) {
		t.Errorf("Detach while it is mounted elsewhere = %v, want in use", err)
	}
	for _, path := range []string{"@data/kept", "/srv/here/kept"} {
		if got := does(t, i, "/read", "path", path); got != "data" {
			t.Errorf("%s = %q after a Detach that was refused", path, got)
		}
	}
	if got := does(t, i, "/umount", "path", "/srv/here"); got != "<nil>" {
		t.Fatal(got)
	}
	// Mounts of their own, without an open file, do not keep it.
	does(t, i, "/seclude")
	must(t, d.Detach(t.Context(), "vol"))
	must(t, d.Attach(t.Context(), "vol", "shop-1", "data"))
	if got := does(t, i, "/read", "path", "@data/kept"); got != "data" {
		t.Errorf("file = %q", got)
	}
}

// TestVolumeAfterPowerLoss puts what a loss of power would leave in the place
// of a volume: the image as it is on the disk while the volume is mounted.
func TestVolumeAfterPowerLoss(t *testing.T) {
	b := newBed(t, nil)
	d, dir, i := b.stored(t)
	image := filepath.Join(dir, ".volumes", "vol", "image")
	does(t, i, "/fill", "path", "@data/big", "mb", "3")
	does(t, i, "/write", "path", "@data/kept", "text", "data")
	does(t, i, "/sync", "path", "@data/kept")
	state, err := os.ReadFile(image)
	must(t, err)
	does(t, i, "/write", "path", "@data/later", "text", "after")
	must(t, d.Stop(t.Context(), []string{"shop-1"}))
	must(t, os.WriteFile(image, state, 0o600))
	i = b.relaunch(t, d)
	if got := does(t, i, "/read", "path", "@data/kept"); got != "data" {
		t.Errorf("file = %q", got)
	}
	if got := does(t, i, "/list", "path", "@data"); got != "big kept" {
		t.Errorf("the volume holds %q", got)
	}
	// What nobody can mend is not mounted, and not written to.
	must(t, d.Stop(t.Context(), []string{"shop-1"}))
	broken := append(make([]byte, 4<<20), state[4<<20:]...)
	must(t, os.WriteFile(image, broken, 0o600))
	_, err = d.Launch(t.Context(), []cloud.Spec{{
		Name: "shop-1", Group: "shop", Layers: []string{b.Layer}, Context: []byte("{}"), Volumes: []cloud.Mount{{Volume: "vol", Name: "data"}},
	}})
	if err == nil || !strings.Contains(err.Error(), "vol") {
		t.Errorf("Launch with a destroyed volume = %v", err)
	}
	if now, err := os.ReadFile(image); err != nil || string(now) != string(broken) {
		t.Errorf("the destroyed volume was changed (%v)", err)
	}
}

// TestVolumeReappears has a director die between what it noted and what it
// mounted.
func TestVolumeReappears(t *testing.T) {
	b := newBed(t, nil)
	d, dir, i := b.stored(t)
	record := filepath.Join(dir, ".volumes", "vol", "volume.json")
	attached, err := os.ReadFile(record)
	must(t, err)
	must(t, d.Detach(t.Context(), "vol"))
	must(t, os.WriteFile(record, attached, 0o600))
	d = b.open(t, dir).(keeper)
	if _, err := d.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := does(t, i, "/list", "path", "@"); got != "data" {
		t.Errorf("the instance sees %q", got)
	}
	must(t, d.Detach(t.Context(), "vol"))
}

// TestVolumeUnderOtherIDs has a volume's group come back with another range of
// user ids, as its old one went to somebody else meanwhile.
func TestVolumeUnderOtherIDs(t *testing.T) {
	b := newBed(t, map[string]string{"privileged": "never"})
	d, _, i := b.stored(t)
	does(t, i, "/write", "path", "@data/kept", "text", "data")
	before := does(t, i, "/uid")
	must(t, d.Terminate(t.Context(), []string{"shop-1"}))
	b.up(t, d, "blog-1") // takes the place of shop
	i = b.relaunch(t, d)
	if now := does(t, i, "/uid"); now == before {
		t.Fatalf("the ids are the same: %s", now)
	}
	if got := does(t, i, "/owner", "path", "@data/kept"); got != "0 0" {
		t.Errorf("the file belongs to %s inside", got)
	}
	if got := does(t, i, "/read", "path", "@data/kept"); got != "data" {
		t.Errorf("file = %q", got)
	}
}
