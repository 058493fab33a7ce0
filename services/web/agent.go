package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	Snippets     Snippets `json:"snippets"`
	// Environment is for the user's code; it comes beside the configuration.
	Environment []api.Variable `json:"-"`
}

// Observation is what an agent half tells.
type Observation struct {
	Parts    []string          `json:"parts"`
	Serving  string            `json:"serving,omitempty"`  // version that the proxy shows
	Code     []api.CodeVersion `json:"code"`               // versions that are unpacked
	Draining bool              `json:"draining,omitempty"` // the proxy finishes requests of its former configuration
	Busy     map[string]int    `json:"busy,omitempty"`     // requests under way at the proxy by what they use, see Seen
	Down     string            `json:"down,omitempty"`     // nodes that do not answer the proxy
	Backend  any               `json:"backend,omitempty"`
}

// Pager is the kind's own half of a backend: what makes pages.
type Pager interface {
	// Apply makes pages of all versions. With listen it answers proxies at
	// BackendPort, otherwise only the proxy of this instance. A node is asked for
	// /.nutshell/alive all the time: below 500 says that it is.
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
	traffic       map[string]*AccessLog // by part
	denied        deniedDirs
	watch         watch

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
		traffic: accessLogs(m.Dir("log")), watch: watch{m: m}}, nil
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
		if err := a.static.ServeTemplate(ctx, a.templates, "static.tmpl", State{Trust: conf.Proxies, Roots: roots}, func(f Frame) any { return TierData{f} }); err != nil {
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
		a.watch.set("", nil, nil) //nolint:contextcheck // it watches until it is told otherwise
		if err := a.proxy.Stop(ctx); err != nil {
			return err
		}
	}
	if !holds(Static) || settled && a.free(ctx) {
		if err := a.static.Stop(ctx); err != nil {
			return err
		}
	}
	if !holds(Backend) {
		return a.pager.Stop(ctx)
	}
	return nil
}

// free reports whether the proxy here asks no web server any more.
func (a *Agent) free(ctx context.Context) bool {
	seen, err := a.proxy.Seen(ctx)
	return err == nil && !a.proxy.Draining() && !slices.ContainsFunc(slices.Collect(maps.Keys(seen.Busy)), func(k string) bool { return strings.HasPrefix(k, "webs:") })
}

func only(peers []Peer, instance string) bool {
	return len(peers) == 1 && peers[0].Instance == instance
}

// oneOf reports whether an instance shares its part with others, so that
// requests come to it over the network.
func oneOf(peers []Peer, instance string) bool {
	return len(peers) > 1 && slices.ContainsFunc(peers, func(p Peer) bool { return p.Instance == instance })
}

func (a *Agent) roots(code []api.CodeVersion, conf Config) ([]Root, error) {
	var roots []Root
	for _, v := range code {
		dir, err := a.m.Code(v.ID)
		if err != nil {
			return nil, err
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

// Made fills in where the pages of versions are made on this instance.
func Made(p Pager, roots []Root) []Root {
	m, ok := p.(Maker)
	if !ok {
		return roots
	}
	made := slices.Clone(roots)
	for i := range made {
		made[i].Here = m.Here(made[i].Version)
	}
	return made
}

func (a *Agent) applyProxy(ctx context.Context, conf Config, self string, roots []Root) error {
	if conf.Serve == "" {
		return a.proxy.Keep(ctx)
	}
	if !slices.ContainsFunc(roots, func(r Root) bool { return r.Version == conf.Serve }) {
		return fmt.Errorf("code version %s is not on this instance", conf.Serve)
	}
	pages, err := a.pager.Pages(conf)
	if err != nil {
		return err
	}
	state := State{Version: conf.Serve, Roots: Made(a.pager, roots), Self: self, Sticky: pages.Sticky}
	if !only(conf.Webs, self) {
		state.Webs = conf.Webs
	}
	if pages.Local == "" || !only(conf.Backends, self) {
		state.Backends = conf.Backends
	}
	err = a.proxy.ServeTemplate(ctx, a.templates, "proxy.tmpl", state, func(f Frame) any {
		return proxyData{Frame: f, Pages: pages, BodyMax: conf.BodyMax, ReadTimeout: conf.ReadTimeout, Front: conf.TrustedFront, Snippets: conf.Snippets}
	})
	if err != nil {
		return conf.Snippets.blame(err)
	}
	a.watch.set(conf.Serve, a.proxy, state.nodes()) //nolint:contextcheck // it watches until it is told otherwise
	return nil
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
		seen, err := a.proxy.Seen(ctx)
		o.Serving, o.Busy, o.Down, o.Draining = seen.Version, seen.Busy, seen.Down, a.proxy.Draining()
		if err != nil {
			problems = append(problems, fmt.Errorf("nginx-proxy does not answer: %w", err))
		}
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

// Call implements services.Agent. "check" asks for a page of a version here,
// "reach" whether other nodes answer this one and know a version.
func (a *Agent) Call(ctx context.Context, method string, args json.RawMessage) (any, error) {
	switch method {
	case "check":
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
	case "reach":
		var r Reach
		if err := json.Unmarshal(args, &r); err != nil {
			return nil, api.Invalidf("reach: %v", err)
		}
		return nil, a.watch.reach(ctx, r)
	}
	return nil, api.NotFoundf("web agents have no method %s", api.Shorten(method))
}

// Close implements services.Agent: entry first, so that nothing is cut.
func (a *Agent) Close(ctx context.Context) error {
	return a.drop(ctx, func(string) bool { return false }, false)
}
