// Package shelf keeps the volumes of clouds that run on this machine: a
// directory for each, with a record that says whose it is and what has it.
// How a volume holds data and appears in an instance is the driver's, which
// gives a Keeper. Whatever moment a director dies at, a volume is whole or
// absent, and has one holder or none.
package shelf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"nutshell/cloud"
)

const (
	newPrefix  = ".new-"  // what is being made
	gonePrefix = ".gone-" // what is being removed
	unit       = 1 << 20  // sizes are whole multiples of it
)

// Record is what a volume's volume.json says.
type Record struct {
	Installation string            `json:"installation"`
	Name         string            `json:"name"`
	Group        string            `json:"group"`
	Form         string            `json:"form"` // how it holds data, the Keeper's word
	Bytes        int64             `json:"bytes"`
	Created      time.Time         `json:"created"`
	Tags         map[string]string `json:"tags,omitempty"`
	Holder       string            `json:"holder,omitempty"` // the instance that has it
	Mount        string            `json:"mount,omitempty"`  // its name there

	Dir string `json:"-"` // of the volume; below it the Keeper's files and snapshots
}

// Keeper does what differs between drivers. Each method is idempotent. The
// volume's lock is held, and its holder's is held by the driver for Show and
// Hide.
type Keeper interface {
	// Make puts what holds a volume's data into a directory that is being made,
	// and says in which form it does.
	Make(ctx context.Context, dir string, bytes int64) (form string, err error)
	// Show makes the volume appear in its holder, if that runs.
	Show(ctx context.Context, r Record) error
	// Hide takes it away again. ErrInUse while programs have files of it open.
	Hide(ctx context.Context, r Record) error
	// Idle is ErrInUse while anything on this machine uses what holds the data.
	Idle(ctx context.Context, r Record) error
	// Grow makes it r.Bytes large.
	Grow(ctx context.Context, r Record) error
	// Used is how many bytes are stored in it; 0: not known.
	Used(r Record) int64
	// Copy keeps what the volume holds now in the directory to, and says how
	// many bytes that takes beside it. ErrInUse: it cannot while it is in use.
	Copy(ctx context.Context, r Record, to string) (bytes int64, err error)
	// Restore brings back what Copy kept; nothing uses the volume.
	Restore(ctx context.Context, r Record, from string) error
}

// Config is what a Shelf needs.
type Config struct {
	Dir          string // of all volumes; made with the first one
	Private      bool   // other users of the machine cannot enter it
	Installation string
	Log          *slog.Logger
	Keeper       Keeper
	// Ready is called at the beginning of each order.
	Ready func(ctx context.Context)
	// Exists tells whether there is such an instance, running or not. A volume
	// whose holder is no more is free.
	Exists func(instance string) bool
	// Hold locks an instance and tells what it is; fs.ErrNotExist: there is none.
	Hold func(ctx context.Context, instance string) (Holder, func(), error)
	// Notes are tags that tell of a form, such as that its size is not enforced.
	Notes func(form string) map[string]string
}

// Shelf is the half of a driver that keeps volumes. It keeps nothing in memory
// that its directory does not tell.
type Shelf struct {
	c     Config
	names cloud.Names
	mu    sync.Mutex // of the directory of all, which goes with the last volume
}

var (
	_ cloud.Volumes   = (*Shelf)(nil)
	_ cloud.Snapshots = (*Shelf)(nil)
)

// New makes the shelf of one driver.
func New(c Config) *Shelf { return &Shelf{c: c} }

func (s *Shelf) dir(name string) string { return filepath.Join(s.c.Dir, name) }

func (s *Shelf) load(name string) (Record, error) {
	var r Record
	if err := cloud.LoadState(filepath.Join(s.dir(name), "volume.json"), &r); err != nil {
		return Record{}, err
	}
	if r.Installation != s.c.Installation || r.Name != name {
		return Record{}, fmt.Errorf("%s belongs to installation %q, not to %q", s.dir(name), r.Installation, s.c.Installation)
	}
	r.Dir = s.dir(name)
	if r.Holder != "" && !s.c.Exists(r.Holder) {
		r.Holder, r.Mount = "", "" // its end was ordered, and the director died before it said so here
	}
	return r, nil
}

func (s *Shelf) save(r Record) error {
	if err := cloud.SaveState(filepath.Join(r.Dir, "volume.json"), r); err != nil {
		return full(err)
	}
	return syncDir(r.Dir)
}

// open locks a volume and reads its record.
func (s *Shelf) open(ctx context.Context, id string) (Record, func(), error) {
	if err := cloud.CheckName(id); err != nil {
		return Record{}, nil, err
	}
	unlock, err := s.names.Lock(ctx, id)
	if err != nil {
		return Record{}, nil, err
	}
	r, err := s.load(id)
	if err != nil {
		unlock()
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: there is no volume %s: %w", cloud.ErrInvalid, id, fs.ErrNotExist)
		}
		return Record{}, nil, err
	}
	return r, unlock, nil
}

// Volume is the record as the cloud's users see it.
func (s *Shelf) volume(r Record) cloud.Volume {
	tags := maps.Clone(r.Tags)
	if s.c.Notes != nil {
		for k, v := range s.c.Notes(r.Form) {
			if tags == nil {
				tags = map[string]string{}
			}
			tags[k] = v
		}
	}
	return cloud.Volume{
		ID: r.Name, Name: r.Name, Group: r.Group, Bytes: r.Bytes, Used: s.c.Keeper.Used(r),
		Instance: r.Holder, Created: r.Created, Tags: tags,
	}
}

// CreateVolume makes a volume, or returns the one that has the name.
func (s *Shelf) CreateVolume(ctx context.Context, v cloud.VolumeSpec) (cloud.Volume, error) {
	s.c.Ready(ctx)
	r, err := s.create(ctx, v)
	if err != nil {
		return cloud.Volume{}, fmt.Errorf("create volume %.40s: %w", v.Name, err)
	}
	return s.volume(r), nil
}

func (s *Shelf) create(ctx context.Context, v cloud.VolumeSpec) (Record, error) {
	if err := v.Check(); err != nil {
		return Record{}, err
	}
	unlock, err := s.names.Lock(ctx, v.Name)
	if err != nil {
		return Record{}, err
	}
	defer unlock()
	r, err := s.load(v.Name)
	if err == nil && r.Group != v.Group {
		return Record{}, fmt.Errorf("%w: it exists in group %q", cloud.ErrInvalid, r.Group)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	r = Record{
		Installation: s.c.Installation, Name: v.Name, Group: v.Group, Bytes: whole(v.Bytes),
		Created: time.Now().UTC().Truncate(time.Second), Tags: v.Tags,
	}
	if err := Room(filepath.Dir(s.c.Dir), r.Bytes); err != nil {
		return Record{}, err
	}
	r.Dir = filepath.Join(s.c.Dir, newPrefix+v.Name)
	if err := s.begin(r.Dir); err != nil {
		return Record{}, full(err)
	}
	form, err := s.c.Keeper.Make(ctx, r.Dir, r.Bytes)
	if err == nil {
		r.Form = form
		err = s.save(r)
	}
	if err == nil {
		err = os.Rename(r.Dir, s.dir(v.Name))
	}
	if err != nil {
		err = errors.Join(full(err), RemoveAll(r.Dir))
		s.end()
		return Record{}, err
	}
	r.Dir = s.dir(v.Name)
	return r, syncDir(s.c.Dir)
}

// begin makes an empty directory, and the one of all volumes if need be.
// Daemons may run as other users, so they can be entered unless the shelf is
// private.
func (s *Shelf) begin(fresh string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	mode := fs.FileMode(0o755)
	if s.c.Private {
		mode = 0o700
	}
	if err := os.Mkdir(s.c.Dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := RemoveAll(fresh); err != nil {
		return err
	}
	return os.Mkdir(fresh, 0o755)
}

// end removes the directory of all volumes when there is none.
func (s *Shelf) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = os.Remove(s.c.Dir) // not empty: it stays
}

// whole rounds a size up.
func whole(bytes int64) int64 { return (bytes + unit - 1) / unit * unit }

// ListVolumes returns all volumes, by name.
func (s *Shelf) ListVolumes(ctx context.Context) ([]cloud.Volume, error) {
	s.c.Ready(ctx)
	records, err := s.records()
	if err != nil {
		return nil, err
	}
	list := make([]cloud.Volume, 0, len(records))
	for _, r := range records {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		list = append(list, s.volume(r))
	}
	return list, nil
}

func (s *Shelf) records() ([]Record, error) {
	list, err := cloud.Records(s.c.Dir, s.load, s.c.Log)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no volume was ever made
	}
	return list, err
}

// DeleteVolume removes a volume with its snapshots.
func (s *Shelf) DeleteVolume(ctx context.Context, id string) error {
	s.c.Ready(ctx)
	if cloud.CheckName(id) != nil {
		return nil // never ours, so it is gone already
	}
	r, unlock, err := s.open(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete volume %s: %w", id, err)
	}
	defer unlock()
	if err := s.remove(ctx, r); err != nil {
		return fmt.Errorf("delete volume %s: %w", id, err)
	}
	return nil
}

func (s *Shelf) remove(ctx context.Context, r Record) error {
	if r.Holder != "" {
		return fmt.Errorf("%w: instance %s has it", cloud.ErrInUse, r.Holder)
	}
	if err := s.c.Keeper.Idle(ctx, r); err != nil {
		return err
	}
	// Renamed first: half a volume must not be found as one.
	gone := filepath.Join(s.c.Dir, gonePrefix+r.Name)
	if err := RemoveAll(gone); err != nil {
		return err
	}
	if err := os.Rename(r.Dir, gone); err != nil {
		return err
	}
	err := errors.Join(syncDir(s.c.Dir), RemoveAll(gone))
	s.end()
	return err
}

// GrowVolume makes a volume at least this large.
func (s *Shelf) GrowVolume(ctx context.Context, id string, bytes int64) error {
	s.c.Ready(ctx)
	r, unlock, err := s.open(ctx, id)
	if err != nil {
		return fmt.Errorf("grow volume %.40s: %w", id, err)
	}
	defer unlock()
	if err := s.grow(ctx, r, bytes); err != nil {
		return fmt.Errorf("grow volume %s to %d bytes: %w", id, bytes, full(err))
	}
	return nil
}

func (s *Shelf) grow(ctx context.Context, r Record, bytes int64) error {
	if err := cloud.CheckVolumeSize(bytes); err != nil {
		return err
	}
	grown := r
	if bytes = whole(bytes); bytes > r.Bytes {
		if err := Room(s.c.Dir, bytes-r.Bytes); err != nil {
			return err
		}
		grown.Bytes = bytes
	}
	// Also when the record has the size already, as it may be half true. A
	// volume that is larger than its record does no harm.
	if err := s.c.Keeper.Grow(ctx, grown); err != nil || grown.Bytes == r.Bytes {
		return err
	}
	return s.save(grown)
}

// Tidy removes what a director left that died while it made or removed
// something. No order of this shelf may run at the same time.
func (s *Shelf) Tidy() {
	sweep(s.c.Dir, s.c.Log)
	records, err := s.records()
	if err != nil {
		s.c.Log.Warn("volumes not readable", "error", err)
	}
	for _, r := range records {
		sweep(r.Dir, s.c.Log)
		sweep(filepath.Join(r.Dir, snapshotsDir), s.c.Log)
	}
	s.end()
}

func sweep(dir string, log *slog.Logger) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // there is none; the order itself says why
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), newPrefix) && !strings.HasPrefix(e.Name(), gonePrefix) {
			continue
		}
		if err := RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			log.Warn("leftover of a volume not removed", "dir", filepath.Join(dir, e.Name()), "error", err)
		}
	}
}
