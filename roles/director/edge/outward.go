package edge

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Times of connections to proxies.
const (
	dialTime  = 2 * time.Second
	patience  = 3 * time.Second // how long a request waits for a proxy to come back: a restart of nginx takes less
	probeTime = 200 * time.Millisecond
	moreTries = 2 // of a request that changes nothing, after its connection broke
)

// loopbackSource is the address from which proxies on loopback are asked.
// Visitors of the same machine come from another, so that only we can tell a
// proxy of somebody else's address.
const loopbackSource = "127.1.0.80"

// Source is the address from which the edge asks a proxy at an address. Only
// from there a proxy may believe what it is told of the client.
func Source(address string) (string, error) {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return "", err
	}
	if a.IsLoopback() && a.Is4() {
		return loopbackSource, nil
	}
	c, err := net.Dial("udp", net.JoinHostPort(address, "9")) //nolint:noctx // it sends nothing: the kernel tells its own route
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	return addressOf(c.LocalAddr().String()).String(), nil
}

// proxy is one proxy's state. It lives as long as some table names it.
type proxy struct {
	address string
	weight  atomic.Int64
	busy    atomic.Int64 // requests under way
	down    atomic.Bool  // it could not be reached; a probe runs
	gone    atomic.Bool  // no table names it any more
}

// outward asks proxies.
type outward struct {
	kept  *http.Transport // requests that may be sent again
	fresh *http.Transport // others: on a kept connection that the other side just closes they would be lost
	next  atomic.Uint64
	ctx   context.Context
	close context.CancelFunc
	tries atomic.Uint64 // requests that were sent again

	mu      sync.Mutex
	proxies map[string]*proxy
}

// unreachable is a connection that could not be made: nothing was sent.
type unreachable struct{ error }

// Unwrap returns the cause.
func (u unreachable) Unwrap() error { return u.error }

var errNobody = errors.New("no proxy of the service can be reached")

func newOutward() *outward {
	o := &outward{proxies: map[string]*proxy{}}
	o.ctx, o.close = context.WithCancel(context.Background())
	o.kept = &http.Transport{DialContext: dial, DisableCompression: true, MaxIdleConnsPerHost: 256, IdleConnTimeout: 50 * time.Second, ExpectContinueTimeout: time.Second,
		MaxResponseHeaderBytes: 256 << 10, WriteBufferSize: 16 << 10, ReadBufferSize: 16 << 10}
	o.fresh = o.kept.Clone()
	o.fresh.DisableKeepAlives = true
	return o
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTime}
	if a, err := netip.ParseAddrPort(address); err == nil && a.Addr().IsLoopback() && a.Addr().Is4() {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(loopbackSource)}
	}
	c, err := d.DialContext(ctx, network, address)
	if err != nil && ctx.Err() == nil {
		return nil, unreachable{err}
	}
	return c, err
}

// proxy finds the state of a proxy or makes it.
func (o *outward) proxy(p Proxy) *proxy {
	o.mu.Lock()
	defer o.mu.Unlock()
	one := o.proxies[p.Address]
	if one == nil {
		one = &proxy{address: p.Address}
		o.proxies[p.Address] = one
	}
	one.weight.Store(int64(max(p.Weight, 1)))
	return one
}

// follow forgets proxies that a table does not name.
func (o *outward) follow(t *table) {
	needed := map[*proxy]bool{}
	for _, s := range t.sites {
		for _, p := range s.proxies {
			needed[p] = true
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for address, p := range o.proxies {
		if !needed[p] {
			p.gone.Store(true)
			delete(o.proxies, address)
		}
	}
}

// lost notes that a proxy cannot be reached, and asks it until it can be.
func (o *outward) lost(p *proxy) {
	if !p.down.CompareAndSwap(false, true) {
		return
	}
	go func() {
		tick := time.NewTicker(probeTime)
		defer tick.Stop()
		for !p.gone.Load() {
			select {
			case <-o.ctx.Done():
				return
			case <-tick.C:
			}
			c, err := dial(o.ctx, "tcp", p.address)
			if err == nil {
				_ = c.Close()
				p.down.Store(false)
				return
			}
		}
	}()
}

// pick chooses among the proxies that can be reached, less those tried: the
// one with least to do for its weight, in turn where that is equal.
func (o *outward) pick(all []*proxy, tried []*proxy) *proxy {
	var best *proxy
	turn := o.next.Add(1)
	for i := range uint64(len(all)) {
		p := all[(turn+i)%uint64(len(all))]
		if p.down.Load() || slices.Contains(tried, p) {
			continue
		}
		if best == nil || (p.busy.Load()+1)*best.weight.Load() < (best.busy.Load()+1)*p.weight.Load() {
			best = p
		}
	}
	return best
}

// ask sends a request to one of a site's proxies. What could not be sent at
// all is sent to another; what may have arrived is sent again only if that
// changes nothing. site is asked anew each time, because proxies come and go.
func (o *outward) ask(req *http.Request, site func() *shown) (*http.Response, error) {
	again := safe(req)
	transport := o.fresh
	if again {
		transport = o.kept
	}
	req = req.Clone(req.Context())
	if req.Body != nil {
		req.Body = kept{req.Body} // a transport that cannot connect closes it, but another try needs it
	}
	var tried []*proxy
	var failed error
	broken := 0
	for began := time.Now(); ; {
		s := site()
		if s == nil || len(s.proxies) == 0 {
			return nil, errors.Join(errNobody, failed)
		}
		p := o.pick(s.proxies, tried)
		if p == nil {
			if time.Since(began) > patience {
				return nil, errors.Join(errNobody, failed)
			}
			select {
			case <-req.Context().Done():
				return nil, req.Context().Err()
			case <-time.After(50 * time.Millisecond):
			}
			tried = nil
			continue
		}
		req.URL.Host = p.address
		p.busy.Add(1)
		resp, err := transport.RoundTrip(req)
		if err == nil {
			resp.Body = counting(resp.Body, func() { p.busy.Add(-1) })
			return resp, nil
		}
		p.busy.Add(-1)
		failed = err
		var nothingSent unreachable
		switch {
		case req.Context().Err() != nil:
			return nil, err
		case errors.As(err, &nothingSent):
			o.lost(p)
		case again && broken < moreTries && !timeout(err):
			broken++
		default:
			return nil, err
		}
		tried = append(tried, p)
		o.tries.Add(1)
	}
}

func timeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// safe reports whether a request may be sent twice.
func safe(r *http.Request) bool {
	if r.Body != nil && r.Body != http.NoBody {
		return false
	}
	return r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
}

// kept is a body that only its owner closes.
type kept struct{ io.Reader }

// Close does nothing.
func (kept) Close() error { return nil }

// counting calls done when a body is closed. One that can be written to, after
// a change of protocol, stays so.
func counting(b io.ReadCloser, done func()) io.ReadCloser {
	done = sync.OnceFunc(done)
	if rw, ok := b.(io.ReadWriteCloser); ok {
		return &countedTunnel{rw, done}
	}
	return &countedBody{b, done}
}

type countedBody struct {
	io.ReadCloser
	done func()
}

// Close counts the request out.
func (b *countedBody) Close() error {
	b.done()
	return b.ReadCloser.Close()
}

type countedTunnel struct {
	io.ReadWriteCloser
	done func()
}

// Close counts the connection out.
func (b *countedTunnel) Close() error {
	b.done()
	return b.ReadWriteCloser.Close()
}
