package director

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/director/edge"
	"nutshell/roles/internal/logfile"
	"nutshell/roles/internal/store"
)

// EdgeConfig says whether services are shown under names of their own, and
// how; see the keys edge.* of the configuration.
type EdgeConfig struct {
	HTTPS, HTTP, Domain              string
	Chain, Key                       string
	Trusted                          []string
	HSTS                             time.Duration
	MaxConnections                   int
	ACMEDirectory, ACMEEmail, ACMECA string
}

// Times of the edge's table.
const (
	frontPause = 50 * time.Millisecond // at least, between two tables
	frontTell  = time.Minute           // between looks at certificates
)

// front tells the edge what there is to show. While edge is nil nothing is
// shown, and all that is to do is to take the addresses out of the rows.
type front struct {
	d    *Director
	edge *edge.Edge
	log  *logfile.File

	mu    sync.Mutex // one refresh at a time
	began bool       // the first is over
	seen  int64      // the last event that was looked at
}

// openFront makes the edge that the configuration asks for.
func (d *Director) openFront() error {
	d.front = &front{d: d}
	c := d.c.Edge
	if c.HTTPS == "" {
		return nil
	}
	trusted, err := networks(c.Trusted)
	if err != nil {
		return err
	}
	if d.front.log, err = logfile.Open(filepath.Join(d.c.Dir, "log", "edge-access.log"), 5*logfile.MaxBytes); err != nil {
		return err
	}
	var acme *edge.ACME
	if c.ACMEDirectory != "" {
		acme = &edge.ACME{Directory: c.ACMEDirectory, Email: c.ACMEEmail, CA: c.ACMECA, Dir: filepath.Join(d.c.Dir, "acme")}
	}
	d.front.edge, err = edge.New(edge.Config{HTTPS: c.HTTPS, HTTP: c.HTTP, Domain: normalHost(c.Domain), Hosts: d.hosts, Chain: c.Chain, Key: c.Key, ACME: acme, Trusted: trusted, HSTS: c.HSTS,
		MaxConnections: c.MaxConnections, Sign: d.ca.Site, AccessLog: d.front.log, Log: d.c.Log.With("part", "edge"), Now: d.c.Now})
	return err
}

func networks(list []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return nil, &api.Error{Code: api.CodeInvalid, Op: "read", Object: "edge.trusted", Message: api.Shorten(s) + " is neither an address nor a network"}
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		all = append(all, p)
	}
	return all, nil
}

// ports are those of the configuration, for the firewalls of clouds.
func (c EdgeConfig) ports() []int {
	var list []int
	for _, address := range []string{c.HTTPS, c.HTTP} {
		if _, text, err := net.SplitHostPort(address); err == nil {
			if port, err := strconv.Atoi(text); err == nil && port > 0 {
				list = append(list, port)
			}
		}
	}
	return list
}

func (f *front) listen(ctx context.Context) error {
	if f.edge == nil {
		return nil
	}
	return f.edge.Listen(ctx)
}

func (f *front) close() {
	if f == nil {
		return
	}
	if f.edge != nil {
		f.edge.Close()
	}
	if f.log != nil {
		_ = f.log.Close()
	}
}

// serve answers visitors until ctx ends.
func (f *front) serve(ctx context.Context) error {
	if f.edge == nil {
		return nil
	}
	https, http := f.edge.Ports()
	f.d.c.Log.Info("edge listens", "https", https, "http", http, "domain", f.d.c.Edge.Domain)
	return f.edge.Serve(ctx, 5*time.Second)
}

// figures are what the edge has counted.
func (f *front) figures() []api.Sample {
	if f.edge == nil {
		return nil
	}
	return f.edge.Figures()
}

// keep keeps the edge's table as the rows are, until ctx ends.
func (f *front) keep(ctx context.Context) {
	if err := f.d.tellFront(ctx); err != nil {
		f.d.c.Log.Error("managers not told of the edge", "error", err)
	}
	tell := time.NewTicker(frontTell)
	defer tell.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for ctx.Err() == nil {
		changed := f.d.store.Changed()
		if err := f.refresh(ctx); err != nil && ctx.Err() == nil {
			f.d.c.Log.Error("sites not read, the edge goes on with those it has", "error", err)
		}
		if f.edge == nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-changed:
			pause.Reset(frontPause)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
		case <-tell.C:
			if err := f.tell(ctx); err != nil {
				f.d.c.Log.Error("state of certificates not told", "error", err)
			}
		}
	}
}

// refresh brings the rows of automatic names and the edge's table up to date.
func (f *front) refresh(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	news, err := f.news(ctx)
	if err != nil || !news {
		return err
	}
	w, err := f.world(ctx, f.d.store.View, f.d.store.Services)
	if err != nil {
		return err
	}
	if put, drop := f.plan(w); len(put)+len(drop) > 0 {
		err := f.d.write(ctx, func(ctx context.Context, t *store.Tx) error {
			w, err := f.world(ctx, t.View, t.Services)
			if err != nil {
				return err
			}
			put, drop := f.plan(w)
			for _, s := range drop {
				if err := t.DeleteSite(ctx, s); err != nil {
					return err
				}
			}
			for _, s := range put {
				if _, err := t.PutSite(ctx, s); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if w, err = f.world(ctx, f.d.store.View, f.d.store.Services); err != nil {
			return err
		}
	}
	if f.edge != nil {
		f.edge.Show(f.shown(w)) //nolint:contextcheck // certificates are asked for long after this look
	}
	return nil
}

// news reports whether something has happened since the last look that the
// table could depend on. Operations tell of each of their steps, and do not.
func (f *front) news(ctx context.Context) (bool, error) {
	const many = 200
	_, newest, err := f.d.store.EventRange(ctx)
	if err != nil {
		return false, err
	}
	if !f.began {
		f.began, f.seen = true, newest
		return true, nil
	}
	events, err := f.d.store.Events(ctx, 0, true, f.seen, many)
	f.seen = newest
	return len(events) == many || slices.ContainsFunc(events, func(e api.Event) bool {
		kind, _, _ := strings.Cut(e.Type, ".")
		return slices.Contains([]string{"application", "service", "instance", "site"}, kind)
	}), err
}

// world is all that names and proxies follow from.
type world struct {
	apps      map[int64]store.Application
	services  []store.Service // by application and id
	instances map[serviceID][]store.Instance
	sites     []store.Site
}

type serviceID struct{ application, service int64 }

func (f *front) world(ctx context.Context, v store.View, services func(context.Context, store.Selection) ([]store.Service, error)) (world, error) {
	w := world{apps: map[int64]store.Application{}, instances: map[serviceID][]store.Instance{}}
	var err error
	if w.sites, err = v.Sites(ctx); err != nil {
		return w, err
	}
	if f.edge == nil {
		return w, nil
	}
	apps, err := v.Applications(ctx, 0)
	if err != nil {
		return w, err
	}
	for _, a := range apps {
		w.apps[a.ID] = a
	}
	if w.services, err = services(ctx, store.Selection{}); err != nil {
		return w, err
	}
	rows, err := v.Instances(ctx)
	for _, i := range rows {
		k := serviceID{i.Application, i.Service}
		w.instances[k] = append(w.instances[k], i)
	}
	return w, err
}

// shown is the edge's table.
func (f *front) shown(w world) []edge.Site {
	services := map[serviceID]store.Service{}
	for _, s := range w.services {
		services[serviceID{s.Application, s.ID}] = s
	}
	list := make([]edge.Site, 0, len(w.sites))
	for _, row := range w.sites {
		k := serviceID{row.Application, row.Service}
		s, ok := services[k]
		if !ok {
			continue // deleted a moment ago
		}
		one := edge.Site{Name: row.Name, Application: row.Application, Service: row.Service, Certificate: row.Certificate, Idle: idleBecause(w.apps[row.Application], s)}
		if row.Certificate == edge.CertificateFile {
			key, err := f.d.secrets.Open(row.Key, keyOf(row.Name))
			if err != nil {
				f.d.c.Log.Error("key of a site not opened", "site", row.Name, "error", err)
			}
			one.Chain, one.Key = []byte(row.Chain), key
		}
		if serving(w.apps[row.Application], s) {
			one.Proxies = f.d.proxies(s, w.instances[k])
		}
		list = append(list, one)
	}
	return list
}

// serving reports whether requests may go to a service's proxies.
func serving(a store.Application, s store.Service) bool {
	return a.Desired == api.GoalStarted && s.Desired == api.GoalStarted && slices.Contains([]api.State{api.Running, api.Adapting, api.Failed}, s.State)
}

// idleBecause says for visitors why nothing runs behind a name.
func idleBecause(a store.Application, s store.Service) string {
	switch {
	case a.Desired == api.GoalStopped || s.State == api.Stopped:
		return "is stopped"
	case s.State == api.Init:
		return "was not started yet"
	case s.State == api.Prologue:
		return "is starting"
	case s.State == api.Epilogue || s.Desired == api.GoalStopped:
		return "is being stopped"
	}
	return "has nothing that runs"
}

// tellFront makes managers look again when the edge has been turned on or off
// since they last did.
func (d *Director) tellFront(ctx context.Context) error {
	const key = "edge"
	now := strconv.FormatBool(d.front.edge != nil)
	was, err := d.store.Meta(ctx, key)
	if err != nil || was == now || was == "" && d.front.edge == nil {
		return err
	}
	return d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		apps, err := t.StartedApplications(ctx)
		if err != nil {
			return err
		}
		for _, a := range apps {
			t.Bump(a.ID)
		}
		return t.SetMeta(ctx, key, now)
	})
}

// tell sends an event for each name whose certificate has come to be in
// trouble, or out of it.
func (f *front) tell(ctx context.Context) error {
	rows, err := f.d.store.Sites(ctx)
	if err != nil {
		return err
	}
	for _, row := range rows {
		_, problem := f.edge.Certificate(row.Name)
		if (problem == "") == (row.Told == "") {
			continue
		}
		if problem != "" {
			f.d.c.Log.Warn("certificate of a site", "site", row.Name, "problem", problem)
		}
		if err := f.d.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.TellSite(ctx, row, problem) }); err != nil {
			return fmt.Errorf("site %s: %w", row.Name, err)
		}
	}
	return nil
}
