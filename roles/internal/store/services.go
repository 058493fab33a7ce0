package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"net"
	"net/url"
	"slices"
	"strconv"

	"nutshell/roles/api"
)

// Service is a service with what only the director and its manager need.
type Service struct {
	api.Service
	OwnerID int64
	// Reported are the URLs that its manager told of; URLs has those of its
	// sites before them, and public addresses of instances where there are any.
	Reported []string
	Sites    []string
	Public   map[string]string // by the address of an instance
	Previous string            // version that served before the wanted one
	Script   string
	// Environment has sealed text in the place of secrets' values.
	Environment []api.Variable
	Remove      []string // instances that should go first
	Retry       int
	Deleting    bool
	Served      bool // it was RUNNING once, so what its volumes hold is somebody's
}

const serviceColumns = `s.application, s.id, s.name, s.kind, s.state, s.desired, s.reason, s.cloud, s.parts, s.settings, s.version, s.previous,
	s.serving, s.urls, s.created, s.since, s.script, s.remove, s.retry, s.deleting, s.auto_deploy, s.keep_versions, s.environment, s.bind, s.served, s.revision, a.owner,
	(SELECT json_group_array(url) FROM (SELECT url FROM site WHERE application = s.application AND service = s.id AND url <> '' ORDER BY automatic, length(name), name)),
	(SELECT json_group_object(address, public) FROM instance WHERE application = s.application AND service = s.id AND public <> '' AND address <> '')`

func scanService(r *sql.Rows) (Service, error) {
	var s Service
	var created, since int64
	var parts, settings, urls, remove, environment, bind, sites, public string
	err := r.Scan(&s.Application, &s.ID, &s.Name, &s.Kind, &s.State, &s.Desired, &s.Reason, &s.Cloud, &parts, &settings, &s.Version, &s.Previous,
		&s.Serving, &urls, &created, &since, &s.Script, &remove, &s.Retry, &s.Deleting,
		&s.AutoDeploy, &s.Keep, &environment, &bind, &s.Served, &s.Revision, &s.OwnerID, &sites, &public)
	if err != nil {
		return s, err
	}
	s.Created, s.Since = timeOf(created), timeOf(since)
	s.Settings, s.Reported, s.Remove, s.Bind = json.RawMessage(settings), list(urls), list(remove), list(bind)
	if sites != "[]" {
		s.Sites = list(sites)
	}
	if public != "{}" {
		if err := json.Unmarshal([]byte(public), &s.Public); err != nil {
			return s, err
		}
	}
	s.URLs = s.reached()
	if environment != "[]" {
		if err := json.Unmarshal([]byte(environment), &s.Environment); err != nil {
			return s, err
		}
	}
	return s, json.Unmarshal([]byte(parts), &s.Parts)
}

// reached are the URLs that people shall use, best first. While nothing serves
// there are none.
func (s Service) reached() []string {
	shown := s.Reported
	if len(s.Public) > 0 {
		shown = make([]string, len(s.Reported))
		for i, u := range s.Reported {
			shown[i] = s.outside(u)
		}
	}
	if len(shown) == 0 || len(s.Sites) == 0 {
		return shown
	}
	return slices.Concat(s.Sites, shown)
}

// outside is a URL as people outside of the cloud can use it.
func (s Service) outside(link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return link // a kind's own words
	}
	public, ok := s.Public[u.Hostname()]
	if !ok {
		return link
	}
	port := u.Port()
	if u.Host = public; port != "" {
		u.Host = net.JoinHostPort(public, port)
	}
	return u.String()
}

// services leaves out what is in the bin.
func (v View) services(ctx context.Context, where string, args ...any) ([]Service, error) {
	return v.everyService(ctx, `s.binned = '' AND a.binned = '' AND `+where, args...)
}

func (v View) everyService(ctx context.Context, where string, args ...any) ([]Service, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT `+serviceColumns+` FROM service s JOIN application a ON a.id = s.application WHERE `+where, args...)
	list, err := scanAll(rows, err, scanService)
	if err != nil || len(list) == 0 {
		return list, err
	}
	active, err := v.active(ctx)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Operation = active[[2]int64{list[i].Application, list[i].ID}]
	}
	return list, nil
}

// Selection chooses services.
type Selection struct {
	User        int64 // who may see them; 0: everybody's
	Application int64 // 0: all
	AfterApp    int64 // behind this service, in the order of ids
	AfterID     int64
	Limit       int // 0: all
}

// Services lists services by application and id.
func (v View) Services(ctx context.Context, c Selection) ([]Service, error) {
	if c.Limit <= 0 {
		c.Limit = -1 // no limit, to SQLite
	}
	return v.services(ctx, `(?1 = 0 OR `+seen+`) AND (?2 = 0 OR s.application = ?2) AND (s.application, s.id) > (?3, ?4) ORDER BY s.application, s.id LIMIT ?5`,
		c.User, c.Application, c.AfterApp, c.AfterID, c.Limit)
}

// Service finds a service of an application by id or name.
func (v View) Service(ctx context.Context, application int64, ref string) (Service, error) {
	id, _ := strconv.ParseInt(ref, 10, 64)
	list, err := v.services(ctx, `s.application = ? AND (s.id = ? OR s.name = ?)`, application, id, ref)
	return one(list, err, func() error { return api.NotFoundf("there is no service %s in this application", api.Shorten(ref)) })
}

// ServiceByID finds a service.
func (v View) ServiceByID(ctx context.Context, application, id int64) (Service, error) {
	return v.Service(ctx, application, strconv.FormatInt(id, 10))
}

// PassingServices lists those in a state that must not last.
func (v View) PassingServices(ctx context.Context) ([]Service, error) {
	return v.services(ctx, `s.state IN (?, ?, ?)`, api.Prologue, api.Adapting, api.Epilogue)
}

// InsertService stores a new service.
func (t *Tx) InsertService(ctx context.Context, s Service) (Service, error) {
	s.Created, s.Since, s.Bind, s.Revision = t.now, t.now, []string{"*"}, 1 // as the table has it
	t.touched[serviceKey{s.Application, s.ID}] = true
	_, err := t.exec(ctx, `INSERT INTO service (application, id, name, kind, state, desired, reason, cloud, parts, settings, version, previous, serving, urls,
		created, since, script, remove, retry, deleting, auto_deploy, keep_versions) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', '', '[]', ?, ?, '', '[]', 0, 0, ?, ?)`,
		s.Application, s.ID, s.Name, s.Kind, s.State, s.Desired, s.Reason, s.Cloud, text(s.Parts), string(s.Settings), s.Version, micros(s.Created), micros(s.Since),
		s.AutoDeploy, s.Keep)
	if isUnique(err) {
		return s, nameTaken("create", "service", s.Name)
	}
	if err != nil {
		return s, err
	}
	if err := t.change(ctx, s.Application, s.ID, s.State, s.Reason); err != nil {
		return s, err
	}
	t.Bump(s.Application)
	return s, t.serviceEvent(ctx, s)
}

// SaveService stores what is wanted of a service. What was observed changes by
// ObserveService, the state by MoveService.
func (t *Tx) SaveService(ctx context.Context, s Service) error {
	t.touched[serviceKey{s.Application, s.ID}] = true
	if err := t.revise(ctx, s); err != nil {
		return err
	}
	_, err := t.exec(ctx, `UPDATE service SET name = ?, desired = ?, cloud = ?, parts = ?, settings = ?, version = ?, previous = ?, script = ?, remove = ?,
		retry = ?, deleting = ?, auto_deploy = ?, keep_versions = ?, environment = ?, bind = ? WHERE application = ? AND id = ?`,
		s.Name, s.Desired, s.Cloud, text(s.Parts), string(s.Settings), s.Version, s.Previous, s.Script, text(s.Remove), s.Retry, s.Deleting,
		s.AutoDeploy, s.Keep, text(append([]api.Variable{}, s.Environment...)), text(append([]string{}, s.Bind...)), s.Application, s.ID)
	if isUnique(err) {
		return nameTaken("rename", "service", s.Name)
	}
	if err != nil {
		return err
	}
	t.Bump(s.Application)
	return t.serviceEvent(ctx, s)
}

// MoveService changes the state, if it is still the one the caller saw and
// the table of moves allows it. Moving to the same state changes its reason.
func (t *Tx) MoveService(ctx context.Context, s *Service, next api.State, reason string) error {
	if s.State == next && s.Reason == reason {
		return nil
	}
	if s.State != next {
		if _, err := s.State.To(next); err != nil {
			return err
		}
	}
	t.touched[serviceKey{s.Application, s.ID}] = true
	n, err := t.exec(ctx, `UPDATE service SET state = ?, reason = ?, since = CASE WHEN state = ? THEN since ELSE ? END, served = served OR ? WHERE application = ? AND id = ? AND state = ?`,
		next, reason, next, micros(t.now), next == api.Running, s.Application, s.ID, s.State)
	if err != nil {
		return err
	}
	if n == 0 {
		return api.Conflictf("the state of service %s has just changed", s.Name)
	}
	if s.State != next {
		s.Since = t.now
	}
	s.Served = s.Served || next == api.Running
	s.State, s.Reason = next, reason
	if err := t.change(ctx, s.Application, s.ID, next, reason); err != nil {
		return err
	}
	return t.serviceEvent(ctx, *s)
}

// ObserveService stores what serves where: Serving and Reported.
func (t *Tx) ObserveService(ctx context.Context, s Service) error {
	t.touched[serviceKey{s.Application, s.ID}] = true
	_, err := t.exec(ctx, `UPDATE service SET serving = ?, urls = ? WHERE application = ? AND id = ?`, s.Serving, text(s.Reported), s.Application, s.ID)
	if err != nil {
		return err
	}
	s.URLs = s.reached()
	return t.serviceEvent(ctx, s)
}

// DeleteService removes a service with its code versions and history. Its
// instances must be gone before.
func (t *Tx) DeleteService(ctx context.Context, s Service) error {
	t.touched[serviceKey{s.Application, s.ID}] = true
	for _, q := range []string{`DELETE FROM change WHERE application = ? AND service = ?`, `DELETE FROM service WHERE application = ? AND id = ?`} {
		if _, err := t.exec(ctx, q, s.Application, s.ID); err != nil {
			return err
		}
	}
	t.Bump(s.Application)
	return t.event(ctx, "service.deleted", s.OwnerID, s.Application, s.ID, strconv.FormatInt(s.ID, 10), s.Service)
}

func (t *Tx) serviceEvent(ctx context.Context, s Service) error {
	active, err := t.Active(ctx, s.Application, s.ID)
	if err != nil {
		return err
	}
	// Callers may hold a row that they have just changed.
	if err := t.tx.QueryRowContext(ctx, `SELECT revision FROM service WHERE application = ? AND id = ?`, s.Application, s.ID).Scan(&s.Revision); err != nil {
		return err
	}
	s.Operation = ""
	if active != nil {
		s.Operation = active.ID
	}
	if s.OwnerID == 0 { // a service that was just made
		if s.OwnerID, err = t.owner(ctx, s.Application); err != nil {
			return err
		}
	}
	return t.event(ctx, "service", s.OwnerID, s.Application, s.ID, strconv.FormatInt(s.ID, 10), s.Service)
}

func (t *Tx) owner(ctx context.Context, application int64) (int64, error) {
	var id int64
	err := t.tx.QueryRowContext(ctx, `SELECT coalesce((SELECT owner FROM application WHERE id = ?), 0)`, application).Scan(&id)
	return id, err
}
