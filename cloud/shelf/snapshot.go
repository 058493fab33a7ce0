package shelf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"nutshell/cloud"
)

const snapshotsDir = "snapshots"

// kept is what a snapshot's snapshot.json says.
type kept struct {
	Name    string    `json:"name"`
	Bytes   int64     `json:"bytes"` // beside the volume
	Created time.Time `json:"created"`
}

func (k kept) snapshot() cloud.Snapshot {
	return cloud.Snapshot{Name: k.Name, Bytes: k.Bytes, Created: k.Created}
}

func snapshotDir(r Record, name string) string { return filepath.Join(r.Dir, snapshotsDir, name) }

func loadSnapshot(r Record, name string) (kept, error) {
	var k kept
	err := cloud.LoadState(filepath.Join(snapshotDir(r, name), "snapshot.json"), &k)
	return k, err
}

// Snapshot keeps what the volume holds now. One that exists is returned as it
// is.
func (s *Shelf) Snapshot(ctx context.Context, id, name string) (cloud.Snapshot, error) {
	s.c.Ready(ctx)
	k, err := s.keep(ctx, id, name)
	if err != nil {
		return cloud.Snapshot{}, fmt.Errorf("snapshot %.40s of volume %.40s: %w", name, id, full(err))
	}
	return k.snapshot(), nil
}

func (s *Shelf) keep(ctx context.Context, id, name string) (kept, error) {
	if err := cloud.CheckMountName(name); err != nil {
		return kept{}, err
	}
	r, unlock, err := s.open(ctx, id)
	if err != nil {
		return kept{}, err
	}
	defer unlock()
	if k, err := loadSnapshot(r, name); !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	fresh := snapshotDir(r, newPrefix+name)
	err = errors.Join(RemoveAll(fresh), os.MkdirAll(fresh, 0o700))
	if err != nil {
		return kept{}, err
	}
	k := kept{Name: name, Created: time.Now().UTC().Truncate(time.Second)}
	if k.Bytes, err = s.c.Keeper.Copy(ctx, r, fresh); err == nil {
		err = cloud.SaveState(filepath.Join(fresh, "snapshot.json"), k)
	}
	if err == nil {
		err = os.Rename(fresh, snapshotDir(r, name))
	}
	if err != nil {
		return kept{}, errors.Join(err, RemoveAll(fresh))
	}
	return k, syncDir(filepath.Join(r.Dir, snapshotsDir))
}

// ListSnapshots lists a volume's snapshots, oldest first.
func (s *Shelf) ListSnapshots(ctx context.Context, id string) ([]cloud.Snapshot, error) {
	s.c.Ready(ctx)
	list, err := s.snapshots(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("snapshots of volume %.40s: %w", id, err)
	}
	return list, nil
}

func (s *Shelf) snapshots(ctx context.Context, id string) ([]cloud.Snapshot, error) {
	r, unlock, err := s.open(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	entries, err := os.ReadDir(filepath.Join(r.Dir, snapshotsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	list := []cloud.Snapshot{}
	for _, e := range entries {
		if cloud.CheckMountName(e.Name()) != nil {
			continue // half made or half removed
		}
		k, err := loadSnapshot(r, e.Name())
		if err != nil {
			s.c.Log.Warn("snapshot not readable", "volume", id, "snapshot", e.Name(), "error", err)
			continue
		}
		list = append(list, k.snapshot())
	}
	slices.SortStableFunc(list, func(a, b cloud.Snapshot) int { return a.Created.Compare(b.Created) })
	return list, nil
}

// RestoreSnapshot makes a volume that no instance has hold what it held at the time
// of a snapshot. Its size stays what it is.
func (s *Shelf) RestoreSnapshot(ctx context.Context, id, name string) error {
	s.c.Ready(ctx)
	if err := s.restore(ctx, id, name); err != nil {
		return fmt.Errorf("restore snapshot %.40s of volume %.40s: %w", name, id, full(err))
	}
	return nil
}

func (s *Shelf) restore(ctx context.Context, id, name string) error {
	if err := cloud.CheckMountName(name); err != nil {
		return err
	}
	r, unlock, err := s.open(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := loadSnapshot(r, name); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: there is no such snapshot", cloud.ErrInvalid)
		}
		return err
	}
	if r.Holder != "" {
		return fmt.Errorf("%w: instance %s has the volume; detach it first", cloud.ErrInUse, r.Holder)
	}
	if err := s.c.Keeper.Idle(ctx, r); err != nil {
		return err
	}
	if err := s.c.Keeper.Restore(ctx, r, snapshotDir(r, name)); err != nil {
		return err
	}
	return syncDir(r.Dir)
}

// DeleteSnapshot removes a snapshot. Gone already is no error.
func (s *Shelf) DeleteSnapshot(ctx context.Context, id, name string) error {
	s.c.Ready(ctx)
	if cloud.CheckName(id) != nil || cloud.CheckMountName(name) != nil {
		return nil // never ours
	}
	r, unlock, err := s.open(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete snapshot %s of volume %s: %w", name, id, err)
	}
	defer unlock()
	gone := snapshotDir(r, gonePrefix+name)
	err = RemoveAll(gone)
	if err == nil {
		err = os.Rename(snapshotDir(r, name), gone)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = RemoveAll(gone)
	}
	if err != nil {
		return fmt.Errorf("delete snapshot %s of volume %s: %w", name, id, err)
	}
	return nil
}
