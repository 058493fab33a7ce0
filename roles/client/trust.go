package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"nutshell/roles/api"
)

// cleanFingerprint makes one form of those that people paste.
func cleanFingerprint(s string) string {
	s = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "sha256:")
	return strings.NewReplacer(":", "", " ", "").Replace(s)
}

// showFingerprint groups a fingerprint so that people can compare it.
func showFingerprint(s string) string {
	var groups []string
	for ; len(s) > 4; s = s[4:] {
		groups = append(groups, s[:4])
	}
	return strings.Join(append(groups, s), ":")
}

func fingerprint(root *x509.Certificate) string {
	sum := sha256.Sum256(root.Raw)
	return hex.EncodeToString(sum[:])
}

// trust makes the TLS settings that accept the director with the pinned root
// only, under whatever name it is reached. Without a pin the machine's own
// roots decide, for a director behind a public certificate.
func trust(pin string) *tls.Config {
	if pin == "" {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection below checks the chain against the pin
		VerifyConnection: func(s tls.ConnectionState) error {
			for _, root := range s.PeerCertificates {
				if fingerprint(root) == pin {
					return verifyBy(root, s.PeerCertificates)
				}
			}
			return errPin
		},
	}
}

var errPin = errors.New("the director's certificate is not from the CA that was trusted at login")

func verifyBy(root *x509.Certificate, chain []*x509.Certificate) error {
	roots, middle := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, m := range chain[1:] {
		middle.AddCert(m)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: middle, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

// askRoot asks a director that is not trusted yet for its root certificate,
// and checks that the director's own certificate comes from it. Whether the
// root is the right one, a person must say.
func askRoot(ctx context.Context, base string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var chain []*x509.Certificate
	tr := &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // nothing secret is sent before the answer is confirmed
		VerifyConnection: func(s tls.ConnectionState) error {
			chain = s.PeerCertificates
			return nil
		},
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/ca", nil)
	if err != nil {
		return nil, err
	}
	fail := func(err error) error {
		return &api.Error{Code: api.CodeUnavailable, Op: "ask for its CA", Object: base, Err: err, Hint: "is this the address of a Nutshell director?"}
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return nil, fail(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fail(err)
	}
	block, _ := pem.Decode(b)
	if resp.StatusCode != http.StatusOK || block == nil || len(chain) == 0 {
		return nil, fail(errors.New("it answers " + resp.Status + " without a certificate"))
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fail(err)
	}
	return root, verifyBy(root, chain)
}
