package director

import (
	"context"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// addVersion stores a new code version of a service, however it came here, and
// lets old ones go that the service need not keep.
func (d *Director) addVersion(ctx context.Context, t *store.Tx, s store.Service, v api.CodeVersion) (api.CodeVersion, error) {
	v, err := t.InsertVersion(ctx, s, v)
	if err != nil {
		return v, err
	}
	return v, d.retain(ctx, t, s, v.ID)
}

// retain deletes the oldest versions of a service that keeps only the newest
// few. What serves or may have to serve again stays, and so do versions that
// are named, and code-default, which is small and the way back to the
// beginning; it is not counted either.
func (d *Director) retain(ctx context.Context, t *store.Tx, s store.Service, named ...string) error {
	if s.Keep <= 0 {
		return nil
	}
	if active, err := t.Active(ctx, s.Application, s.ID); err != nil || active != nil {
		return err // it may go back to any; its end comes here again
	}
	all, err := t.Versions(ctx, s.Application, s.ID)
	if err != nil {
		return err
	}
	for _, v := range outdated(s, all, named) {
		t.After(func() { d.dropBlob(v.SHA256) })
		if err := t.DeleteVersion(ctx, s, v); err != nil {
			return err
		}
	}
	return nil
}

// outdated is pure; all comes newest first.
func outdated(s store.Service, all []api.CodeVersion, named []string) []api.CodeVersion {
	spared := map[string]bool{DefaultVersion: true, s.Version: true, s.Previous: true, s.Serving: true}
	for _, id := range named {
		spared[id] = true
	}
	var old []api.CodeVersion
	kept := 0
	for _, v := range all {
		if v.ID == DefaultVersion {
			continue
		}
		if kept++; kept > s.Keep && !spared[v.ID] {
			old = append(old, v)
		}
	}
	return old
}
