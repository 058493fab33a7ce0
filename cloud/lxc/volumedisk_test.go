package lxc_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
)

// TestSnapshotWhileInUse keeps moments on a file system that can share blocks.
func TestSnapshotWhileInUse(t *testing.T) {
	b := newBed(t, nil)
	if _, err := exec.LookPath("mkfs.xfs"); err != nil {
		cloudtest.Need(t, "mkfs.xfs is missing: apt-get install xfsprogs")
	}
	dir := smallDisk(t, 600, "mkfs.xfs", "-q")
	d, _, i := b.storedIn(t, dir)
	does(t, i, "/hold", "path", "@data/open")
	for n, name := range []string{"first", "second"} {
		does(t, i, "/write", "path", "@data/file", "text", name)
		snap, err := d.Snapshot(t.Context(), "vol", name)
		if err != nil || snap.Name != name {
			t.Fatalf("snapshot %d while in use = %+v, %v", n, snap, err)
		}
	}
	does(t, i, "/write", "path", "@data/file", "text", "third")
	must(t, d.Stop(t.Context(), []string{"shop-1"}))
	if err := d.RestoreSnapshot(t.Context(), "vol", "second"); !errors.Is(err, cloud.ErrInUse) {
		t.Errorf("RestoreSnapshot while attached = %v", err)
	}
	for _, name := range []string{"second", "first"} {
		must(t, d.Detach(t.Context(), "vol"))
		must(t, d.RestoreSnapshot(t.Context(), "vol", name))
		i = b.relaunch(t, d)
		if got := does(t, i, "/read", "path", "@data/file"); got != name {
			t.Errorf("after the restore of %s the file says %q", name, got)
		}
		must(t, d.Stop(t.Context(), []string{"shop-1"}))
	}
	i = b.relaunch(t, d) // what was attached when it stopped is there again
	does(t, i, "/write", "path", "@data/file", "text", "works")
}

// TestFullDisk has a disk that cannot take another volume, and one that is
// filled up beside a volume, which keeps the room it was promised.
func TestFullDisk(t *testing.T) {
	b := newBed(t, nil)
	dir := smallDisk(t, 128, "mkfs.ext4", "-q", "-m", "0")
	d, _, i := b.storedIn(t, dir)
	_, err := d.CreateVolume(t.Context(), cloud.VolumeSpec{Name: "large", Group: "shop", Bytes: 100 << 20})
	if !errors.Is(err, cloud.ErrQuota) || !strings.Contains(err.Error(), "100 MiB") {
		t.Errorf("CreateVolume on a small disk = %v", err)
	}
	if err := d.GrowVolume(t.Context(), "vol", 150<<20); !errors.Is(err, cloud.ErrQuota) {
		t.Errorf("GrowVolume on a small disk = %v", err)
	}
	filler, err := os.Create(filepath.Join(filepath.Dir(dir), "filler"))
	must(t, err)
	piece := make([]byte, 1<<20)
	for err == nil {
		_, err = filler.Write(piece)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	must(t, filler.Close())
	if got := does(t, i, "/fill", "path", "@data/big", "mb", "20"); got != "" {
		t.Errorf("the volume has no room for 20 MB: %q", got)
	}
	must(t, d.Detach(t.Context(), "vol"))
	if _, err := d.Snapshot(t.Context(), "vol", "no-room"); !errors.Is(err, cloud.ErrQuota) {
		t.Errorf("Snapshot on a full disk = %v", err)
	}
	must(t, os.Remove(filler.Name()))
	must(t, d.Attach(t.Context(), "vol", "shop-1", "data"))
	if got := does(t, i, "/list", "path", "@data"); got != "big" {
		t.Errorf("the volume holds %q", got)
	}
}

// smallDisk is a directory on a file system of its own.
func smallDisk(t *testing.T, mib int64, mkfs ...string) string {
	t.Helper()
	at := t.TempDir()
	disk, mnt := filepath.Join(at, "disk"), filepath.Join(at, "mnt")
	dir := filepath.Join(mnt, "cloud")
	must(t, os.Mkdir(mnt, 0o755))
	f, err := os.Create(disk)
	must(t, err)
	must(t, f.Truncate(mib<<20))
	must(t, f.Close())
	command(t, mkfs[0], append(mkfs[1:], disk)...)
	command(t, "mount", "-o", "loop", disk, mnt)
	t.Cleanup(func() {
		if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "umount", mnt).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	must(t, os.Mkdir(dir, 0o755))
	return dir
}
