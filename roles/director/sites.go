package director

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/idna"

	"nutshell/roles/api"
	"nutshell/roles/director/edge"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// sitesMost is how many names one application may add.
const sitesMost = 64

// SitePath names a host name of a service in a path.
type SitePath struct {
	ServicePath
	Name string `path:"name"`
}

const edgeOff = "the director shows no names of its own: its administrator can turn that on by edge.https and edge.domain in nutshell.yaml; until then, use the addresses of the service's proxies"

func (d *Director) getEdge(context.Context, *struct{}) (api.Edge, error) {
	if d.front.edge == nil {
		return api.Edge{Fallback: edgeOff}, nil
	}
	https, http := d.front.edge.Ports()
	return api.Edge{On: true, Domain: normalHost(d.c.Edge.Domain), HTTPS: https, HTTP: http, ACME: d.c.Edge.ACMEDirectory != ""}, nil
}

// normalHost is a host name as rows have it.
func normalHost(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

func keyOf(site string) string { return "site " + site }

// automatic is a name that follows from those of an application and a service.
type automatic struct {
	name    string
	service int64
	bare    bool   // the application's own
	problem string // why it cannot be
}

// hostLabel makes one label of a host name of words: what cannot stand in one
// becomes a dash. Two dashes never follow each other, because browsers take
// names such as xn--… for other letters.
func hostLabel(words ...string) (label, problem string) {
	var b strings.Builder
	for _, c := range strings.ToLower(strings.Join(words, "-")) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			b.WriteRune(c)
		} else if !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	label = strings.Trim(b.String(), "-")
	if len(label) > 63 {
		return label, "the names together are longer than the 63 letters that a host name may have (rename the service or the application)"
	}
	return label, ""
}

// automatics are the names of an application's services: APPLICATION.DOMAIN is
// the first that shows pages, SERVICE-APPLICATION.DOMAIN each other. A name
// that a service has it keeps, though it has become the first.
func automatics(domain, app string, services []store.Service, has func(name string, service int64) bool) []automatic {
	var list []automatic
	add := func(bare bool, service int64, words ...string) {
		label, problem := hostLabel(words...)
		list = append(list, automatic{name: label + "." + domain, service: service, bare: bare, problem: problem})
	}
	for i, s := range services {
		if i == 0 {
			add(true, s.ID, app)
		}
		if label, _ := hostLabel(s.Name, app); i > 0 || has(label+"."+domain, s.ID) {
			add(false, s.ID, s.Name, app)
		}
	}
	return list
}

// webServices are those that have an entrance, by application.
func (d *Director) webServices(all []store.Service) map[int64][]store.Service {
	by := map[int64][]store.Service{}
	for _, s := range all {
		if len(d.entrances(s.Kind)) > 0 {
			by[s.Application] = append(by[s.Application], s)
		}
	}
	return by
}

// plan compares automatic names with the rows: who comes first has a name, and
// keeps it until its application or service is called otherwise.
func (f *front) plan(w world) (put, drop []store.Site) {
	have := map[string]store.Site{}
	for _, s := range w.sites {
		have[s.Name] = s
	}
	wanted := map[string]bool{}
	if domain := normalHost(f.d.c.Edge.Domain); f.edge != nil && domain != "" {
		own := f.d.hosts()
		by := f.d.webServices(w.services)
		for _, id := range slices.Sorted(maps.Keys(by)) {
			services := by[id]
			has := func(name string, service int64) bool {
				s, ok := have[name]
				return ok && s.Application == id && s.Service == service
			}
			for _, a := range automatics(domain, w.apps[id].Name, services, has) {
				old, taken := have[a.name]
				if a.problem != "" || taken && (old.Application != id || !old.Automatic) || wanted[a.name] || slices.Contains(own, a.name) {
					continue
				}
				wanted[a.name] = true
				s := store.Site{Name: a.name, Application: id, Service: a.service, Automatic: true, Certificate: f.d.usualCertificate(true), URL: f.edge.URL(a.name), Told: old.Told, Created: old.Created}
				if s != old {
					put = append(put, s)
				}
				have[a.name] = s // of two new ones with the same name, one gets it
			}
		}
	}
	for _, s := range w.sites {
		switch url := f.url(s.Name); {
		case s.Automatic && !wanted[s.Name]:
			drop = append(drop, s)
		case !s.Automatic && s.URL != url:
			s.URL = url
			put = append(put, s)
		}
	}
	return put, drop
}

func (f *front) url(name string) string {
	if f.edge == nil {
		return ""
	}
	return f.edge.URL(name)
}

// usualCertificate is where certificates come from unless somebody says
// otherwise.
func (d *Director) usualCertificate(automatic bool) string {
	if d.c.Edge.ACMEDirectory != "" && (!automatic || d.c.Edge.Chain == "") {
		return edge.CertificateACME
	}
	return edge.CertificateOwn
}

func (d *Director) listSites(ctx context.Context, in *ServicePath) ([]api.Site, error) {
	a, s, err := d.service(ctx, *in)
	if err != nil {
		return nil, err
	}
	rows, err := d.store.ServiceSites(ctx, a.ID, s.ID)
	if err != nil {
		return nil, err
	}
	list := []api.Site{}
	for _, row := range rows {
		list = append(list, d.siteOf(a, s, row))
	}
	more, err := d.missing(ctx, a, s, rows)
	return append(list, more...), err
}

// siteOf is a row as people see it.
func (d *Director) siteOf(a store.Application, s store.Service, row store.Site) api.Site {
	one := api.Site{Name: row.Name, Automatic: row.Automatic, Certificate: row.Certificate, URL: row.URL}
	if d.front.edge == nil {
		one.Problem = edgeOff
		return one
	}
	if row.Automatic && d.c.Edge.Chain != "" {
		one.Certificate = edge.CertificateFile
	}
	one.Expires, one.Problem = d.front.edge.Certificate(row.Name)
	if one.Problem == "" && !serving(a, s) {
		one.Problem = "visitors are told that it " + idleBecause(a, s)
		if s.Desired == api.GoalStopped || a.Desired == api.GoalStopped {
			one.Problem += " (start it)"
		}
	}
	return one
}

// missing are automatic names that a service should have and has not, with
// the reason.
func (d *Director) missing(ctx context.Context, a store.Application, s store.Service, rows []store.Site) ([]api.Site, error) {
	domain := normalHost(d.c.Edge.Domain)
	if d.front.edge == nil || domain == "" {
		return nil, nil
	}
	services, err := d.store.Services(ctx, store.Selection{Application: a.ID})
	if err != nil {
		return nil, err
	}
	var list []api.Site
	for _, m := range automatics(domain, a.Name, d.webServices(services)[a.ID], func(string, int64) bool { return false }) {
		if m.service != s.ID || slices.ContainsFunc(rows, func(r store.Site) bool { return r.Name == m.name }) {
			continue
		}
		if m.problem == "" {
			other, err := d.store.Site(ctx, m.name)
			switch {
			case api.CodeOf(err) == api.CodeNotFound && slices.Contains(d.hosts(), m.name):
				m.problem = "it is the director's own name (rename the application)"
			case api.CodeOf(err) == api.CodeNotFound:
				continue // it comes in a moment
			case err != nil:
				return nil, err
			case other.Application == a.ID:
				m.problem = "another service of the application has this name (rename one of them)"
			default:
				m.problem = "another application has this name (rename the application or the service, or add a host name of your own)"
			}
		}
		list = append(list, api.Site{Name: m.name, Automatic: true, Problem: m.problem})
	}
	return list, nil
}

func (d *Director) addSite(ctx context.Context, in *struct {
	ServicePath
	Body api.AddSite
}) (api.Site, error) {
	a, s, err := d.service(ctx, in.ServicePath)
	if err != nil {
		return api.Site{}, err
	}
	row := store.Site{Application: a.ID, Service: s.ID, Certificate: in.Body.Certificate}
	refuse := func(code api.Code, field, message, hint string) error {
		return &api.Error{Code: code, Op: "add", Object: "site " + api.Shorten(in.Body.Name), Message: message, Hint: hint, Fields: []string{field}}
	}
	if d.front.edge == nil {
		return api.Site{}, refuse(api.CodeUnavailable, "name", "the director shows no names of its own", "its administrator can turn that on by edge.https in nutshell.yaml")
	}
	if len(d.entrances(s.Kind)) == 0 {
		return api.Site{}, refuse(api.CodeInvalid, "name", "services of the kind "+s.Kind+" show no web pages", "add the name to a service that does")
	}
	if row.Name, err = d.siteName(in.Body.Name); err != nil {
		return api.Site{}, err
	}
	if row.Certificate == "" {
		row.Certificate = d.usualCertificate(false)
		if in.Body.Chain != "" {
			row.Certificate = edge.CertificateFile
		}
	}
	switch row.Certificate {
	case edge.CertificateOwn:
	case edge.CertificateACME:
		if d.c.Edge.ACMEDirectory == "" {
			return api.Site{}, refuse(api.CodeInvalid, "certificate", "the director knows no ACME authority", "its administrator can name one by edge.acme_directory; or use certificate own or file")
		}
	case edge.CertificateFile:
		if _, err := edge.CheckPair([]byte(in.Body.Chain), []byte(in.Body.Key), row.Name, d.c.Now()); err != nil {
			return api.Site{}, err
		}
		row.Chain, row.Key = in.Body.Chain, d.secrets.Seal([]byte(in.Body.Key), keyOf(row.Name))
	default:
		return api.Site{}, refuse(api.CodeInvalid, "certificate", "there is no certificate "+api.Shorten(row.Certificate), "one of: own, file, acme")
	}
	if row.Certificate != edge.CertificateFile && in.Body.Chain+in.Body.Key != "" {
		return api.Site{}, refuse(api.CodeInvalid, "chain", "a certificate was sent, but another shall be used", "use certificate file")
	}
	row.URL = d.front.edge.URL(row.Name)
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if s, err = t.ServiceByID(ctx, a.ID, s.ID); err != nil { // deleted a moment ago
			return err
		}
		rows, err := t.ServiceSites(ctx, a.ID, 0)
		if err != nil {
			return err
		}
		added := 0
		for _, r := range rows {
			switch {
			case r.Name == row.Name && r.Service != s.ID:
				return refuse(api.CodeConflict, "name", "another service of the application has it", "remove it there first")
			case r.Name != row.Name && !r.Automatic:
				added++
			}
		}
		if added >= sitesMost {
			return refuse(api.CodeQuota, "name", "the application has 64 host names already", "remove one")
		}
		row, err = t.PutSite(ctx, row)
		return err
	})
	if err != nil {
		return api.Site{}, err
	}
	if err := d.front.refresh(ctx); err != nil { // so that it is there when we say so
		return api.Site{}, err
	}
	return d.siteOf(a, s, row), nil
}

// siteName checks a name that somebody wants, and writes it as it is asked for
// on the wire.
func (d *Director) siteName(name string) (string, error) {
	refuse := func(code api.Code, message, hint string) error {
		return &api.Error{Code: code, Op: "add", Object: "site " + api.Shorten(name), Message: message, Hint: hint, Fields: []string{"name"}}
	}
	host := normalHost(strings.TrimSpace(name))
	const such = "give the name alone, such as www.example.org"
	switch _, err := netip.ParseAddr(strings.Trim(host, "[]")); {
	case host == "":
		return "", refuse(api.CodeInvalid, "a host name is required", such)
	case err == nil:
		return "", refuse(api.CodeInvalid, "this is an address, not a host name", such)
	case strings.Contains(host, "*"):
		return "", refuse(api.CodeInvalid, "one name cannot stand for many", "add each name by itself")
	case strings.ContainsAny(host, ":/@?#"):
		return "", refuse(api.CodeInvalid, "this is more than a host name", such)
	}
	ascii, err := idna.Lookup.ToASCII(host)
	if err != nil || len(ascii) > 253 || !validHost(ascii) {
		return "", refuse(api.CodeInvalid, "this is not a host name", such)
	}
	domain := normalHost(d.c.Edge.Domain)
	switch {
	case slices.Contains(d.hosts(), ascii):
		return "", refuse(api.CodeConflict, "it is the director's own name", "choose another")
	case domain != "" && (ascii == domain || strings.HasSuffix(ascii, "."+domain)):
		return "", refuse(api.CodeConflict, "names below "+domain+" follow from those of applications and services", "rename the application or the service, or choose a name elsewhere")
	}
	return ascii, nil
}

// validHost reports whether each label is one that DNS knows.
func validHost(host string) bool {
	labels := strings.Split(host, ".")
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return false // such as 10.1: programs take it for an address
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

func (d *Director) deleteSite(ctx context.Context, in *SitePath) (httpapi.None, error) {
	a, s, err := d.service(ctx, in.ServicePath)
	if err != nil {
		return httpapi.None{}, err
	}
	name := normalHost(in.Name)
	if ascii, err := idna.Lookup.ToASCII(name); err == nil {
		name = ascii
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		row, err := t.Site(ctx, name)
		if err != nil || row.Application != a.ID || row.Service != s.ID {
			return &api.Error{Code: api.CodeNotFound, Op: "remove", Object: "site " + api.Shorten(in.Name), Message: "the service has no such name"}
		}
		if row.Automatic {
			return &api.Error{Code: api.CodeConflict, Op: "remove", Object: "site " + name, Message: "it follows from the names of the application and the service", Hint: "rename one of them to change it"}
		}
		return t.DeleteSite(ctx, row)
	})
	if err != nil {
		return httpapi.None{}, err
	}
	return httpapi.None{}, d.front.refresh(ctx)
}
