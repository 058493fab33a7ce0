package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"time"

	"nutshell/roles/api"
)

var hostPattern = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

// Sign makes a certificate for the key of a CSR. Who it is for is said by id
// and hosts (DNS names and IP addresses) alone; names in the CSR are ignored.
// A life of 0 means Life. The chain is leaf, intermediate, root.
func (a *Authority) Sign(csrPEM []byte, id api.Identity, hosts []string, life time.Duration) (chainPEM []byte, notAfter time.Time, err error) {
	csr, err := parseCSR(csrPEM)
	if err != nil {
		return nil, time.Time{}, err
	}
	leaf, err := a.sign(csr.PublicKey, id, hosts, life)
	if err != nil {
		return nil, time.Time{}, err
	}
	return certPEM(leaf, a.ca, a.root), leaf.NotAfter, nil
}

// KeySHA256 is the hash of a CSR's public key, in hex. A director that keeps
// it with a used enrolment secret can answer the same instance again when the
// first answer was lost, and still refuse everybody else.
func KeySHA256(csrPEM []byte) (string, error) {
	csr, err := parseCSR(csrPEM)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:]), nil
}

func parseCSR(csrPEM []byte) (*x509.CertificateRequest, error) {
	refuse := func(message string, err error) error {
		return &api.Error{Code: api.CodeInvalid, Op: "sign certificate", Message: message, Err: err, Fields: []string{"csr"}}
	}
	if len(csrPEM) > maxPEM {
		return nil, refuse("the certificate request is too large", nil)
	}
	b, _ := pem.Decode(csrPEM)
	if b == nil || b.Type != blockCSR {
		return nil, refuse("there is no PEM certificate request", nil)
	}
	csr, err := x509.ParseCertificateRequest(b.Bytes)
	if err != nil {
		return nil, refuse("the certificate request cannot be read", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, refuse("the certificate request is not signed by its own key", err)
	}
	switch k := csr.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, refuse("the key is on the curve "+k.Curve.Params().Name+", only P-256 and Ed25519 are accepted", nil)
		}
	default:
		return nil, refuse(fmt.Sprintf("the key is a %T, only ECDSA P-256 and Ed25519 are accepted", k), nil)
	}
	return csr, nil
}

func (a *Authority) sign(key crypto.PublicKey, id api.Identity, hosts []string, life time.Duration) (*x509.Certificate, error) {
	if _, err := api.ParseIdentity(id.String()); err != nil {
		return nil, err
	}
	if id.Installation != a.installation {
		return nil, api.Invalidf("the identity %s is not of installation %s", id, a.installation)
	}
	uri, err := url.Parse(id.String())
	if err != nil {
		return nil, err
	}
	if life <= 0 {
		life = Life
	}
	now := a.now()
	t := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "Nutshell " + string(id.Role), Organization: []string{a.installation}},
		NotBefore:             now.Add(-backdate).UTC(),
		NotAfter:              now.Add(life).UTC(),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{uri},
	}
	if id.Role != api.RoleUser {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if t.NotAfter.After(a.ca.NotAfter) {
		t.NotAfter = a.ca.NotAfter
	}
	for _, h := range hosts {
		if err := addHost(t, h); err != nil {
			return nil, err
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.ca, key, a.caKey)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %s: %w", id, err)
	}
	return x509.ParseCertificate(der)
}

// addHost puts one more name or address into a certificate to be.
func addHost(t *x509.Certificate, h string) error {
	if ip := net.ParseIP(h); ip != nil {
		t.IPAddresses = append(t.IPAddresses, ip)
		return nil
	}
	if len(h) > 253 || !hostPattern.MatchString(h) {
		return api.Invalidf("%s is neither an IP address nor a host name", api.Shorten(h))
	}
	t.DNSNames = append(t.DNSNames, h)
	return nil
}

// certificate is the director's own leaf. It lives in memory only and is made
// anew when the director's names change and at two thirds of its life. hosts
// nil keeps the names it has.
func (a *Authority) certificate(hosts []string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if hosts == nil {
		hosts = a.hosts
	}
	if a.own != nil && slices.Equal(hosts, a.hosts) {
		leaf := a.own.Leaf
		if now := a.now(); now.Before(leaf.NotBefore.Add(backdate+Life*2/3)) && !now.Before(leaf.NotBefore) {
			return a.own, nil
		}
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	leaf, err := a.sign(key.Public(), api.Identity{Installation: a.installation, Role: api.RoleDirector}, hosts, Life)
	if err != nil {
		return nil, err
	}
	// The root is sent too: whoever pinned its hash has no other copy of it.
	a.own = &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.ca.Raw, a.root.Raw}, PrivateKey: key, Leaf: leaf}
	a.hosts = slices.Clone(hosts)
	return a.own, nil
}
