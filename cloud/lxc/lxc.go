// Package lxc is the cloud of containers on this machine: layered root file
// systems, user namespaces, limits, and a network per group. It needs root
// and Debian's lxc. What needs liblxc is done by a small helper program, see
// folder helper; everything else is here, in pure Go.
package lxc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"nutshell/cloud"
	"nutshell/cloud/pool"
	"nutshell/cloud/shelf"
)

// driver keeps in memory only what it can read again from its directory.
type driver struct {
	*shelf.Shelf // volumes

	c     cloud.Config
	log   *slog.Logger
	tag   string // in the names of all that we make outside our directory
	names cloud.Names
	users users
	net   network
	mode  privilege
	form  volumeForm
	tool  *helper
	sweep sync.Once

	warned, unlimited, unsized sync.Once // said once: privileged containers, limits that do not hold, volumes without a size
}

// privilege says whether containers get a user namespace.
type privilege string

const (
	privilegeAuto   privilege = "auto"   // a user namespace where the kernel allows it
	privilegeNever  privilege = "never"  // a user namespace, or no instance
	privilegeAlways privilege = "always" // no user namespace
)

// New makes the lxc cloud. Options: subnet (a private IPv4 network of /22 or
// larger; default: a free /16 of 10.192.0.0/10), public (an interface of this
// machine and a range of addresses there for instances), privileged (auto,
// never, always), volumes (auto, image, directory).
func New(c cloud.Config) (cloud.Driver, error) {
	if err := c.Check("subnet", "public", "privileged", "volumes"); err != nil {
		return nil, err
	}
	if strings.ContainsAny(c.Dir, "\n\r") {
		return nil, fmt.Errorf("%w: directory %q", cloud.ErrInvalid, c.Dir)
	}
	d := &driver{c: c, log: c.Log.With("cloud", c.Name), tag: c.Installation, mode: privilegeAuto, tool: &helper{}}
	// Two clouds of one installation must not meet, and no tag may be the
	// beginning of another.
	if c.Name != "default" || len(c.Installation) != 8 {
		d.tag = fmt.Sprintf("%08x", hash(c.Installation+"/"+c.Name))
	}
	if m, ok := c.Options["privileged"]; ok {
		d.mode = privilege(m)
	}
	switch d.mode {
	case privilegeAuto, privilegeNever, privilegeAlways:
	default:
		return nil, fmt.Errorf("%w: option privileged of cloud %s: %q is not auto, never or always", cloud.ErrInvalid, c.Name, d.mode)
	}
	if err := d.form.set(c); err != nil {
		return nil, err
	}
	if err := d.net.init(d, c.Options["subnet"]); err != nil {
		return nil, err
	}
	var err error
	if d.net.public, err = pool.Parse(c.Options["public"]); err != nil {
		return nil, fmt.Errorf("option public of cloud %s: %w", c.Name, err)
	}
	d.users.init(d.tag)
	d.Shelf = d.openShelf()
	return d, nil
}

// UsesLayers says that specs need layers.
func (d *driver) UsesLayers() bool { return true }

// Launch starts the specs' containers at once.
func (d *driver) Launch(ctx context.Context, specs []cloud.Spec) ([]cloud.Instance, error) {
	d.tidy(ctx)
	return cloud.LaunchEach(specs, func(s cloud.Spec) (cloud.Instance, error) { return d.launch(ctx, s) })
}

func (d *driver) launch(ctx context.Context, s cloud.Spec) (cloud.Instance, error) {
	if err := d.checkSpec(s); err != nil {
		return cloud.Instance{}, err
	}
	unlock, err := d.names.Lock(ctx, s.Name)
	if err != nil {
		return cloud.Instance{}, err
	}
	defer unlock()
	lock, err := d.lock(ctx, s.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return d.launchNew(ctx, s)
	}
	if err != nil {
		return cloud.Instance{}, err
	}
	defer func() { _ = lock.Close() }()
	r, err := d.load(s.Name)
	if err != nil {
		return cloud.Instance{}, err
	}
	if r.Group != s.Group {
		return cloud.Instance{}, fmt.Errorf("%w: it exists in group %q", cloud.ErrInvalid, r.Group)
	}
	p, err := d.running(ctx, r)
	if err != nil {
		return cloud.Instance{}, err
	}
	if cloud.Ending(d.dir(r.Name)) {
		err = d.stop(ctx, r)
	} else if p.Init.Alive() {
		return r.instance(true), nil
	} else {
		// The monitor of an instance that has just died may still clear up.
		err = d.settle(ctx, r, p)
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
	return d.start(ctx, r, s, lock)
}

// launchNew leaves nothing when it fails.
func (d *driver) launchNew(ctx context.Context, s cloud.Spec) (cloud.Instance, error) {
	r, err := d.create(s)
	if err != nil {
		return cloud.Instance{}, err
	}
	lock, err := d.lock(ctx, s.Name)
	if err == nil {
		defer func() { _ = lock.Close() }()
		if err = d.Arrange(ctx, holder(r), s.Volumes); err == nil {
			var inst cloud.Instance
			if inst, err = d.start(ctx, r, s, lock); err == nil {
				return inst, nil
			}
		}
	}
	// The caller's context may be why we are here: undo with our own.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	return cloud.Instance{}, errors.Join(err, d.remove(undo, r))
}

func (d *driver) checkSpec(s cloud.Spec) error {
	if err := s.Check(); err != nil {
		return err
	}
	if len(s.Layers) == 0 {
		return fmt.Errorf("%w: no layers", cloud.ErrInvalid)
	}
	for _, l := range s.Layers {
		if st, err := os.Stat(l); err != nil || !st.IsDir() {
			return fmt.Errorf("%w: layer %s is not a directory", cloud.ErrInvalid, l)
		}
	}
	return nil
}

// Terminate ends the containers and removes all that belonged to them.
func (d *driver) Terminate(ctx context.Context, ids []string) error {
	d.tidy(ctx)
	return d.each(ctx, "terminate", ids, d.remove)
}

// Stop ends the containers and keeps their files.
func (d *driver) Stop(ctx context.Context, ids []string) error {
	d.tidy(ctx)
	return d.each(ctx, "stop", ids, d.stop)
}

func (d *driver) each(ctx context.Context, what string, ids []string, do func(context.Context, record) error) error {
	return cloud.Each(ids, func(_ int, id string) error {
		if cloud.CheckName(id) != nil {
			return nil // never ours, so it is gone already
		}
		unlock, err := d.names.Lock(ctx, id)
		if err != nil {
			return err
		}
		defer unlock()
		lock, err := d.lock(ctx, id)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			defer func() { _ = lock.Close() }()
			var r record
			if r, err = d.load(id); err == nil {
				err = do(ctx, r)
			}
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", what, id, err)
		}
		return nil
	})
}

// List reads what each directory says, and looks whether its first process
// lives.
func (d *driver) List(ctx context.Context) ([]cloud.Instance, error) {
	d.tidy(ctx)
	if err := d.net.guard(); err != nil {
		d.log.Warn("firewall rules not renewed", "error", err)
	}
	records, err := d.records()
	if err != nil {
		return nil, err
	}
	list := make([]cloud.Instance, 0, len(records))
	for _, r := range records {
		p, err := d.running(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", r.Name, err)
		}
		list = append(list, r.instance(p.Init.Alive()))
	}
	return list, nil
}

// BootLog is what the container printed on its console.
func (d *driver) BootLog(_ context.Context, id string) (io.ReadCloser, error) {
	if err := cloud.CheckName(id); err != nil {
		return nil, err
	}
	return os.Open(filepath.Join(d.dir(id), "boot.log"))
}

// DirectorAddress is the first address of the installation's network.
func (d *driver) DirectorAddress(context.Context) (string, error) {
	return d.net.director()
}

// Close removes bridges and firewall rules when no instance exists that runs.
func (d *driver) Close(ctx context.Context) error {
	list, err := d.List(ctx)
	if err != nil {
		return err
	}
	for _, i := range list {
		if i.Running {
			return nil
		}
	}
	d.users.close()
	return d.net.close()
}

// tidy repairs, once, what a director left that died in the middle of an
// order: half-made and half-removed directories, control groups and bridges
// without instances.
func (d *driver) tidy(ctx context.Context) {
	d.sweep.Do(func() {
		entries, err := os.ReadDir(d.c.Dir)
		if err != nil {
			return // the order itself says why
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), newPrefix) && !strings.HasPrefix(e.Name(), gonePrefix) {
				continue
			}
			if err := os.RemoveAll(filepath.Join(d.c.Dir, e.Name())); err != nil {
				d.log.Warn("leftover directory not removed", "dir", e.Name(), "error", err)
			}
		}
		records, err := d.records()
		if err != nil {
			return
		}
		names, groups := map[string]bool{}, map[string]bool{}
		for _, r := range records {
			names[r.Name], groups[r.Group] = true, true
		}
		if err := errors.Join(sweepCgroups(d.cgroup(""), names), removeIdleCgroups(d.pivot()), d.net.keep(groups)); err != nil {
			d.log.Warn("leftovers not removed", "error", err)
		}
		d.Tidy()
		d.reshow(ctx, records)
	})
}
