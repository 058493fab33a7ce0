package director

import (
	"context"
	"net/http"
	"strings"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// BinPath names an entry of the bin in a path.
type BinPath struct {
	ID string `path:"id"`
}

func (d *Director) listBin(ctx context.Context, in *struct {
	All bool `query:"all" doc:"everybody's, for administrators"`
}) ([]api.Binned, error) {
	p := httpapi.Who(ctx)
	owner := p.User.ID
	if in.All {
		if !p.User.Admin {
			return nil, &api.Error{Code: api.CodeForbidden, Message: "only an administrator may look into everybody's bin"}
		}
		owner = 0
	}
	rows, err := d.store.Bin(ctx, owner)
	list := make([]api.Binned, len(rows))
	for i := range rows {
		list[i] = rows[i].Binned
	}
	return list, err
}

// binned finds an entry that the asker may see.
func (d *Director) binned(ctx context.Context, v store.View, id string) (store.Binned, error) {
	b, err := v.Binned(ctx, id)
	if p := httpapi.Who(ctx); err == nil && b.OwnerID != p.User.ID && !p.User.Admin {
		is, err := v.Access(ctx, b.Application, p.User.ID)
		if err != nil {
			return b, err
		}
		if is == "" {
			return store.Binned{}, api.NotFoundf("the bin has no entry %s", api.Shorten(id))
		}
	}
	return b, err
}

// mayUndo refuses who could not have deleted an entry of the bin themselves.
func (d *Director) mayUndo(ctx context.Context, b store.Binned) error {
	least := api.AccessOwner
	if b.Kind == api.BinnedVersion || b.Kind == api.BinnedVolume {
		least = api.AccessDeveloper
	}
	return d.entitled(ctx, thing{name: b.Kind + " " + b.Name, application: b.Application, owner: b.OwnerID}, least)
}

func (d *Director) restoreBinned(ctx context.Context, in *BinPath) (api.Restored, error) {
	b, err := d.binned(ctx, d.store.View, in.ID)
	if err != nil {
		return api.Restored{}, err
	}
	if err := d.mayUndo(ctx, b); err != nil {
		return api.Restored{}, err
	}
	if err := d.untilEnded(ctx, b); err != nil {
		return api.Restored{}, err
	}
	out := api.Restored{Kind: b.Kind, Application: b.Application, Service: b.Service, Object: b.Object, Notes: []string{}}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if b, err = t.Binned(ctx, in.ID); err != nil { // somebody was faster
			return err
		}
		if b.In != "" {
			return d.inside(ctx, t, b)
		}
		if b.Kind == api.BinnedApplication {
			if err := d.roomFor(ctx, t, b.OwnerID, api.Quota{Applications: 1}); err != nil {
				return err
			}
		}
		var lost []string
		if out.Name, lost, err = t.TakeOutOfBin(ctx, b); err != nil {
			return err
		}
		if out.Name != b.Name {
			out.Notes = append(out.Notes, "its name "+b.Name+" is taken: it is called "+out.Name+" now")
		}
		if len(lost) > 0 {
			out.Notes = append(out.Notes, "others have these host names now: "+strings.Join(lost, ", "))
		}
		if b.Kind == api.BinnedVersion {
			out.Object = out.Name
		}
		return nil
	})
	if err == nil && (b.Kind == api.BinnedApplication || b.Kind == api.BinnedService) {
		err = d.completeSecrets(ctx, b.Application) // of a kind that needs more of them by now
	}
	return out, err
}

// inside refuses to restore a part of what is in the bin itself.
func (d *Director) inside(ctx context.Context, t *store.Tx, b store.Binned) error {
	whole, err := t.Binned(ctx, b.In)
	if err != nil {
		return err
	}
	return &api.Error{Code: api.CodeConflict, Op: "restore", Object: b.Kind + " " + b.Name, Message: "its " + whole.Kind + " " + whole.Name + " is in the bin itself",
		Hint: "restore that first, entry " + whole.ID, Related: whole.ID}
}

func (d *Director) deleteBinned(ctx context.Context, in *BinPath) (httpapi.None, error) {
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		b, err := d.binned(ctx, t.View, in.ID)
		if err != nil {
			return err
		}
		if err := d.mayUndo(ctx, b); err != nil {
			return err
		}
		return d.purgeIn(ctx, t, b)
	})
}

// binRoutes are those of the bin, revisions of settings, and the installation's own settings.
func (d *Director) binRoutes() []httpapi.Route {
	const (
		revisions = "/applications/{app}/services/{service}/revisions"
	)
	const get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
	return []httpapi.Route{
		httpapi.On(get, "/bin", "bin.list", httpapi.User, short, "What you deleted and can bring back, newest first", d.listBin),
		httpapi.On(post, "/bin/{id}/restore", "bin.restore", httpapi.User, short, "Bring something back; it comes back stopped", d.restoreBinned),
		httpapi.On(del, "/bin/{id}", "bin.delete", httpapi.User, short, "Delete something in the bin for good", d.deleteBinned),
		httpapi.On(get, revisions, "revision.list", httpapi.Viewer, short, "What a service was asked to be, newest first, with who changed it", d.listRevisions),
		httpapi.On(post, revisions+"/{revision}/revert", serviceRevert, httpapi.Developer, short, "Ask for settings, environment and script as they were", d.revert),
		httpapi.On(get, "/audit/export", "audit.export", httpapi.Admin, called, "The audit as a file", d.exportAudit),
		httpapi.On(get, "/applications/{app}/audit", "application.audit", httpapi.Owner, short, "Who asked for which change of an application", d.auditOf),
		httpapi.On(get, "/operations/{id}/report", "operation.report", httpapi.Viewer, called, "An operation with all that helps to find out what went wrong, as a file", d.operationReport),
		httpapi.On(get, "/diagnostics", "diagnostics", httpapi.Admin, called, "What helps to find out what is wrong with the installation, as a file", d.diagnostics),
		httpapi.On(get, "/settings", "setting.list", httpapi.Admin, short, "The installation's configuration, and where each value came from", d.settings),
		httpapi.On(patch, "/settings", "setting.change", httpapi.Admin, short, "Change settings of the installation", d.changeSettings),
	}
}
