package lxc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/cloud"
	"nutshell/cloud/lxc/order"
)

const (
	newPrefix  = ".new-"  // a directory that is being made
	gonePrefix = ".gone-" // a directory that is being removed
	startTime  = 30 * time.Second
	undoTime   = 30 * time.Second
	// handlerTime is how long a program may take to listen to SIGTERM.
	handlerTime = 2 * time.Second
)

// record is what instance.json says. It is written before the container
// starts.
type record struct {
	Installation string            `json:"installation"`
	Name         string            `json:"name"`
	Group        string            `json:"group"`
	Address      netip.Addr        `json:"address"`
	Public       netip.Addr        `json:"public,omitzero"` // on the interface of option public
	Ports        []int             `json:"ports,omitempty"` // that are reached there
	Created      time.Time         `json:"created"`
	Tags         map[string]string `json:"tags,omitempty"`
	Limits       cloud.Limits      `json:"limits"`
	Slot         int               `json:"slot"`       // of the group: its bridge, /24 and id range
	Owner        int               `json:"owner"`      // host id of the container's root
	Privileged   bool              `json:"privileged"` // no user namespace
}

// processes is what process.json says of a container that was started.
type processes struct {
	Init    cloud.Process `json:"init"`
	Monitor cloud.Process `json:"monitor"`
}

func (r record) instance(running bool) cloud.Instance {
	tags := maps.Clone(r.Tags)
	if r.Privileged {
		if tags == nil {
			tags = map[string]string{}
		}
		tags["isolation"] = "privileged" // so that it is seen: root inside is root outside
	}
	i := cloud.Instance{
		ID: r.Name, Name: r.Name, Group: r.Group, Address: r.Address.String(),
		Running: running, Created: r.Created, Tags: tags,
	}
	if r.Public.IsValid() {
		i.Public = r.Public.String()
	}
	return i
}

func (d *driver) dir(name string) string         { return filepath.Join(d.c.Dir, name) }
func (d *driver) recordFile(name string) string  { return filepath.Join(d.dir(name), "instance.json") }
func (d *driver) processFile(name string) string { return filepath.Join(d.dir(name), "process.json") }
func (d *driver) container(name string) order.Container {
	return order.Container{Name: name, Path: d.stage(), Dir: d.dir(name)}
}

func (d *driver) load(name string) (record, error) {
	var r record
	if err := cloud.LoadState(d.recordFile(name), &r); err != nil {
		return record{}, err
	}
	if r.Installation != d.c.Installation || r.Name != name {
		return record{}, fmt.Errorf("%s belongs to installation %q, not to %q", d.dir(name), r.Installation, d.c.Installation)
	}
	return r, nil
}

// records reads all instances of this installation.
func (d *driver) records() ([]record, error) { return cloud.Records(d.c.Dir, d.load, d.log) }

// create makes the directory under another name first: it is whole, with its
// record, or absent.
func (d *driver) create(s cloud.Spec) (record, error) {
	r := record{
		Installation: d.c.Installation, Name: s.Name, Group: s.Group,
		Created: time.Now().UTC().Truncate(time.Second), Tags: s.Tags, Limits: s.Limits, Ports: s.Public,
		Privileged: d.mode == privilegeAlways,
	}
	placed, err := d.net.place(&r, s.Slot)
	if err != nil {
		return record{}, err
	}
	defer placed()
	if !r.Privileged {
		r.Owner = d.users.base(r.Slot)
	}
	fresh := filepath.Join(d.c.Dir, newPrefix+s.Name)
	if err := os.RemoveAll(fresh); err != nil {
		return record{}, err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return record{}, err
	}
	err = errors.Join(
		cloud.SaveFile(filepath.Join(fresh, "context.json"), s.Context),
		cloud.SaveRuntime(filepath.Join(fresh, "process.json"), processes{}),
		cloud.SaveState(filepath.Join(fresh, "instance.json"), r),
	)
	if err == nil {
		err = os.Rename(fresh, d.dir(s.Name))
	}
	if err != nil {
		return record{}, errors.Join(err, os.RemoveAll(fresh))
	}
	return r, nil
}

// renew takes over what a new Launch of a stopped instance says.
func (d *driver) renew(r *record, s cloud.Spec) error {
	r.Tags, r.Limits = s.Tags, s.Limits
	release, err := d.net.moved(r)
	if err != nil {
		return err
	}
	defer release()
	if len(s.Context) > 0 {
		if err := cloud.SaveFile(filepath.Join(d.dir(s.Name), "context.json"), s.Context); err != nil {
			return err
		}
	}
	return cloud.SaveState(d.recordFile(s.Name), *r)
}

// start mounts and starts the container; its address is usable when start
// returns.
func (d *driver) start(ctx context.Context, r record, s cloud.Spec, lock *os.File) (cloud.Instance, error) {
	if err := d.net.up(r.Slot); err != nil {
		return cloud.Instance{}, fmt.Errorf("network: %w", err)
	}
	told, err := os.ReadFile(filepath.Join(d.dir(r.Name), "context.json"))
	if err != nil {
		return cloud.Instance{}, err
	}
	if err := cloud.ClearEnding(d.dir(r.Name)); err != nil {
		return cloud.Instance{}, err
	}
	// While the file is missing, running() asks liblxc: a director that dies
	// between here and the writing of the process ids loses nothing.
	if err := os.Remove(d.processFile(r.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cloud.Instance{}, err
	}
	// An order that has begun is finished: a half-started container helps
	// nobody, and it takes a fraction of a second.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTime)
	defer cancel()
	a, err := d.startAs(work, r, s, told, lock)
	if err != nil && a.Unmapped && d.mode == privilegeAuto && !r.Privileged && d.fresh(r) {
		d.warned.Do(func() {
			d.log.Warn("no user namespaces for containers on this kernel or file system: instances are privileged", "cause", a.Error)
		})
		r.Privileged, r.Owner = true, 0
		if err := cloud.SaveState(d.recordFile(r.Name), r); err != nil {
			return cloud.Instance{}, err
		}
		a, err = d.startAs(work, r, s, told, lock)
	}
	if err != nil {
		return cloud.Instance{}, errors.Join(d.explain(r, err), cloud.SaveRuntime(d.processFile(r.Name), processes{}))
	}
	p, err := identify(a.InitPID)
	if err != nil {
		// It ended at once. That is the instance's trouble, and List's to show.
		d.log.Warn("instance ended while it started", "instance", r.Name, "error", err)
	}
	if err := cloud.SaveRuntime(d.processFile(r.Name), p); err != nil {
		return cloud.Instance{}, err
	}
	return r.instance(p.Init.Alive()), nil
}

func (d *driver) startAs(ctx context.Context, r record, s cloud.Spec, told []byte, lock *os.File) (order.Answer, error) {
	ns, err := d.users.namespace(ctx, d.tool, r)
	if err != nil {
		return order.Answer{}, err
	}
	conf := filepath.Join(d.dir(r.Name), "config")
	if err := os.WriteFile(conf, []byte(d.containerConfig(r)), 0o600); err != nil {
		return order.Answer{}, err
	}
	if err := os.MkdirAll(d.stage(), 0o755); err != nil {
		return order.Answer{}, err
	}
	names, mounts, err := d.volumeMounts(ctx, r, ns)
	defer func() {
		for _, m := range mounts {
			_ = m.Close()
		}
	}()
	if err != nil {
		return order.Answer{Unmapped: errors.Is(err, errUnmapped), Error: err.Error()}, err
	}
	return d.tool.start(ctx, order.Start{
		Container: d.container(r.Name), Root: d.root(), Lowers: s.Layers,
		Binary: d.c.Binary, Owner: r.Owner, Files: d.files(r, told), Volumes: names,
	}, ns, lock, mounts)
}

// fresh reports whether the instance has no files of its own yet, so that it
// does not matter under which ids it would have written them.
func (d *driver) fresh(r record) bool {
	files, err := os.ReadDir(filepath.Join(d.dir(r.Name), "upper"))
	return errors.Is(err, fs.ErrNotExist) || err == nil && len(files) == 0
}

// explain adds what liblxc's log says, which is more than liblxc does.
func (d *driver) explain(r record, err error) error {
	b, _ := os.ReadFile(filepath.Join(d.dir(r.Name), "lxc.log"))
	var why []string
	for line := range strings.Lines(string(b)) {
		if _, text, ok := strings.Cut(line, " ERROR "); ok && len(why) < 3 {
			why = append(why, strings.Join(strings.Fields(text), " "))
		}
	}
	if len(why) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.Join(why, "; "))
}

// identify finds the container's first process and its monitor, which is the
// parent.
func identify(pid int) (processes, error) {
	if pid <= 0 {
		return processes{}, errors.New("no first process")
	}
	s, err := cloud.ReadStat(pid)
	if err != nil {
		return processes{}, err
	}
	var p processes
	if p.Monitor, err = cloud.FindProcess(s.Parent); err != nil {
		return processes{}, err
	}
	p.Init, err = cloud.FindProcess(pid)
	return p, err
}

// running is what is known of the instance's processes, which may have ended.
func (d *driver) running(ctx context.Context, r record) (processes, error) {
	var p processes
	err := cloud.LoadState(d.processFile(r.Name), &p)
	if err == nil {
		return p, nil
	}
	if !errors.Is(err, fs.ErrNotExist) { // as a loss of power leaves it: liblxc knows, too
		d.log.Warn("process file not readable", "instance", r.Name, "error", err)
	}
	if _, err := os.Stat(filepath.Join(d.dir(r.Name), "config")); err != nil {
		return processes{}, nil // no start has begun
	}
	a, err := d.tool.info(ctx, d.container(r.Name))
	if err != nil || a.InitPID <= 0 {
		return processes{}, err
	}
	p, err = identify(a.InitPID)
	if err != nil {
		return processes{}, nil // it ended just now
	}
	return p, nil
}

// stop asks the container's first process to stop in order, and kills the
// container after the grace. liblxc is not needed for it: when the first
// process of a pid namespace ends, the kernel ends all others.
func (d *driver) stop(ctx context.Context, r record) error {
	if err := cloud.MarkEnding(d.dir(r.Name)); err != nil {
		return err
	}
	p, err := d.running(ctx, r)
	if err != nil {
		return err
	}
	if awaitHandler(ctx, p.Init) && p.Init.Signal(syscall.SIGTERM) == nil {
		patience, cancel := context.WithTimeout(ctx, cloud.Grace)
		defer cancel()
		if err := p.Init.Wait(patience); err != nil {
			d.log.Warn("instance did not stop in order, killing it", "instance", r.Name, "error", err)
		}
	}
	// Half-stopped is worse than stopped late: go on though ctx may have ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if err := p.Init.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if err := p.Init.Wait(ctx); err != nil {
		return fmt.Errorf("first process %d: %w", p.Init.PID, err)
	}
	if err := d.settle(ctx, r, p); err != nil {
		return err
	}
	return cloud.SaveRuntime(d.processFile(r.Name), processes{})
}

// awaitHandler waits until the process listens to SIGTERM: the kernel throws
// away what comes to the first process of a pid namespace before, and an
// instance that was started a moment ago would then be killed after the whole
// grace. It is false for a program that does not listen.
func awaitHandler(ctx context.Context, p cloud.Process) bool {
	for end := time.Now().Add(handlerTime); p.Alive() && time.Now().Before(end) && ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
		if err != nil {
			return false
		}
		_, rest, _ := strings.Cut(string(b), "\nSigCgt:")
		mask, _, _ := strings.Cut(rest, "\n")
		if bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64); err == nil && bits&(1<<(syscall.SIGTERM-1)) != 0 {
			return true
		}
	}
	return false
}

// settle waits until the monitor of a container that has ended is gone, and
// with it the mounts; a monitor that hangs is killed. Then it removes the
// control groups.
func (d *driver) settle(ctx context.Context, r record, p processes) error {
	patience, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := p.Monitor.Wait(patience); err != nil {
		d.log.Warn("monitor does not end, killing it", "instance", r.Name, "error", err)
		_ = p.Monitor.Signal(syscall.SIGKILL)
		if err := p.Monitor.Wait(ctx); err != nil {
			return fmt.Errorf("monitor %d: %w", p.Monitor.PID, err)
		}
	}
	return errors.Join(removeCgroups(ctx, d.cgroup(r.Name)), removeIdleCgroups(d.pivot()), removeBareCgroup(d.cgroup("")))
}

// remove stops the container and removes its files, and its group's network
// when it was the last.
func (d *driver) remove(ctx context.Context, r record) error {
	if err := d.stop(ctx, r); err != nil {
		return err
	}
	if err := d.Release(ctx, r.Name); err != nil {
		return err
	}
	gone := filepath.Join(d.c.Dir, gonePrefix+r.Name)
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	if err := d.net.leave(r, func() error { return os.Rename(d.dir(r.Name), gone) }); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

// lock takes the instance's lock file for one order. The helper holds it too
// while it starts the container: a director that was killed meanwhile, and is
// back at once, waits for the end of that start.
func (d *driver) lock(ctx context.Context, name string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(d.dir(name), "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err // ErrNotExist: there is no such instance
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("a start by an earlier director goes on: %w", ctx.Err()), f.Close())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
