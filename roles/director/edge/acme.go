package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"nutshell/roles/api"
)

// ACME says where certificates are asked for.
type ACME struct {
	Directory string // URL
	Email     string
	CA        string // file with the root of a private authority, PEM; or empty
	Dir       string // where accounts, keys and certificates are kept
	// Check is how often certificates are looked at for renewal; 0 is every
	// ten minutes.
	Check time.Duration
}

// magic obtains and renews certificates of an ACME authority, for names that
// are shown and no others.
type magic struct {
	cache  *certmagic.Cache
	config *certmagic.Config
	issuer *certmagic.ACMEIssuer
	now    func() time.Time
	ctx    context.Context
	cancel context.CancelFunc
	once   sync.Once

	mu    sync.Mutex
	names map[string]context.CancelFunc
	last  map[string]error // what went wrong with a name, until it goes well
}

func (e *Edge) newMagic(a ACME) (*magic, error) {
	m := &magic{now: e.c.Now, names: map[string]context.CancelFunc{}, last: map[string]error{}}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	var roots *x509.CertPool
	if a.CA != "" {
		pem, err := os.ReadFile(a.CA)
		roots = x509.NewCertPool()
		if err != nil || !roots.AppendCertsFromPEM(pem) {
			return nil, &api.Error{Code: api.CodeInvalid, Op: "read", Object: "edge.acme_ca " + a.CA, Message: "there is no PEM certificate in it", Err: err}
		}
	}
	log := zap.NewNop() // what matters comes as an event
	m.cache = certmagic.NewCache(certmagic.CacheOptions{Logger: log, RenewCheckInterval: a.Check, GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return m.config, nil }})
	m.config = certmagic.New(m.cache, certmagic.Config{Storage: &certmagic.FileStorage{Path: a.Dir}, OCSP: certmagic.OCSPConfig{DisableStapling: true}, Logger: log,
		ShouldEmitFunc: func(event string) bool { return event == "cert_failed" || event == "cert_obtained" },
		OnEvent:        func(_ context.Context, event string, data map[string]any) error { m.heard(e, event, data); return nil }})
	https, plain := e.Ports()
	host, _, _ := net.SplitHostPort(e.secure.Addr().String())
	m.issuer = certmagic.NewACMEIssuer(m.config, certmagic.ACMEIssuer{CA: a.Directory, Email: a.Email, Agreed: true, TrustedRoots: roots, Logger: log,
		ListenHost: host, AltTLSALPNPort: https, AltHTTPPort: plain, DisableHTTPChallenge: plain == 0})
	m.config.Issuers = []certmagic.Issuer{m.issuer}
	return m, nil
}

// heard takes what became of a request for a certificate.
func (m *magic) heard(e *Edge, event string, data map[string]any) {
	name, _ := data["identifier"].(string)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch event {
	case "cert_obtained":
		delete(m.last, name)
		e.c.Log.Info("certificate obtained", "site", name)
	case "cert_failed":
		err, _ := data["error"].(error)
		if _, ours := m.names[name]; ours {
			m.last[name] = err
			e.c.Log.Warn("certificate not obtained, it is tried again", "site", name, "error", err)
		}
	}
}

// manage keeps certificates for the names of a table that want one.
func (m *magic) manage(t *table) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wants := func(name string) bool {
		s := t.sites[name]
		return s != nil && s.Certificate == CertificateACME
	}
	for name, end := range m.names {
		if !wants(name) {
			end()
			delete(m.names, name)
			delete(m.last, name)
			m.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: name, IssuerKey: m.issuer.IssuerKey()}})
		}
	}
	for name := range t.sites {
		if _, known := m.names[name]; known || !wants(name) {
			continue
		}
		ctx, end := context.WithCancel(m.ctx)
		m.names[name] = end
		if err := m.config.ManageAsync(ctx, []string{name}); err != nil {
			m.last[name] = err
		}
	}
}

// certificate is the one to present for a name, nil while there is none.
func (m *magic) certificate(hello *tls.ClientHelloInfo, name string) *tls.Certificate {
	var best *certmagic.Certificate
	for _, c := range m.cache.AllMatchingCertificates(name) {
		if hello != nil && hello.SupportsCertificate(&c.Certificate) != nil {
			continue
		}
		if best == nil || c.Leaf.NotAfter.After(best.Leaf.NotAfter) {
			best = &c
		}
	}
	if best == nil {
		return nil
	}
	return &best.Certificate
}

// state tells when a name's certificate ends, and what is wrong with it.
func (m *magic) state(name string) (expires time.Time, problem string) {
	m.mu.Lock()
	err := m.last[name]
	m.mu.Unlock()
	cert := m.certificate(nil, name)
	if cert != nil {
		expires = cert.Leaf.NotAfter
		if left := expires.Sub(m.now()); left > expires.Sub(cert.Leaf.NotBefore)/4 {
			return expires, ""
		}
	}
	switch {
	case err != nil:
		return expires, fmt.Sprintf("the ACME authority gave no certificate, and is asked again: %v (does the name lead to this machine, and can the authority reach ports 80 and 443 of it?)", err)
	case cert == nil:
		return expires, "its certificate has been asked for and is not here yet; until then the director's own CA signs for it"
	}
	return expires, "its certificate ends on " + expires.UTC().Format(time.DateOnly) + " and is being renewed"
}

// challenges answers the authority's questions and leaves the rest to next.
func (m *magic) challenges(next http.Handler) http.Handler {
	return m.issuer.HTTPChallengeHandler(next)
}

func (m *magic) stop() {
	m.cancel()
	m.once.Do(m.cache.Stop) // it cannot be stopped twice
}
