// Package process is the cloud for one developer: an instance is a process
// group with a directory and a loopback address of its own. It needs no root
// and isolates nothing; it says so.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"nutshell/cloud"
	"nutshell/cloud/shelf"
)

// driver keeps nothing in memory that the directory does not tell.
type driver struct {
	*shelf.Shelf // volumes

	c     cloud.Config
	log   *slog.Logger
	names cloud.Names

	mu       sync.Mutex
	reserved map[string]bool // addresses of instances whose records are being written
	sweep    sync.Once
}

// New makes the process cloud. It has no options.
func New(c cloud.Config) (cloud.Driver, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	d := &driver{c: c, log: c.Log.With("cloud", c.Name), reserved: map[string]bool{}}
	d.Shelf = d.openShelf()
	return d, nil
}

// Launch starts the specs' processes at once.
func (d *driver) Launch(ctx context.Context, specs []cloud.Spec) ([]cloud.Instance, error) {
	d.tidy(ctx)
	return cloud.LaunchEach(specs, func(s cloud.Spec) (cloud.Instance, error) { return d.launch(ctx, s) })
}

func (d *driver) launch(ctx context.Context, s cloud.Spec) (cloud.Instance, error) {
	if err := s.Check(); err != nil {
		return cloud.Instance{}, err
	}
	unlock, err := d.names.Lock(ctx, s.Name)
	if err != nil {
		return cloud.Instance{}, err
	}
	defer unlock()
	r, err := d.load(s.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return d.launchNew(ctx, s)
	}
	if err != nil {
		return cloud.Instance{}, err
	}
	if r.Group != s.Group {
		return cloud.Instance{}, fmt.Errorf("%w: it exists in group %q", cloud.ErrInvalid, r.Group)
	}
	if cloud.Ending(d.dir(r.Name)) {
		err = d.stop(ctx, r)
	} else if d.leader(r).Alive() {
		return r.instance(true), nil
	} else {
		// A killed leader leaves its daemons, which hold the ports.
		err = d.kill(ctx, r)
	}
	if err != nil {
		return cloud.Instance{}, err
	}
	if err := d.renew(&r, s); err != nil {
		return cloud.Instance{}, err
	}
	if err := d.Arrange(ctx, holder(r), s.Volumes); err != nil {
		return cloud.Instance{}, err
	}
	return d.start(r)
}

// launchNew leaves nothing when the instance cannot have its volumes.
func (d *driver) launchNew(ctx context.Context, s cloud.Spec) (cloud.Instance, error) {
	r, err := d.create(s)
	if err != nil {
		return cloud.Instance{}, err
	}
	if err := d.Arrange(ctx, holder(r), s.Volumes); err != nil {
		undo := context.WithoutCancel(ctx)
		return cloud.Instance{}, errors.Join(err, d.Release(undo, r.Name), d.discard(r.Name))
	}
	return d.start(r)
}

func holder(r record) shelf.Holder { return shelf.Holder{Name: r.Name, Group: r.Group} }

// Terminate ends the instances and removes their directories.
func (d *driver) Terminate(ctx context.Context, ids []string) error {
	d.tidy(ctx)
	return cloud.Each(ids, func(_ int, id string) error {
		if err := d.terminate(ctx, id); err != nil {
			return fmt.Errorf("terminate %s: %w", id, err)
		}
		return nil
	})
}

func (d *driver) terminate(ctx context.Context, id string) error {
	if cloud.CheckName(id) != nil {
		return nil // never ours, so it is gone already
	}
	unlock, err := d.names.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := d.load(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := d.stop(ctx, r); err != nil {
		return err
	}
	// Should a program that is not the instance's have a file of a volume open,
	// the volume is free all the same when the instance is gone.
	if err := d.Release(ctx, id); err != nil && !errors.Is(err, cloud.ErrInUse) {
		return err
	}
	return d.discard(id)
}

// discard removes an instance's directory.
func (d *driver) discard(id string) error {
	// Renamed first: half a directory must not be found as an instance.
	gone := filepath.Join(d.c.Dir, gonePrefix+id)
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	if err := os.Rename(d.dir(id), gone); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

// Stop ends the instances' processes and keeps their directories.
func (d *driver) Stop(ctx context.Context, ids []string) error {
	return cloud.Each(ids, func(_ int, id string) error {
		unlock, err := d.names.Lock(ctx, id)
		if err != nil {
			return err
		}
		defer unlock()
		r, err := d.load(id)
		if errors.Is(err, fs.ErrNotExist) || cloud.CheckName(id) != nil {
			return nil
		}
		if err == nil {
			err = d.stop(ctx, r)
		}
		if err != nil {
			return fmt.Errorf("stop %s: %w", id, err)
		}
		return nil
	})
}

// List reads what each directory says, and looks whether its leader lives.
func (d *driver) List(ctx context.Context) ([]cloud.Instance, error) {
	d.tidy(ctx)
	records, err := d.records()
	if err != nil {
		return nil, err
	}
	list := make([]cloud.Instance, 0, len(records))
	for _, r := range records {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		list = append(list, r.instance(d.leader(r).Alive()))
	}
	return list, nil
}

// Check tries what Launch needs.
func (d *driver) Check(ctx context.Context) error {
	st, err := os.Stat(d.c.Binary)
	if err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return fmt.Errorf("%w: %s is not a program", cloud.ErrUnavailable, d.c.Binary)
	}
	f, err := os.CreateTemp(d.c.Dir, newPrefix+"*")
	if err != nil {
		return fmt.Errorf("%w: cannot write in %s: %w", cloud.ErrUnavailable, d.c.Dir, err)
	}
	_ = f.Close()
	_ = os.Remove(f.Name())
	address := d.addressAt(0)
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return fmt.Errorf("%w: loopback address %s cannot be used (is lo up, with 127.0.0.1/8?): %w", cloud.ErrUnavailable, address, err)
	}
	return l.Close()
}

// DirectorAddress is loopback: instances share the machine's network.
func (d *driver) DirectorAddress(context.Context) (string, error) { return "127.0.0.1", nil }

// BootLog is what the instance's leader wrote to its output.
func (d *driver) BootLog(_ context.Context, id string) (io.ReadCloser, error) {
	if err := cloud.CheckName(id); err != nil {
		return nil, err
	}
	return os.Open(filepath.Join(d.dir(id), "boot.log"))
}

// tidy removes, once, what a director left that died while it made or removed
// an instance's directory.
func (d *driver) tidy(ctx context.Context) {
	d.sweep.Do(func() {
		d.Tidy()
		d.reshow(ctx)
		entries, err := os.ReadDir(d.c.Dir)
		if err != nil {
			return // the next order says why
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), newPrefix) && !strings.HasPrefix(e.Name(), gonePrefix) {
				continue
			}
			if err := os.RemoveAll(filepath.Join(d.c.Dir, e.Name())); err != nil {
				d.log.Warn("leftover directory not removed", "dir", e.Name(), "error", err)
			}
		}
	})
}

// stop asks the leader first; what is left after the grace is killed.
func (d *driver) stop(ctx context.Context, r record) error {
	if err := cloud.MarkEnding(d.dir(r.Name)); err != nil {
		return err
	}
	leader := d.leader(r)
	if leader.Signal(termSignal) == nil {
		patience, cancel := context.WithTimeout(ctx, cloud.Grace)
		defer cancel()
		if err := leader.Wait(patience); err != nil {
			d.log.Warn("instance did not stop in order, killing it", "instance", r.Name, "error", err)
		}
	}
	// Half-stopped is worse than stopped late: go on though ctx may have ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := d.kill(ctx, r); err != nil {
		return err
	}
	if err := os.RemoveAll(d.socketsDir(r.Name)); err != nil {
		d.log.Warn("directory for sockets not removed", "instance", r.Name, "error", err)
	}
	return cloud.SaveRuntime(d.processFile(r.Name), cloud.Process{})
}
