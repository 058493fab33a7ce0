package director

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// Handler is the API and the user interface, without a port.
func (d *Director) Handler() http.Handler { return d.http }

// Listening is a started director's port.
type Listening struct {
	d         *Director
	listeners []net.Listener
	git       []net.Listener
	find      net.PacketConn // may be nil
}

// Listen takes the ports, so that a caller knows they are taken before
// anything is started.
func (d *Director) Listen(ctx context.Context) (*Listening, error) {
	l := &Listening{d: d}
	port := strconv.Itoa(api.DirectorPort)
	for _, address := range d.c.Listen {
		n, err := listen(ctx, address)
		if err != nil {
			l.close()
			return nil, err
		}
		l.listeners = append(l.listeners, n)
		_, port, _ = net.SplitHostPort(n.Addr().String()) // an address that is listened on has a port
	}
	// Instances of local clouds reach us by an address of their own network.
	for _, p := range d.clouds {
		if p.broken != nil {
			continue
		}
		host, err := p.directorAddress(ctx)
		if err != nil {
			d.c.Log.Warn("cloud cannot reach the director", "cloud", p.name, "error", err)
			continue
		}
		if host == "" || l.covers(host) {
			continue
		}
		n, err := listen(ctx, net.JoinHostPort(host, port))
		if err != nil {
			d.c.Log.Warn("cloud cannot reach the director", "cloud", p.name, "error", err)
			continue
		}
		l.listeners = append(l.listeners, n)
	}
	var err error
	if l.git, err = d.listenGit(ctx); err != nil {
		l.close()
		return nil, err
	}
	if err := d.front.listen(ctx); err != nil {
		l.close()
		return nil, err
	}
	if len(l.listeners) == 0 {
		return nil, &api.Error{Code: api.CodeInvalid, Op: "listen", Message: "no address to listen on is configured", Fields: []string{"listen"}}
	}
	l.find = d.listenFind(ctx)
	d.mu.Lock()
	for _, n := range l.listeners {
		d.address = append(d.address, n.Addr().String())
	}
	d.mu.Unlock()
	// Whoever reads it may call at once: connections wait until we serve.
	if err := d.writeClientFile(ctx, l.Addresses()[0]); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	n, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &api.Error{Code: api.CodeConflict, Op: "listen", Object: address, Message: "another program has this port", Hint: "stop it, or choose another port by --listen", Err: err}
	}
	if err != nil {
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "listen", Object: address, Err: err}
	}
	return n, nil
}

// covers reports whether an address is listened on already.
func (l *Listening) covers(host string) bool {
	return slices.ContainsFunc(l.listeners, func(n net.Listener) bool {
		a, ok := n.Addr().(*net.TCPAddr)
		return ok && (a.IP.IsUnspecified() || a.IP.Equal(net.ParseIP(host)))
	})
}

func (l *Listening) close() {
	for _, n := range append(l.listeners, l.git...) {
		_ = n.Close()
	}
	if l.find != nil {
		_ = l.find.Close()
	}
}

// Addresses are the host:port pairs that are listened on.
func (l *Listening) Addresses() []string {
	var list []string
	for _, n := range l.listeners {
		list = append(list, n.Addr().String())
	}
	return list
}

// Serve answers until ctx ends. Instances go on running after it.
func (l *Listening) Serve(ctx context.Context) error {
	d := l.d
	config := d.ca.ServerTLS(d.hosts)
	g, ctx := errgroup.WithContext(ctx)
	context.AfterFunc(ctx, d.endWait)
	for _, n := range l.listeners {
		g.Go(func() error { return d.http.Serve(ctx, n, config, 5*time.Second) })
	}
	for _, n := range l.git {
		g.Go(func() error { return d.git.Serve(ctx, n, gitGrace) })
	}
	d.goWork(func(ctx context.Context) {
		if err := d.recoverPushes(ctx); err != nil && ctx.Err() == nil {
			d.c.Log.Error("pushes that were cut off not looked for", "error", err)
		}
	})
	g.Go(func() error { return d.front.serve(ctx) })
	if l.find != nil {
		d.goWork(func(ctx context.Context) { d.answerNodes(ctx, l.find) })
	}
	d.goWork(d.front.keep)
	d.goWork(func(ctx context.Context) { // so that the first list of many is as quick as later ones
		if _, err := d.store.ServicesJSON(ctx, store.Selection{}, nil); err != nil && ctx.Err() == nil {
			d.c.Log.Warn("services not read ahead", "error", err)
		}
	})
	d.goWork(d.measureEdge)
	d.goWork(d.keepTaking)
	d.goWork(func(ctx context.Context) {
		if err := d.adopt(ctx); err != nil {
			d.c.Log.Error("not all instances were started again, the sweep tries again", "error", err)
		}
		d.goWork(d.keepAccounts) // after what was found again: what does not run does not pay
		d.supervise(ctx)
	})
	d.c.Log.Info("director listens", "addresses", l.Addresses(), "installation", d.installation)
	return g.Wait()
}

// Serve takes the ports and answers until ctx ends.
func (d *Director) Serve(ctx context.Context) error {
	l, err := d.Listen(ctx)
	if err != nil {
		return err
	}
	return l.Serve(ctx)
}

// hosts are the names and addresses in our certificate.
func (d *Director) hosts() []string {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if name, err := os.Hostname(); err == nil && name != "" {
		hosts = append(hosts, name)
	}
	add := func(h string) {
		if h != "" && !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	for _, n := range d.c.Names {
		add(n)
	}
	d.mu.Lock()
	listen := slices.Clone(d.address)
	d.mu.Unlock()
	for _, a := range listen {
		host, _, err := net.SplitHostPort(a)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsUnspecified() {
			add(host)
			continue
		}
		own, err := net.InterfaceAddrs() // listening everywhere means being called by any of them
		if err != nil {
			continue
		}
		for _, i := range own {
			if n, ok := i.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
				add(n.IP.String())
			}
		}
	}
	return hosts
}

// Shutdown stops the instances of started applications in order and keeps
// what they hold, where their cloud can do that. Their goals stay, so that the
// next start finds everything as it was.
func (d *Director) Shutdown(ctx context.Context) error {
	d.mu.Lock()
	d.halted = true
	stops := make([]context.CancelCauseFunc, 0, len(d.running))
	for _, stop := range d.running {
		stops = append(stops, stop)
	}
	d.mu.Unlock()
	for _, stop := range stops {
		stop(errStopping)
	}
	d.finish() // operations that run here go on at the next start
	apps, err := d.store.StartedApplications(ctx)
	if err != nil {
		return err
	}
	var managers, others []store.Instance
	for _, a := range apps {
		rows, err := d.store.ApplicationInstances(ctx, a.ID)
		if err != nil {
			return err
		}
		m, o := splitManagers(rows)
		managers, others = append(managers, m...), append(others, o...)
	}
	const reason = "stopped with Nutshell"
	leave := func(context.Context, []store.Instance) error { return nil } // a cloud that cannot keep them runs them on
	err = errors.Join(d.halt(ctx, managers, reason, leave), d.halt(ctx, others, reason, leave))
	err = errors.Join(err, d.write(ctx, func(ctx context.Context, t *store.Tx) error { return d.markStopped(ctx, t, apps, reason) }))
	return errors.Join(err, d.closeClouds(ctx))
}

func (d *Director) markStopped(ctx context.Context, t *store.Tx, apps []store.Application, reason string) error {
	for _, a := range apps {
		if a.State == api.Running {
			if err := t.MoveApplication(ctx, &a, api.Adapting, reason); err != nil {
				return err
			}
		}
		services, err := t.Services(ctx, store.Selection{Application: a.ID})
		if err != nil {
			return err
		}
		for _, s := range services {
			if s.State != api.Running {
				continue
			}
			if err := t.MoveService(ctx, &s, api.Adapting, reason); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeClientFile lets the command line of the same account on this machine
// in, without signing in.
func (d *Director) writeClientFile(ctx context.Context, address string) error {
	if err := d.clientFile(ctx, address); err != nil {
		return fmt.Errorf("write client.yaml: %w", err)
	}
	return nil
}
