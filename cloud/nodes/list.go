package nodes

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"nutshell/cloud"
)

// List asks all machines. One that does not answer, and is not lost, has what
// it had.
func (d *driver) List(ctx context.Context) ([]cloud.Instance, error) {
	f, list, err := d.machines(ctx)
	if err != nil {
		return nil, err
	}
	all := make([][]cloud.Instance, len(list))
	_ = cloud.Each(list, func(n int, m cloud.Machine) error {
		if !m.Up {
			return nil
		}
		all[n] = d.look(ctx, m)
		return nil
	})
	d.forgetRemoved(f)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	found := slices.Concat(all...)
	slices.SortFunc(found, func(a, b cloud.Instance) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// look asks a machine what it has. One that hangs does not keep its caller, who
// gets what is known of it; what it says later counts from then on. No more
// than one question to a machine is open.
func (d *driver) look(ctx context.Context, m cloud.Machine) []cloud.Instance {
	d.mu.Lock()
	open, asked := d.recent.open[m.ID], d.recent.clock
	d.recent.open[m.ID] = true
	d.mu.Unlock()
	if open {
		return d.remembered(m.ID)
	}
	told := make(chan []cloud.Instance, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listTime)
		defer cancel()
		got, err := d.listOn(ctx, m)
		d.mu.Lock()
		delete(d.recent.open, m.ID)
		d.mu.Unlock()
		if err != nil {
			d.log.Warn("machine does not tell what it has, its instances are taken for unchanged", "machine", m.ID, "error", err)
			told <- d.remembered(m.ID)
			return
		}
		told <- d.compare(m.ID, got, asked) //nolint:contextcheck // what it ends, it ends after the answer
	}()
	wait := patience
	if m.Silent {
		wait = impatience
	}
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case list := <-told:
		return list
	case <-late.C:
	case <-ctx.Done():
	}
	return d.remembered(m.ID)
}

// hangs reports whether a machine has not answered the last look at it yet.
func (d *driver) hangs(machine string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.recent.open[machine]
}

// remembered are the instances that a machine had when it was heard last.
func (d *driver) remembered(machine string) (list []cloud.Instance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, i := range d.book.Instances {
		if i.Machine == machine && i.Address != "" {
			list = append(list, i)
		}
	}
	return list
}

// compare brings the book in line with what a machine said when the book's
// clock stood at asked, and returns what counts of it.
func (d *driver) compare(machine string, got []cloud.Instance, asked uint64) (list []cloud.Instance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	told, dirty := map[string]bool{}, false
	newer := func(name string) bool { return d.recent.busy[name] || d.recent.changed[name] > asked }
	var ended []string
	for _, i := range got {
		told[i.Name] = true
		e, known := d.book.Instances[i.Name]
		switch {
		case known && e.Machine != machine, !known && d.book.isStale(i.Name):
			mark(d.book.Stale, machine, i.Name)
			ended, dirty = append(ended, i.Name), true
		case newer(i.Name) && known && e.Address != "":
			list = append(list, e)
		case known && e.Group != i.Group:
			d.log.Warn("machine says that an instance is another group's, which is not believed", "machine", machine, "instance", i.Name, "group", e.Group, "said", i.Group)
			list = append(list, e)
		default:
			if !newer(i.Name) && !same(e, i) {
				d.put(i)
				dirty = true
			}
			list = append(list, i)
		}
	}
	for name, e := range d.book.Instances {
		switch {
		case e.Machine != machine || told[name]:
		case newer(name) && e.Address != "":
			list = append(list, e)
		case !newer(name):
			d.drop(name)
			dirty = true
		}
	}
	for name := range d.book.Stale[machine] {
		if !told[name] && !d.recent.busy[name] {
			unmark(d.book.Stale, machine, name)
			dirty = true
		}
	}
	if dirty {
		if err := d.save(); err != nil {
			d.log.Error("book of the cluster not written", "error", err)
		}
	}
	d.purge(machine, ended)
	return list
}

func same(a, b cloud.Instance) bool {
	return a.Machine == b.Machine && a.Address == b.Address && a.Public == b.Public && a.Running == b.Running && a.Group == b.Group &&
		a.Created.Equal(b.Created) && maps.Equal(a.Tags, b.Tags)
}

// purge ends what a machine should not have: it was away while that was
// replaced, stopped or ended. The caller holds mu.
func (d *driver) purge(machine string, names []string) {
	if len(names) == 0 || d.ending[machine] {
		return
	}
	d.ending[machine] = true
	d.log.Warn("machine is back with instances that are not wanted any more, they are ended", "machine", machine, "instances", names)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), undoTime)
		defer cancel()
		if err := d.far(machine).Terminate(ctx, names); err != nil {
			d.log.Warn("instances not ended, the next look at the machine tries again", "machine", machine, "error", err)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.ending, machine)
	}()
}

// forgetRemoved drops what was on machines that the director removed. Those
// that it approves again tell it anew.
func (d *driver) forgetRemoved(f fleet) {
	d.mu.Lock()
	defer d.mu.Unlock()
	gone := func(machine string) bool { _, there := f[machine]; return !there }
	before := len(d.book.Instances) + len(d.book.Volumes) + len(d.book.Stale) + len(d.book.StaleVolumes)
	maps.DeleteFunc(d.book.Instances, func(name string, i cloud.Instance) bool { return gone(i.Machine) && !d.recent.busy[name] })
	maps.DeleteFunc(d.book.Volumes, func(_ string, v volume) bool { return gone(v.Machine) })
	maps.DeleteFunc(d.book.Stale, func(machine string, _ map[string]bool) bool { return gone(machine) })
	maps.DeleteFunc(d.book.StaleVolumes, func(machine string, _ map[string]bool) bool { return gone(machine) })
	if before == len(d.book.Instances)+len(d.book.Volumes)+len(d.book.Stale)+len(d.book.StaleVolumes) {
		return
	}
	if err := d.save(); err != nil {
		d.log.Error("book of the cluster not written", "error", err)
	}
}
