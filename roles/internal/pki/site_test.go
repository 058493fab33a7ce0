package pki

import (
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"nutshell/roles/api"
)

func TestSite(t *testing.T) {
	a, err := Create(filepath.Join(t.TempDir(), "ca"), "inst1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Site([]string{"www.example.org", "*.apps.example.org", "192.0.2.7"})
	if err != nil {
		t.Fatal(err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(a.RootPEM())
	for _, der := range c.Certificate[1:] {
		up, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(up)
	}
	for host, good := range map[string]bool{"www.example.org": true, "shop.apps.example.org": true, "a.b.apps.example.org": false, "example.org": false, "192.0.2.7": true} {
		_, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: host})
		if (err == nil) != good {
			t.Errorf("%s: got %v, want valid: %v", host, err, good)
		}
	}
	if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("a site's certificate can sign in as a client")
	}
	// Who has a site's key must not pass for anybody of the installation.
	if id, ok := a.PeerIdentity(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.Leaf, issuer(t, c)}}); ok {
		t.Errorf("a site's certificate is taken for %s", id)
	}
	for _, bad := range []string{"", "*", "*.", "a b", "x\x00.org"} {
		if _, err := a.Site([]string{bad}); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

func issuer(t *testing.T, c *tls.Certificate) *x509.Certificate {
	t.Helper()
	up, err := x509.ParseCertificate(c.Certificate[1])
	if err != nil {
		t.Fatal(err)
	}
	return up
}
