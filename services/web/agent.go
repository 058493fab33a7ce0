package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"text/template"

	"nutshell/roles/api"
	"nutshell/services"
)

// Config is what a manager half tells an agent half.
type Config struct {
	Serve       string          `json:"serve"` // version that a proxy shows; empty: the proxy stays as it is
	Settings    json.RawMessage `json:"settings"`
	Live        []string        `json:"live"`    // versions that must answer now: the wanted one, and those that proxies show
	Proxies     []string        `json:"proxies"` // addresses of all proxies
	Webs        []Peer          `json:"webs"`
	Backends    []Peer          `json:"backends"`
	Former      []Peer          `json:"former,omitempty"` // backends that are about to leave
	BodyMax     string          `json:"body_max"`         // largest request that proxies let in
	ReadTimeout int             `json:"read_timeout"`     // seconds that proxies wait for a page

	// TrustedFront are addresses of fronts, such as the director's edge, whose
	// word for a client's address and scheme proxies take.
	TrustedFront []string `json:"trusted_front,omitempty"`
	// Environment is for the user's code; it comes beside the configuration.
	Environment []api.Variable `json:"-"`
}

// Observation is what an agent half tells.
type Observation struct {
	Parts    []string          `json:"parts"`
	Serving  string            `json:"serving,omitempty"`  // version that the proxy shows
	Code     []api.CodeVersion `json:"code"`               // versions that are unpacked
	Draining bool              `json:"draining,omitempty"` // the proxy finishes requests of its former configuration
	Backend  any               `json:"backend,omitempty"`
}

// Pager is the kind's own half of a backend: what makes pages.
type Pager interface {
	// Apply makes pages of all versions. With listen it answers proxies at
	// BackendPort, otherwise only the proxy of this instance.
	Apply(ctx context.Context, c Config, roots []Root, listen bool) error
	// Pages are the proxy's rules for pages made here.
	Pages(c Config) (Pages, error)
	// Check asks for one page of a version.
	Check(ctx context.Context, c Config, root Root) error
	Observe(ctx context.Context) (any, error)
	Stop(ctx context.Context) error
}

// Publisher is a pager that says itself which files of a version web servers
// may show: those in the directory that it returns, whose base name begins
// with the version's id. Everything else is asked of the pager.
type Publisher interface {
	Publish(code string) (dir string, err error)
}

// Settler is a pager that ends what it does not need any more only when
// proxies and web servers of this instance have let go of it.
type Settler interface {
	Settle(ctx context.Context, c Config, roots []Root) error
}

// Rooter is a Pager whose settings name a directory of a version that visitors
// see instead of all of it.
type Rooter interface {
	Root(c Config, dir string) (string, error)
}

// Agent is the agent half of kinds that host web applications.
type Agent struct {
	m             services.Machine
	pager         Pager
	templates     *template.Template
	proxy, static *Nginx
	site          Link
	traffic       map[string]*AccessLog // by part
	denied        deniedDirs

	applying sync.Mutex
	mu       sync.Mutex // guards what follows; Observe and Call come while Apply works
	now      state
}

type state struct {
	parts []string
	code  []api.CodeVersion
	roots []Root
	conf  Config
}

// NewAgent makes an agent half around a kind's pager.
func NewAgent(m services.Machine, p Pager) (*Agent, error) {
	t, err := Templates()
	if err != nil {
		return nil, err
	}
	return &Agent{m: m, pager: p, templates: t, proxy: NewNginx(m, "nginx-proxy", ProxyPort), static: NewNginx(m, "nginx-web", StaticPort),
		site: Link{Path: filepath.Join(m.Dir("etc"), "site")}, traffic: accessLogs(m.Dir("log"))}, nil
}

// Apply implements services.Agent: first what makes pages, then what shows
// them, then what is not needed any more.
func (a *Agent) Apply(ctx context.Context, c api.AgentConfig) error {
	a.applying.Lock()
	defer a.applying.Unlock()
	var conf Config
	if err := json.Unmarshal(c.Config, &conf); err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	roots, err := a.roots(c.Code, conf)
	if err != nil {
		return err
	}
	conf.Environment = c.Environment
	holds := func(part string) bool { return slices.Contains(c.Instance.Parts, part) }
	asked := slices.ContainsFunc(conf.Proxies, func(p string) bool { return p != a.m.Address() }) // by proxies elsewhere
	if holds(Backend) {
		if err := a.pager.Apply(ctx, conf, roots, asked || oneOf(conf.Backends, c.Instance.ID)); err != nil {
			return err
		}
	}
	webHere := asked || oneOf(conf.Webs, c.Instance.ID)
	if holds(Static) && webHere {
		if err := a.static.ServeTemplate(ctx, a.templates, "static.tmpl", func(f Frame) any { return Tier(f, conf.Proxies, roots) }); err != nil {
			return err
		}
	}
	if holds(Proxy) {
		if err := a.applyProxy(ctx, conf, c.Instance.ID, roots); err != nil {
			return err
		}
	}
	a.mu.Lock()
	a.now = state{parts: c.Instance.Parts, code: c.Code, roots: roots, conf: conf}
	a.mu.Unlock()
	if err := a.drop(ctx, holds, conf.Serve != "" && !webHere); err != nil {
		return err
	}
	if s, ok := a.pager.(Settler); ok && holds(Backend) {
		return s.Settle(ctx, conf, roots)
	}
	return nil
}

// drop ends what is not held any more, in the order in which requests pass.
// settled says that the proxy here does not need the web server any more.
func (a *Agent) drop(ctx context.Context, holds func(string) bool, settled bool) error {
	if !holds(Proxy) {
		if err := a.proxy.Stop(ctx); err != nil {
			return err
		}
	}
	if !holds(Static) || settled && !a.proxy.Draining() {
		if err := a.static.Stop(ctx); err != nil {
			return err
		}
	}
	if !holds(Backend) {
		return a.pager.Stop(ctx)
	}
	return nil
}

func only(peers []Peer, instance string) bool {
	return len(peers) == 1 && peers[0].Instance == instance
}

// oneOf reports whether an instance shares its part with others, so that
// requests come to it over the network.
func oneOf(peers []Peer, instance string) bool {
	return len(peers) > 1 && slices.ContainsFunc(peers, func(p Peer) bool { return p.Instance == instance })
}

// versionInPath finds a version in the name of its directory, as proxy.tmpl
// does, so that a proxy switches versions by its link alone.
var versionInPath = regexp.MustCompile(`/((?:code|git)-[A-Za-z0-9]+)[^/]*$`)

func (a *Agent) roots(code []api.CodeVersion, conf Config) ([]Root, error) {
	var roots []Root
	for _, v := range code {
		dir, err := a.m.Code(v.ID)
		if err != nil {
			return nil, err
		}
		if m := versionInPath.FindStringSubmatch(dir); m == nil || m[1] != v.ID {
			return nil, fmt.Errorf("directory %s is not named by its code version %s", dir, v.ID)
		}
		if r, ok := a.pager.(Rooter); ok {
			if dir, err = r.Root(conf, dir); err != nil {
				return nil, err
			}
		}
		if err := a.reachable(dir); err != nil {
			return nil, err
		}
		denied, err := a.denied.of(dir)
		if err != nil {
			return nil, err
		}
		site := dir
		if p, ok := a.pager.(Publisher); ok {
			if site, err = p.Publish(dir); err != nil {
				return nil, fmt.Errorf("version %s: %w", v.ID, err)
			}
		}
		roots = append(roots, Root{Version: v.ID, Dir: dir, Site: site, Denied: denied})
	}
	return roots, nil
}

// reachable says which directory keeps the account of nginx and PHP away from
// the code. Otherwise all that people see is 404.
func (a *Agent) reachable(dir string) error {
	name, uid, gid, drops := a.m.User()
	if !drops {
		return nil
	}
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		enter := os.FileMode(0o001)
		switch {
		case ok && int(st.Uid) == uid:
			enter = 0o100
		case ok && int(st.Gid) == gid:
			enter = 0o010
		}
		if info.Mode()&enter == 0 {
			return &api.Error{Code: api.CodeUnavailable, Op: "serve", Object: "directory " + dir, Message: "the account " + name + " may not enter it", Hint: "chmod o+x " + dir + ", or keep Nutshell's data elsewhere"}
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func (a *Agent) applyProxy(ctx context.Context, conf Config, self string, roots []Root) error {
	if conf.Serve == "" {
		return a.proxy.Keep(ctx)
	}
	i := slices.IndexFunc(roots, func(r Root) bool { return r.Version == conf.Serve })
	if i < 0 {
		return fmt.Errorf("code version %s is not on this instance", conf.Serve)
	}
	if a.site.Get() == "" {
		if err := a.site.Set(roots[i].Site); err != nil {
			return err
		}
	}
	pages, err := a.pager.Pages(conf)
	if err != nil {
		return err
	}
	err = a.proxy.ServeTemplate(ctx, a.templates, "proxy.tmpl", func(f Frame) any {
		f.Denied = deniedPattern(roots)
		d := proxyData{Frame: f, Pages: pages, Root: a.site.Path, BodyMax: conf.BodyMax, ReadTimeout: conf.ReadTimeout}
		if !only(conf.Webs, self) {
			d.Webs = addresses(conf.Webs)
		}
		if !only(conf.Backends, self) {
			d.Backends = addresses(conf.Backends)
		}
		return d
	})
	if err != nil {
		return err
	}
	return a.site.Set(roots[i].Site)
}

func (a *Agent) state() state {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now
}

// Observe implements services.Agent.
func (a *Agent) Observe(ctx context.Context) (any, error) {
	now := a.state()
	o := Observation{Parts: now.parts, Code: now.code}
	var problems []error
	if slices.Contains(now.parts, Proxy) {
		served := a.site.Get()
		for _, r := range now.roots {
			if r.Site == served {
				o.Serving = r.Version
			}
		}
		o.Draining = a.proxy.Draining()
		problems = append(problems, a.proxy.Answers(ctx))
	}
	if _, err := os.Stat(a.static.file()); err == nil {
		problems = append(problems, a.static.Answers(ctx))
	}
	if slices.Contains(now.parts, Backend) {
		seen, err := a.pager.Observe(ctx)
		o.Backend = seen
		problems = append(problems, err)
	}
	return o, errors.Join(problems...)
}

// Call implements services.Agent. "check" asks for a page of a version.
func (a *Agent) Call(ctx context.Context, method string, args json.RawMessage) (any, error) {
	if method != "check" {
		return nil, api.NotFoundf("web agents have no method %s", api.Shorten(method))
	}
	var version string
	if err := json.Unmarshal(args, &version); err != nil {
		return nil, api.Invalidf("check: %v", err)
	}
	now := a.state()
	for _, r := range now.roots {
		if r.Version == version {
			return nil, a.pager.Check(ctx, now.conf, r)
		}
	}
	return nil, api.NotFoundf("code version %s is not on this instance", api.Shorten(version))
}

// Close implements services.Agent: entry first, so that nothing is cut.
func (a *Agent) Close(ctx context.Context) error {
	return a.drop(ctx, func(string) bool { return false }, false)
}
