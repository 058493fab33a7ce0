package director

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// version is the id of the code that the manifest brings, the same in all its
// services and after each death of the director.
func (c *manifestRun) version() string { return "code-" + c.o.ID[:6] }

func (c *manifestRun) path(p planned) ServicePath {
	return ServicePath{App: strconv.FormatInt(c.o.Application, 10), Service: p.ServiceName}
}

// make stores all services in one transaction, with all that is wanted of them.
func (c *manifestRun) make(ctx context.Context) error {
	d := c.d
	have, err := d.store.View.Services(ctx, store.Selection{Application: c.o.Application})
	if err != nil || len(have) > 0 {
		return err // made before the director died
	}
	d.blobs.RLock() // until the rows are there, nothing says that the blobs are needed
	defer d.blobs.RUnlock()
	versions := make([][]api.CodeVersion, len(c.plan))
	for i, p := range c.plan {
		c.run.Detail(ctx, p.ServiceName, float64(i)/float64(len(c.plan)))
		if versions[i], err = c.versions(ctx, i); err != nil {
			return p.In("Archive", err)
		}
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		a, err := t.ApplicationByID(ctx, c.o.Application)
		if err != nil {
			return err
		}
		for i, p := range c.plan {
			if err := c.makeService(ctx, t, a, i, versions[i]); err != nil {
				return p.In("ServiceName", err)
			}
		}
		return nil
	})
	if err != nil {
		for _, list := range versions {
			for _, v := range list {
				d.dropBlob(v.SHA256)
			}
		}
	}
	return err
}

// versions stores the code of a service: what its kind begins with, and what
// the manifest brings.
func (c *manifestRun) versions(ctx context.Context, i int) ([]api.CodeVersion, error) {
	d, p, s := c.d, c.plan[i], c.sources[i]
	var list []api.CodeVersion
	first, err := d.packDefault(ctx, p.kind)
	if err != nil {
		return nil, err
	}
	if first != nil {
		list = append(list, *first)
	}
	if s.code == "" {
		return list, nil
	}
	f, err := os.Open(s.code)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	v, err := d.code.Version(ctx, f, s.name, true, d.tune().upload)
	if err != nil {
		return nil, err
	}
	v.ID, v.By, v.Description = c.version(), c.o.Actor, "from the manifest"
	return append(list, v), nil
}

func (c *manifestRun) makeService(ctx context.Context, t *store.Tx, a store.Application, i int, versions []api.CodeVersion) error {
	d, p := c.d, c.plan[i]
	s := newService(a, p.kind, p.cloud, p.ServiceName)
	s.Reason = "created by a manifest"
	s.Settings, s.Parts, s.AutoDeploy, s.Keep = p.settings, p.parts, p.Deploys(), p.KeepVersions
	if len(versions) > 0 {
		s.Version = versions[0].ID
	}
	s, err := d.addService(ctx, t, p.kind, s, nil)
	if err != nil {
		return err
	}
	for _, v := range versions {
		if _, err := t.InsertVersion(ctx, s, v); err != nil {
			return err
		}
	}
	if n := len(versions); n > 0 && !c.codeLater(p) {
		s.Version = versions[n-1].ID
	}
	if list := variablesOf(p.Service, randomText); len(list) > 0 {
		if s.Environment, err = d.changed(s, api.ChangeEnvironment{Set: list}); err != nil {
			return err
		}
	}
	if len(p.Bind) > 0 {
		s.Bind = slices.Clone(p.Bind)
	}
	s.Script, s.Remove = c.sources[i].script, []string{}
	if err := t.SaveService(ctx, s); err != nil || p.Password == "" {
		return err
	}
	sealed := d.secrets.Seal([]byte(p.Password), secretOf(s.Application, s.ID, ownPassword))
	return t.PutSecret(ctx, s.Application, s.ID, store.Secret{Name: ownPassword, Value: sealed, Shown: true})
}

// randomText is a secret of so many letters.
func randomText(length int) (string, error) {
	b := make([]byte, length)
	for i := range b {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(secretLetters))))
		if err != nil {
			return "", fmt.Errorf("make a secret: %w", err)
		}
		b[i] = secretLetters[n.Int64()]
	}
	return string(b), nil
}

// load gives services that run their volumes, databases and data.
func (c *manifestRun) load(ctx context.Context) error {
	for i, p := range c.plan {
		if err := c.makeVolumes(ctx, p); err != nil {
			return err
		}
		for _, name := range p.Databases {
			_, err := c.d.act(c.as(ctx), &struct {
				ServicePath
				Action string `path:"action"`
				Body   *api.Act
			}{c.path(p), actionDatabase, &api.Act{Args: map[string]string{"name": name}}})
			if err != nil && api.CodeOf(err) != api.CodeConflict { // it is there already
				return p.In("Databases", err)
			}
		}
		if p.Dump == "" {
			continue
		}
		if err := c.loadDump(ctx, i); err != nil {
			return p.In("Dump", err)
		}
	}
	return nil
}

// loadDump loads a dump once. Half a dump cannot be taken back and loaded
// again, so a run that finds one half loaded ends, and all is undone.
func (c *manifestRun) loadDump(ctx context.Context, i int) error {
	p := c.plan[i]
	begun, done := filepath.Join(c.dir, "dump-"+strconv.Itoa(i)+".begun"), filepath.Join(c.dir, "dump-"+strconv.Itoa(i)+".done")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if _, err := os.Stat(begun); err == nil {
		return &api.Error{Code: api.CodeUnavailable, Message: "the director stopped while the dump was being loaded", Hint: "try the operation again"}
	}
	if err := os.WriteFile(begun, nil, 0o600); err != nil {
		return err
	}
	a, err := c.application(ctx)
	if err != nil {
		return err
	}
	s, err := c.service(ctx, p)
	if err != nil {
		return err
	}
	f, err := os.Open(c.sources[i].dump)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	args := map[string]string{}
	if len(p.Databases) > 0 {
		args["database"] = p.Databases[0]
	}
	_, err = c.d.sendTo(ctx, a, s, actionLoad, args, f, func(n int64) {
		c.run.Detail(ctx, fmt.Sprintf("%s: %s of %s loaded", p.ServiceName, amount(n), amount(info.Size())), float64(n)/float64(max(info.Size(), 1)))
	})
	if err != nil {
		return err
	}
	return os.WriteFile(done, nil, 0o600)
}

func (c *manifestRun) makeVolumes(ctx context.Context, p planned) error {
	if len(p.Volumes) == 0 {
		return nil
	}
	have, err := c.d.listVolumes(c.as(ctx), &ServicePath{App: c.path(p).App, Service: p.ServiceName})
	if err != nil {
		return err
	}
	s, err := c.service(ctx, p)
	if err != nil {
		return err
	}
	instances, err := c.d.store.ServiceInstances(ctx, s.Application, s.ID)
	if err != nil {
		return err
	}
	slices.SortStableFunc(instances, func(x, y store.Instance) int { return x.Created.Compare(y.Created) })
	for _, v := range p.Volumes {
		if slices.ContainsFunc(have, func(h api.Volume) bool { return h.Name == v.Name && h.State != api.VolumeFailed }) {
			continue
		}
		node, to := 1, ""
		if v.Node != nil {
			node = int(*v.Node)
		}
		if p.Started() && node > 0 {
			if node > len(instances) {
				return p.Wrong("Volumes", "", "volume %s is for node %d, and there are %d", v.Name, node, len(instances))
			}
			to = instances[node-1].ID
		}
		o, err := c.d.createVolume(c.as(ctx), &struct {
			ServicePath
			Body api.CreateVolume
		}{c.path(p), api.CreateVolume{Name: v.Name, Bytes: int64(v.Size), Instance: to}})
		if err != nil {
			return p.In("Volumes", err)
		}
		if err := c.wait(ctx, []part{{p, "Volumes", o.ID}}); err != nil {
			return err
		}
	}
	return nil
}

// undo takes away everything that was made.
func (c *manifestRun) undo(ctx context.Context) error {
	d := c.d
	a, err := c.application(ctx)
	if err != nil {
		if api.CodeOf(err) == api.CodeNotFound {
			return nil
		}
		return err
	}
	if err := c.endParts(ctx); err != nil {
		return err
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if a, err = t.ApplicationByID(ctx, a.ID); err != nil {
			return err
		}
		return d.beginStop(ctx, t, &a, "its manifest could not be carried out")
	})
	if err != nil {
		return err
	}
	return d.runDelete(ctx, quietRun(d), a)
}

// endParts ends the parts that are still under way: those of managers at once,
// because their application goes, and those of the director in order.
func (c *manifestRun) endParts(ctx context.Context) error {
	d := c.d
	active, err := d.store.Operations(ctx, store.Filter{Active: true, Application: c.o.Application, Limit: 1000})
	if err != nil {
		return err
	}
	for _, o := range active {
		if o.Parent != c.o.ID {
			continue
		}
		if _, err := d.cancel(c.as(ctx), &OperationPath{ID: o.ID}); err != nil && api.CodeOf(err) != api.CodeConflict {
			return err
		}
		if d.carries(o) {
			_ = c.wait(ctx, []part{{id: o.ID}}) // ended well or not, it has ended
			continue
		}
		err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
			now, err := t.Operation(ctx, 0, o.ID)
			if err != nil || now.State.Final() {
				return err
			}
			now.State, now.Error = api.OperationCancelled, errParentEnded
			return d.settle(ctx, t, &now)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

var errParentEnded = &api.Error{Code: api.CodeCancelled, Message: "the manifest that it is a part of is being undone"}

// settleManifest makes an application fit the operation that made it. One that
// could not be made is gone, unless something of it could not be taken away.
func (d *Director) settleManifest(ctx context.Context, t *store.Tx, o *store.Operation) error {
	if err := t.SaveOperation(ctx, *o); err != nil {
		return err
	}
	a, err := t.ApplicationByID(ctx, o.Application)
	if api.CodeOf(err) == api.CodeNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	t.Bump(a.ID)
	if o.State == api.OperationDone {
		t.After(func() { _ = os.RemoveAll(filepath.Join(d.manifests(), o.ID)) })
		return t.Tell(ctx, a.ID, 0)
	}
	left, err := t.ApplicationInstances(ctx, a.ID)
	if err != nil {
		return err
	}
	if len(left) == 0 {
		return d.removeApplication(ctx, t, a)
	}
	reason := "failed: " + o.Title
	if o.Error != nil {
		reason += ": " + o.Error.Error()
	}
	return t.MoveApplication(ctx, &a, api.Failed, reason+"; "+strconv.Itoa(len(left))+" instances could not be ended: delete it")
}
