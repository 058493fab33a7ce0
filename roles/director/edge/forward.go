package edge

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// visit is one request under way, for those who handle it.
type visit struct {
	site   *shown
	client string // address, as far as it can be believed
	failed error  // why no proxy answered
}

type visitKey struct{}

func visitOf(ctx context.Context) *visit {
	v, _ := ctx.Value(visitKey{}).(*visit)
	return v
}

// serve answers one request.
func (e *Edge) serve(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	v := &visit{client: e.clientOf(r)}
	rec := &recorder{ResponseWriter: w, control: http.NewResponseController(w)}
	defer func() { e.record(rec, r, v, began) }() // also when a proxy breaks off and the handler panics
	host, ok := hostOf(r)
	v.site = e.table.Load().sites[host]
	switch {
	case !ok:
		e.refuse(rec, r, badHost())
		return
	case r.TLS != nil && !e.covers(normal(r.TLS.ServerName), host):
		e.refuse(rec, r, misdirected())
		return
	case v.site == nil:
		e.refuse(rec, r, unknownHost(host))
		return
	case r.Method == http.MethodConnect || r.Method == http.MethodTrace:
		e.refuse(rec, r, badMethod(r.Method))
		return
	case len(v.site.proxies) == 0:
		e.refuse(rec, r, idle(v.site))
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &patientBody{ReadCloser: r.Body, control: rec.control}
	}
	e.forward.ServeHTTP(rec, r.WithContext(context.WithValue(r.Context(), visitKey{}, v)))
}

// hostOf is the name that a request is for, without its port.
func hostOf(r *http.Request) (string, bool) {
	host := r.Host
	if h, p, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil && p != "" {
			return "", false
		}
		host = h
	}
	if host = normal(host); host == "" || len(host) > 253 {
		return "", false
	}
	for _, c := range []byte(host) { // an address in brackets is cut out of them above
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-._:", rune(c)) {
			return "", false
		}
	}
	return host, true
}

// covers reports whether the certificate that was presented for one name is
// good for another: browsers use a connection again where it is. A request for
// a name of somebody else must not come over it.
func (e *Edge) covers(presented, host string) bool {
	if presented == "" || presented == host {
		return true
	}
	cert, err := e.certificateFor(presented, nil)
	return err == nil && cert.Leaf.VerifyHostname(host) == nil
}

// clientOf is the client's address: the connection's, or what load balancers
// in front tell of it.
func (e *Edge) clientOf(r *http.Request) string {
	a := addressOf(r.RemoteAddr)
	trusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(e.c.Trusted, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	told := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(told) - 1; i >= 0 && trusted(a); i-- {
		before, err := netip.ParseAddr(strings.TrimSpace(told[i]))
		if err != nil {
			break
		}
		a = before.Unmap()
	}
	return a.String()
}

func (e *Edge) newForward() *httputil.ReverseProxy {
	buffers := &bufferPool{pool: sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}}
	return &httputil.ReverseProxy{
		Rewrite:        e.rewrite,
		Transport:      tripper(e.ask),
		ModifyResponse: e.polish,
		ErrorHandler:   e.noAnswer,
		ErrorLog:       log.New(io.Discard, "", 0), // clients that go away are no news
		BufferPool:     buffers,
	}
}

type tripper func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (t tripper) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// rewrite makes the request to the proxy: what it says of the client is what
// we saw. ReverseProxy has taken away what the client said of itself.
func (e *Edge) rewrite(p *httputil.ProxyRequest) {
	v := visitOf(p.In.Context())
	p.Out.URL.Scheme, p.Out.URL.Host = "http", "proxy.invalid" // ask chooses
	p.Out.URL.RawQuery = p.In.URL.RawQuery                     // as it came, whatever we think of it
	p.Out.Host = p.In.Host
	_, port, err := net.SplitHostPort(p.In.Host)
	if err != nil || port == "" {
		port = "443"
	}
	h := p.Out.Header
	for _, name := range []string{"X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Ssl", "X-Nutshell-Version", "X-Client-Ip", "Proxy"} {
		h.Del(name)
	}
	h.Set("X-Forwarded-For", v.client)
	h.Set("X-Real-Ip", v.client)
	h.Set("X-Forwarded-Proto", "https")
	h.Set("X-Forwarded-Host", p.In.Host)
	h.Set("X-Forwarded-Port", port)
	if _, ok := h["User-Agent"]; !ok {
		h.Set("User-Agent", "") // else the transport makes one up
	}
}

func (e *Edge) ask(req *http.Request) (*http.Response, error) {
	v := visitOf(req.Context())
	return e.outward.ask(req, func() *shown {
		if now := e.table.Load().sites[v.site.Name]; now != nil && now.Application == v.site.Application && now.Service == v.site.Service {
			return now
		}
		return nil
	})
}

// polish changes an answer on its way out.
func (e *Edge) polish(resp *http.Response) error {
	if e.c.HSTS > 0 && resp.Header.Get("Strict-Transport-Security") == "" {
		resp.Header.Set("Strict-Transport-Security", "max-age="+strconv.Itoa(int(e.c.HSTS.Seconds())))
	}
	compress(resp)
	return nil
}

// noAnswer tells a visitor that no proxy answered.
func (e *Edge) noAnswer(w http.ResponseWriter, r *http.Request, err error) {
	v := visitOf(r.Context())
	v.failed = err
	var late net.Error
	switch {
	case r.Context().Err() != nil:
		w.WriteHeader(statusGone) // nobody reads it; it is for the log
		return
	case errors.Is(err, errStalled):
		e.refuse(w, r, slowBody())
		return
	case errors.As(err, &late) && late.Timeout():
		e.refuse(w, r, tooSlow())
	case errors.Is(err, errNobody):
		e.refuse(w, r, nobody(v.site))
	default:
		e.refuse(w, r, broken())
	}
	e.c.Log.Warn("no answer from a service", "site", v.site.Name, "app", v.site.Application, "service", v.site.Service, "error", err)
}

// statusGone is what nginx logs for clients that went away.
const statusGone = 499

// toHTTPS answers on the plain port. It leads to names that are ours only, so
// that nobody uses it to lead elsewhere.
func (e *Edge) toHTTPS(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	host, ok := hostOf(r)
	if !ok {
		e.refuse(w, r, badHost())
		return
	}
	if e.table.Load().sites[host] == nil {
		e.refuse(w, r, unknownHost(host))
		return
	}
	target := strings.TrimSuffix(e.URL(host), "/") + r.URL.RequestURI()
	if !strings.HasPrefix(r.URL.RequestURI(), "/") { // a whole URL, as to a proxy, or *
		target = e.URL(host)
	}
	http.Redirect(w, r, target, http.StatusPermanentRedirect) //nolint:gosec // to a name that is in our table
}

type bufferPool struct{ pool sync.Pool }

// Get takes a buffer.
func (b *bufferPool) Get() []byte { return *b.pool.Get().(*[]byte) }

// Put gives it back.
func (b *bufferPool) Put(buf []byte) { b.pool.Put(&buf) }
