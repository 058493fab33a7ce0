package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"

	"nutshell/roles/api"
	"nutshell/services"
)

// Manager is the manager half of kinds that host web applications, all but
// Act. Terms tells what a service's settings mean for proxies.
type Manager struct {
	Host  services.Host
	Terms func(settings json.RawMessage) (Terms, error)
	Apart bool // each version has processes of its own, which end when visitors have left it
}

// Terms are what proxies need to know of a service's settings.
type Terms struct {
	BodyMax     string // bytes of the largest request
	ReadTimeout int    // seconds that they wait for a page
	Snippets    Snippets
}

// Plan implements services.Manager.
func (m *Manager) Plan(have []api.Instance, want map[string]int, prefer []string) (services.Layout, error) {
	return Plan(have, want, prefer)
}

// Converge implements services.Manager. New nodes and the new version are
// there and healthy before proxies use them, and nothing goes before proxies
// have let go of it. An error before the switch leaves all as it was.
func (m *Manager) Converge(ctx context.Context, l services.Layout) error {
	c, err := m.begin(ctx, l)
	if err != nil {
		return err
	}
	m.Host.Step("prepare web and backend nodes")
	if err := c.each(ctx, l.Have, c.prepare); err != nil {
		return err
	}
	if !c.serving[c.code[0].ID] {
		m.Host.Step("check version " + c.code[0].ID)
		if err := c.check(ctx); err != nil {
			return err
		}
	}
	if err := c.reach(ctx); err != nil {
		return err
	}
	m.Host.Step("switch proxies")
	if err := c.switchProxies(ctx); err != nil {
		return err
	}
	if c.drops() {
		m.Host.Step("finish requests under way")
		c.drain(ctx)
	}
	m.Host.Step("settle")
	return c.each(ctx, l.Have, c.settle)
}

func (m *Manager) begin(ctx context.Context, l services.Layout) (*change, error) {
	d := m.Host.Service()
	if d.Code == nil {
		return nil, &api.Error{Code: api.CodeConflict, Op: "start", Object: "service " + d.Service.Name, Message: "it has no code version", Hint: "upload code and activate it"}
	}
	c := &change{m: m, l: l, conf: Config{Settings: d.Service.Settings, TrustedFront: d.Front}, serving: map[string]bool{}, seen: map[string]Observation{}, sent: map[string]string{}}
	terms, err := m.Terms(d.Service.Settings)
	if err != nil {
		return nil, err
	}
	c.conf.BodyMax, c.conf.ReadTimeout, c.conf.Snippets = terms.BodyMax, terms.ReadTimeout, terms.Snippets
	for _, i := range append(slices.Clone(l.Have), l.Leave...) {
		o, err := m.observe(ctx, i.ID)
		if err != nil && !slices.ContainsFunc(l.Leave, func(o api.Instance) bool { return o.ID == i.ID }) {
			return nil, err
		}
		c.seen[i.ID] = o
		if slices.Contains(i.Parts, Proxy) || slices.Contains(o.Parts, Proxy) {
			c.conf.Proxies = append(c.conf.Proxies, i.Address)
		}
		if o.Serving != "" {
			c.serving[o.Serving] = true
		}
	}
	for _, i := range l.Have {
		if slices.Contains(i.Parts, Static) {
			c.conf.Webs = append(c.conf.Webs, m.peer(i, Static, StaticPort))
		}
		if slices.Contains(i.Parts, Backend) {
			c.conf.Backends = append(c.conf.Backends, m.peer(i, Backend, BackendPort))
		}
	}
	for _, i := range append(slices.Clone(l.Have), l.Leave...) {
		if slices.Contains(c.seen[i.ID].Parts, Backend) && !slices.ContainsFunc(c.conf.Backends, func(p Peer) bool { return p.Instance == i.ID }) {
			c.conf.Former = append(c.conf.Former, m.peer(i, Backend, BackendPort))
		}
	}
	c.code = []api.CodeVersion{*d.Code}
	if d.Previous != nil && d.Previous.ID != d.Code.ID {
		c.code = append(c.code, *d.Previous)
	}
	c.conf.Live = []string{d.Code.ID}
	for v := range c.serving {
		if v != d.Code.ID {
			c.conf.Live = append(c.conf.Live, v)
		}
	}
	slices.Sort(c.conf.Live[1:])
	c.keep = slices.Clone(c.code)
	for _, o := range c.seen {
		for _, v := range o.Code {
			if c.serving[v.ID] && !slices.ContainsFunc(c.keep, func(k api.CodeVersion) bool { return k.ID == v.ID }) {
				c.keep = append(c.keep, v)
			}
		}
	}
	return c, nil
}

func (m *Manager) peer(i api.Instance, part string, port int) Peer {
	weight := i.Weights[part]
	if weight == 0 {
		weight = DefaultWeight
	}
	return Peer{Instance: i.ID, Address: i.Address, Port: m.Host.Port(i.ID, port), Weight: weight}
}

func (m *Manager) observe(ctx context.Context, instance string) (Observation, error) {
	var o Observation
	s, err := m.Host.Status(ctx, instance)
	if err != nil {
		return o, fmt.Errorf("ask instance %s: %w", instance, err)
	}
	if len(s.Kind) > 0 {
		if err := json.Unmarshal(s.Kind, &o); err != nil {
			return o, fmt.Errorf("instance %s: observation: %w", instance, err)
		}
	}
	return o, nil
}

// Drain implements services.Manager: what leaves finishes its requests. An
// instance that does not answer has none.
func (m *Manager) Drain(ctx context.Context, leaving []api.Instance) error {
	var conf Config // who takes over what only leaving backends have
	for _, i := range m.Host.Instances() {
		if slices.Contains(i.Parts, Backend) && !slices.ContainsFunc(leaving, func(l api.Instance) bool { return l.ID == i.ID }) {
			conf.Backends = append(conf.Backends, m.peer(i, Backend, BackendPort))
		}
	}
	for _, i := range leaving {
		if err := m.Host.Apply(ctx, i.ID, []string{}, nil, conf); err != nil {
			m.Host.Log().Warn("leaving instance could not be drained", "instance", i.ID, "error", err)
		}
	}
	return nil
}

// Observe implements services.Manager.
func (m *Manager) Observe(ctx context.Context) (services.Health, error) {
	var h services.Health
	versions, holders := map[string]bool{}, map[string]int{}
	for _, i := range m.Host.Instances() {
		if len(i.Parts) == 0 {
			continue // not told yet, or drained
		}
		s, err := m.Host.Status(ctx, i.ID)
		if err != nil {
			return h, fmt.Errorf("ask instance %s: %w", i.ID, err)
		}
		var o Observation
		if len(s.Kind) > 0 {
			if err := json.Unmarshal(s.Kind, &o); err != nil {
				return h, fmt.Errorf("instance %s: observation: %w", i.ID, err)
			}
		}
		if !s.Ready && h.Problem == "" {
			h.Problem = fmt.Sprintf("instance %s: %s", i.ID, s.Problem)
		}
		for _, p := range o.Parts {
			holders[p]++
		}
		if slices.Contains(o.Parts, Proxy) {
			versions[o.Serving] = true
			h.Serving = o.Serving
			h.URLs = append(h.URLs, siteURL(i.Address, m.Host.Port(i.ID, ProxyPort)))
		}
	}
	switch {
	case len(versions) > 1:
		h.Serving = ""
		h.Problem = "proxies show different code versions"
	case h.Problem == "":
		h.Problem = missing(m.Host.Service().Service.Parts, holders)
	}
	h.Ready = h.Problem == ""
	return h, nil
}

// missing says which part has fewer holders than wanted.
func missing(want, holders map[string]int) string {
	for _, p := range []string{Proxy, Static, Backend} {
		if holders[p] < want[p] {
			return fmt.Sprintf("%d of %d %s nodes", holders[p], want[p], p)
		}
	}
	return ""
}

func siteURL(address string, port int) string {
	if port == 80 {
		return "http://" + address + "/"
	}
	return "http://" + net.JoinHostPort(address, strconv.Itoa(port)) + "/"
}

func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, x := range b {
		if !slices.Contains(all, x) {
			all = append(all, x)
		}
	}
	return ordered(all)
}

// ordered sorts parts in the order in which requests pass them.
func ordered(parts []string) []string {
	order := []string{Proxy, Static, Backend}
	return slices.SortedFunc(slices.Values(parts), func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
}

func without(list []string, x string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == x })
}
