package director

import (
	"context"

	"nutshell/roles/api"
	"nutshell/roles/internal/auth"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// Facts about the first run, as the store keeps them.
const (
	metaSetup        = "setup"         // "needed" until somebody says that it is done; installations from before have none
	metaGenerated    = "generated"     // hash of the stored hash of the password that was printed
	metaDefaultCloud = "default_cloud" // chosen by an administrator, where the configuration names none
)

// setup tells how far a new installation is set up.
func (d *Director) setup(ctx context.Context, _ *struct{}) (api.Setup, error) {
	var out api.Setup
	state, err := d.store.Meta(ctx, metaSetup)
	if err != nil {
		return out, err
	}
	generated, err := d.store.Meta(ctx, metaGenerated)
	if err != nil {
		return out, err
	}
	u, err := d.store.User(ctx, httpapi.Who(ctx).User.Name)
	if err != nil {
		return out, err
	}
	apps, err := d.store.Applications(ctx, 0)
	if err != nil {
		return out, err
	}
	out.Needed, out.PasswordGenerated, out.Applications = state == "needed", generated == auth.HashSecret(u.Password), len(apps)
	if out.Exposure, err = d.exposure(ctx); err != nil {
		return out, err
	}
	out.Clouds, err = d.listClouds(ctx, nil)
	return out, err
}

func (d *Director) setupDone(ctx context.Context, _ *struct{}) (httpapi.None, error) {
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.SetMeta(ctx, metaSetup, "done") })
}

// defaultCloud is the name of the cloud of applications that name none; "" is
// the first one.
func (d *Director) defaultCloud() string {
	if d.c.DefaultCloud != "" {
		return d.c.DefaultCloud
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.chosenCloud
}

// openDefaultCloud finds the choice of a running director again. A cloud that
// is not configured any more is not it.
func (d *Director) openDefaultCloud(ctx context.Context) error {
	name, err := d.store.Meta(ctx, metaDefaultCloud)
	if err != nil || name == "" {
		return err
	}
	if _, err := d.place(name); err != nil {
		d.c.Log.Warn("the chosen default cloud is not configured any more, the first one is used", "cloud", name)
		return nil //nolint:nilerr // said above; the director must start all the same
	}
	d.chosenCloud = name
	return nil
}

// chooseCloud makes a cloud the one of applications that name none, from now on.
func (d *Director) chooseCloud(ctx context.Context, in *struct {
	Cloud string `path:"cloud"`
}) (api.Cloud, error) {
	p, err := d.place(in.Cloud)
	if err != nil {
		e := api.AsError(err)
		e.Code = api.CodeNotFound
		return api.Cloud{}, e
	}
	if d.c.DefaultCloud != "" && d.c.DefaultCloud != p.name {
		return api.Cloud{}, &api.Error{Code: api.CodeConflict, Op: "choose", Object: "cloud " + p.name, Message: "the configuration of the director names " + d.c.DefaultCloud + " as the default",
			Hint: "change or remove default_cloud in nutshell.yaml and start the director again"}
	}
	if err := d.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.SetMeta(ctx, metaDefaultCloud, p.name) }); err != nil {
		return api.Cloud{}, err
	}
	d.mu.Lock()
	d.chosenCloud = p.name
	d.mu.Unlock()
	list, err := d.listClouds(ctx, nil)
	for _, c := range list {
		if c.Name == p.name {
			return c, nil
		}
	}
	return api.Cloud{}, err
}
