package edge

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mholt/acmez/v3"

	"nutshell/roles/api"
)

// Where the certificate of a name comes from.
const (
	CertificateOwn  = "own"  // the director's CA
	CertificateFile = "file" // its user
	CertificateACME = "acme" // an ACME authority
)

const (
	maxChain = 64 << 10
	someTime = 14 * 24 * time.Hour // before its end, a certificate that nobody renews is told of
)

// certificates are those that are not ACME's.
type certificates struct {
	c Config

	mu       sync.Mutex
	sites    map[string]bool // names that may have one of our own
	mine     map[string]*tls.Certificate
	files    map[string]given
	standard *tls.Certificate // for visitors who name no site
	hosts    []string         // that it is for
	wild     *tls.Certificate // of Chain and Key
	wildTime time.Time        // of the files
}

// given is a certificate that a user gave.
type given struct {
	chain string // as it was given
	cert  *tls.Certificate
	err   error
}

func newCertificates(c Config) *certificates {
	return &certificates{c: c, mine: map[string]*tls.Certificate{}, files: map[string]given{}}
}

// follow forgets names that are not shown any more and reads new files.
func (c *certificates) follow(t *table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sites = make(map[string]bool, len(t.sites))
	files := map[string]given{}
	for name, s := range t.sites {
		c.sites[name] = true
		if s.Certificate != CertificateFile {
			continue
		}
		if old, ok := c.files[name]; ok && old.chain == string(s.Chain) {
			files[name] = old
			continue
		}
		cert, err := ParsePair(s.Chain, s.Key)
		files[name] = given{string(s.Chain), cert, err}
	}
	c.files = files
	for name := range c.mine {
		if !c.sites[name] {
			delete(c.mine, name)
		}
	}
}

// fresh reports whether one of our own certificates has a third of its life
// before it.
func (c *certificates) fresh(cert *tls.Certificate) bool {
	if cert == nil {
		return false
	}
	life := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
	now := c.c.Now()
	return now.After(cert.Leaf.NotBefore) && now.Before(cert.Leaf.NotAfter.Add(-life/3))
}

// own is the certificate for a name: of the files for the domain, or one that
// the installation's CA signs.
func (c *certificates) own(name string) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.below(name) {
		if wild := c.ofDomain(); wild != nil {
			return wild, nil
		}
	}
	if cert := c.mine[name]; c.fresh(cert) {
		return cert, nil
	}
	cert, err := c.c.Sign([]string{name})
	if err == nil && c.sites[name] { // strangers must not fill the memory
		c.mine[name] = cert
	}
	return cert, err
}

// below reports whether a name is just below the domain.
func (c *certificates) below(name string) bool {
	label, ok := strings.CutSuffix(name, "."+c.c.Domain)
	return ok && c.c.Domain != "" && !strings.Contains(label, ".")
}

// fallback is what visitors get who name no site, or one below our domain that
// nobody has: enough to tell them so.
func (c *certificates) fallback(name string) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if name != "" && c.below(name) {
		if wild := c.ofDomain(); wild != nil {
			return wild, nil
		}
	}
	hosts := slices.Clone(c.c.Hosts())
	if c.c.Domain != "" {
		hosts = append(hosts, c.c.Domain, "*."+c.c.Domain)
	}
	if !c.fresh(c.standard) || !slices.Equal(hosts, c.hosts) {
		cert, err := c.c.Sign(hosts)
		if err != nil {
			return nil, err
		}
		c.standard, c.hosts = cert, hosts
	}
	if name != "" && c.standard.Leaf.VerifyHostname(name) != nil {
		return nil, fmt.Errorf("nobody has the name %s", api.Shorten(name))
	}
	return c.standard, nil
}

// ofDomain is the certificate of the files for the domain. They are read anew
// when they have changed, so that whoever renews them need not restart us.
func (c *certificates) ofDomain() *tls.Certificate {
	if c.c.Chain == "" {
		return nil
	}
	st, err := os.Stat(c.c.Chain)
	if err == nil && st.ModTime().Equal(c.wildTime) {
		return c.wild
	}
	wild, err := readPair(c.c.Chain, c.c.Key)
	if err != nil {
		c.c.Log.Error("certificate of the edge's domain not read, the last one is used", "error", err)
		return c.wild
	}
	if st != nil {
		c.wildTime = st.ModTime()
	}
	c.wild = wild
	return c.wild
}

// readFiles finds out at the start what is wrong with the domain's files.
func (c *certificates) readFiles() error {
	if c.c.Chain == "" {
		return nil
	}
	cert, err := readPair(c.c.Chain, c.c.Key)
	if err != nil {
		return err
	}
	if err := cert.Leaf.VerifyHostname("x." + c.c.Domain); err != nil {
		return &api.Error{Code: api.CodeInvalid, Op: "read", Object: "edge.chain " + c.c.Chain, Message: "it is not for *." + c.c.Domain, Err: err}
	}
	return nil
}

func readPair(chain, key string) (*tls.Certificate, error) {
	refuse := func(err error) error {
		return &api.Error{Code: api.CodeInvalid, Op: "read", Object: "edge.chain " + chain + ", edge.key " + key, Err: err}
	}
	c, err := os.ReadFile(chain)
	if err != nil {
		return nil, refuse(err)
	}
	k, err := os.ReadFile(key)
	if err != nil {
		return nil, refuse(err)
	}
	cert, err := ParsePair(c, k)
	if err != nil {
		return nil, refuse(err)
	}
	return cert, nil
}

// ParsePair reads a certificate, those that signed it, and its key, all PEM.
func ParsePair(chain, key []byte) (*tls.Certificate, error) {
	refuse := func(field, message, hint string, err error) error {
		return &api.Error{Code: api.CodeInvalid, Op: "read", Object: "certificate", Message: message, Hint: hint, Fields: []string{field}, Err: err}
	}
	if len(chain) > maxChain || len(key) > maxChain {
		return nil, refuse("chain", fmt.Sprintf("it is longer than %d KiB", maxChain>>10), "send one certificate and those that signed it", nil)
	}
	if b, _ := pem.Decode(chain); b == nil {
		return nil, refuse("chain", "there is no PEM certificate in it", "it begins with -----BEGIN CERTIFICATE-----", nil)
	}
	b, _ := pem.Decode(key)
	switch {
	case b == nil:
		return nil, refuse("key", "there is no PEM key in it", "it begins with -----BEGIN PRIVATE KEY----- or the like", nil)
	case strings.Contains(b.Type, "ENCRYPTED") || b.Headers["DEK-Info"] != "":
		return nil, refuse("key", "the key needs a passphrase", "take the passphrase off: openssl pkey -in KEY -out PLAIN", nil)
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		if strings.Contains(err.Error(), "does not match") {
			return nil, refuse("key", "the key does not belong to the first certificate", "send the site's own certificate first, then those that signed it", nil)
		}
		return nil, refuse("chain", "certificate and key cannot be used", "", err)
	}
	if cert.Leaf == nil {
		if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return nil, refuse("chain", "the certificate cannot be read", "", err)
		}
	}
	for i, der := range cert.Certificate {
		up, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, refuse("chain", fmt.Sprintf("certificate %d cannot be read", i+1), "", err)
		}
		if i == 0 {
			continue
		}
		below, err := x509.ParseCertificate(cert.Certificate[i-1])
		if err != nil {
			return nil, err
		}
		if err := below.CheckSignatureFrom(up); err != nil {
			return nil, refuse("chain", fmt.Sprintf("certificate %d did not sign certificate %d", i+1, i), "put them in order: the site's own first, then each that signed the one before it", err)
		}
	}
	return &cert, nil
}

// CheckPair is ParsePair for a name, at a time.
func CheckPair(chain, key []byte, name string, now time.Time) (*tls.Certificate, error) {
	cert, err := ParsePair(chain, key)
	if err != nil {
		return nil, err
	}
	refuse := func(message, hint string) error {
		return &api.Error{Code: api.CodeInvalid, Op: "use certificate for", Object: "site " + name, Message: message, Hint: hint, Fields: []string{"chain"}}
	}
	switch leaf := cert.Leaf; {
	case now.After(leaf.NotAfter):
		return nil, refuse("it ended on "+leaf.NotAfter.UTC().Format(time.DateOnly), "send one that has been renewed")
	case now.Before(leaf.NotBefore):
		return nil, refuse("it begins on "+leaf.NotBefore.UTC().Format(time.DateTime), "send one that is valid now, or set the director's clock")
	case leaf.VerifyHostname(name) != nil:
		names := strings.Join(leaf.DNSNames, ", ")
		if names == "" {
			names = "no host name"
		}
		return nil, refuse("it is for "+api.Shorten(names), "the certificate must name "+name)
	case leaf.IsCA:
		return nil, refuse("it is that of an authority, not of a site", "send the site's own certificate first")
	}
	return cert, nil
}

// aging says so when a certificate is near its end or past it.
func (c *certificates) aging(leaf *x509.Certificate) string {
	left := leaf.NotAfter.Sub(c.c.Now())
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	switch {
	case left <= 0:
		return "its certificate ended on " + leaf.NotAfter.UTC().Format(time.DateOnly) + ": browsers refuse it (add the name again with a new one)"
	case left < min(someTime, life/4):
		return "its certificate ends on " + leaf.NotAfter.UTC().Format(time.DateOnly) + " (add the name again with a new one)"
	}
	return ""
}

func (c *certificates) ofFile(name string) (expires time.Time, problem string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f := c.files[name]; {
	case f.err != nil:
		return time.Time{}, f.err.Error()
	case f.cert != nil:
		return f.cert.Leaf.NotAfter, c.aging(f.cert.Leaf)
	}
	return time.Time{}, ""
}

func (c *certificates) fromFile(name string) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.files[name].cert
}

func (e *Edge) tls() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1", acmez.ACMETLS1Protocol},
		Time:           e.c.Now,
		GetCertificate: e.certificate,
	}
}

var errChallenge = errors.New("no challenge is under way")

// certificate chooses by the name that a visitor asks for. Names that are not
// ours get no answer but a failed handshake.
func (e *Edge) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Equal(hello.SupportedProtos, []string{acmez.ACMETLS1Protocol}) {
		if e.acme == nil {
			return nil, errChallenge
		}
		return e.acme.config.GetCertificate(hello)
	}
	return e.certificateFor(normal(hello.ServerName), hello)
}

func (e *Edge) certificateFor(name string, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s := e.table.Load().sites[name]
	if s == nil {
		return e.certs.fallback(name)
	}
	switch s.Certificate {
	case CertificateFile:
		if cert := e.certs.fromFile(name); cert != nil {
			return cert, nil
		}
	case CertificateACME:
		if e.acme != nil {
			if cert := e.acme.certificate(hello, name); cert != nil {
				return cert, nil
			}
		}
	}
	return e.certs.own(name) // until the other is there, visitors get at least an encrypted answer
}

// normal is a host name as tables have it.
func normal(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }
