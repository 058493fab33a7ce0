package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/cloud"
	"nutshell/cloud/wire"
	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
)

// Times of a node at work.
const (
	beatEvery   = 3 * time.Second
	longestBeat = 10 * time.Second // between tries while the director is away
	checkEvery  = time.Minute      // the driver is asked whether it works
	relinkEvery = 30 * time.Second // after a link that failed
	renewEvery  = time.Minute      // after a renewal that failed
	searchAfter = 5                // failed tries: it may have another address
	awayAfter   = 3                // failed tries: people are told
	removedMost = 3                // times that a director says so before it is believed
	leaveTime   = 2 * time.Minute
)

// worker is a node that has joined.
type worker struct {
	*node
	driver   cloud.Driver
	address  string // host:port of the director in use
	director atomic.Pointer[rpc.Client]

	problem  string // of the driver or the links
	checked  time.Time
	linked   *api.NodeOrders // nil: to be done again
	linkedBy string          // the director's address then
	relink   time.Time
	renew    time.Time // not before
	misses   int
	removed  int
}

// work serves the director until ctx ends or it removes us.
func (n *node) work(ctx context.Context) error {
	id := n.creds.Identity()
	driver, err := n.c.Driver(id.Installation)
	if err != nil {
		return err
	}
	n.contacts.close()
	n.contacts = newContacts(n.creds.RootSHA256())
	w := &worker{node: n, driver: driver}
	w.choose(w.directors()[0])
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	served, err := w.serve(ctx)
	if err != nil {
		return err
	}
	go func() {
		if err := <-served; err != nil {
			stop(err)
		}
	}()
	n.show(Status{State: joined, ID: id.Name, Name: n.state.Orders.Name, Director: w.address, CASHA256: n.creds.RootSHA256()})
	err = w.beats(ctx)
	if errors.Is(err, errRemoved) {
		w.endAll(ctx)
		n.contacts.close()
		n.contacts = newContacts(n.c.CASHA256)
		return err
	}
	if c, ok := driver.(cloud.Closer); ok { // it keeps what instances need
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
		defer cancel()
		if e := c.Close(end); e != nil {
			n.c.Log.Warn("cloud not closed", "error", e)
		}
	}
	return context.Cause(ctx)
}

// serve answers the director on our port, and nobody else.
func (w *worker) serve(ctx context.Context) (<-chan error, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", w.c.Listen)
	if err != nil {
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "listen", Object: w.c.Listen, Err: err, Hint: "stop what has this port, or choose another by node.listen"}
	}
	_, port, _ := net.SplitHostPort(l.Addr().String()) // a listener's address has a port
	w.fixed.Port, _ = strconv.Atoi(port)
	s := &http.Server{Handler: w.handler(), TLSConfig: pki.ServerTLS(w.creds, pki.Director), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	done := make(chan error, 1)
	go func() { done <- rpc.Serve(ctx, s, func() error { return s.ServeTLS(l, "", "") }) }()
	return done, nil
}

// handler is what the director may ask. Who may ask is settled by TLS before
// anything gets here.
func (w *worker) handler() http.Handler {
	m := http.NewServeMux()
	m.Handle("GET /v1/health", rpc.Handle(5*time.Second, func(context.Context, *http.Request, struct{}) (map[string]string, error) {
		return map[string]string{"status": "ok"}, nil
	}))
	var layers wire.Layers
	if w.c.Layers != nil {
		layers = w.layer
	}
	m.Handle(wire.Prefix, wire.Handler(w.driver, layers))
	return m
}

// layer finds a layer here, or gets it from the director.
func (w *worker) layer(ctx context.Context, digest string) (string, error) {
	if dir, err := w.c.Layers.Find(digest); err == nil {
		return dir, nil
	}
	began := w.c.Now()
	resp, err := w.director.Load().Stream(ctx, http.MethodGet, "/api/v1/node/layers/"+digest, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	dir, err := w.c.Layers.Import(ctx, digest, resp.Body)
	switch {
	case err == nil:
		w.c.Log.Info("layer fetched", "digest", digest, "took", w.c.Now().Sub(began))
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		err = w.full(err)
	}
	return dir, err
}

// full says what to do about a disk that has no room for a layer. What had been
// unpacked is gone again.
func (w *worker) full(err error) error {
	total, free := disk(w.c.Disk)
	return fmt.Errorf("%w: it does not fit on the disk of this machine, which has %d of %d MiB free without it: give it a larger one, or make room in %s: %w", cloud.ErrQuota, free>>20, total>>20, w.c.Disk, err)
}

// directors are those to try, where one answered last first.
func (w *worker) directors() []string {
	list := slices.Clone(w.state.Directors)
	for _, address := range addresses(w.c.Directors) {
		if !slices.Contains(list, address) {
			list = append(list, address)
		}
	}
	if len(list) == 0 {
		list = append(list, net.JoinHostPort("localhost", strconv.Itoa(api.DirectorPort))) // the state was lost; the network is asked soon
	}
	return list
}

func (w *worker) choose(address string) {
	if w.address == address {
		return
	}
	if old := w.director.Load(); old != nil {
		old.HTTP.CloseIdleConnections()
	}
	w.address = address
	w.director.Store(rpc.NewClient("https://"+address, pki.ClientTLS(w.creds, pki.Director)))
}

// beats tells the director every few seconds how this machine is, and does
// what its answer says.
func (w *worker) beats(ctx context.Context) error {
	w.link(ctx, w.state.Orders) // by what was known before: the director may be away
	wait := time.Duration(0)
	for {
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		w.c.Turn()
		w.check(ctx)
		orders, err := w.beat(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			w.heard(ctx, orders)
			wait = beatEvery
			continue
		case w.isRemoved(err):
			if w.removed++; w.removed >= removedMost {
				return errRemoved
			}
			wait = time.Second
			continue
		}
		wait = w.missed(ctx, err)
	}
}

// isRemoved reports whether the director says that it does not want this node
// any more, in words that nothing else is told by.
func (w *worker) isRemoved(err error) bool {
	e := api.AsError(err)
	return e.Code == api.CodeNotFound && e.Object == "node "+w.creds.Identity().Name
}

func (w *worker) beat(ctx context.Context) (api.NodeOrders, error) {
	if err := w.renewIfDue(ctx); err != nil && w.creds.Now().After(w.creds.NotAfter()) {
		return api.NodeOrders{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	facts := w.facts()
	facts.Problem, facts.Clock, facts.Boot = w.problem, w.c.Now(), w.boot
	var orders api.NodeOrders
	tell := func() error {
		return w.director.Load().Do(ctx, http.MethodPost, "/api/v1/node/heartbeat", facts, &orders)
	}
	err := tell()
	if estranged(err) {
		if done, e := w.reconcile(ctx); done {
			if err = tell(); estranged(err) {
				w.renew = w.creds.Now().Add(renewEvery) // no certificate mends it
			}
		} else if e != nil {
			err = e
		}
	}
	return orders, inTime(err, w.c.Now())
}

// heard takes the director's word.
func (w *worker) heard(ctx context.Context, orders api.NodeOrders) {
	if w.misses >= awayAfter {
		w.c.Log.Info("director answers again", "director", w.address)
	}
	w.misses, w.removed = 0, 0
	w.creds.Told(orders.Now)
	w.tellTime(orders.Now, true, func() bool { return w.idle(ctx) })
	kept := w.state
	w.state.Directors = []string{w.address}
	orders.Now = time.Time{} // it would be another each time
	w.state.Orders = orders
	if !reflect.DeepEqual(kept, w.state) {
		w.saveState()
	}
	w.link(ctx, orders)
	w.show(Status{State: joined, ID: w.creds.Identity().Name, Name: orders.Name, Director: w.address, CASHA256: w.state.CASHA256, Problem: w.problem})
}

// idle reports whether no instance runs here.
func (w *worker) idle(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	list, err := w.driver.List(ctx)
	return err == nil && !slices.ContainsFunc(list, func(i cloud.Instance) bool { return i.Running })
}

// missed is for a director that did not answer, or not as it should: another
// of its addresses is tried, after a while any that the network has.
func (w *worker) missed(ctx context.Context, err error) time.Duration {
	w.misses++
	if w.misses == awayAfter {
		w.c.Log.Warn("director does not answer; containers go on", "director", w.address, "error", err)
		w.show(Status{State: away, ID: w.creds.Identity().Name, Name: w.state.Orders.Name, Director: w.address, CASHA256: w.state.CASHA256, Problem: err.Error()})
	}
	list := w.directors()
	if w.misses%searchAfter == 0 {
		list = append(list, w.search(ctx)...)
	}
	w.choose(list[w.misses%len(list)])
	if w.misses%searchAfter == 0 && len(list) > 1 {
		w.choose(list[len(list)-1]) // who has just answered
	}
	return min(beatEvery*time.Duration(1+w.misses/searchAfter), longestBeat)
}

// search asks the network for our own director.
func (w *worker) search(ctx context.Context) []string {
	answers, err := find(ctx, w.c.Find)
	if err != nil {
		w.c.Log.Debug("network not asked for the director", "error", err)
	}
	var list []string
	for _, f := range answers {
		if sameHash(f.ca, w.creds.RootSHA256()) {
			list = append(list, f.address)
		}
	}
	return list
}

// check asks the driver now and then whether instances can run here.
func (w *worker) check(ctx context.Context) {
	if now := w.c.Now(); w.checked.IsZero() || now.Sub(w.checked) > checkEvery || now.Before(w.checked) {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		w.problem, w.checked = "", now
		switch err := w.driver.Check(ctx); {
		case err != nil && ctx.Err() != nil: // what it says then are the words of somebody who was interrupted
			w.problem = fmt.Sprintf("the machine has so much to do that it did not say within %v whether it can run containers", callTime)
		case err != nil:
			w.problem = err.Error()
		}
	}
}

// endAll ends the containers of a director that does not want us any more:
// they are its, and it counts them as lost.
func (w *worker) endAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	list, err := w.driver.List(ctx)
	var ids []string
	for _, i := range list {
		ids = append(ids, i.ID)
	}
	if err == nil && len(ids) > 0 {
		err = w.driver.Terminate(ctx, ids)
	}
	if c, ok := w.driver.(cloud.Closer); ok && err == nil {
		err = c.Close(ctx)
	}
	if err != nil {
		w.c.Log.Error("containers not ended", "error", err)
		return
	}
	w.c.Log.Info("containers ended", "count", len(ids))
}
