package mysql

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// Nodes know each other, and clients know nodes, by certificates of an
// authority that each service has for itself. Its key is made from a secret of
// the service, so that every holder of the secret has the same and nothing
// must be stored.

// Certificates last longer than any node: they are made anew with each.
var (
	authorityBegins = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	authorityEnds   = time.Date(2049, 12, 31, 0, 0, 0, 0, time.UTC)
)

type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

// newAuthority makes the authority of a secret: always the same of the same.
func newAuthority(secret, service string) (*authority, error) {
	// A scalar below the order of the curve: 48 bytes reduced leave no bias that matters.
	seed, err := hkdf.Key(sha256.New, []byte(secret), nil, "nutshell mysql authority", 48)
	if err != nil {
		return nil, fmt.Errorf("make the authority: %w", err)
	}
	curve := elliptic.P256()
	order := new(big.Int).Sub(curve.Params().N, big.NewInt(1))
	d := new(big.Int).Mod(new(big.Int).SetBytes(seed), order)
	d.Add(d, big.NewInt(1))
	key, err := ecdsa.ParseRawPrivateKey(curve, d.FillBytes(make([]byte, 32)))
	if err != nil {
		return nil, fmt.Errorf("make the authority: %w", err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Nutshell service " + service}, NotBefore: authorityBegins, NotAfter: authorityEnds,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(nil, t, t, key.Public(), key) // without randomness the signature is the same each time
	if err != nil {
		return nil, fmt.Errorf("make the authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the authority: %w", err)
	}
	return &authority{key, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

// issue makes a key and certificate, as PEM, for an instance that is a server
// to clients, and both sides to other nodes. addresses are those by which
// clients reach it.
func (a *authority) issue(name string, addresses []string) (key, cert []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: authorityBegins, NotAfter: authorityEnds,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, at := range addresses {
		t.IPAddresses = append(t.IPAddresses, net.ParseIP(at))
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, k.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// issued reports whether cert is of this authority and for these addresses.
func (a *authority) issued(cert []byte, addresses []string) bool {
	block, _ := pem.Decode(cert)
	if block == nil {
		return false
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil || c.CheckSignatureFrom(a.cert) != nil {
		return false
	}
	return slices.EqualFunc(c.IPAddresses, addresses, func(ip net.IP, at string) bool { return ip.Equal(net.ParseIP(at)) })
}
