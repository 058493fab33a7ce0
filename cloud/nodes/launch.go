package nodes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"nutshell/cloud"
	"nutshell/cloud/wire"
)

// tries is on how many machines an instance is tried.
const tries = 3

// Launch chooses a machine for each spec and passes it on, all at once.
func (d *driver) Launch(ctx context.Context, specs []cloud.Spec) ([]cloud.Instance, error) {
	f, list, err := d.machines(ctx)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return cloud.LaunchEach(specs, func(cloud.Spec) (cloud.Instance, error) { return cloud.Instance{}, err })
	}
	return cloud.LaunchEach(specs, func(s cloud.Spec) (cloud.Instance, error) { return d.launch(ctx, s, f, list) })
}

func (d *driver) launch(ctx context.Context, s cloud.Spec, f fleet, list []cloud.Machine) (cloud.Instance, error) {
	if err := s.Check(); err != nil {
		return cloud.Instance{}, err
	}
	unlock, err := d.names.Lock(ctx, s.Name)
	if err != nil {
		return cloud.Instance{}, err
	}
	defer unlock()
	if s.Slot, err = d.slot(ctx, s.Group); err != nil {
		return cloud.Instance{}, err
	}
	tried := map[string]bool{}
	var errs []error
	for range tries {
		to, err := d.assign(s, f, list, tried)
		if err != nil && len(tried) == len(list) {
			break // each has said why
		}
		if err != nil {
			return cloud.Instance{}, errors.Join(append(errs, err)...)
		}
		on := s
		on.Layers, on.Foreign = layersFor(s, f[to.machine]), nil
		i, err := d.launchOn(ctx, on, to, f[to.machine])
		if err == nil {
			return i, nil
		}
		err = fmt.Errorf("on %s: %w", f[to.machine].Name, err)
		errs = append(errs, err)
		if to.bound || ctx.Err() != nil { // what is invalid for one machine, others may take: what none takes was refused above
			break
		}
		tried[to.machine] = true
		d.log.Warn("instance not launched on a machine, another is tried", "instance", s.Name, "machine", to.machine, "error", err)
	}
	return cloud.Instance{}, errors.Join(errs...)
}

func (d *driver) slot(ctx context.Context, group string) (int, error) {
	d.mu.Lock()
	cluster := d.cluster
	d.mu.Unlock()
	slot, err := cluster.Slot(ctx, group)
	if err != nil {
		return 0, fmt.Errorf("network of group %s: %w", group, err)
	}
	return slot, nil
}

// layersFor are a spec's layers for a machine's architecture.
func layersFor(s cloud.Spec, m cloud.Machine) []string {
	if m.Arch == "" || m.Arch == runtime.GOARCH {
		return s.Layers
	}
	return s.Foreign[m.Arch]
}

// assignment is the machine that an instance shall run on.
type assignment struct {
	machine string
	bound   bool // it cannot run on another: it exists there, or its data does
}

// assign chooses the machine and writes it down, before it is asked: a director
// that dies meanwhile must not start the instance twice.
func (d *driver) assign(s cloud.Spec, f fleet, list []cloud.Machine, tried map[string]bool) (assignment, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, known := d.book.Instances[s.Name]
	if known && e.Group != s.Group {
		return assignment{}, fmt.Errorf("%w: it exists in group %q", cloud.ErrInvalid, e.Group)
	}
	data, err := d.dataOf(s, f)
	if err != nil {
		return assignment{}, err
	}
	if known && f[e.Machine].Up {
		if data != "" && data != e.Machine {
			return assignment{}, fmt.Errorf("%w: it runs on %s, and its volumes are on %s", cloud.ErrInvalid, f.name(e.Machine), f.name(data))
		}
		d.recent.busy[s.Name] = true
		d.offer(s, f)
		return assignment{e.Machine, true}, nil
	}
	to := assignment{data, data != ""}
	switch {
	case to.bound && f[data].Cordoned:
		return assignment{}, fmt.Errorf("%w: its volumes are on %s, which is cordoned", cloud.ErrUnavailable, f.name(data))
	case !to.bound:
		if to.machine, err = place(need(s.Limits), d.candidates(s, list, tried)); err != nil {
			return assignment{}, err
		}
	}
	if known {
		d.log.Warn("machine is lost, its instance is launched elsewhere", "instance", s.Name, "lost", e.Machine, "machine", to.machine)
		d.forsake(e)
	}
	unmark(d.book.Stale, to.machine, s.Name)
	d.put(cloud.Instance{ID: s.Name, Name: s.Name, Group: s.Group, Machine: to.machine, Tags: s.Tags})
	d.offer(s, f)
	d.recent.promises = append(d.recent.promises, promise{to.machine, need(s.Limits), time.Now().Add(promiseLife)})
	if err := d.save(); err != nil {
		d.drop(s.Name)
		return assignment{}, err
	}
	d.recent.busy[s.Name] = true
	return to, nil
}

func (f fleet) name(machine string) string {
	if n := f[machine].Name; n != "" {
		return n
	}
	return machine
}

// launchOn asks the machine and writes down what came of it.
func (d *driver) launchOn(ctx context.Context, s cloud.Spec, to assignment, m cloud.Machine) (cloud.Instance, error) {
	err := d.bring(ctx, s.Volumes, to.machine)
	var i cloud.Instance
	if err == nil {
		i, err = d.launchFar(ctx, m, s)
	}
	var alone *cloud.LaunchError
	if errors.As(err, &alone) {
		err = alone.Err // our caller names the instance
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.recent.busy, s.Name)
	if err == nil {
		delete(d.recent.failed, to.machine)
		d.put(i)
		d.hold(i.Name, s.Volumes)
		return i, d.save()
	}
	if !errors.Is(err, cloud.ErrInvalid) && !errors.Is(err, cloud.ErrInUse) && ctx.Err() == nil {
		d.recent.failed[to.machine] = time.Now()
	}
	e := d.book.Instances[s.Name]
	switch unknown := errors.Is(err, wire.ErrUnreached); {
	case e.Address != "": // it was there before
		return cloud.Instance{}, err
	case unknown && (ctx.Err() != nil || to.bound):
		return cloud.Instance{}, err // it may come up there, and is asked for there again
	case unknown:
		d.forsake(e)
	default:
		d.drop(s.Name)
	}
	return cloud.Instance{}, errors.Join(err, d.save())
}

// Terminate ends instances for good. What a lost machine has is ended when it
// comes back.
func (d *driver) Terminate(ctx context.Context, ids []string) error {
	return d.end(ctx, "terminate", ids, func(ctx context.Context, c *wire.Client, id string) error {
		return c.Terminate(ctx, []string{id})
	}, true)
}

// Stop ends instances and keeps what they hold, but for those of lost machines,
// which are launched anew.
func (d *driver) Stop(ctx context.Context, ids []string) error {
	return d.end(ctx, "stop", ids, func(ctx context.Context, c *wire.Client, id string) error {
		return c.Stop(ctx, []string{id})
	}, false)
}

func (d *driver) end(ctx context.Context, what string, ids []string, do func(context.Context, *wire.Client, string) error, forget bool) error {
	f, _, err := d.machines(ctx)
	if err != nil {
		return err
	}
	return cloud.Each(ids, func(_ int, id string) error {
		unlock, err := d.names.Lock(ctx, id)
		if err != nil {
			return err
		}
		defer unlock()
		i, there, err := d.holding(id, f)
		if err != nil || !there {
			return err
		}
		err = do(ctx, d.far(i.Machine), id)
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.recent.busy, id)
		if err != nil {
			return fmt.Errorf("%s %s on %s: %w", what, id, f.name(i.Machine), err)
		}
		if forget {
			d.drop(id)
			d.hold(id, nil)
		} else {
			i.Running = false
			d.put(i)
		}
		return d.save()
	})
}

// holding finds the machine that must be asked about an instance. One that is
// lost need not, nor one that was removed.
func (d *driver) holding(id string, f fleet) (cloud.Instance, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, known := d.book.Instances[id]
	if !known {
		return i, false, nil
	}
	if f[i.Machine].Up {
		d.recent.busy[id] = true
		return i, true, nil
	}
	d.forsake(i)
	return i, false, d.save()
}

// BootLog asks the instance's machine.
func (d *driver) BootLog(ctx context.Context, id string) (io.ReadCloser, error) {
	if err := cloud.CheckName(id); err != nil {
		return nil, err
	}
	d.mu.Lock()
	i, known := d.book.Instances[id]
	d.mu.Unlock()
	if !known {
		return nil, fmt.Errorf("%w: there is no instance %s", cloud.ErrInvalid, id)
	}
	return d.far(i.Machine).BootLog(ctx, id)
}
