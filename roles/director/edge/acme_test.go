package edge

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pebbleca "github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"nutshell/roles/internal/pki"
)

// authority is Pebble, the ACME server that Let's Encrypt tests clients with,
// on loopback, with a DNS of its own that knows names ending in .acme.test.
type authority struct {
	directory, root string // URL, file
	roots           *x509.CertPool
}

func newAuthority(t *testing.T, httpPort, tlsPort int, life uint64) *authority {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	resolver := &dns.Server{Net: "tcp", Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg)
		a.SetReply(q)
		name := q.Question[0].Name
		switch {
		case !strings.HasSuffix(name, ".acme.test."):
			a.Rcode = dns.RcodeNameError
		case q.Question[0].Qtype == dns.TypeA:
			a.Answer = append(a.Answer, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1)})
		}
		_ = w.WriteMsg(a)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	resolver.Listener = l
	go func() { _ = resolver.ActivateAndServe() }()
	t.Cleanup(func() { _ = l.Close() })

	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	ca := pebbleca.New(quiet, store, "", "ecdsa", 0, 1, map[string]pebbleca.Profile{"default": {Description: "for tests", ValidityPeriod: life}})
	front := wfe.New(quiet, store, va.New(quiet, httpPort, tlsPort, true, l.Addr().String(), store), ca, []string{"acme.test"}, true, false, 0, 0)
	server := httptest.NewUnstartedServer(front.Handler())
	own, err := pki.Create(filepath.Join(t.TempDir(), "ca"), "acme1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := own.Site([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(server.Close)
	a := &authority{directory: server.URL + wfe.DirectoryPath, root: filepath.Join(t.TempDir(), "root.pem"), roots: x509.NewCertPool()}
	write(t, a.root, string(own.RootPEM()))
	if !a.roots.AppendCertsFromPEM(ca.GetRootCert(0).PEM()) {
		t.Fatal("Pebble has no root")
	}
	return a
}

// freePort is one below those that the kernel gives away, so that nobody gets
// it by chance in between.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 12000 + rand.IntN(20000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// presented is the certificate that the edge shows for a name, verified.
func (f *front) presented(name string, roots *x509.CertPool) (*x509.Certificate, error) {
	c, err := tls.Dial("tcp", f.https, &tls.Config{ServerName: name, RootCAs: roots})
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().PeerCertificates[0], nil
}

func TestACME(t *testing.T) {
	for _, c := range []struct {
		name       string
		http, alpn bool
	}{{"http-01", true, false}, {"tls-alpn-01", false, true}} {
		t.Run(c.name, func(t *testing.T) {
			httpPort, tlsPort := freePort(t), freePort(t)
			reachHTTP, reachTLS := freePort(t), freePort(t) // nobody is there
			if c.http {
				reachHTTP = httpPort
			}
			if c.alpn {
				reachTLS = tlsPort
			}
			a := newAuthority(t, reachHTTP, reachTLS, 0)
			dir := filepath.Join(t.TempDir(), "acme")
			at, _ := proxyAt(t, "127.0.0.1:0", saying("hello"))
			f := newFront(t, func(conf *Config) {
				conf.HTTPS, conf.HTTP = fmt.Sprintf("127.0.0.1:%d", tlsPort), fmt.Sprintf("127.0.0.1:%d", httpPort)
				conf.ACME = &ACME{Directory: a.directory, Email: "ops@acme.test", CA: a.root, Dir: dir}
			})
			f.Show([]Site{{Name: "www.acme.test", Certificate: CertificateACME, Proxies: []Proxy{{at, 1}}}, {Name: "www.nowhere.test", Certificate: CertificateACME, Idle: "is stopped"}})
			eventually(t, "the authority's certificate", func() bool {
				_, err := f.presented("www.acme.test", a.roots)
				return err == nil
			})
			if end, problem := f.Certificate("www.acme.test"); problem != "" || time.Until(end) < time.Hour {
				t.Errorf("got %v, %q", end, problem)
			}
			// One that the authority cannot find has our own CA's until it can, and says why.
			eventually(t, "the problem is told", func() bool {
				_, problem := f.Certificate("www.nowhere.test")
				return strings.Contains(problem, "nowhere.test") && strings.Contains(problem, "ports 80 and 443")
			})
			if _, err := f.presented("www.nowhere.test", f.roots()); err != nil {
				t.Error(err)
			}
			// Names that are not shown are not asked for.
			if _, err := f.presented("other.acme.test", a.roots); err == nil {
				t.Error("got a certificate for a name that nobody has")
			}
			if found, _ := filepath.Glob(dir + "/certificates/*/*"); len(found) != 1 || filepath.Base(found[0]) != "www.acme.test" {
				t.Errorf("kept: %v", found)
			}
			if c.http { // a challenge path that is none leads on as others do
				if a := do(t, f.client(false), http.MethodGet, "http://www.acme.test/.well-known/acme-challenge/x", ""); a.StatusCode != 308 {
					t.Errorf("got %s", a.Status)
				}
			}
		})
	}
}

// What was obtained is kept, and renewed before it ends.
func TestACMERenewsAndKeeps(t *testing.T) {
	httpPort, tlsPort := freePort(t), freePort(t)
	a := newAuthority(t, httpPort, tlsPort, 24)
	dir := filepath.Join(t.TempDir(), "acme")
	configure := func(conf *Config) {
		conf.HTTPS, conf.HTTP = fmt.Sprintf("127.0.0.1:%d", tlsPort), fmt.Sprintf("127.0.0.1:%d", httpPort)
		conf.ACME = &ACME{Directory: a.directory, CA: a.root, Dir: dir, Check: 500 * time.Millisecond}
	}
	site := []Site{{Name: "www.acme.test", Certificate: CertificateACME, Idle: "is stopped"}}
	var first *x509.Certificate
	t.Run("first", func(t *testing.T) {
		f := newFront(t, configure)
		f.Show(site)
		eventually(t, "a certificate", func() bool {
			var err error
			first, err = f.presented("www.acme.test", a.roots)
			return err == nil
		})
	})
	f := newFront(t, configure) // a second one on the same files, as after a restart
	f.Show(site)
	eventually(t, "the kept one", func() bool {
		c, err := f.presented("www.acme.test", a.roots)
		return err == nil && c.Equal(first)
	})
	eventually(t, "a renewed one", func() bool {
		c, err := f.presented("www.acme.test", a.roots)
		return err == nil && c.NotAfter.After(first.NotAfter)
	})
	if time.Now().After(first.NotAfter) {
		t.Error("it was renewed after its end")
	}
}

func TestACMEConfiguration(t *testing.T) {
	f := newFront(t, nil)
	for _, ca := range []string{"/nowhere/root.pem", filepath.Join(t.TempDir(), "empty.pem")} {
		if ca[1] != 'n' {
			write(t, ca, "")
		}
		if _, err := f.newMagic(ACME{Directory: "https://127.0.0.1:1/dir", CA: ca}); err == nil || !strings.Contains(err.Error(), "edge.acme_ca") {
			t.Errorf("%s: got %v", ca, err)
		}
	}
}
