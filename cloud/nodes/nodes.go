// Package nodes is the cloud of machines that joined the director: a shelf of
// Raspberry Pis, or some servers. It chooses a machine for each instance and
// passes the order on to that machine's own cloud, mostly containers (lxc).
//
// What a machine does not tell any more is not gone: until the director
// declares a machine lost, its instances are listed as they were last seen.
// Once it is lost they are not listed, may be launched elsewhere under the same
// names, and are ended when the machine comes back. A book in the driver's
// directory says where everything is, for the director that comes next.
package nodes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"nutshell/cloud"
	"nutshell/cloud/pool"
	"nutshell/cloud/routes"
	"nutshell/cloud/wire"
)

const (
	listTime   = 10 * time.Second // of one machine
	patience   = 5 * time.Second  // with one machine, so that one that hangs does not hide the others
	impatience = time.Second      // with one that should have been heard by now
	checkTime  = 5 * time.Second
	lookEvery  = 2 * time.Second  // whether a machine that launches something is still there
	undoTime   = 2 * time.Minute  // to end what a machine should not have
	routesLife = 20 * time.Second // after which routes are looked at again: a network that went took them with it
)

type driver struct {
	c        cloud.Config
	log      *slog.Logger
	layered  bool
	director netip.Addr // option; zero: found out
	public   pool.Pool  // option, may be zero
	names    cloud.Names

	mu      sync.Mutex
	cluster cloud.Machines
	book    book
	recent  recent
	ending  map[string]bool // machines that are being told to end what they should not have
	routed  struct {
		at  time.Time
		err string // said once
	}
	shown struct { // what was made of the pool
		what string
		at   time.Time
		err  string
	}
}

// New makes the cloud of joined machines. Options: director (the address by
// which instances reach the director; default: the one that faces the
// machines), public (an interface of this machine and a range of addresses there
// for instances), layers (no: the machines run instances on their own files).
func New(c cloud.Config) (cloud.Driver, error) {
	if err := c.Check("director", "layers", "public"); err != nil {
		return nil, err
	}
	d := &driver{c: c, log: c.Log.With("cloud", c.Name), layered: true, ending: map[string]bool{}}
	switch c.Options["layers"] {
	case "", "yes":
	case "no":
		d.layered = false
	default:
		return nil, fmt.Errorf("%w: option layers of cloud %s: %q is not yes or no", cloud.ErrInvalid, c.Name, c.Options["layers"])
	}
	if o := c.Options["director"]; o != "" {
		a, err := netip.ParseAddr(o)
		if err != nil || a.IsUnspecified() || a.IsLoopback() {
			return nil, fmt.Errorf("%w: option director of cloud %s: %q is not an address of this machine that others reach", cloud.ErrInvalid, c.Name, o)
		}
		d.director = a
	}
	var err error
	if d.public, err = pool.Parse(c.Options["public"]); err != nil {
		return nil, fmt.Errorf("option public of cloud %s: %w", c.Name, err)
	}
	if err := cloud.LoadState(d.file(), &d.book); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	d.book.init()
	d.recent.init()
	return d, nil
}

func (d *driver) file() string { return filepath.Join(d.c.Dir, "book.json") }

// Use says who knows the machines.
func (d *driver) Use(machines cloud.Machines) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cluster = machines
}

// UsesLayers says that specs need layers, which machines fetch by digest.
func (d *driver) UsesLayers() bool { return d.layered }

// Architectures are those of the machines that are not lost.
func (d *driver) Architectures(ctx context.Context) ([]string, error) {
	_, list, err := d.machines(ctx)
	found := map[string]bool{}
	for _, m := range list {
		if m.Up {
			found[cmp.Or(m.Arch, runtime.GOARCH)] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), err
}

// fleet is the machines of one order.
type fleet map[string]cloud.Machine

// machines asks who there is, and sees to the routes to them.
func (d *driver) machines(ctx context.Context) (fleet, []cloud.Machine, error) {
	d.mu.Lock()
	cluster := d.cluster
	d.mu.Unlock()
	if cluster == nil {
		return nil, nil, fmt.Errorf("%w: nobody has told this cloud of its machines", cloud.ErrUnavailable)
	}
	list, err := cluster.Machines(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: machines of the cluster: %w", cloud.ErrUnavailable, err)
	}
	f := fleet{}
	for _, m := range list {
		f[m.ID] = m
	}
	d.route(list)
	return f, list, nil
}

// whileUp is a context that ends when the machine is lost.
func (d *driver) whileUp(ctx context.Context, machine string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		look := time.NewTicker(lookEvery)
		defer look.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
			}
			if f, _, err := d.machines(ctx); err == nil && !f[machine].Up {
				cancel()
			}
		}
	}()
	return ctx, cancel
}

// route leads this machine to the containers of the others.
func (d *driver) route(list []cloud.Machine) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.routed.at) < routesLife && d.recent.same(list) {
		return
	}
	d.show() // again, should somebody have taken them away
	var want []routes.Route
	for _, m := range list {
		if m.Subnet.IsValid() && m.Address.Is4() {
			want = append(want, routes.Route{To: m.Subnet, Via: m.Address})
		}
	}
	said := ""
	if len(want) > 0 || !d.routed.at.IsZero() {
		if err := routes.Set(d.owner(), want); err != nil {
			said = err.Error()
		}
	}
	if said != d.routed.err && said != "" {
		d.log.Warn("containers of other machines are not reached", "error", said)
	}
	d.routed.at, d.routed.err = time.Now(), said
}

// owner marks the routes of this cloud.
func (d *driver) owner() string { return d.c.Installation + "/" + d.c.Name }

// far is the cloud of a machine.
func (d *driver) far(machine string) *wire.Client {
	d.mu.Lock()
	cluster := d.cluster
	d.mu.Unlock()
	return wire.NewClient(func(ctx context.Context, method, path string, in, out any) error {
		return cluster.Call(ctx, machine, method, path, in, out)
	})
}

// Check says why no instance could be launched.
func (d *driver) Check(ctx context.Context) error {
	_, list, err := d.machines(ctx)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("%w: no machine has joined the cluster and been approved: nutshell node list shows who asks", cloud.ErrUnavailable)
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	var mu sync.Mutex
	good := 0
	err = cloud.Each(list, func(_ int, m cloud.Machine) error {
		if !m.Up {
			return fmt.Errorf("%s does not answer", m.Name)
		}
		// One that is up and has not said no in time is busy: what is launched there shows it.
		if err := d.far(m.ID).Check(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		good++
		return nil
	})
	if good > 0 {
		return nil // the others are shown as nodes
	}
	return fmt.Errorf("%w: none of %d machines can be used: %w", cloud.ErrUnavailable, len(list), err)
}

// DirectorAddress is the option. Without it instances reach the director by
// the addresses by which their machines do, where it listens anyway.
func (d *driver) DirectorAddress(context.Context) (string, error) {
	if d.director.IsValid() {
		return d.director.String(), nil
	}
	return "", nil
}

// Close removes the routes and public addresses; instances go on, and are
// reached again by the next director.
func (d *driver) Close(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.hide()
	if d.routed.at.IsZero() {
		return err
	}
	d.routed.at = time.Time{}
	return errors.Join(err, routes.Set(d.owner(), nil))
}
