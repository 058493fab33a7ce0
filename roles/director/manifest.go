package director

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strconv"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/manifest"
	"nutshell/roles/internal/store"
)

func (d *Director) manifestRoutes() []httpapi.Route {
	const app = "/applications/{app}"
	return []httpapi.Route{
		httpapi.On(http.MethodPost, "/manifests", applicationManifest, httpapi.User, transfer, "Make an application of a manifest", d.postManifest).Status(http.StatusAccepted).Raw(),
		httpapi.On(http.MethodPost, "/manifests/check", "manifest.check", httpapi.User, action, "What a manifest would make", d.checkManifest).Raw().Quiet(),
		httpapi.On(http.MethodGet, "/manifests/schema", "manifest.schema", httpapi.Public, short, "The JSON schema of manifests", d.manifestSchema),
		httpapi.On(http.MethodGet, app+"/manifest", "application.download_manifest", httpapi.Viewer, transfer, "A manifest of an application, with its data on request", d.getManifest),
		httpapi.On(http.MethodGet, "/templates", "template.list", httpapi.User, short, "Ready-made applications", d.listTemplates),
		httpapi.On(http.MethodGet, "/templates/{template}", "template.get", httpapi.User, short, "One ready-made application", d.getTemplate),
	}
}

func (d *Director) postManifest(ctx context.Context, in *struct {
	Application string `query:"application" maxLength:"64" doc:"name, instead of the manifest's"`
	Cloud       string `query:"cloud" maxLength:"64" doc:"cloud, where the manifest names none"`
}) (api.Operation, error) {
	s, err := d.receiveManifest(ctx)
	if err != nil {
		return api.Operation{}, err
	}
	o, err := d.submitManifest(ctx, s, in.Application, in.Cloud, "")
	if err != nil {
		s.drop()
	}
	return o, err
}

func (d *Director) checkManifest(ctx context.Context, in *struct {
	Application string `query:"application" maxLength:"64"`
	Cloud       string `query:"cloud" maxLength:"64"`
}) (api.ManifestCheck, error) {
	s, err := d.receiveManifest(ctx)
	if err != nil {
		return api.ManifestCheck{}, err
	}
	defer s.drop()
	s.choose(in.Application, in.Cloud)
	plan, notes, err := d.planManifest(&s.m)
	if err != nil {
		return api.ManifestCheck{}, err
	}
	apps, err := d.store.Applications(ctx, httpapi.Who(ctx).User.ID)
	s.m.Application = freeApplication(apps, s.m.Application)
	return checked(s.m, plan, notes, s.missing()), err
}

// choose puts what was asked for beside the manifest in its place.
func (s *staged) choose(application, cloud string) {
	if application != "" {
		s.m.Application = application
	}
	if s.m.Cloud == "" {
		s.m.Cloud = cloud
	}
}

// submitManifest stores a new application and the operation that fills it.
func (d *Director) submitManifest(ctx context.Context, s *staged, application, cloud, retryOf string) (api.Operation, error) {
	s.choose(application, cloud)
	plan, notes, err := d.planManifest(&s.m)
	if err != nil {
		return api.Operation{}, err
	}
	if missing := s.missing(); len(missing) > 0 {
		return api.Operation{}, &api.Error{Code: api.CodeInvalid, Op: "read", Object: "manifest", Message: "it names files that did not come with it: " + shortenList(missing),
			Hint: "send a tar of manifest.yaml and the files that it names", Fields: missing}
	}
	place, err := d.place(s.m.Cloud)
	if err != nil {
		return api.Operation{}, err
	}
	who, key := httpapi.Who(ctx).User, httpapi.IdempotencyKey(ctx)
	var row store.Operation
	var again bool
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		first, err := repeated(ctx, t, who.ID, key)
		if err != nil || first != nil {
			if again = first != nil; again {
				row = *first
			}
			return err
		}
		apps, err := t.Applications(ctx, who.ID)
		if err != nil {
			return err
		}
		a := store.Application{OwnerID: who.ID, Application: api.Application{Name: freeApplication(apps, s.m.Application), Owner: who.Name, Access: api.AccessOwner, State: api.Init, Desired: api.GoalStopped, Cloud: place.name, Reason: "created by a manifest"}}
		if a, err = t.InsertApplication(ctx, a); err != nil {
			return err
		}
		if err := d.roomFor(ctx, t, who.ID, api.Quota{Applications: -1}); err != nil {
			return err
		}
		c := checked(s.m, plan, notes, nil)
		if err := d.holdAhead(ctx, t, a, c.Credits, "make application "+a.Name); err != nil {
			return err
		}
		row, err = d.begin(ctx, t, order{kind: applicationManifest, title: "make application", application: a.ID, actor: who.Name, retryOf: retryOf,
			request: map[string]any{"description": s.m.Description, "services": c.Services, "notes": notes},
			change:  func(context.Context, *store.Tx, *store.Application, *store.Service) (bool, error) { return false, nil }}, who.ID, key)
		if err != nil {
			return err
		}
		return d.keepManifest(s, row.ID)
	})
	if err != nil {
		return api.Operation{}, err
	}
	if again {
		s.drop()
		return row.Operation, nil
	}
	d.run(row) //nolint:contextcheck // it goes on when the asker has gone
	return row.Operation, nil
}

// repeated is the operation that the same request made before.
func repeated(ctx context.Context, t *store.Tx, user int64, key string) (*store.Operation, error) {
	if key == "" {
		return nil, nil
	}
	first, err := t.Repeated(ctx, user, key)
	if err != nil || first == nil {
		return nil, err
	}
	if first.Kind != applicationManifest {
		return nil, &api.Error{Code: api.CodeConflict, Op: "make application", Message: "this Idempotency-Key was used for another request", Related: first.ID}
	}
	return first, nil
}

// freeApplication is the name, or the name with the first number that makes it new.
func freeApplication(apps []store.Application, name string) string {
	taken := func(n string) bool {
		return slices.ContainsFunc(apps, func(a store.Application) bool { return a.Name == n })
	}
	free := name
	for n := 2; taken(free); n++ {
		suffix := "-" + strconv.Itoa(n)
		free = name[:min(len(name), api.MaxName-len(suffix))] + suffix
	}
	return free
}

func shortenList(list []string) string {
	text := ""
	for i, name := range list {
		if i == 5 {
			return text + ", …"
		}
		if i > 0 {
			text += ", "
		}
		text += api.Shorten(name)
	}
	return text
}

// retryManifest makes the application of a failed operation again, under
// another number: the first was taken away.
func (d *Director) retryManifest(ctx context.Context, o store.Operation) (api.Operation, error) {
	s, err := d.keptManifest(o.ID)
	if err != nil {
		return api.Operation{}, err
	}
	if err := os.Remove(s.dir + "/" + undoName); err != nil && !os.IsNotExist(err) {
		return api.Operation{}, err
	}
	return d.submitManifest(ctx, s, "", "", o.ID)
}

func (d *Director) manifestSchema(context.Context, *struct{}) (httpapi.JSON[map[string]any], error) {
	var kinds []manifest.Kind
	for _, k := range d.c.Services.Kinds() {
		of := manifest.Kind{Name: k.Name, Settings: map[string]any{}}
		described := k.Describe()
		for _, p := range described.Parts {
			of.Parts = append(of.Parts, p.Name)
		}
		for _, s := range described.Settings {
			of.Settings[s.Name] = settingSchema(s)
		}
		kinds = append(kinds, of)
	}
	b, err := json.Marshal(manifest.Schema(kinds))
	return b, err
}

func settingSchema(s api.Setting) map[string]any {
	out := map[string]any{"description": s.Title + ": " + s.Help, "default": s.Default}
	switch s.Type {
	case "integer", "boolean":
		out["type"] = s.Type
	case "list":
		out["type"], out["items"] = "array", map[string]any{"type": "string"}
	default:
		out["type"] = "string"
		if s.Pattern != "" {
			out["pattern"] = s.Pattern
		}
	}
	if len(s.Enum) > 0 {
		out["enum"] = s.Enum
	}
	if s.Min != nil && s.Type == "integer" {
		out["minimum"] = *s.Min
	}
	if s.Max != nil && s.Type == "integer" {
		out["maximum"] = *s.Max
	}
	return out
}
