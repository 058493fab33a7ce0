package client

import (
	"context"
	"crypto/tls"
	"net/url"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
)

// cleanFingerprint makes one form of those that people paste.
func cleanFingerprint(s string) string {
	s = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "sha256:")
	return strings.NewReplacer(":", "", " ", "").Replace(s)
}

// showFingerprint writes a fingerprint as the director prints it, so that
// people can compare them letter by letter.
func showFingerprint(s string) string { return "sha256:" + s }

// trust makes the TLS settings that accept the director with the pinned root
// only, under whatever name it is reached. Without a pin the machine's own
// roots decide, for a director behind a public certificate.
func trust(pin string) *tls.Config {
	if pin == "" {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	config := pki.PinnedTLS(pin)
	verify := config.VerifyConnection
	config.VerifyConnection = func(s tls.ConnectionState) error {
		if err := verify(s); err != nil {
			return &pinError{err}
		}
		return nil
	}
	return config
}

// pinError is a director that is not the one that was trusted.
type pinError struct{ err error }

func (e *pinError) Error() string { return e.err.Error() }
func (e *pinError) Unwrap() error { return e.err }

// askRoot asks a director that is not trusted yet for the fingerprint of its
// CA. Whether it is the right one, a person must say.
func askRoot(ctx context.Context, base string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	u, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	_, sum, err := pki.FetchRoot(ctx, u.Host)
	if err != nil && api.CodeOf(err) == api.CodeInternal {
		err = &api.Error{Code: api.CodeUnavailable, Op: "ask for its CA", Object: base, Err: err, Hint: "is this the address of a running Nutshell director?"}
	}
	return sum, err
}
