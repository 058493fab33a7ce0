package director

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"nutshell/cloud"
	cloudcontext "nutshell/cloud/context"
	"nutshell/roles/api"
	"nutshell/roles/internal/auth"
	"nutshell/roles/internal/store"
)

// Times of a launch.
const (
	launchTime = 3 * time.Minute // of a driver
	secretLife = time.Hour       // from the launch until the instance must have enrolled
)

type progress func(step string, fraction float64)

// byCloud sorts rows by the cloud they are in.
func byCloud(rows []store.Instance) map[string][]store.Instance {
	m := map[string][]store.Instance{}
	for _, r := range rows {
		m[r.Cloud] = append(m[r.Cloud], r)
	}
	return m
}

// launch asks clouds for instances whose rows are stored. What exists already
// is taken as it is, and started again where it was stopped. It returns those
// that are there, and what went wrong with the rest.
func (d *Director) launch(ctx context.Context, rows []store.Instance, tell progress) ([]store.Instance, error) {
	d.mu.Lock()
	halted := d.halted
	d.mu.Unlock()
	if halted {
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "launch", Message: "Nutshell is being stopped"}
	}
	var up []store.Instance
	var errs []error
	for name, group := range byCloud(rows) {
		there, err := d.launchIn(ctx, name, group, tell)
		up = append(up, there...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	return up, errors.Join(errs...)
}

func (d *Director) launchIn(ctx context.Context, name string, rows []store.Instance, tell progress) ([]store.Instance, error) {
	fail := func(err error) ([]store.Instance, error) { return nil, cloudError("launch in", "cloud "+name, err) }
	p, err := d.place(name)
	if err != nil {
		return nil, err
	}
	if err := p.ready(ctx, d.c.Now()); err != nil {
		return fail(err)
	}
	if rows, err = d.stillWanted(ctx, rows); err != nil || len(rows) == 0 {
		return nil, err
	}
	specs := make([]cloud.Spec, len(rows))
	mounts := map[string][]cloud.Mount{}
	for i, r := range rows {
		if specs[i], err = d.spec(ctx, p, r, tell); err != nil {
			return fail(err)
		}
		if specs[i].Volumes, err = d.mounts(ctx, p, r.ID); err != nil {
			return fail(err)
		}
		mounts[r.ID] = specs[i].Volumes
	}
	began := d.c.Now()
	ctx, cancel := context.WithTimeout(ctx, launchLimit(p.driver))
	defer cancel()
	got, launchErr := p.driver.Launch(ctx, specs)
	d.c.Log.Info("instances launched", "cloud", name, "asked", len(rows), "got", len(got), "took", d.c.Now().Sub(began))
	up, err := d.launched(ctx, rows, got, mounts)
	if err != nil {
		return nil, err
	}
	if launchErr == nil && len(got) < len(rows) {
		launchErr = fmt.Errorf("%d of %d instances were started", len(got), len(rows))
	}
	return up, cloudError("launch in", "cloud "+name, launchErr)
}

// stillWanted drops rows that somebody has ended since they were read.
func (d *Director) stillWanted(ctx context.Context, rows []store.Instance) ([]store.Instance, error) {
	var still []store.Instance
	for _, r := range rows {
		now, err := d.store.Instance(ctx, r.ID)
		switch {
		case api.CodeOf(err) == api.CodeNotFound || (err == nil && now.State == api.InstanceLeaving):
			d.c.Log.Info("instance is not wanted any more and not launched", "instance", r.ID)
		case err != nil:
			return nil, err
		default:
			still = append(still, now)
		}
	}
	return still, nil
}

// launched stores what a cloud has given. A launch takes its time, and who
// ended an instance or stopped its application meanwhile wins: what the cloud
// has started nevertheless goes again.
func (d *Director) launched(ctx context.Context, rows []store.Instance, got []cloud.Instance, mounts map[string][]cloud.Mount) ([]store.Instance, error) {
	var up, end, stop []store.Instance
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		for _, r := range rows {
			i := slices.IndexFunc(got, func(c cloud.Instance) bool { return c.Name == r.ID })
			if i < 0 {
				continue
			}
			row, err := t.Instance(ctx, r.ID)
			if api.CodeOf(err) == api.CodeNotFound || (err == nil && row.State == api.InstanceLeaving) {
				r.CloudID = got[i].ID
				end = append(end, r)
				continue
			}
			if err != nil {
				return err
			}
			row.CloudID, row.Address = got[i].ID, got[i].Address
			if row.Machine, row.Node, err = machineOf(ctx, t, got[i]); err != nil {
				return err
			}
			if row.State != api.InstanceReady {
				row.State, row.Reason = api.InstanceBooting, ""
			}
			t.Bump(row.Application)
			if err := t.SaveInstance(ctx, row); err != nil {
				return err
			}
			row.Public = got[i].Public
			if err := t.PublishInstance(ctx, row); err != nil {
				return err
			}
			if err := attached(ctx, t, row.ID, mounts[row.ID]); err != nil {
				return err
			}
			a, err := t.ApplicationByID(ctx, row.Application)
			if err != nil {
				return err
			}
			if a.Desired != api.GoalStarted || d.isHalted() {
				stop = append(stop, row)
				continue
			}
			up = append(up, row)
		}
		return d.metersStart(ctx, t, up)
	})
	if err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	if len(end) > 0 {
		d.c.Log.Info("instances were ended while they were launched", "count", len(end))
		err = d.terminate(ctx, end)
	}
	if len(stop) > 0 {
		d.c.Log.Info("applications were stopped while their instances were launched", "count", len(stop))
		err = errors.Join(err, d.halt(ctx, stop, "stopped with the application", d.terminate))
	}
	return up, err
}

// again launches instances that ran before.
func (d *Director) again(ctx context.Context, rows []store.Instance) error {
	if err := d.booting(ctx, rows); err != nil {
		return err
	}
	_, err := d.launch(ctx, rows, func(string, float64) {})
	return err
}

// booting shows instances as booting that are about to be launched again. A
// manager that comes up meanwhile must neither miss them nor call them lost.
func (d *Director) booting(ctx context.Context, rows []store.Instance) error {
	return d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		for _, r := range rows {
			row, err := t.Instance(ctx, r.ID)
			if api.CodeOf(err) == api.CodeNotFound || (err == nil && row.State == api.InstanceLeaving) {
				continue
			}
			if err != nil {
				return err
			}
			row.State, row.Reason = api.InstanceBooting, "it is started again"
			t.Bump(row.Application)
			if err := t.SaveInstance(ctx, row); err != nil {
				return err
			}
		}
		return nil
	})
}

// spec describes one instance to its cloud: the layers of its kind, and a
// secret with which it and nobody else can become what it shall be.
func (d *Director) spec(ctx context.Context, p *place, r store.Instance, tell progress) (cloud.Spec, error) {
	id := api.Identity{Installation: d.installation, Role: api.RoleAgent, Application: r.Application, Service: r.Service, Name: r.ID}
	s := cloud.Spec{Name: r.ID, Group: groupOf(r.Application),
		Limits: cloud.Limits{MemoryBytes: d.c.Limits.AgentMemory, CPUPercent: d.c.Limits.AgentCPU, Processes: d.c.Limits.Processes},
		Tags:   map[string]string{"application": strconv.FormatInt(r.Application, 10), "service": strconv.FormatInt(r.Service, 10), "parts": strings.Join(r.Parts, ",")}}
	kind, packages, extra := "manager", []string(nil), []string(nil)
	if r.Service == 0 {
		id.Role, s.Limits.MemoryBytes, s.Limits.CPUPercent = api.RoleManager, d.c.Limits.ManagerMemory, 0
	} else {
		row, err := d.store.ServiceByID(ctx, r.Application, r.Service)
		if err != nil {
			return s, err
		}
		k, err := d.c.Services.Get(row.Kind)
		if err != nil {
			return s, err
		}
		kind, packages, s.Public = k.Name, k.Packages, publicPorts(k, r.Parts)
		if k.ExtraPackages != nil {
			if extra, err = k.ExtraPackages(row.Settings); err != nil {
				return s, err
			}
		}
	}
	if err := d.lay(ctx, p, &s, kind, packages, extra, tell); err != nil {
		return s, err
	}
	secret, hash := auth.NewSecret()
	expires := d.c.Now().Add(secretLife)
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.InsertSecret(ctx, hash, id, expires) })
	if err != nil {
		return s, err
	}
	s.Context, err = cloudcontext.Encode(cloudcontext.Context{Directors: d.directors(p), CASHA256: d.ca.RootSHA256(), Secret: secret, Identity: id.String(), Expires: expires})
	return s, err
}

// directors are the URLs by which the instances of a cloud reach us.
func (d *Director) directors(p *place) []string {
	d.mu.Lock()
	listen := slices.Clone(d.address)
	d.mu.Unlock()
	port := strconv.Itoa(api.DirectorPort)
	var hosts []string
	for _, a := range listen {
		host, its, err := net.SplitHostPort(a)
		if err != nil {
			continue
		}
		port = its
		if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
			hosts = append(hosts, host)
		}
	}
	hosts = append(hosts, d.c.Names...)
	if p.clustered { // what nodes reach us by, their instances do, too
		hosts = append(d.nodes.hosts(), hosts...)
	}
	if g := p.gateway(); g != "" {
		hosts = append([]string{g}, hosts...)
	}
	if len(hosts) == 0 {
		hosts = []string{"127.0.0.1"}
	}
	var urls []string
	for _, h := range hosts {
		if u := "https://" + net.JoinHostPort(h, port); !slices.Contains(urls, u) {
			urls = append(urls, u)
		}
	}
	return urls
}

// cloudIDs are the names by which a cloud knows rows.
func cloudIDs(rows []store.Instance) []string {
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.CloudID
		if ids[i] == "" {
			ids[i] = r.ID
		}
	}
	return ids
}

// terminate ends instances for good and forgets their rows. Rows that remain,
// because a cloud did not answer, are left to the sweep.
func (d *Director) terminate(ctx context.Context, rows []store.Instance) error {
	var errs []error
	for name, group := range byCloud(rows) {
		there, gone, err := d.away(ctx, group)
		if err == nil && len(there) > 0 {
			err = d.inCloud(ctx, name, func(ctx context.Context, driver cloud.Driver) error { return driver.Terminate(ctx, cloudIDs(there)) })
		}
		if err != nil {
			errs = append(errs, cloudError("end instances in", "cloud "+name, err))
			group = gone // those can be forgotten all the same
		}
		if len(group) == 0 {
			continue
		}
		err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
			for _, r := range group {
				t.Bump(r.Application)
				if err := t.DeleteInstance(ctx, r); err != nil {
					return err
				}
				d.live.forget(r.ID)
			}
			return d.metersEnd(ctx, t, group)
		})
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (d *Director) inCloud(ctx context.Context, name string, f func(context.Context, cloud.Driver) error) error {
	p, err := d.place(name)
	if err != nil {
		return err
	}
	if p.broken != nil {
		return p.broken
	}
	ctx, cancel := context.WithTimeout(ctx, launchTime)
	defer cancel()
	return f(ctx, p.driver)
}

// halt stops instances and keeps what they hold. Where a cloud cannot do that,
// otherwise decides: end them, or leave them running.
func (d *Director) halt(ctx context.Context, rows []store.Instance, reason string, otherwise func(context.Context, []store.Instance) error) error {
	var errs []error
	for name, group := range byCloud(rows) {
		stopped := false
		err := d.inCloud(ctx, name, func(ctx context.Context, driver cloud.Driver) error {
			s, ok := driver.(cloud.Stopper)
			if !ok {
				return otherwise(ctx, group)
			}
			stopped = true
			return s.Stop(ctx, cloudIDs(group))
		})
		if err != nil {
			errs = append(errs, cloudError("stop instances in", "cloud "+name, err))
			continue
		}
		if !stopped {
			continue
		}
		err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
			for _, r := range group {
				row, err := t.Instance(ctx, r.ID)
				if err != nil {
					return err
				}
				row.State, row.Reason = api.InstanceAsked, reason
				if err := t.SaveInstance(ctx, row); err != nil {
					return err
				}
			}
			return d.metersPause(ctx, t, group)
		})
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func splitManagers(rows []store.Instance) (managers, others []store.Instance) {
	for _, r := range rows {
		if r.Service == 0 {
			managers = append(managers, r)
		} else {
			others = append(others, r)
		}
	}
	return managers, others
}
