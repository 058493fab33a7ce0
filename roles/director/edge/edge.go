// Package edge shows services of applications to the world under names of
// their own: one HTTPS port that finds the service by the name asked for,
// presents a certificate for it, and passes requests to its proxies. It keeps
// nothing: which names there are and what runs behind them it is told by Show.
// It knows neither the store nor what an application is.
package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"nutshell/roles/api"
)

// Config is what New needs.
type Config struct {
	HTTPS, HTTP    string          // host:port; HTTP may be empty
	Domain         string          // the names just below it are ours, also those that nobody has
	Hosts          func() []string // names and addresses of this machine, for visitors who name no site
	Chain, Key     string          // files with a certificate for *.Domain, or empty
	ACME           *ACME           // nil: none
	Trusted        []netip.Prefix  // load balancers in front
	HSTS           time.Duration
	MaxConnections int
	Sign           func(hosts []string) (*tls.Certificate, error) // by the installation's own CA
	AccessLog      io.Writer
	Log            *slog.Logger
	Now            func() time.Time
}

// Site is one name and what it shows.
type Site struct {
	Name                 string // lower case, no port
	Application, Service int64
	Certificate          string  // own, file or acme
	Chain, Key           []byte  // PEM, for file
	Proxies              []Proxy // those that run
	Idle                 string  // why there are none, for visitors: "is stopped"
}

// Proxy is one place that answers for a service.
type Proxy struct {
	Address string // host:port
	Weight  int    // its share among others
}

// Edge is the front. Its methods can be used by many at the same time.
type Edge struct {
	c        Config
	certs    *certificates
	acme     *magic // nil: none
	outward  *outward
	figures  *figures
	gate     *gate
	forward  *httputil.ReverseProxy
	redirect http.Handler

	table  atomic.Pointer[table]
	update sync.Mutex // of Show

	secure, plain net.Listener
}

// table is one state of all names; it is replaced, never changed.
type table struct {
	sites map[string]*shown
}

// shown is a site with its proxies' states.
type shown struct {
	Site
	proxies []*proxy
}

// New makes an edge that shows nothing yet and listens nowhere.
func New(c Config) (*Edge, error) {
	switch {
	case c.HTTPS == "":
		return nil, errors.New("edge: HTTPS is required")
	case c.Sign == nil || c.Hosts == nil:
		return nil, errors.New("edge: Sign and Hosts are required")
	case c.AccessLog == nil || c.Log == nil || c.Now == nil:
		return nil, errors.New("edge: AccessLog, Log and Now are required")
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 8192
	}
	e := &Edge{c: c, figures: newFigures(), outward: newOutward()}
	e.gate = newGate(c.MaxConnections, c.Trusted, e.figures)
	e.table.Store(&table{sites: map[string]*shown{}})
	e.certs = newCertificates(c)
	if err := e.certs.readFiles(); err != nil {
		return nil, err
	}
	e.forward = e.newForward()
	e.redirect = http.HandlerFunc(e.toHTTPS)
	return e, nil
}

// Listen takes the ports.
func (e *Edge) Listen(ctx context.Context) error {
	var err error
	if e.secure, err = e.listen(ctx, e.c.HTTPS); err != nil {
		return err
	}
	if e.c.HTTP != "" {
		if e.plain, err = e.listen(ctx, e.c.HTTP); err != nil {
			_ = e.secure.Close()
			return err
		}
	}
	if e.c.ACME != nil {
		if e.acme, err = e.newMagic(*e.c.ACME); err != nil {
			e.Close()
			return err
		}
		e.redirect = e.acme.challenges(e.redirect)
		e.acme.manage(e.table.Load()) //nolint:contextcheck // certificates are renewed long after the ports were taken
	}
	return nil
}

func (e *Edge) listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "listen", Object: "edge " + address, Err: err,
			Hint: "choose another address by edge.https or edge.http, or stop the program that has it; ports below 1024 need root"}
	}
	return e.gate.guard(l), nil
}

// Close gives the ports back; only for an edge that does not serve.
func (e *Edge) Close() {
	for _, l := range []net.Listener{e.secure, e.plain} {
		if l != nil {
			_ = l.Close()
		}
	}
	if e.acme != nil {
		e.acme.stop()
	}
}

// Ports are those of HTTPS and HTTP; 0 is none. They are known after Listen.
func (e *Edge) Ports() (https, http int) { return port(e.secure), port(e.plain) }

func port(l net.Listener) int {
	if l == nil {
		return 0
	}
	a, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0
	}
	return a.Port
}

// URL is where people reach a name.
func (e *Edge) URL(name string) string {
	if https, _ := e.Ports(); https != 443 {
		name = net.JoinHostPort(name, strconv.Itoa(https))
	}
	return "https://" + name + "/"
}

// Serve answers until ctx ends, then lets requests finish for grace.
func (e *Edge) Serve(ctx context.Context, grace time.Duration) error {
	quiet := slog.NewLogLogger(e.c.Log.Handler(), slog.LevelDebug) // handshakes that strangers break off are no news
	secure := &http.Server{Handler: http.HandlerFunc(e.serve), TLSConfig: e.tls(), ErrorLog: quiet,
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	plain := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { e.redirect.ServeHTTP(w, r) }), ErrorLog: quiet,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	g, ctx := errgroup.WithContext(ctx)
	serve := func(f func() error) {
		g.Go(func() error {
			if err := f(); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	serve(func() error { return secure.ServeTLS(e.secure, "", "") })
	if e.plain != nil {
		serve(func() error { return plain.Serve(e.plain) })
	}
	g.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		_ = secure.Shutdown(stop) // what is still open then is closed next
		_ = secure.Close()
		_ = plain.Close()
		return nil
	})
	err := g.Wait()
	e.outward.close()
	if e.acme != nil {
		e.acme.stop()
	}
	return err
}

// Show replaces what is shown. Requests under way go on as they began.
func (e *Edge) Show(sites []Site) {
	e.update.Lock()
	defer e.update.Unlock()
	next := &table{sites: make(map[string]*shown, len(sites))}
	for _, s := range sites {
		one := &shown{Site: s}
		for _, p := range s.Proxies {
			one.proxies = append(one.proxies, e.outward.proxy(p))
		}
		next.sites[s.Name] = one
	}
	e.certs.follow(next)
	e.table.Store(next)
	e.outward.follow(next)
	if e.acme != nil {
		e.acme.manage(next)
	}
}

// Certificate tells when a name's certificate ends, and what is wrong with it,
// for people.
func (e *Edge) Certificate(name string) (expires time.Time, problem string) {
	s := e.table.Load().sites[name]
	if s == nil {
		return time.Time{}, ""
	}
	switch s.Certificate {
	case CertificateFile:
		return e.certs.ofFile(name)
	case CertificateACME:
		if e.acme == nil {
			return time.Time{}, "the edge has no ACME authority any more, so the director's own CA signs for it (set edge.acme_directory, or add the name again with another certificate)"
		}
		return e.acme.state(name)
	}
	c, err := e.certs.own(name)
	if err != nil {
		return time.Time{}, err.Error()
	}
	return c.Leaf.NotAfter, e.certs.aging(c.Leaf)
}
