package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"nutshell/roles/api"
)

// credentialsFile holds key and chain together, so that one rename replaces
// both and they always fit.
const credentialsFile = "identity.pem"

// NewKey makes a private key. It never leaves the process and its directory.
func NewKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// SaveKey keeps a key whose certificate is still asked for.
func SaveKey(path string, key *ecdsa.PrivateKey) error {
	data, err := keyPEM(key)
	if err != nil {
		return err
	}
	return writeFile(path, data, 0o600)
}

// LoadKey reads what SaveKey wrote.
func LoadKey(path string) (*ecdsa.PrivateKey, error) { return readKey(path) }

// CSR makes a certificate request without names: the director decides those.
func CSR(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockCSR, Bytes: der}), nil
}

// Credentials are a role's key and certificate, and the root it trusts. They
// can be used and replaced at the same time.
type Credentials struct {
	now func() time.Time

	mu    sync.RWMutex
	key   *ecdsa.PrivateKey
	chain []*x509.Certificate // leaf, intermediate, root
	id    api.Identity
	cert  *tls.Certificate
	roots *x509.CertPool

	// What the director's clock said, and ours at that moment. Now goes on from
	// there, so that a machine with a clock that is behind can take part.
	told, toldAt time.Time
	patient      bool
	estranged    bool // a director was refused because of the time
}

// NewCredentials joins a key and the chain that the director signed for it.
// The chain must end in the root whose hash is rootSHA256.
func NewCredentials(key *ecdsa.PrivateKey, chainPEM []byte, rootSHA256 string, now func() time.Time) (*Credentials, error) {
	c := &Credentials{now: now}
	return c, c.set(key, chainPEM, rootSHA256)
}

// Load reads what Save wrote. It wraps fs.ErrNotExist when there is nothing.
func Load(dir string, now func() time.Time) (*Credentials, error) {
	path := filepath.Join(dir, credentialsFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	certs, key, err := parsePEM(data)
	if err == nil && (key == nil || len(certs) < 2) {
		err = errors.New("it has no key or no chain")
	}
	if err != nil {
		return nil, fmt.Errorf("read credentials %s: %w", path, err)
	}
	c := &Credentials{now: now}
	if err := c.set(key, certPEM(certs...), fingerprint(certs[len(certs)-1])); err != nil {
		return nil, fmt.Errorf("read credentials %s: %w", path, err)
	}
	return c, nil
}

func (c *Credentials) set(key *ecdsa.PrivateKey, chainPEM []byte, rootSHA256 string) error {
	chain, _, err := parsePEM(chainPEM)
	if err != nil {
		return fmt.Errorf("read certificate chain: %w", err)
	}
	if len(chain) < 2 {
		return errors.New("the certificate chain is too short")
	}
	root := chain[len(chain)-1]
	if !strings.EqualFold(fingerprint(root), rootSHA256) {
		return fmt.Errorf("the certificate chain ends in another root: %s instead of %s", fingerprint(root), rootSHA256)
	}
	if !key.PublicKey.Equal(chain[0].PublicKey) {
		return errors.New("the certificate is for another key")
	}
	id, err := leafIdentity(chain[0])
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	// Our own certificate may be expired here (it may still be renewed), so it
	// is checked at the moment it was made.
	issued := chain[0].NotBefore.Add(backdate)
	if err := verifyChain(chain, roots, issued); err != nil {
		return err
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, x := range chain {
		cert.Certificate = append(cert.Certificate, x.Raw)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chain != nil && id != c.id {
		return fmt.Errorf("the certificate is for %s, not for %s", id, c.id)
	}
	c.key, c.chain, c.id, c.cert, c.roots, c.estranged = key, chain, id, cert, roots, false
	// It cannot be earlier than the certificate was made, whatever our clock says.
	if issued.After(c.nowLocked()) {
		c.told, c.toldAt = issued, c.now()
	}
	return nil
}

// Replace takes the key and chain of a renewal: same root, same identity.
func (c *Credentials) Replace(key *ecdsa.PrivateKey, chainPEM []byte) error {
	return c.set(key, chainPEM, c.RootSHA256())
}

// Reload takes what another process has saved since.
func (c *Credentials) Reload(dir string) error {
	fresh, err := Load(dir, c.now)
	if err != nil || fresh.NotAfter().Equal(c.NotAfter()) {
		return err
	}
	return c.set(fresh.key, certPEM(fresh.chain...), c.RootSHA256())
}

// Save writes the credentials in dir, readable by the owner only.
func (c *Credentials) Save(dir string) error {
	c.mu.RLock()
	data, err := keyPEM(c.key)
	data = append(data, certPEM(c.chain...)...)
	c.mu.RUnlock()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, credentialsFile), data, 0o600)
}

// Identity is who these credentials speak for.
func (c *Credentials) Identity() api.Identity {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.id
}

// Issued is when the certificate was made.
func (c *Credentials) Issued() time.Time {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.chain[0].NotBefore.Add(backdate)
}

// NotAfter is when the certificate ends.
func (c *Credentials) NotAfter() time.Time {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.chain[0].NotAfter
}

// RootSHA256 is the hash of the root that these credentials trust.
func (c *Credentials) RootSHA256() string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return fingerprint(c.chain[len(c.chain)-1])
}

// Told takes note of the director's clock.
func (c *Credentials) Told(director time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told, c.toldAt = director, c.now()
}

// Now is the local clock, or the director's where the local one is behind.
func (c *Credentials) Now() time.Time {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.nowLocked()
}

// Wait stops the clock of these credentials when they should have been
// renewed. Those of one service so go on with each other when the director is
// away for longer than their certificates last.
func (c *Credentials) Wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.patient = true
}

// Ended reports whether the certificate is out of date, also after Wait.
func (c *Credentials) Ended() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.clock().After(c.chain[0].NotAfter)
}

// Estranged reports whether a director was refused since the certificate was
// made because of the time: one of both clocks is wrong, and a renewal tells
// us what time it is.
func (c *Credentials) Estranged() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.estranged
}

// refuses takes note of a peer that was refused.
func (c *Credentials) refuses(peer []*x509.Certificate, err error) {
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) || invalid.Reason != x509.Expired || len(peer) == 0 {
		return
	}
	if id, err := leafIdentity(peer[0]); err != nil || Director(id) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.estranged = true
}

func (c *Credentials) nowLocked() time.Time {
	now := c.clock()
	if c.patient && c.chain != nil {
		issued := c.chain[0].NotBefore.Add(backdate)
		if due := issued.Add(c.chain[0].NotAfter.Sub(issued) * 2 / 3); now.After(due) {
			return due
		}
	}
	return now
}

func (c *Credentials) clock() time.Time {
	local := c.now()
	// Sub is by the monotonic clock, so a local clock that is put right in
	// between does not count twice.
	if t := c.told.Add(local.Sub(c.toldAt)); !c.told.IsZero() && t.After(local) {
		return t
	}
	return local
}

func (c *Credentials) certificate() (*tls.Certificate, *x509.CertPool, api.Identity) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.cert, c.roots, c.id
}
