package mysql

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"text/template"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// agent is the agent half of one instance, which holds data or balances.
type agent struct {
	m        services.Machine
	server   *server
	balancer *haproxy

	busy sync.Mutex // one order at a time

	mu  sync.Mutex
	c   config
	set bool
}

func newAgent(m services.Machine) services.Agent {
	memory, _ := strconv.ParseInt(os.Getenv("NUTSHELL_MEMORY"), 10, 64) // absent: not limited
	t, err := template.ParseFS(files, "*.tmpl")
	if err != nil {
		panic("mysql: " + err.Error()) // embedded templates do not parse: a bug in the build
	}
	return &agent{m: m, server: newServer(m, t, memory), balancer: newBalancer(m, t)}
}

func (a *agent) told() config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.c
}

// Apply implements services.Agent.
func (a *agent) Apply(ctx context.Context, c api.AgentConfig) error {
	a.busy.Lock()
	defer a.busy.Unlock()
	var told config
	if err := json.Unmarshal(c.Config, &told); err != nil {
		return fmt.Errorf("mysql: configuration: %w", err)
	}
	if told.Node != nil {
		if err := a.server.apply(ctx, told, c.Volumes); err != nil {
			return err
		}
		if err := a.ensureHealth(ctx, told); err != nil {
			return err
		}
	}
	if told.Balancer != nil {
		if err := a.balancer.apply(ctx, told); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.c, a.set = told, true
	return nil
}

// Observe implements services.Agent.
func (a *agent) Observe(ctx context.Context) (any, error) {
	a.mu.Lock()
	o := observation{Set: a.set}
	c := a.c
	a.mu.Unlock()
	if c.Node != nil {
		o.Node = a.server.observe(ctx)
		if a.busy.TryLock() {
			a.server.guard(ctx, o.Node)
			a.busy.Unlock()
		}
	}
	if c.Balancer != nil {
		o.Balancer = a.balancer.observe(ctx)
	}
	return o, nil
}

// Call implements services.Agent.
func (a *agent) Call(ctx context.Context, method string, raw json.RawMessage) (any, error) {
	c := a.told()
	if method == "part" && c.Balancer != nil {
		var node string
		if err := json.Unmarshal(raw, &node); err != nil {
			return nil, api.Invalidf("part: %v", err)
		}
		return nil, a.balancer.part(ctx, c, node)
	}
	if c.Node == nil {
		return nil, api.Conflictf("instance %s holds no data", a.m.Address())
	}
	switch method {
	case "recover", "begin", "leave", "promote", "remember", "settle", "restore":
		a.busy.Lock()
		defer a.busy.Unlock()
		return a.command(ctx, method, raw)
	}
	var o order
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &o); err != nil {
			return nil, api.Invalidf("%s: %v", method, err)
		}
	}
	s := a.server
	switch method {
	case "create_database":
		return nil, s.createDatabase(ctx, o)
	case "delete_database":
		return nil, s.deleteDatabase(ctx, o)
	case "list_databases":
		return s.listDatabases(ctx)
	case "create_user":
		return nil, s.createUser(ctx, o)
	case "delete_user":
		return nil, s.deleteUser(ctx, o)
	case "set_user_password":
		return nil, s.setUserPassword(ctx, o)
	case "list_users":
		return s.listUsers(ctx)
	}
	return nil, api.NotFoundf("a database node has no method %s", api.Shorten(method))
}

// leaveTime is how long a server may take to end in order; then it is killed,
// which loses nothing that is committed.
const leaveTime = 20 * time.Second

// command is what changes the node's place in the cluster.
func (a *agent) command(ctx context.Context, method string, raw json.RawMessage) (any, error) {
	s := a.server
	switch method {
	case "recover":
		return s.recover(ctx)
	case "begin":
		var args beginArgs
		if err := json.Unmarshal(raw, &args); err != nil {
			return nil, api.Invalidf("begin: %v", err)
		}
		return nil, s.begin(ctx, args)
	case "leave":
		if err := s.setSolo(false); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, leaveTime)
		defer cancel()
		return nil, s.stop(ctx)
	case "promote":
		return nil, s.promote(ctx)
	case "remember":
		var m membership
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, api.Invalidf("remember: %v", err)
		}
		return nil, s.remember(m)
	case "restore":
		var args restArgs
		if err := json.Unmarshal(raw, &args); err != nil {
			return nil, api.Invalidf("restore: %v", err)
		}
		return s.rest(ctx, args)
	}
	return nil, s.settle(ctx)
}

// Close implements services.Agent.
func (a *agent) Close(context.Context) error { return nil }
