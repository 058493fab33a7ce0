package director

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/manifest"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

const (
	noteBare = "Code, data, values of secrets and passwords are not in here: download it with its data for those."
	noteData = "With code, dumps and the values of secrets. What volumes hold, and host names, are not in here."
)

// getManifest describes an application as it is now. With data it is a tar
// from which the same application can be made elsewhere.
func (d *Director) getManifest(ctx context.Context, in *struct {
	ApplicationPath
	Format string `query:"format" enum:"yaml,json" default:"yaml"`
	Data   bool   `query:"data"`
}) (*httpapi.Stream, error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return nil, err
	}
	if in.Data {
		if err := enough(a, api.AccessDeveloper); err != nil {
			return nil, err
		}
		return d.manifestWithData(ctx, a)
	}
	m, _, err := d.describe(ctx, a, false)
	if err != nil {
		return nil, err
	}
	out, err := m.Format(in.Format, noteBare)
	if err != nil {
		return nil, err
	}
	return &httpapi.Stream{Type: "application/" + in.Format, Filename: fileName(a.Name) + "." + in.Format, Size: int64(len(out)), Read: text(string(out))}, nil
}

// fileName makes a file's name of an application's.
func fileName(name string) string { return strings.ReplaceAll(name, " ", "-") }

// describe makes a manifest of the rows. secrets says whether the values of
// secrets are in it.
func (d *Director) describe(ctx context.Context, a store.Application, secrets bool) (manifest.Manifest, []store.Service, error) {
	m := manifest.Manifest{Application: a.Name, Description: "Application " + a.Name + " as it was on " + d.c.Now().UTC().Format("2006-01-02 15:04") + " UTC"}
	rows, err := d.store.View.Services(ctx, store.Selection{Application: a.ID})
	if err != nil {
		return m, nil, err
	}
	rows = slices.DeleteFunc(rows, func(s store.Service) bool { return s.Deleting })
	m.Services = []manifest.Service{}
	for _, s := range rows {
		one, err := d.describeService(ctx, a, s, secrets)
		if err != nil {
			return m, nil, fmt.Errorf("describe service %s: %w", s.Name, err)
		}
		m.Services = append(m.Services, one)
	}
	return m, rows, nil
}

func (d *Director) describeService(ctx context.Context, a store.Application, s store.Service, secrets bool) (manifest.Service, error) {
	start := manifest.Flag(s.Desired == api.GoalStarted)
	out := manifest.Service{Type: s.Kind, ServiceName: s.Name, Start: &start, StartupScript: s.Script, KeepVersions: s.Keep}
	kind, err := d.c.Services.Get(s.Kind)
	if err != nil {
		return out, err
	}
	if s.Cloud != a.Cloud {
		out.Cloud = s.Cloud
	}
	if !s.AutoDeploy {
		off := manifest.Flag(false)
		out.AutoDeploy = &off
	}
	if len(s.Bind) != 1 || s.Bind[0] != "*" {
		out.Bind = slices.Clone(s.Bind)
	}
	out.StartupInstances = map[string]manifest.Count{}
	for _, p := range kind.Parts {
		if !p.Fixed {
			out.StartupInstances[p.Name] = manifest.Count(s.Parts[p.Name]) // counts are small
		}
	}
	if out.Settings, err = changedSettings(kind, s.Settings); err != nil {
		return out, err
	}
	if err := d.describeSecrets(ctx, &out, kind, s, secrets); err != nil {
		return out, err
	}
	return out, d.describeVolumes(ctx, &out, s)
}

// describeSecrets writes variables, and the password that users may set.
func (d *Director) describeSecrets(ctx context.Context, out *manifest.Service, kind services.Kind, s store.Service, secrets bool) error {
	list := s.Environment
	var err error
	if secrets {
		if list, err = d.environment(s, list); err != nil {
			return err
		}
	}
	for _, v := range list {
		if out.Environment == nil {
			out.Environment = map[string]manifest.Variable{}
		}
		one := manifest.Variable{Value: v.Value, Secret: v.Secret}
		if v.Secret && !secrets {
			one.Value, one.Left = "", true
		}
		out.Environment[v.Name] = one
	}
	if _, err := ownSecret(kind, s, ownPassword); err != nil || !secrets {
		return nil //nolint:nilerr // it has none
	}
	all, err := d.openSecretsOf(ctx, d.store.View, s)
	out.Password = all[ownPassword]
	return err
}

func (d *Director) describeVolumes(ctx context.Context, out *manifest.Service, s store.Service) error {
	rows, err := d.store.ServiceVolumes(ctx, s.Application, s.ID)
	if err != nil {
		return err
	}
	instances, err := d.store.ServiceInstances(ctx, s.Application, s.ID)
	if err != nil {
		return err
	}
	slices.SortStableFunc(instances, func(x, y store.Instance) int { return x.Created.Compare(y.Created) })
	for _, v := range rows {
		if v.Part != "" || v.State == api.VolumeLeaving {
			continue // those of parts are made with their instances
		}
		node := manifest.Count(1 + slices.IndexFunc(instances, func(i store.Instance) bool { return i.ID == v.Instance })) // small
		if v.State != api.VolumeAttached {
			node = 0
		}
		out.Volumes = append(out.Volumes, manifest.Volume{Name: v.Name, Size: manifest.Size(v.Bytes), Node: &node})
	}
	return nil
}

// changedSettings are those that differ from the kind's defaults.
func changedSettings(kind services.Kind, now json.RawMessage) (map[string]any, error) {
	var have, usual map[string]any
	if err := json.Unmarshal(now, &have); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(kind.DefaultSettings(), &usual); err != nil {
		return nil, err
	}
	out := map[string]any{}
	for name, v := range have {
		if f, ok := v.(float64); ok && f == float64(int64(f)) {
			v = int64(f)
		}
		if before, known := usual[name]; known && !reflect.DeepEqual(have[name], before) {
			out[name] = v
		}
	}
	return out, nil
}
