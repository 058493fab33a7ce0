package mysql

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"nutshell/roles/api"
	"nutshell/services"
)

// Observe implements services.Manager. It also heals: a cluster without quorum
// is begun again when that is safe, and what nodes must know is told to them.
func (m *manager) Observe(ctx context.Context) (services.Health, error) {
	instances := m.host.Instances()
	m.mu.Lock()
	leaving := m.draining
	m.mu.Unlock()
	l := services.Layout{}
	for _, i := range instances {
		if slices.Contains(leaving, i.ID) {
			l.Leave = append(l.Leave, i)
		} else {
			l.Have = append(l.Have, i)
		}
	}
	c, err := m.cluster(l)
	if err != nil {
		return services.Health{}, err
	}
	all := m.look(ctx, c.nodes)
	problem := ""
	if m.busy.TryLock() {
		err := m.mend(ctx, c, all)
		m.busy.Unlock()
		if err != nil {
			problem = err.Error()
		}
	}
	h := m.health(ctx, c, all)
	if problem != "" && h.Ready {
		problem = strings.TrimPrefix(h.Problem+"; "+problem, "; ")
	}
	if problem != "" {
		h.Problem = problem
	}
	m.warn(h.Problem)
	return h, nil
}

func (m *manager) mend(ctx context.Context, c cluster, all []seen) error {
	if len(c.nodes) == 0 {
		return nil
	}
	if err := m.heal(ctx, c, all); err != nil {
		return err
	}
	return m.tidy(ctx, c, all)
}

// health sums up. The service is ready while a node takes writes; what is not
// as it should be beside that is said, too.
func (m *manager) health(ctx context.Context, c cluster, all []seen) services.Health {
	var notes []string
	fit := 0
	for _, s := range all {
		switch {
		case s.Error != "":
			notes = append(notes, "instance "+s.ID+" does not answer")
		case s.State.Problem != "":
			notes = append(notes, "node "+s.ID+": "+s.State.Problem)
		case !s.fit():
			notes = append(notes, fmt.Sprintf("node %s is not fit: %s", s.ID, strings.ToLower(s.State.State)))
		}
		if s.fit() {
			fit++
		}
		if p := s.State.Figures.Paused; p > 0.1 {
			notes = append(notes, "node "+s.ID+" sees writes wait for slow nodes for more than 10 % of the time")
		}
	}
	writer := m.chosen(all, nil)
	h := services.Health{Ready: fit > 0 && writer != ""}
	for _, g := range c.glbs {
		o, err := m.ask(ctx, g.ID)
		switch {
		case err != nil || o.Balancer == nil || !o.Balancer.Running:
			h.Ready = false
			notes = append(notes, "balancer "+g.ID+" does not run")
		case !slices.Contains(slices.Collect(maps.Values(o.Balancer.Up)), true):
			h.Ready = false
			notes = append(notes, "balancer "+g.ID+" finds no fit node")
		case o.Balancer.Writer != "" && c.s.Routing != spread:
			writer = m.wrote(o.Balancer.Writer, all)
		}
	}
	if len(c.nodes)%2 == 0 && len(c.glbs) == 0 {
		notes = append(notes, fmt.Sprintf("with %d nodes the failure of half of them stops all until the manager has seen every volume; an odd number, or a balancer that votes, is safer", len(c.nodes)))
	}
	h.Problem = strings.Join(notes, "; ")
	if h.Ready {
		m.offer(c, writer)
		for _, host := range m.entries(c, writer) {
			h.URLs = append(h.URLs, "mysql://"+net.JoinHostPort(host, strconv.Itoa(sqlPort)))
		}
	}
	return h
}

// wrote takes over the writer that a balancer has chosen.
func (m *manager) wrote(id string, all []seen) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.ContainsFunc(all, func(s seen) bool { return s.ID == id && s.fit() }) {
		m.writer = id
	}
	return m.writer
}

// entries are the addresses by which clients come in.
func (m *manager) entries(c cluster, writer string) []string {
	var list []string
	for _, g := range c.glbs {
		list = append(list, g.Address)
	}
	if len(list) == 0 {
		list = append(list, find(c.nodes, writer).Address)
	}
	return list
}

// warn logs what is not as it should be, once for each change.
func (m *manager) warn(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if text != m.warned && text != "" {
		m.host.Log().Warn("not all is well", "problem", text)
	}
	m.warned = text
}

// offer sets what siblings get.
func (m *manager) offer(c cluster, writer string) {
	d := m.host.Service()
	host := m.entries(c, writer)[0]
	if host == "" {
		return
	}
	readHost, portOfReads := host, sqlPort
	if c.s.Routing == split {
		if len(c.glbs) > 0 {
			portOfReads = readPort
		} else if i := slices.IndexFunc(c.nodes, func(n api.Instance) bool { return n.ID != writer }); i >= 0 {
			readHost = c.nodes[i].Address
		}
	}
	password := d.Secrets[secretPassword]
	u := url.URL{Scheme: "mysql", User: url.UserPassword("mysqldb", password), Host: net.JoinHostPort(host, strconv.Itoa(sqlPort)), Path: "/" + c.s.Database}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.offers = map[string]string{"host": host, "ip": host, "port": strconv.Itoa(sqlPort), "user": "mysqldb", "password": password, "database": c.s.Database,
		"url": u.String(), "read_host": readHost, "read_port": strconv.Itoa(portOfReads)}
}

// Offers implements services.Offerer.
func (m *manager) Offers() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.offers)
}
