package director

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/operation"
	"nutshell/roles/internal/store"
)

// deletion is the request of an operation that deletes.
type deletion struct {
	Now bool `json:"now,omitempty"` // for good, instead of into the bin
}

// forGood reports whether an operation deletes past the bin.
func forGood(o store.Operation) bool {
	var r deletion
	return len(o.Request) > 0 && json.Unmarshal(o.Request, &r) == nil && r.Now
}

// mostNames is how many names an entry of the bin shows of each sort of thing.
const mostNames = 5

// discardService puts a service into the bin, or deletes it where nothing is
// to be kept.
func (d *Director) discardService(ctx context.Context, t *store.Tx, s store.Service, now bool) error {
	if keep := d.binKeep(); now || keep <= 0 {
		return d.removeService(ctx, t, s)
	}
	if err := d.leave(ctx, t, s.Application, s.ID); err != nil {
		return err
	}
	holds, bytes, err := d.holdsOf(ctx, t, []store.Service{s})
	if err != nil {
		return err
	}
	s.Reported, s.Serving = []string{}, ""
	if err := t.ObserveService(ctx, s); err != nil {
		return err
	}
	s.Desired, s.Deleting, s.Remove = api.GoalStopped, false, []string{}
	if err := t.SaveService(ctx, s); err != nil {
		return err
	}
	for _, next := range []api.State{api.Epilogue, api.Stopped} {
		if s.State == api.Stopped {
			break
		}
		if err := d.moveIfAllowed(ctx, t, &s, next, "it is put into the bin"); err != nil {
			return err
		}
	}
	a, err := t.ApplicationByID(ctx, s.Application)
	if err != nil {
		return err
	}
	return d.intoBin(ctx, t, store.Binned{OwnerID: a.OwnerID, Binned: api.Binned{Kind: api.BinnedService, Name: s.Name, Application: a.ID, ApplicationName: a.Name,
		Service: s.ID, ServiceName: s.Name, Holds: holds, Bytes: bytes}})
}

// discardApplication puts an application whose instances have ended into the
// bin, or deletes it where nothing is to be kept.
func (d *Director) discardApplication(ctx context.Context, t *store.Tx, a store.Application, now bool) error {
	if keep := d.binKeep(); now || keep <= 0 {
		return d.purgeApplication(ctx, t, a)
	}
	if err := d.moveServices(ctx, t, a.ID, api.Stopped, "the application was stopped", func(s store.Service) bool { return s.State != api.Init }); err != nil {
		return err
	}
	if _, err := a.State.To(api.Stopped); err == nil {
		if err := t.MoveApplication(ctx, &a, api.Stopped, "it is put into the bin"); err != nil {
			return err
		}
	}
	services, err := t.Services(ctx, store.Selection{Application: a.ID})
	if err != nil {
		return err
	}
	holds, bytes, err := d.holdsOf(ctx, t, services)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(services))
	for _, s := range services {
		names = append(names, s.Name)
	}
	if len(names) > 0 {
		holds = slices.Insert(holds, 0, held("service", names, 0))
	}
	if tip, err := d.git.Tip(a.ID); err == nil && tip != "" {
		holds = append(holds, api.Held{What: "repository", Count: 1})
	}
	return d.intoBin(ctx, t, store.Binned{OwnerID: a.OwnerID, Binned: api.Binned{Kind: api.BinnedApplication, Name: a.Name, Application: a.ID, ApplicationName: a.Name, Holds: holds, Bytes: bytes}})
}

// intoBin stores an entry that stays until its time is up.
func (d *Director) intoBin(ctx context.Context, t *store.Tx, b store.Binned) error {
	b.ID, b.Until = api.NewID(12), t.Now().Add(d.binKeep())
	if b.By == "" {
		b.By = d.askedBy(ctx, t, b)
	}
	_, err := t.PutIntoBin(ctx, b)
	return err
}

// askedBy is who deletes: whoever asks, or the actor of the operation that has
// just ended.
func (d *Director) askedBy(ctx context.Context, t *store.Tx, b store.Binned) string {
	if name := httpapi.Who(ctx).User.Name; name != "" {
		return name
	}
	rows, err := t.Operations(ctx, store.Filter{Application: b.Application, Service: &b.Service, Limit: 1})
	if err != nil || len(rows) == 0 {
		return "nutshell"
	}
	return rows[0].Actor
}

func held(what string, names []string, bytes int64) api.Held {
	return api.Held{What: what, Count: len(names), Names: names[:min(len(names), mostNames)], Bytes: bytes}
}

// holdsOf tells what services hold, so that their owner sees what would be
// lost.
func (d *Director) holdsOf(ctx context.Context, t *store.Tx, services []store.Service) (holds []api.Held, bytes int64, err error) {
	names := map[string][]string{}
	sizes := map[string]int64{}
	add := func(what, name string, n int64) { names[what], sizes[what] = append(names[what], name), sizes[what]+n }
	for _, s := range services {
		versions, err := t.Versions(ctx, s.Application, s.ID)
		if err != nil {
			return nil, 0, err
		}
		for _, v := range versions {
			add("version", v.ID, v.Bytes)
		}
		volumes, err := t.ServiceVolumes(ctx, s.Application, s.ID)
		if err != nil {
			return nil, 0, err
		}
		for _, v := range volumes {
			if v.State != api.VolumeLeaving {
				add("volume", v.Name, v.Bytes)
			}
		}
		sites, err := t.ServiceSites(ctx, s.Application, s.ID)
		if err != nil {
			return nil, 0, err
		}
		for _, v := range sites {
			add("site", v.Name, 0)
		}
		for _, v := range s.Environment {
			add("variable", v.Name, 0)
		}
		secrets, err := t.Secrets(ctx, s.Application, s.ID)
		if err != nil {
			return nil, 0, err
		}
		for _, v := range secrets {
			add("secret", v.Name, 0)
		}
		if s.Script != "" {
			add("script", s.Name, 0)
		}
	}
	for _, what := range []string{"version", "volume", "site", "variable", "secret", "script"} {
		if len(names[what]) > 0 {
			holds = append(holds, held(what, names[what], sizes[what]))
		}
	}
	return holds, sizes["version"] + sizes["volume"], nil
}

// binVersion puts a code version into the bin.
func (d *Director) binVersion(ctx context.Context, t *store.Tx, s store.Service, v api.CodeVersion) error {
	a, err := t.ApplicationByID(ctx, s.Application)
	if err != nil {
		return err
	}
	return d.intoBin(ctx, t, store.Binned{OwnerID: a.OwnerID, SHA256: v.SHA256, Version: v, Binned: api.Binned{Kind: api.BinnedVersion, Name: v.ID, Application: a.ID,
		ApplicationName: a.Name, Service: s.ID, ServiceName: s.Name, Object: v.ID, Bytes: v.Bytes}})
}

// binVolume puts a volume that nobody has any more into the bin.
func (d *Director) binVolume(ctx context.Context, run *operation.Run, v store.Volume) error {
	return d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		now, err := t.Volume(ctx, v.ID)
		if err != nil || now.Binned != "" {
			return err
		}
		if now.Wanted() {
			return api.Conflictf("volume %s was given to instance %s meanwhile", now.Name, now.Instance)
		}
		a, err := t.ApplicationByID(ctx, v.Application)
		if err != nil {
			return err
		}
		s, err := t.ServiceByID(ctx, v.Application, v.Service)
		if err != nil {
			return err
		}
		return d.intoBin(ctx, t, store.Binned{OwnerID: a.OwnerID, Binned: api.Binned{Kind: api.BinnedVolume, Name: v.Name, Application: a.ID, ApplicationName: a.Name,
			Service: s.ID, ServiceName: s.Name, Object: v.ID, Bytes: v.Bytes}})
	})
}

// emptyBin deletes for good what has been in the bin for long enough. What
// cannot be deleted yet, because an instance of it has not ended, waits for
// the next look; what a dead director had begun is done by the next one.
func (d *Director) emptyBin(ctx context.Context) {
	rows, err := d.store.Overdue(ctx, d.c.Now())
	if err != nil {
		d.c.Log.Warn("bin not looked through", "error", err)
		return
	}
	for _, b := range rows {
		if ctx.Err() != nil {
			return
		}
		switch err := d.purge(ctx, b.ID); api.CodeOf(err) {
		case "":
			if err == nil {
				d.c.Log.Info("deleted for good", "what", b.Kind, "name", b.Name, "app", b.Application, "service", b.Service)
				continue
			}
			d.c.Log.Warn("not deleted for good, the next look tries again", "what", b.Kind, "name", b.Name, "error", err)
		case api.CodeNotFound: // it went with its application
		default:
			d.c.Log.Warn("not deleted for good, the next look tries again", "what", b.Kind, "name", b.Name, "error", err)
		}
	}
}

// purge deletes an entry of the bin with all that it holds, in one transaction.
func (d *Director) purge(ctx context.Context, id string) error {
	return d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		b, err := t.Binned(ctx, id)
		if err != nil {
			return err
		}
		return d.purgeIn(ctx, t, b)
	})
}

func (d *Director) purgeIn(ctx context.Context, t *store.Tx, b store.Binned) error {
	if b.Kind == api.BinnedApplication {
		rows, err := t.ApplicationInstances(ctx, b.Application)
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			return &api.Error{Code: api.CodeConflict, Op: "delete", Object: "application " + b.Name, Message: "instance " + rows[0].ID + " of it has not ended yet", Hint: "try again in a moment"}
		}
	}
	var s store.Service
	var err error
	if b.Kind == api.BinnedService {
		if s, err = t.HiddenService(ctx, b.Application, b.Service); err != nil {
			return err
		}
	}
	blobs, err := t.Unhide(ctx, b)
	if err != nil {
		return err
	}
	for _, sum := range blobs {
		t.After(func() { d.dropBlob(sum) })
	}
	switch b.Kind {
	case api.BinnedApplication:
		a, err := t.ApplicationByID(ctx, b.Application)
		if err != nil {
			return err
		}
		a.Name = b.Name
		return d.removeApplication(ctx, t, a)
	case api.BinnedService:
		s.Name = b.Name
		return d.removeService(ctx, t, s)
	case api.BinnedVolume:
		v, err := t.Volume(ctx, b.Object)
		if err != nil {
			if api.CodeOf(err) == api.CodeNotFound {
				return nil
			}
			return err
		}
		v.State, v.Reason = api.VolumeLeaving, "its owner deleted it"
		t.After(func() { d.goWork(d.deleteVolumes) })
		return t.SaveVolume(ctx, v)
	}
	return nil
}

// purgeApplication deletes an application, and first what its services had put
// into the bin.
func (d *Director) purgeApplication(ctx context.Context, t *store.Tx, a store.Application) error {
	rows, err := t.BinOf(ctx, a.ID)
	if err != nil {
		return err
	}
	for _, b := range rows {
		if b, err = t.Binned(ctx, b.ID); api.CodeOf(err) == api.CodeNotFound {
			continue // it went with its service
		}
		if err == nil {
			err = d.purgeIn(ctx, t, b)
		}
		if err != nil {
			return err
		}
	}
	return d.removeApplication(ctx, t, a)
}

// untilEnded waits a moment for the instances of what was just deleted: while
// one has them, no other may get its volumes.
func (d *Director) untilEnded(ctx context.Context, b store.Binned) error {
	if b.Kind != api.BinnedService {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, endingWait)
	defer cancel()
	if err := d.untilGone(ctx, b.Application, b.Service); err != nil {
		return &api.Error{Code: api.CodeConflict, Op: "restore", Object: b.Kind + " " + b.Name, Message: "its instances are still ending", Hint: "try again in a moment"}
	}
	return nil
}

// endingWait is less than the limit of a short request.
const endingWait = 10 * time.Second
