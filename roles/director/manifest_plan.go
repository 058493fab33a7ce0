package director

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"nutshell/roles/api"
	"nutshell/roles/internal/manifest"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

// What kinds must know for some fields of a manifest.
const (
	actionLoad     = "load_dump"
	actionDump     = "dump"
	actionDatabase = "create_database"
	ownPassword    = "password"
)

// planned is a service of a manifest with what its fields mean to its kind.
type planned struct {
	manifest.Service
	kind     services.Kind
	cloud    string
	settings json.RawMessage
	parts    map[string]int
	launch   int // instances that its start asks for
}

// planManifest finds out whether all that a manifest asks for can be, before
// anything of it is. Errors name service and field.
func (d *Director) planManifest(m *manifest.Manifest) (plan []planned, notes []string, err error) {
	if err := m.Complete(); err != nil {
		return nil, nil, err
	}
	if _, err := d.place(m.Cloud); err != nil {
		return nil, nil, err
	}
	notes = []string{}
	instances := 0
	for _, s := range m.Services {
		p, err := d.planService(*m, s)
		if err != nil {
			return nil, nil, err
		}
		if p.Started() {
			instances += p.launch
		}
		if s.StartRole != "" {
			notes = append(notes, "service "+s.ServiceName+": StartRole has no effect")
		}
		plan = append(plan, p)
	}
	if instances > d.tune().instances {
		return nil, nil, &api.Error{Code: api.CodeInvalid, Op: "read", Object: "manifest", Message: fmt.Sprintf("its services would have %d instances, at most %d are allowed", instances, d.tune().instances),
			Hint: "an administrator can raise limits.instances_per_application", Fields: []string{"StartupInstances"}}
	}
	return plan, notes, nil
}

func (d *Director) planService(m manifest.Manifest, s manifest.Service) (planned, error) {
	p := planned{Service: s}
	var err error
	if p.kind, err = d.c.Services.Get(s.Type); err != nil {
		return p, s.In("Type", err)
	}
	p.cloud = s.Cloud
	if p.cloud == "" {
		p.cloud = m.Cloud
	}
	place, err := d.place(p.cloud)
	if err != nil {
		return p, s.In("Cloud", err)
	}
	p.cloud = place.name
	if p.settings, err = mergeSettings(p.kind, s.Settings); err != nil {
		return p, s.In("Settings", err)
	}
	if err := d.planParts(&p); err != nil {
		return p, s.In("StartupInstances", err)
	}
	if list := variablesOf(s, nil); len(list) > 0 {
		if err := checkEnvironment(api.ChangeEnvironment{Set: list}); err != nil {
			return p, s.In("Environment", err)
		}
	}
	return p, d.planData(p)
}

func mergeSettings(kind services.Kind, given map[string]any) (json.RawMessage, error) {
	patch, err := json.Marshal(given)
	if err != nil || len(given) == 0 {
		return kind.DefaultSettings(), err
	}
	return kind.MergeSettings(kind.DefaultSettings(), patch)
}

// planParts reads StartupInstances and asks the kind how many instances that is.
func (d *Director) planParts(p *planned) error {
	p.parts = map[string]int{}
	for _, part := range p.kind.Parts {
		p.parts[part.Name] = part.Default
	}
	set := map[string]int{}
	for name, n := range p.StartupInstances {
		now := manifest.Role(p.kind.Name, name)
		if hasPart(p.kind, name) {
			now = name
		}
		if old, twice := set[now]; twice && old != int(n) {
			return &api.Error{Code: api.CodeInvalid, Object: "role " + api.Shorten(name), Message: "it stands here under two names, with two counts"}
		}
		set[now] = int(n)
	}
	usual, known := p.kind.Describe().UsualPart()
	if n, ok := set["count"]; ok && known && !hasPart(p.kind, "count") {
		if _, both := set[usual.Name]; both { // ConPaaS wrote it beside the roles
			delete(set, "count")
		} else {
			set[usual.Name] = n
			delete(set, "count")
		}
	}
	if len(set) > 0 {
		counts, err := counts(p.kind, p.parts, api.Scale{Set: set})
		if err != nil {
			return err
		}
		p.parts = counts
	}
	layout, err := p.kind.Manager(nil).Plan([]api.Instance{}, maps.Clone(p.parts), nil)
	p.launch = len(layout.Launch)
	return err
}

// planData checks what a service gets beside its settings.
func (d *Director) planData(p planned) error {
	s := p.Service
	refuse := func(field, why string) error {
		return s.Wrong(field, "leave it out", "services of kind %s %s", p.kind.Name, why)
	}
	action := func(name string) bool {
		return slices.ContainsFunc(p.kind.Actions, func(a api.Action) bool { return a.Name == name })
	}
	switch {
	case (s.Archive != "" || len(s.Files) > 0) && !p.kind.Code.Accepts:
		return refuse("Archive", "keep no code")
	case s.Dump != "" && !action(actionLoad):
		return refuse("Dump", "load no dumps")
	case len(s.Databases) > 0 && !action(actionDatabase):
		return refuse("Databases", "have no databases")
	case len(s.Volumes) > 0 && !p.kind.Volumes:
		return refuse("Volumes", "take no volumes of users")
	case s.VolumeStartup != nil && p.kind.Name != "xtreemfs":
		return refuse("VolumeStartup", "are no file systems; use Volumes where the kind takes some")
	case !s.Started() && (s.Dump != "" || len(s.Databases) > 0):
		return s.Wrong("Start", "start it, or leave Dump and Databases out", "what is loaded needs a service that is started")
	case s.KeepVersions > maxKeep:
		return s.Wrong("KeepVersions", "", "%d versions cannot be kept, at most %d", s.KeepVersions, maxKeep)
	}
	for _, v := range s.Volumes {
		if err := checkVolumeSize("create", v.Name, int64(v.Size)); err != nil {
			return s.In("Volumes", err)
		}
	}
	if s.Password != "" {
		k, err := ownSecret(p.kind, newService(store.Application{}, p.kind, "", s.ServiceName), ownPassword)
		if err != nil {
			return refuse("Password", "have no user of their own")
		}
		if err := checkSecret(k, s.Password); err != nil {
			return s.In("Password", err)
		}
	}
	if len(s.Sites) > 0 && d.front.edge == nil {
		return s.Wrong("Sites", "leave Sites out, or ask its administrator to turn that on by edge.https", "the director shows no names of its own")
	}
	for _, name := range s.Sites {
		if _, err := d.siteName(name); err != nil {
			return s.In("Sites", err)
		}
	}
	if source := manifest.SourceOf(s.StartupScript); source.Kind == manifest.SourceText {
		if err := checkScript(source.Text); err != nil {
			return s.In("StartupScript", err)
		}
	}
	for field, source := range s.Sources() {
		if source.Kind == manifest.SourceDebian && d.c.Package == nil {
			return s.Wrong(field, "send the archive beside the manifest", "this director makes no code of Debian packages")
		}
	}
	return nil
}

// variablesOf are the variables of a service; secrets that are made up come of
// random.
func variablesOf(s manifest.Service, random func(length int) (string, error)) []api.Variable {
	var list []api.Variable
	for _, name := range slices.Sorted(maps.Keys(s.Environment)) {
		v := s.Environment[name]
		value := v.Value
		if v.Random > 0 && random != nil {
			value, _ = random(v.Random) // the system's source of randomness does not fail
		}
		list = append(list, api.Variable{Name: name, Value: value, Secret: v.Secret})
	}
	return list
}

// checked is what a plan would make.
func checked(m manifest.Manifest, plan []planned, notes, missing []string) api.ManifestCheck {
	c := api.ManifestCheck{Application: m.Application, Services: []api.ManifestService{}, Missing: missing, Notes: notes}
	for _, p := range plan {
		c.Services = append(c.Services, api.ManifestService{Name: p.ServiceName, Kind: p.kind.Name, Parts: p.parts, Started: p.Started()})
		if p.Started() {
			c.Credits += p.launch
		}
	}
	if c.Credits > 0 {
		c.Credits++ // the manager
	}
	return c
}

// delayed reports whether a service's code is activated only when all others
// serve: it may need what they offer to show its first page.
func delayed(p planned, plan []planned) bool {
	return p.Started() && slices.ContainsFunc(plan, func(o planned) bool {
		return o.ServiceName != p.ServiceName && o.Started() && len(o.kind.Offers) > 0
	})
}

// maxScript bounds a startup script, in bytes.
const maxScript = 256 << 10

func checkScript(text string) error {
	if len(text) > maxScript || strings.ContainsRune(text, 0) {
		return &api.Error{Code: api.CodeInvalid, Message: "a startup script is text of at most 256 KiB", Fields: []string{"text"}}
	}
	return nil
}
