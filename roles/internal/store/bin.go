package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"nutshell/roles/api"
)

// Binned is an entry of the bin with what only the director needs.
type Binned struct {
	api.Binned
	OwnerID int64 // of the application
	SHA256  string
	// Sites are the host names that were given up, and Version the code version:
	// rows that are in no other table meanwhile.
	Sites   []Site
	Version api.CodeVersion
}

// kept is what Binned.data holds.
type kept struct {
	Sites   []Site           `json:"sites,omitempty"`
	Version *api.CodeVersion `json:"version,omitempty"`
}

const binColumns = `b.id, b.kind, b.application, b.service, b.object, b.name, CASE WHEN a.binned = '' THEN a.name ELSE b.application_name END, b.service_name,
	b.deleted, b.by, b.until, b.bytes, b.holds, b.blob, b.data, a.owner, CASE WHEN a.binned IN ('', b.id) THEN coalesce(nullif(s.binned, b.id), '') ELSE a.binned END`

func scanBinned(r *sql.Rows) (Binned, error) {
	var b Binned
	var deleted, until int64
	var holds, data string
	err := r.Scan(&b.ID, &b.Kind, &b.Application, &b.Service, &b.Object, &b.Name, &b.ApplicationName, &b.ServiceName, &deleted, &b.By, &until, &b.Bytes,
		&holds, &b.SHA256, &data, &b.OwnerID, &b.In)
	if err != nil {
		return b, err
	}
	b.Deleted, b.Until = timeOf(deleted), timeOf(until)
	var k kept
	if err := json.Unmarshal([]byte(data), &k); err != nil {
		return b, err
	}
	if b.Sites = k.Sites; k.Version != nil {
		b.Version = *k.Version
	}
	return b, json.Unmarshal([]byte(holds), &b.Holds)
}

func (v View) bin(ctx context.Context, where string, args ...any) ([]Binned, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT `+binColumns+` FROM bin b JOIN application a ON a.id = b.application
		LEFT JOIN service s ON s.application = b.application AND s.id = b.service WHERE `+where+` ORDER BY b.deleted DESC, b.id`, args...)
	return scanAll(rows, err, scanBinned)
}

// Bin lists what was deleted of a user's applications (0: everybody's), and of
// those that the user is a member of, newest first.
func (v View) Bin(ctx context.Context, user int64) ([]Binned, error) {
	return v.bin(ctx, `(?1 = 0 OR a.owner = ?1 OR b.`+visible+`)`, user)
}

// OwnBin lists what a user's own applications have in the bin.
func (v View) OwnBin(ctx context.Context, owner int64) ([]Binned, error) {
	return v.bin(ctx, `a.owner = ?`, owner)
}

// BinOf lists the entries of an application, and of its services.
func (v View) BinOf(ctx context.Context, application int64) ([]Binned, error) {
	return v.bin(ctx, `b.application = ?`, application)
}

// Overdue lists the entries whose time is up.
func (v View) Overdue(ctx context.Context, now time.Time) ([]Binned, error) {
	return v.bin(ctx, `b.until <= ?`, micros(now))
}

// Binned finds an entry of the bin.
func (v View) Binned(ctx context.Context, id string) (Binned, error) {
	found, err := v.bin(ctx, `b.id = ?`, id)
	return one(found, err, func() error { return api.NotFoundf("the bin has no entry %s", api.Shorten(id)) })
}

// IsBinned reports whether an application is in the bin.
func (v View) IsBinned(ctx context.Context, application int64) (bool, error) {
	var n int
	err := v.q.QueryRowContext(ctx, `SELECT count(*) FROM application WHERE id = ? AND binned <> ''`, application).Scan(&n)
	return n > 0, storeError(err)
}

// PutIntoBin takes a thing away from everybody's sight. What it holds stays.
func (t *Tx) PutIntoBin(ctx context.Context, b Binned) (Binned, error) {
	b.Deleted = t.now
	if b.Holds == nil {
		b.Holds = []api.Held{}
	}
	if b.Kind == api.BinnedApplication || b.Kind == api.BinnedService {
		var err error
		if b.Sites, err = t.ServiceSites(ctx, b.Application, b.Service); err != nil {
			return b, err
		}
		for _, s := range b.Sites {
			if err := t.DeleteSite(ctx, s); err != nil {
				return b, err
			}
		}
	}
	k := kept{Sites: b.Sites}
	if b.Kind == api.BinnedVersion {
		k.Version = &b.Version
	}
	if _, err := t.exec(ctx, `INSERT INTO bin (id, kind, application, service, object, name, application_name, service_name, deleted, by, until, bytes, holds, blob, data)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, b.ID, b.Kind, b.Application, b.Service, b.Object, b.Name, b.ApplicationName, b.ServiceName,
		micros(b.Deleted), b.By, micros(b.Until), b.Bytes, text(b.Holds), b.SHA256, text(k)); err != nil {
		return b, err
	}
	if err := t.hide(ctx, b); err != nil {
		return b, err
	}
	t.touched[serviceKey{b.Application, 0}] = true
	t.Bump(b.Application)
	return b, t.event(ctx, "bin", b.OwnerID, b.Application, b.Service, b.ID, b.Binned)
}

// hide marks the rows of what is put into the bin, and tells that it is gone.
func (t *Tx) hide(ctx context.Context, b Binned) error {
	switch b.Kind {
	case api.BinnedApplication:
		a, err := t.ApplicationByID(ctx, b.Application)
		if err != nil {
			return err
		}
		if err := t.all(ctx, b.ID, b.Application,
			`UPDATE application SET binned = ?1, name = '~' || id WHERE id = ?2`,
			`UPDATE volume SET binned = ?1 WHERE application = ?2 AND binned = '' AND state <> 'leaving'`); err != nil {
			return err
		}
		return t.event(ctx, "application.deleted", a.OwnerID, a.ID, 0, strconv.FormatInt(a.ID, 10), a.Application)
	case api.BinnedService:
		s, err := t.ServiceByID(ctx, b.Application, b.Service)
		if err != nil {
			return err
		}
		if err := t.all(ctx, b.ID, b.Application, `UPDATE service SET binned = ?1, name = '~' || id WHERE application = ?2 AND id = `+strconv.FormatInt(b.Service, 10),
			`UPDATE volume SET binned = ?1 WHERE application = ?2 AND binned = '' AND state <> 'leaving' AND service = `+strconv.FormatInt(b.Service, 10)); err != nil {
			return err
		}
		return t.event(ctx, "service.deleted", s.OwnerID, s.Application, s.ID, strconv.FormatInt(s.ID, 10), s.Service)
	case api.BinnedVolume:
		v, err := t.Volume(ctx, b.Object)
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, `UPDATE volume SET binned = ?, reason = '' WHERE id = ?`, b.ID, b.Object); err != nil {
			return err
		}
		return t.event(ctx, "volume.deleted", v.OwnerID, v.Application, v.Service, v.ID, v.Volume)
	}
	return t.DeleteVersion(ctx, Service{Service: api.Service{Application: b.Application, ID: b.Service}}, b.Version)
}

// all runs several statements with the same two arguments.
func (t *Tx) all(ctx context.Context, one, other any, queries ...string) error {
	for _, q := range queries {
		if _, err := t.exec(ctx, q, one, other); err != nil {
			return err
		}
	}
	return nil
}

// TakeOutOfBin makes a thing one of those that everybody sees again, under its
// old name or, where that is taken, one with a number, and tells which of its
// host names somebody else has now. Its application must not be in the bin.
func (t *Tx) TakeOutOfBin(ctx context.Context, b Binned) (name string, lost []string, err error) {
	if _, err := t.exec(ctx, `DELETE FROM bin WHERE id = ?`, b.ID); err != nil {
		return "", nil, err
	}
	switch b.Kind {
	case api.BinnedApplication:
		name, err = t.freeOf(ctx, b.Name, `SELECT count(*) FROM application WHERE owner = ?1 AND name = ?2`, b.OwnerID)
		if err == nil {
			_, err = t.exec(ctx, `UPDATE application SET binned = '', name = ? WHERE id = ?`, name, b.Application)
		}
	case api.BinnedService:
		name, err = t.freeOf(ctx, b.Name, `SELECT count(*) FROM service WHERE application = ?1 AND name = ?2`, b.Application)
		if err == nil {
			_, err = t.exec(ctx, `UPDATE service SET binned = '', name = ? WHERE application = ? AND id = ?`, name, b.Application, b.Service)
		}
	case api.BinnedVersion:
		name, err = t.putVersionBack(ctx, b)
	}
	if err != nil {
		return "", nil, err
	}
	t.touched[serviceKey{b.Application, 0}] = true
	t.Bump(b.Application)
	volume, err := t.showVolumes(ctx, b)
	if b.Kind == api.BinnedVolume {
		name = volume
	}
	if err != nil {
		return "", nil, err
	}
	if lost, err = t.putSitesBack(ctx, b.Sites); err != nil {
		return "", nil, err
	}
	if err := t.tellRestored(ctx, b); err != nil {
		return "", nil, err
	}
	return name, lost, t.event(ctx, "bin.deleted", b.OwnerID, b.Application, b.Service, b.ID, b.Binned)
}

// freeOf finds a name that nobody has; count counts those who have it.
func (t *Tx) freeOf(ctx context.Context, name, count string, of int64) (string, error) {
	for n := 1; ; n++ {
		try := name
		if n > 1 {
			try = fmt.Sprintf("%s-%d", name, n)
		}
		var taken int
		if err := t.tx.QueryRowContext(ctx, count, of, try).Scan(&taken); err != nil || taken == 0 {
			return try, err
		}
	}
}

// showVolumes makes the volumes of an entry seen again, and returns the name
// of the last.
func (t *Tx) showVolumes(ctx context.Context, b Binned) (name string, err error) {
	rows, err := t.volumes(ctx, `binned = ?`, b.ID)
	for _, v := range rows {
		if name = v.Name; v.Part == "" {
			name, err = t.freeOf(ctx, v.Name, `SELECT count(*) FROM volume WHERE application = ?1 AND name = ?2 AND part = '' AND state <> 'leaving' AND binned = ''`, v.Application)
			if err != nil {
				return "", err
			}
		}
		if _, err := t.exec(ctx, `UPDATE volume SET binned = '', name = ? WHERE id = ?`, name, v.ID); err != nil {
			return "", err
		}
		v.Name, v.Binned = name, ""
		if err := t.volumeEvent(ctx, "volume", v); err != nil {
			return "", err
		}
	}
	return name, err
}

// putVersionBack stores a code version again, in its old place among the others.
func (t *Tx) putVersionBack(ctx context.Context, b Binned) (string, error) {
	s := Service{Service: api.Service{Application: b.Application, ID: b.Service}}
	c := b.Version
	for _, id := range versionIDs(c.ID) {
		_, err := t.Version(ctx, s.Application, s.ID, id)
		if err == nil {
			continue // it came again meanwhile, or another did with its id
		}
		if api.CodeOf(err) != api.CodeNotFound {
			return "", err
		}
		old := c.Created
		c.ID = id
		if _, err := t.insertVersion(ctx, s, c); err != nil {
			return "", err
		}
		_, err = t.exec(ctx, `UPDATE code_version SET created = ?4, seq = coalesce((SELECT max(seq) FROM code_version WHERE application = ?1 AND service = ?2 AND created < ?4 AND id <> ?3), 0)
			WHERE application = ?1 AND service = ?2 AND id = ?3`, s.Application, s.ID, c.ID, micros(old))
		return c.ID, err
	}
	return "", &api.Error{Code: api.CodeConflict, Op: "restore", Object: "code version " + c.ID, Message: "the service has one of this id again", Hint: "delete that one first"}
}

// putSitesBack gives host names back to their services, and returns those that
// somebody else has.
func (t *Tx) putSitesBack(ctx context.Context, sites []Site) (lost []string, err error) {
	for _, s := range sites {
		if _, err := t.Site(ctx, s.Name); err == nil {
			if !s.Automatic {
				lost = append(lost, s.Name)
			}
			continue
		} else if api.CodeOf(err) != api.CodeNotFound {
			return nil, err
		}
		if _, err := t.PutSite(ctx, s); err != nil {
			return nil, err
		}
	}
	return lost, nil
}

// tellRestored sends the events of what is there again.
func (t *Tx) tellRestored(ctx context.Context, b Binned) error {
	switch b.Kind {
	case api.BinnedService:
		return t.Tell(ctx, b.Application, b.Service)
	case api.BinnedApplication:
		if err := t.Tell(ctx, b.Application, 0); err != nil {
			return err
		}
		services, err := t.Services(ctx, Selection{Application: b.Application})
		for _, s := range services {
			if err := t.serviceEvent(ctx, s); err != nil {
				return err
			}
		}
		return err
	}
	return nil
}

// Unhide forgets that a thing is in the bin, so that it can be deleted as what
// never was there, with the entries of all that is a part of it. It returns
// the hashes of code that only those entries needed.
func (t *Tx) Unhide(ctx context.Context, b Binned) (blobs []string, err error) {
	parts, err := t.bin(ctx, `b.application = ?1 AND (b.id = ?2 OR ?3 = 'application' OR (?3 = 'service' AND b.service = ?4))`, b.Application, b.ID, b.Kind, b.Service)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		if p.SHA256 != "" {
			blobs = append(blobs, p.SHA256)
		}
		for _, q := range []string{`UPDATE application SET binned = '' WHERE binned = ?`, `UPDATE service SET binned = '' WHERE binned = ?`,
			`UPDATE volume SET binned = '', name = id WHERE binned = ?`, `DELETE FROM bin WHERE id = ?`} {
			if _, err := t.exec(ctx, q, p.ID); err != nil {
				return nil, err
			}
		}
		if err := t.event(ctx, "bin.deleted", p.OwnerID, p.Application, p.Service, p.ID, p.Binned); err != nil {
			return nil, err
		}
	}
	t.touched[serviceKey{b.Application, 0}] = true
	t.Bump(b.Application)
	return blobs, nil
}

// HiddenService finds a service in the bin, or one of an application there.
func (v View) HiddenService(ctx context.Context, application, id int64) (Service, error) {
	list, err := v.everyService(ctx, `s.application = ? AND s.id = ?`, application, id)
	return one(list, err, func() error { return api.NotFoundf("there is no service %d", id) })
}
