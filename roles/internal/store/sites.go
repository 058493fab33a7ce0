package store

import (
	"context"
	"database/sql"
	"time"

	"nutshell/roles/api"
)

// Site is a host name with what only the director needs.
type Site struct {
	Name                 string
	Application, Service int64
	Automatic            bool
	Certificate          string
	Chain                string // PEM, for certificate "file"
	Key                  string // sealed
	URL                  string // empty while the edge is off
	Told                 string // the problem that an event has told of
	Created              time.Time
}

const siteColumns = `name, application, service, automatic, certificate, chain, key, url, told, created`

func scanSite(r *sql.Rows) (Site, error) {
	var s Site
	var created int64
	err := r.Scan(&s.Name, &s.Application, &s.Service, &s.Automatic, &s.Certificate, &s.Chain, &s.Key, &s.URL, &s.Told, &created)
	s.Created = timeOf(created)
	return s, err
}

func (v View) sites(ctx context.Context, where string, args ...any) ([]Site, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT `+siteColumns+` FROM site WHERE `+where+` ORDER BY automatic, length(name), name`, args...)
	return scanAll(rows, err, scanSite)
}

// Sites lists all host names of the installation.
func (v View) Sites(ctx context.Context) ([]Site, error) { return v.sites(ctx, `1`) }

// ServiceSites lists the host names of a service (0: of the application).
func (v View) ServiceSites(ctx context.Context, application, service int64) ([]Site, error) {
	return v.sites(ctx, `application = ?1 AND (?2 = 0 OR service = ?2)`, application, service)
}

// Site finds a host name, whosever it is.
func (v View) Site(ctx context.Context, name string) (Site, error) {
	found, err := v.sites(ctx, `name = ?`, name)
	return one(found, err, func() error { return api.NotFoundf("there is no site %s", api.Shorten(name)) })
}

// PutSite stores a host name, in the place of what was stored of it for the
// same application. One that another application has is a conflict.
func (t *Tx) PutSite(ctx context.Context, s Site) (Site, error) {
	if s.Created.IsZero() {
		s.Created = t.now
	}
	old, err := t.sites(ctx, `name = ?`, s.Name)
	if err != nil {
		return s, err
	}
	if len(old) > 0 && old[0].Application != s.Application {
		return s, &api.Error{Code: api.CodeConflict, Op: "add", Object: "site " + s.Name, Message: "another application has this name", Fields: []string{"name"}}
	}
	if len(old) > 0 {
		t.touched[serviceKey{old[0].Application, old[0].Service}] = true
	}
	_, err = t.exec(ctx, `INSERT OR REPLACE INTO site (`+siteColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Name, s.Application, s.Service, s.Automatic, s.Certificate, s.Chain, s.Key, s.URL, s.Told, micros(s.Created))
	if err != nil {
		return s, err
	}
	return s, t.siteChanged(ctx, "site", s, "")
}

// DeleteSite gives a host name up.
func (t *Tx) DeleteSite(ctx context.Context, s Site) error {
	if _, err := t.exec(ctx, `DELETE FROM site WHERE name = ?`, s.Name); err != nil {
		return err
	}
	return t.siteChanged(ctx, "site.deleted", s, "")
}

// TellSite sends an event of what is wrong with a host name, and remembers
// that it did. Nothing wrong any more is worth one, too.
func (t *Tx) TellSite(ctx context.Context, s Site, problem string) error {
	if _, err := t.exec(ctx, `UPDATE site SET told = ? WHERE name = ?`, problem, s.Name); err != nil {
		return err
	}
	return t.siteChanged(ctx, "site", s, problem)
}

// siteChanged tells of a site, and of its service, whose URLs are others now.
func (t *Tx) siteChanged(ctx context.Context, typ string, s Site, problem string) error {
	owner, err := t.owner(ctx, s.Application)
	if err != nil {
		return err
	}
	t.touched[serviceKey{s.Application, s.Service}] = true
	shown := api.Site{Name: s.Name, Automatic: s.Automatic, Certificate: s.Certificate, URL: s.URL, Problem: problem}
	if err := t.event(ctx, typ, owner, s.Application, s.Service, s.Name, shown); err != nil {
		return err
	}
	return t.Tell(ctx, s.Application, s.Service)
}
