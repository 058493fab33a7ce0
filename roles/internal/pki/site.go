package pki

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"time"
)

// SiteLife is how long a site's certificate lasts. It lives in memory and is
// made anew at each start, so this bounds a director that is never restarted.
const SiteLife = 30 * 24 * time.Hour

// Site makes a key and a certificate for a web site with these host names and
// addresses; a name may begin with "*.". It has no identity: whoever got hold
// of its key is no member of the installation and no director.
func (a *Authority) Site(hosts []string) (*tls.Certificate, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	now := a.now()
	t := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "Nutshell site", Organization: []string{a.installation}},
		NotBefore:             now.Add(-backdate).UTC(),
		NotAfter:              now.Add(SiteLife).UTC(),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if t.NotAfter.After(a.ca.NotAfter) {
		t.NotAfter = a.ca.NotAfter
	}
	for _, h := range hosts {
		plain, wild := strings.CutPrefix(h, "*.")
		if err := addHost(t, plain); err != nil {
			return nil, err
		}
		if wild && len(t.DNSNames) > 0 {
			t.DNSNames[len(t.DNSNames)-1] = h
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.ca, key.Public(), a.caKey)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of site %s: %w", strings.Join(hosts, ", "), err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.ca.Raw, a.root.Raw}, PrivateKey: key, Leaf: leaf}, nil
}
