package mysql

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

const (
	proxyDaemon   = "haproxy"
	arbiterDaemon = "garbd"
)

// haproxy is the balancer of an instance. Nodes have slots in it, so that they
// come and go by words to the running balancer and no client is cut off.
type haproxy struct {
	m   services.Machine
	t   *template.Template
	run string

	mu sync.Mutex
	c  config
}

// slot is one server of the balancer's configuration.
type slot struct {
	Name, Address string
	Backup, Off   bool
}

type balancerData struct {
	Socket, Address                               string
	MaxConn, MaxServer                            int
	HealthPort, PeerPort, Port, OldPort, ReadPort int
	Spread, Split                                 bool
	Peers                                         []member
	Slots                                         []slot
}

func newBalancer(m services.Machine, t *template.Template) *haproxy {
	return &haproxy{m: m, t: t, run: filepath.Join(m.Dir("sockets"), "glb")}
}

func (h *haproxy) etc() string    { return filepath.Join(h.m.Dir("etc"), "glb") }
func (h *haproxy) file() string   { return filepath.Join(h.etc(), "haproxy.cfg") }
func (h *haproxy) socket() string { return filepath.Join(h.run, "haproxy.sock") }

// slots are the servers of a configuration: nodes that it knows, and free ones.
func (c config) slots() []slot {
	list := make([]slot, maxPlaces)
	for n := range list {
		list[n] = slot{Name: "s" + strconv.Itoa(n+1), Address: "127.0.0.1", Backup: n > 0, Off: true}
	}
	for _, m := range c.Members {
		if n := c.Balancer.Slots[m.ID]; n >= 1 && n <= maxPlaces {
			list[n-1].Address, list[n-1].Off = m.Address, false
		}
	}
	return list
}

func (h *haproxy) render(c config) ([]byte, error) {
	var b bytes.Buffer
	err := h.t.ExecuteTemplate(&b, "haproxy.cfg.tmpl", balancerData{Socket: h.socket(), Address: h.m.Address(), MaxConn: 8000, MaxServer: max(c.Settings.MaxConnections-5, 5),
		HealthPort: healthPort, PeerPort: peerPort, Port: sqlPort, OldPort: oldPort, ReadPort: readPort, Spread: c.Settings.Routing == spread, Split: c.Settings.Routing == split,
		Peers: c.Balancer.Peers, Slots: c.slots()})
	return b.Bytes(), err
}

// apply makes the balancer what c says. Nodes that came or went are told to the
// one that runs; other changes start a new one beside it, which takes over the
// sockets, and the old one ends with its last client.
func (h *haproxy) apply(ctx context.Context, c config) error {
	if err := h.prepare(); err != nil {
		return err
	}
	text, err := h.render(c)
	if err != nil {
		return err
	}
	bare := c
	bare.Members = nil
	fixed, err := h.render(bare)
	if err != nil {
		return err
	}
	program, err := h.m.Program("haproxy", "haproxy")
	if err != nil {
		return err
	}
	was, _ := os.ReadFile(h.file() + ".fixed") // none: it was never started
	if err := h.check(ctx, program, h.self(c), text); err != nil {
		return err
	}
	runs := h.running()
	p := services.Process{Name: proxyDaemon, Argv: []string{program, "-W", "-db", "-f", h.file(), "-L", h.self(c)}, User: true, Log: "haproxy.log", Describe: "messages of the balancer",
		Grace: 5, Ready: func(ctx context.Context) error { _, err := h.say(ctx, "show info"); return err }}
	short, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := h.m.Supervisor().Ensure(short, p); err != nil {
		return err
	}
	if runs && !bytes.Equal(was, fixed) {
		if err := h.m.Supervisor().Signal(proxyDaemon, "USR2"); err != nil {
			return err
		}
	}
	if err := writeFile(h.file()+".fixed", fixed, 0o644); err != nil {
		return err
	}
	h.mu.Lock()
	h.c = c
	h.mu.Unlock()
	if err := h.settle(short, c); err != nil {
		return err
	}
	return h.arbiter(ctx, c)
}

func (h *haproxy) self(c config) string {
	for _, p := range c.Balancer.Peers {
		if p.Address == h.m.Address() {
			return p.ID
		}
	}
	return h.m.Address()
}

func (h *haproxy) running() bool {
	for _, p := range h.m.Supervisor().Processes() {
		if p.Name == proxyDaemon {
			return p.State == "running"
		}
	}
	return false
}

func (h *haproxy) prepare() error {
	_, uid, gid, drops := h.m.User()
	if err := errors.Join(os.MkdirAll(h.etc(), 0o755), os.MkdirAll(h.run, 0o711)); err != nil { // the balancer's account reads there
		return err
	}
	if drops {
		return os.Lchown(h.run, uid, gid)
	}
	return nil
}

// check writes the configuration when the program takes it.
func (h *haproxy) check(ctx context.Context, program, self string, text []byte) error {
	if now, err := os.ReadFile(h.file()); err == nil && bytes.Equal(now, text) {
		return nil
	}
	path := h.file() + ".new"
	if err := writeFile(path, text, 0o644); err != nil {
		return err
	}
	exit, err := h.m.Supervisor().Run(ctx, services.Process{Name: "haproxy-check", Argv: []string{program, "-c", "-q", "-f", path, "-L", self}, User: true, Log: "haproxy.log"})
	if err == nil && exit != 0 {
		err = &api.Error{Code: api.CodeInternal, Op: "configure", Object: "balancer", Message: "haproxy does not take its configuration", Hint: "see haproxy.log of the instance"}
	}
	if err != nil {
		return err
	}
	return os.Rename(path, h.file())
}

// say gives the running balancer a command and returns its answer.
func (h *haproxy) say(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", h.socket())
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, command+"\n"); err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(c, 1<<20))
	return strings.TrimSpace(string(b)), err
}

// order gives a command that has no answer when it is done.
func (h *haproxy) order(ctx context.Context, command string) error {
	answer, err := h.say(ctx, command)
	if err == nil && answer != "" && !strings.Contains(answer, "no need to change") && !strings.Contains(answer, "changed from") {
		err = errors.New(answer)
	}
	if err != nil {
		return fmt.Errorf("balancer: %s: %w", command, err)
	}
	return nil
}

// part cuts off the clients that a node still has. It leaves the others, and
// for a while answers each statement with an error, where a new connection
// would be to a node that stays.
func (h *haproxy) part(ctx context.Context, c config, node string) error {
	for _, backend := range []string{"writer", "any"} {
		if err := h.order(ctx, fmt.Sprintf("shutdown sessions server %s/s%d", backend, c.Balancer.Slots[node])); err != nil {
			return err
		}
	}
	return nil
}

// settle makes the slots of the running balancer as they should be.
func (h *haproxy) settle(ctx context.Context, c config) error {
	leaving := map[string]bool{}
	for _, id := range c.Balancer.Drain {
		leaving["s"+strconv.Itoa(c.Balancer.Slots[id])] = true
	}
	rows, err := h.rows(ctx)
	if err != nil {
		return err
	}
	chosen := h.chosenSlot(ctx)
	for _, r := range rows {
		var s slot
		for _, x := range c.slots() {
			if x.Name == r.server {
				s = x
			}
		}
		at := r.backend + "/" + r.server
		switch {
		case s.Off && !strings.HasPrefix(r.status, "MAINT"):
			err = h.order(ctx, "set server "+at+" state maint")
		case s.Off:
		default:
			if r.address != s.Address+":"+strconv.Itoa(sqlPort) {
				err = h.order(ctx, fmt.Sprintf("set server %s addr %s port %d", at, s.Address, sqlPort))
			}
			if err != nil {
				break
			}
			switch drains := strings.HasPrefix(r.status, "DRAIN"); {
			case leaving[s.Name] && !drains:
				err = h.order(ctx, "set server "+at+" state drain")
			case !leaving[s.Name] && (drains || strings.HasPrefix(r.status, "MAINT")):
				err = h.order(ctx, "set server "+at+" state ready")
			}
		}
		if err != nil {
			return err
		}
	}
	if leaving[chosen] { // a drained server keeps those that stick to it
		_, err = h.say(ctx, "clear table chosen")
	}
	return err
}

// row is one server as the balancer sees it.
type row struct {
	backend, server, status, address string
	clients                          int
}

func (h *haproxy) rows(ctx context.Context) ([]row, error) {
	text, err := h.say(ctx, "show stat -1 4 -1") // servers only
	if err != nil {
		return nil, err
	}
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "# ")))
	r.FieldsPerRecord = -1
	lines, err := r.ReadAll()
	if err != nil || len(lines) == 0 {
		return nil, fmt.Errorf("balancer: show stat: %w", err)
	}
	column := map[string]int{}
	for n, name := range lines[0] {
		column[name] = n
	}
	var list []row
	for _, l := range lines[1:] {
		get := func(name string) string {
			if n, ok := column[name]; ok && n < len(l) {
				return l[n]
			}
			return ""
		}
		clients, _ := strconv.Atoi(get("scur")) // empty: none
		list = append(list, row{get("pxname"), get("svname"), get("status"), get("addr"), clients})
	}
	return list, nil
}

// chosenSlot is the server that takes writes; empty: none has been chosen.
func (h *haproxy) chosenSlot(ctx context.Context) string {
	text, err := h.say(ctx, "show table chosen")
	if err != nil {
		return ""
	}
	_, rest, ok := strings.Cut(text, "server_id=")
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, " ")
	return "s" + strings.TrimSpace(id)
}

// observe tells what the balancer sees.
func (h *haproxy) observe(ctx context.Context) *balancerState {
	h.mu.Lock()
	c := h.c
	h.mu.Unlock()
	b := &balancerState{Up: map[string]bool{}, Clients: map[string]int{}}
	if c.Balancer == nil {
		return b
	}
	b.Slots = c.Balancer.Slots
	rows, err := h.rows(ctx)
	if err != nil {
		return b
	}
	b.Running = true
	nodes := map[string]string{}
	for id, n := range c.Balancer.Slots {
		nodes["s"+strconv.Itoa(n)] = id
	}
	for _, r := range rows {
		if id := nodes[r.server]; id != "" {
			b.Up[id] = b.Up[id] || strings.HasPrefix(r.status, "UP")
			b.Clients[id] += r.clients
		}
	}
	b.Writer = nodes[h.chosenSlot(ctx)]
	for _, p := range h.m.Supervisor().Processes() {
		b.Arbiter = b.Arbiter || p.Name == arbiterDaemon && p.State == "running"
	}
	return b
}

func (h *haproxy) measure(ctx context.Context) ([]api.Sample, error) {
	b := h.observe(ctx)
	clients, up := 0, 0
	for id, ok := range b.Up {
		clients += b.Clients[id]
		if ok {
			up++
		}
	}
	return []api.Sample{{Name: "nutshell_mysql_balancer_clients", Value: float64(clients)}, {Name: "nutshell_mysql_balancer_nodes", Value: float64(up)}}, nil
}
