package director

import (
	"context"
	"slices"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// youth is the age below which nothing is called stray or lost: clouds show
// new instances late.
const youth = time.Minute

// sweep compares rows with what the clouds really run. It touches only what
// bears our tag, which is all that drivers list.
func (d *Director) sweep(ctx context.Context) {
	if d.isHalted() {
		return
	}
	for _, p := range d.clouds {
		if p.broken != nil {
			continue
		}
		list, cancel := context.WithTimeout(ctx, time.Minute)
		got, err := p.driver.List(list) // before the rows: what is launched in between is then in neither
		cancel()
		if err != nil {
			d.c.Log.Warn("cloud not swept", "cloud", p.name, "error", err)
			continue
		}
		if err := d.sweepCloud(ctx, p, got); err != nil {
			d.c.Log.Warn("cloud not swept", "cloud", p.name, "error", err)
		}
		if err := d.sweepVolumes(ctx, p); err != nil {
			d.c.Log.Warn("volumes not swept", "cloud", p.name, "error", err)
		}
	}
	d.deleteVolumes(ctx)
}

func (d *Director) sweepCloud(ctx context.Context, p *place, got []cloud.Instance) error {
	rows, err := d.store.Instances(ctx)
	if err != nil {
		return err
	}
	apps, err := d.store.Applications(ctx, 0)
	if err != nil {
		return err
	}
	services, err := d.store.View.Services(ctx, store.Selection{}) // from the disk: what is decided here ends instances
	if err != nil {
		return err
	}
	now := d.c.Now()
	var stray []string
	for _, c := range got {
		known := slices.ContainsFunc(rows, func(r store.Instance) bool { return r.ID == c.Name && r.Cloud == p.name })
		if !known && now.Sub(c.Created) > youth {
			stray = append(stray, c.ID)
			d.c.Log.Warn("instance without a row is ended", "cloud", p.name, "instance", c.Name)
		}
	}
	if len(stray) > 0 {
		if err := d.inCloud(ctx, p.name, func(ctx context.Context, driver cloud.Driver) error { return driver.Terminate(ctx, stray) }); err != nil {
			d.c.Log.Warn("stray instances not ended", "cloud", p.name, "error", err)
		}
	}
	var leave, lost, again, shown []store.Instance
	for _, r := range rows {
		if r.Cloud != p.name {
			continue
		}
		i := slices.IndexFunc(got, func(c cloud.Instance) bool { return c.Name == r.ID })
		if i < 0 && r.Machine != "" && r.State != api.InstanceLeaving && !d.answers(r.Machine) {
			continue // whoever does not answer has lost nothing yet
		}
		if i >= 0 && got[i].Public != r.Public {
			r.Public = got[i].Public
			shown = append(shown, r)
		}
		switch d.verdict(r, apps, services, i >= 0, i >= 0 && got[i].Running, now) {
		case fateEnd:
			leave = append(leave, r)
		case fateLost:
			lost = append(lost, r)
		case fateStart:
			again = append(again, r)
		case fateStay:
		}
	}
	if len(leave) > 0 {
		if err := d.terminate(ctx, leave); err != nil {
			d.c.Log.Warn("instances not ended", "cloud", p.name, "error", err)
		}
	}
	if len(again) > 0 {
		if err := d.again(ctx, again); err != nil {
			d.c.Log.Warn("stopped instances not started again", "cloud", p.name, "error", err)
		}
	}
	if len(lost)+len(shown) == 0 {
		return nil
	}
	return d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		for _, r := range shown {
			if err := t.PublishInstance(ctx, r); err != nil {
				return err
			}
		}
		for _, r := range lost {
			r.State, r.Reason = api.InstanceLost, "its cloud does not have it any more"
			t.Bump(r.Application)
			if err := t.SaveInstance(ctx, r); err != nil {
				return err
			}
		}
		return nil
	})
}

type fate int

const (
	fateStay fate = iota
	fateEnd
	fateLost
	fateStart
)

// verdict is what should become of a row. It is pure.
func (d *Director) verdict(r store.Instance, apps []store.Application, services []store.Service, exists, running bool, now time.Time) fate {
	i := slices.IndexFunc(apps, func(a store.Application) bool { return a.ID == r.Application })
	if i < 0 {
		return fateEnd
	}
	a := apps[i]
	young := now.Sub(r.Created) < youth
	if a.Operation != "" {
		return fateStay // it is being changed right now
	}
	if r.Service == 0 {
		if r.State == api.InstanceLeaving {
			return fateEnd
		}
		return fateStay // the supervisor looks after managers
	}
	i = slices.IndexFunc(services, func(s store.Service) bool { return s.Application == r.Application && s.ID == r.Service })
	switch {
	case i < 0:
		return fateEnd
	case services[i].Operation != "":
		return fateStay
	case r.State == api.InstanceLeaving && !young:
		return fateEnd
	case a.Desired != api.GoalStarted && services[i].Desired != api.GoalStarted:
		return fateEnd
	case a.Desired != api.GoalStarted || services[i].Desired != api.GoalStarted || r.State == api.InstanceLost:
		return fateStay // kept for the next start, or its manager sees to it
	case !exists && !young:
		return fateLost
	case exists && running && r.State == api.InstanceAsked && r.Address == "" && !young && r.Created.Before(d.began):
		return fateEnd // a director that died while it launched it: what went on launched others, and nobody counts this one
	case exists && !running:
		return fateStart
	}
	return fateStay
}

// adopt finds again, at the start, what outlived the director before, and
// starts what was stopped with it, all at once.
func (d *Director) adopt(ctx context.Context) error {
	apps, err := d.store.StartedApplications(ctx)
	if err != nil {
		return err
	}
	running, known := map[string]bool{}, map[string]bool{}
	for _, p := range d.clouds {
		if p.broken != nil {
			continue
		}
		list, cancel := context.WithTimeout(ctx, time.Minute)
		got, err := p.driver.List(list)
		cancel()
		if err != nil {
			d.c.Log.Warn("cloud not asked for instances", "cloud", p.name, "error", err)
			continue
		}
		for _, c := range got {
			running[c.Name], known[c.Name] = c.Running, true
		}
	}
	var again []store.Instance
	for _, a := range apps {
		if a.Operation != "" {
			continue // it starts its instances itself
		}
		rows, err := d.keptInstances(ctx, a.ID)
		if err != nil {
			return err
		}
		manager, err := d.managerRow(ctx, a)
		if err != nil {
			return err
		}
		for _, r := range append(rows, manager) {
			// What a node has and we do not see is not started elsewhere: the node
			// may only be slow, and its instances are replaced when it is lost.
			if !running[r.ID] && (known[r.ID] || r.Machine == "") {
				again = append(again, r)
			}
		}
	}
	active, err := d.store.ActiveOperations(ctx)
	if err != nil {
		return err
	}
	for _, o := range active {
		if d.carries(o) {
			d.c.Log.Info("operation goes on", "op", o.Kind, "operation", o.ID, "app", o.Application)
			d.run(o) //nolint:contextcheck // it has a deadline of its own
		}
	}
	if len(again) == 0 {
		return nil
	}
	d.c.Log.Info("instances of started applications are started again", "count", len(again))
	return d.again(ctx, again)
}
