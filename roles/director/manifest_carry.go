package director

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/operation"
	"nutshell/roles/internal/store"
)

const (
	manifestSteps = 7
	partPause     = 3 * time.Second // between looks at the manager
	activateTries = 3
)

// manifestRun is a manifest being carried out. Each step looks at what exists
// first, so that all of it can begin again after the director's death.
type manifestRun struct {
	d       *Director
	run     *operation.Run
	o       store.Operation
	staged  *staged
	dir     string
	plan    []planned
	sources []sources
	began   time.Time
}

func (d *Director) carryManifest(ctx context.Context, run *operation.Run, o store.Operation) error {
	c := &manifestRun{d: d, run: run, o: o, dir: filepath.Join(d.manifests(), o.ID), began: d.c.Now()}
	// What is half made is nobody's: it all goes again, after a failure as after a cancellation.
	run.Undo("delete the application that was half made", c.undo)
	err := c.undoing()
	if err == nil {
		err = c.carry(ctx)
	}
	if err != nil && d.ctx.Err() == nil && !errors.Is(context.Cause(ctx), errStopping) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		c.markUndo(err)
	}
	return err
}

func (c *manifestRun) carry(ctx context.Context) error {
	var err error
	if c.staged, err = c.d.keptManifest(c.o.ID); err != nil {
		return err
	}
	if c.plan, _, err = c.d.planManifest(&c.staged.m); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
		when bool
	}{
		{"get what the manifest names", c.gather, true},
		{"make the services", c.make, true},
		{"start the application", c.startApplication, c.any(planned.Started)},
		{"start the services", c.startServices, c.any(planned.Started)},
		{"make volumes and databases, and load data", c.load, c.any(planned.hasData)},
		{"activate the code", c.activate, c.any(func(p planned) bool { return c.codeLater(p) })},
		{"give host names", c.giveSites, c.any(func(p planned) bool { return len(p.Sites) > 0 })},
	} {
		if !step.when {
			continue
		}
		if err := c.run.Step(ctx, step.name); err != nil {
			return err
		}
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p planned) hasData() bool {
	return len(p.Databases)+len(p.Volumes) > 0 || p.Dump != ""
}

func (c *manifestRun) any(f func(planned) bool) bool {
	for _, p := range c.plan {
		if f(p) {
			return true
		}
	}
	return false
}

func (c *manifestRun) codeLater(p planned) bool {
	return (p.Archive != "" || len(p.Files) > 0) && delayed(p, c.plan)
}

// as is a context in which the owner asks for parts of this operation.
func (c *manifestRun) as(ctx context.Context) context.Context {
	return partOf(httpapi.As(ctx, httpapi.Principal{User: api.User{ID: c.o.User, Name: c.o.Actor}}, nil), c.o.ID)
}

func (c *manifestRun) application(ctx context.Context) (store.Application, error) {
	return c.d.store.ApplicationByID(ctx, c.o.Application)
}

func (c *manifestRun) service(ctx context.Context, p planned) (store.Service, error) {
	return c.d.store.Service(ctx, c.o.Application, p.ServiceName)
}

// startApplication starts the manager, as the operation of that name does.
func (c *manifestRun) startApplication(ctx context.Context) error {
	d := c.d
	a, err := c.application(ctx)
	if err != nil || a.State == api.Running {
		return err
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if a, err = t.ApplicationByID(ctx, a.ID); err != nil || a.Desired == api.GoalStarted {
			return err
		}
		o := d.startApplicationOrder(a.ID, api.Start{})
		o.parent = c.o.ID
		if _, err := o.change(ctx, t, &a, &store.Service{}); err != nil {
			return err
		}
		return d.holdFor(ctx, t, o, a, store.Service{})
	})
	if err != nil {
		return err
	}
	if err := d.runStart(ctx, c.run, a); err != nil {
		return err
	}
	return d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if a, err = t.ApplicationByID(ctx, a.ID); err != nil || a.State == api.Running {
			return err
		}
		return t.MoveApplication(ctx, &a, api.Running, "its manager answers")
	})
}

// startServices starts all of them at once: none waits for another's offers.
func (c *manifestRun) startServices(ctx context.Context) error {
	var parts []part
	for _, p := range c.plan {
		if !p.Started() {
			continue
		}
		s, err := c.service(ctx, p)
		if err != nil {
			return err
		}
		if s.State == api.Running && s.Operation == "" {
			continue
		}
		id := s.Operation
		if id == "" {
			o, err := c.d.submit(c.as(ctx), c.d.startServiceOrder(s.Application, s.ID, api.Start{}))
			if err != nil {
				return p.In("Start", err)
			}
			id = o.ID
		}
		parts = append(parts, part{p, "Start", id})
	}
	return c.wait(ctx, parts)
}

// activate makes the manifest's code the wanted one where that had to wait for
// other services. What a first page needs may reach it a moment late.
func (c *manifestRun) activate(ctx context.Context) error {
	for _, p := range c.plan {
		if !c.codeLater(p) {
			continue
		}
		for try := 1; ; try++ {
			err := c.activateOne(ctx, p)
			if err == nil {
				break
			}
			if try == activateTries || ctx.Err() != nil {
				return err
			}
			select {
			case <-ctx.Done():
			case <-time.After(partPause):
			}
		}
	}
	return nil
}

func (c *manifestRun) activateOne(ctx context.Context, p planned) error {
	s, err := c.service(ctx, p)
	if err != nil || s.Version == c.version() && s.Operation == "" {
		return err
	}
	id := s.Operation
	if id == "" {
		o, err := c.d.submit(c.as(ctx), c.d.activateOrder(s.Application, s.ID, api.Activate{Version: c.version()}))
		if err != nil {
			return p.In("Archive", err)
		}
		id = o.ID
	}
	return c.wait(ctx, []part{{p, "Archive", id}})
}

func (c *manifestRun) giveSites(ctx context.Context) error {
	for _, p := range c.plan {
		for _, name := range p.Sites {
			_, err := c.d.addSite(c.as(ctx), &struct {
				ServicePath
				Body api.AddSite
			}{c.path(p), api.AddSite{Name: name}})
			if err != nil {
				return p.In("Sites", err)
			}
		}
	}
	return nil
}

// undoing is why a run of this operation, before the director died, was taking
// everything away again; nil if none was.
func (c *manifestRun) undoing() error {
	b, err := os.ReadFile(filepath.Join(c.dir, undoName))
	if err != nil {
		return nil //nolint:nilerr // there is none, or nothing of the manifest is left; that is told later
	}
	e := &api.Error{}
	if json.Unmarshal(b, e) != nil || e.Code == "" {
		return &api.Error{Code: api.CodeInternal, Message: "it failed, and the director died before it could say why"}
	}
	if e.Code == api.CodeCancelled {
		return operation.ErrCancelled
	}
	return e
}

func (c *manifestRun) markUndo(err error) {
	b, e := json.Marshal(api.AsError(err))
	if e == nil {
		e = os.WriteFile(filepath.Join(c.dir, undoName), b, 0o600)
	}
	if e != nil && !errors.Is(e, os.ErrNotExist) {
		c.d.c.Log.Warn("why a manifest is undone was not kept", "operation", c.o.ID, "error", e)
	}
}

// part is an operation that this one waits for.
type part struct {
	p     planned
	field string
	id    string
}

// wait waits until all parts have ended well. A manager that is lost meanwhile
// is started again here: while an operation on its application is under way,
// nobody else does.
func (c *manifestRun) wait(ctx context.Context, parts []part) error {
	tick := time.NewTicker(partPause)
	defer tick.Stop()
	for {
		changed := c.d.store.Changed()
		var open []string
		for _, x := range parts {
			o, err := c.d.store.Operation(ctx, 0, x.id)
			if err != nil {
				return err
			}
			switch {
			case !o.State.Final():
				open = append(open, x.p.ServiceName)
			case o.State != api.OperationDone:
				return x.failed(o)
			}
		}
		if len(open) == 0 {
			return nil
		}
		c.run.Detail(ctx, "waiting for "+strings.Join(open, ", "), float64(len(parts)-len(open))/float64(len(parts)))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-tick.C:
			if err := c.revive(ctx); err != nil {
				return err
			}
		}
	}
}

func (x part) failed(o store.Operation) error {
	cause := o.Error
	if cause == nil {
		cause = &api.Error{Code: api.CodeCancelled, Message: o.Title + " was cancelled"}
	}
	e := *api.AsError(x.p.In(x.field, cause))
	e.Op, e.Object, e.Related = "make", "application", o.ID
	return &e
}

func (c *manifestRun) revive(ctx context.Context) error {
	d := c.d
	a, err := c.application(ctx)
	if err != nil || a.Manager == nil {
		return err
	}
	last := c.began
	if at, ok := d.live.last(a.Manager.ID); ok && at.After(last) {
		last = at
	}
	if d.c.Now().Sub(last) <= managerSilence {
		return nil
	}
	c.began = d.c.Now()
	d.c.Log.Warn("manager lost while a manifest is carried out", "app", a.ID, "instance", a.Manager.ID)
	return d.runReplace(ctx, quietRun(d), a)
}

// quietRun is a run whose steps nobody sees.
func quietRun(d *Director) *operation.Run {
	return operation.New(2, func(context.Context, api.OperationReport) (bool, error) { return false, nil }, d.c.Now)
}
