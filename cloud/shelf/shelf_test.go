package shelf_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/cloud"
	"nutshell/cloud/shelf"
)

// keeper keeps directories that are shown nowhere.
type keeper struct {
	*shelf.Trees
	busy    bool // something uses what holds the data
	showErr error
	shown   map[string]string
}

func (k *keeper) Show(_ context.Context, r shelf.Record) error {
	if k.showErr == nil {
		k.shown[r.Name] = r.Holder
	}
	return k.showErr
}

func (k *keeper) Hide(_ context.Context, r shelf.Record) error {
	if k.busy {
		return cloud.ErrInUse
	}
	delete(k.shown, r.Name)
	return nil
}

func (k *keeper) Idle(context.Context, shelf.Record) error {
	if k.busy {
		return cloud.ErrInUse
	}
	return nil
}

// bed is a shelf with the instances that exist.
type bed struct {
	*shelf.Shelf
	dir       string
	keeper    *keeper
	instances map[string]string // name → group
}

func newBed(t *testing.T) *bed {
	b := &bed{dir: filepath.Join(t.TempDir(), "volumes"), keeper: &keeper{Trees: shelf.NewTrees(), shown: map[string]string{}}, instances: map[string]string{"web": "shop"}}
	b.open("test0001")
	return b
}

func (b *bed) open(installation string) {
	b.Shelf = shelf.New(shelf.Config{
		Dir: b.dir, Installation: installation, Log: slog.New(slog.DiscardHandler), Keeper: b.keeper,
		Ready:  func(context.Context) {},
		Exists: func(i string) bool { _, ok := b.instances[i]; return ok },
		Hold: func(_ context.Context, i string) (shelf.Holder, func(), error) {
			group, ok := b.instances[i]
			if !ok {
				return shelf.Holder{}, nil, fs.ErrNotExist
			}
			return shelf.Holder{Name: i, Group: group}, func() {}, nil
		},
	})
}

func (b *bed) create(t *testing.T, name string) string {
	t.Helper()
	must(t, second(b.CreateVolume(t.Context(), cloud.VolumeSpec{Name: name, Group: "shop", Bytes: 20<<20 + 1})))
	return filepath.Join(b.dir, name, "data")
}

func second[T any](_ T, err error) error { return err }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bed) volume(t *testing.T) cloud.Volume {
	t.Helper()
	list, err := b.ListVolumes(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("ListVolumes = %v, %v; want one", list, err)
	}
	return list[0]
}

func TestHolderThatIsGone(t *testing.T) {
	b := newBed(t)
	b.create(t, "vol")
	must(t, b.Attach(t.Context(), "vol", "web", "data"))
	if v := b.volume(t); v.Instance != "web" || v.Bytes != 21<<20 {
		t.Errorf("volume = %+v", v)
	}
	// A director died after the instance had gone, and before it said so here.
	delete(b.instances, "web")
	b.instances["other"] = "shop"
	if v := b.volume(t); v.Instance != "" {
		t.Errorf("a volume is still at an instance that is gone: %+v", v)
	}
	b.keeper.busy = true // its processes are not all gone
	if err := b.Attach(t.Context(), "vol", "other", "data"); !errors.Is(err, cloud.ErrInUse) {
		t.Errorf("Attach while it is busy = %v", err)
	}
	if err := b.DeleteVolume(t.Context(), "vol"); !errors.Is(err, cloud.ErrInUse) {
		t.Errorf("DeleteVolume while it is busy = %v", err)
	}
	b.keeper.busy = false
	must(t, b.Attach(t.Context(), "vol", "other", "data"))
	if b.keeper.shown["vol"] != "other" {
		t.Errorf("shown at %v", b.keeper.shown)
	}
}

func TestAttachThatFailsLeavesItFree(t *testing.T) {
	b := newBed(t)
	b.create(t, "vol")
	b.keeper.showErr = errors.New("no mounts today")
	if err := b.Attach(t.Context(), "vol", "web", "data"); !errors.Is(err, b.keeper.showErr) {
		t.Errorf("Attach = %v", err)
	}
	if v := b.volume(t); v.Instance != "" {
		t.Errorf("volume = %+v", v)
	}
	b.keeper.showErr = nil
	must(t, b.Attach(t.Context(), "vol", "web", "data"))
}

func TestLeftovers(t *testing.T) {
	b := newBed(t)
	data := b.create(t, "vol")
	for _, dir := range []string{".new-half/data", ".gone-half/data", "vol/.new-data", "vol/snapshots/.new-a", "vol/snapshots/.gone-b"} {
		must(t, os.MkdirAll(filepath.Join(b.dir, dir), 0o755))
	}
	closed := filepath.Join(b.dir, ".gone-half", "data", "closed")
	must(t, os.MkdirAll(filepath.Join(closed, "sub"), 0o755))
	must(t, os.Chmod(closed, 0))
	must(t, os.WriteFile(filepath.Join(data, "kept"), nil, 0o600))
	b.Tidy()
	var left []string
	must(t, filepath.WalkDir(b.dir, func(path string, _ fs.DirEntry, err error) error {
		left = append(left, strings.TrimPrefix(path, b.dir))
		return err
	}))
	if got := fmt.Sprint(left); got != "[ /vol /vol/data /vol/data/kept /vol/snapshots /vol/volume.json]" {
		t.Errorf("left: %s", got)
	}
	must(t, b.DeleteVolume(t.Context(), "vol"))
	if _, err := os.Stat(b.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory of no volumes is there: %v", err)
	}
}

func TestVolumesOfOthers(t *testing.T) {
	b := newBed(t)
	data := b.create(t, "vol")
	b.open("another")
	if list, err := b.ListVolumes(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("ListVolumes = %v, %v", list, err)
	}
	if err := b.DeleteVolume(t.Context(), "vol"); err == nil {
		t.Error("the volume of another installation was deleted")
	}
	if _, err := b.CreateVolume(t.Context(), cloud.VolumeSpec{Name: "vol", Group: "shop", Bytes: 32 << 20}); err == nil {
		t.Error("the volume of another installation was taken for ours")
	}
	if _, err := os.Stat(data); err != nil {
		t.Error(err)
	}
}

// TestSnapshotIsFaithful copies what files can be.
func TestSnapshotIsFaithful(t *testing.T) {
	b := newBed(t)
	data := b.create(t, "vol")
	at := func(name string) string { return filepath.Join(data, name) }
	write := func(name, text string, mode fs.FileMode) {
		must(t, os.WriteFile(at(name), []byte(text), 0o600))
		must(t, os.Chmod(at(name), mode))
	}
	must(t, os.MkdirAll(at("dir/sub"), 0o755))
	write("dir/file", "text", 0o640)
	write("setuid", "", fs.ModeSetuid|0o755)
	must(t, os.Symlink("/nowhere/at all", at("link")))
	must(t, syscall.Mkfifo(at("pipe"), 0o600))
	f, err := os.Create(at("holes"))
	must(t, err)
	must(t, f.Truncate(64<<20))
	must(t, second(f.WriteAt([]byte("middle"), 32<<20)))
	must(t, f.Close())
	must(t, os.Chmod(at("holes"), 0o644))
	attributes := unix.Setxattr(at("dir/file"), "user.kind", []byte("value"), 0) == nil
	old := time.Date(2001, 2, 3, 4, 5, 6, 7000, time.UTC)
	must(t, os.Chtimes(at("dir/file"), old, old))
	must(t, os.Chtimes(at("dir"), old, old))
	must(t, os.Chmod(at("dir/sub"), 0o500))
	if os.Geteuid() == 0 {
		must(t, os.Lchown(at("dir/file"), 1234, 5678))
	}

	snap, err := b.Snapshot(t.Context(), "vol", "all")
	must(t, err)
	if snap.Bytes > 4<<20 {
		t.Errorf("the snapshot takes %d bytes: holes were filled", snap.Bytes)
	}
	must(t, os.Chmod(at("dir/sub"), 0o700))
	must(t, os.RemoveAll(at("dir")))
	write("later", "x", 0o600)
	must(t, b.RestoreSnapshot(t.Context(), "vol", "all"))

	for name, want := range map[string]fs.FileMode{
		"dir": fs.ModeDir | 0o755, "dir/sub": fs.ModeDir | 0o500, "dir/file": 0o640, "setuid": fs.ModeSetuid | 0o755, "holes": 0o644,
	} {
		if st, err := os.Stat(at(name)); err != nil || st.Mode() != want {
			t.Errorf("%s: %v, %v; want mode %v", name, st.Mode(), err, want)
		}
	}
	var st unix.Stat_t
	must(t, unix.Stat(at("dir/file"), &st))
	if time.Unix(st.Mtim.Unix()).UTC() != old || os.Geteuid() == 0 && (st.Uid != 1234 || st.Gid != 5678) {
		t.Errorf("dir/file: modified %v, owner %d %d", time.Unix(st.Mtim.Unix()), st.Uid, st.Gid)
	}
	if d, err := os.Stat(at("dir")); err != nil || !d.ModTime().Equal(old) {
		t.Errorf("dir was modified %v, %v", d.ModTime(), err)
	}
	value := make([]byte, 10)
	if n, err := unix.Getxattr(at("dir/file"), "user.kind", value); attributes && (err != nil || string(value[:n]) != "value") {
		t.Errorf("attribute = %q, %v", value[:max(n, 0)], err)
	}
	if to, err := os.Readlink(at("link")); err != nil || to != "/nowhere/at all" {
		t.Errorf("link = %q, %v", to, err)
	}
	for _, gone := range []string{"later", "pipe"} { // a pipe is nothing without its programs
		if _, err := os.Lstat(at(gone)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", gone, err)
		}
	}
	must(t, unix.Stat(at("holes"), &st))
	if text, err := os.ReadFile(at("holes")); err != nil || len(text) != 64<<20 || string(text[32<<20:32<<20+6]) != "middle" || st.Blocks*512 > 4<<20 {
		t.Errorf("file with holes: %d bytes, %d on the disk, %v", len(text), st.Blocks*512, err)
	}
}

func TestRoom(t *testing.T) {
	dir := t.TempDir()
	var d unix.Statfs_t
	must(t, unix.Statfs(dir, &d))
	free := int64(d.Bavail) * d.Frsize
	if err := shelf.Room(dir, free); !errors.Is(err, cloud.ErrQuota) || !strings.Contains(err.Error(), "stay free") {
		t.Errorf("all that is free = %v", err)
	}
	if err := shelf.Room(dir, 1<<62); !errors.Is(err, cloud.ErrQuota) {
		t.Errorf("more than any disk = %v", err)
	}
	if err := shelf.Room(dir, 1); free > 2<<30 && err != nil {
		t.Errorf("a byte = %v", err)
	}
}
