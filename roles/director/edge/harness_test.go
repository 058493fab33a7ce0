package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nutshell/roles/internal/pki"
)

// front is an edge that serves on loopback, with a CA of its own.
type front struct {
	*Edge
	t     testing.TB
	ca    *pki.Authority
	log   *safeBuffer
	https string // host:port
	http  string
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends.
func (s *safeBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

// String is all that was written.
func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newFront(t testing.TB, change func(*Config)) *front {
	t.Helper()
	ca, err := pki.Create(filepath.Join(t.TempDir(), "ca"), "inst1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{t: t, ca: ca, log: &safeBuffer{}}
	c := Config{HTTPS: "127.0.0.1:0", HTTP: "127.0.0.1:0", Domain: "apps.test", Hosts: func() []string { return []string{"director.test", "127.0.0.1"} }, Sign: ca.Site,
		AccessLog: f.log, Log: slog.New(slog.NewTextHandler(&quiet{t}, nil)), Now: time.Now}
	if change != nil {
		change(&c)
	}
	if f.Edge, err = New(c); err != nil {
		t.Fatal(err)
	}
	if err := f.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.https, f.http = f.secure.Addr().String(), f.plain.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- f.Serve(ctx, time.Second) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return f
}

// quiet shows the log of a test that is still under way.
type quiet struct{ t testing.TB }

// Write logs a line.
func (q *quiet) Write(b []byte) (int, error) {
	if q.t.Context().Err() == nil {
		q.t.Logf("%s", bytes.TrimSpace(b))
	}
	return len(b), nil
}

// shows makes the edge show one site.
func (f *front) shows(name string, proxies ...string) {
	s := Site{Name: name, Application: 1, Service: 2, Certificate: CertificateOwn, Idle: "is stopped"}
	for _, p := range proxies {
		s.Proxies = append(s.Proxies, Proxy{Address: p, Weight: 100})
	}
	f.Show([]Site{s})
}

func (f *front) roots() *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(f.ca.RootPEM())
	return p
}

// client calls any name at the edge and verifies its certificate.
func (f *front) client(h2 bool) *http.Client {
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: f.roots()}, ForceAttemptHTTP2: h2, DisableCompression: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			to := f.https
			if _, port, _ := net.SplitHostPort(address); port == "80" {
				to = f.http
			}
			return (&net.Dialer{}).DialContext(ctx, network, to)
		}}
	f.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

type answer struct {
	*http.Response
	body string
}

func do(t *testing.T, c *http.Client, method, url, body string, header ...string) answer {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, r)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return answer{resp, string(b)}
}

// proxyAt serves on an address and returns it with a way to stop.
func proxyAt(t *testing.T, address string, h http.Handler) (string, func()) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = s.Serve(l) }()
	stop := func() { _ = s.Close() }
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func saying(what string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, what) })
}

// seen answers what it was asked.
func seen(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	_, _ = fmt.Fprintf(w, "%s %s from %s host %s\n", r.Method, r.RequestURI, r.RemoteAddr, r.Host)
	_ = r.Header.Write(w)
	_, _ = fmt.Fprintf(w, "\r\n%s", b)
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

func prefix(t *testing.T, s string) netip.Prefix {
	t.Helper()
	p, err := netip.ParsePrefix(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// tool finds a program that CI must have.
func tool(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"/usr/bin/", "/usr/sbin/"} {
		if _, err := os.Stat(dir + name); err == nil {
			return dir + name
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing", name)
	}
	t.Skipf("%s is missing", name)
	return ""
}
