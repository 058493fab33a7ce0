// Package pki is the installation's certificate authority and everything that
// is built on it: signing, the credentials that a role holds, and the TLS
// configurations by which roles know each other.
//
// A peer is known by its identity, a URI SAN, and by a chain that ends in our
// root; names and addresses of hosts are never looked at, because instances
// come and go. Every configuration made here verifies by itself; none relies
// on the certificates that the machine trusts.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"nutshell/roles/api"
)

// Lives of what is signed. The intermediate is made anew by Open long before
// its end, as long as the root key is there.
const (
	Life             = 24 * time.Hour // of a leaf, unless Sign is told otherwise
	backdate         = 10 * time.Minute
	rootLife         = 30 * 365 * 24 * time.Hour
	intermediateLife = 10 * 365 * 24 * time.Hour
	intermediateLow  = 365 * 24 * time.Hour

	// The CA counts from the first moment of this year: for members whose clock
	// is behind, and for ourselves, should the clock be ahead when the CA is
	// made and be put right later.
	caYear = 2024
)

// Names of the files of an authority. The root key has a directory of its
// own, so that it can be moved away; only Create and a new intermediate need it.
const (
	rootCertFile = "root.pem"
	rootKeyFile  = "root/root.key"
	caCertFile   = "intermediate.pem"
	caKeyFile    = "intermediate.key"
)

var installationPattern = regexp.MustCompile(`^[a-z0-9]{1,32}$`)

// Authority signs for one installation.
type Authority struct {
	// Denied refuses an identity at once, before its certificate ends. Set it
	// before ServerTLS is called; nil denies nobody.
	Denied func(api.Identity) bool

	installation string
	root, ca     *x509.Certificate
	caKey        *ecdsa.PrivateKey
	roots        *x509.CertPool
	now          func() time.Time

	mu    sync.Mutex
	own   *tls.Certificate // the director's leaf
	hosts []string         // the names it was made for
}

// Create makes a new root and intermediate in dir, which must not exist or be
// empty. It appears complete or not at all.
func Create(dir, installation string, now func() time.Time) (*Authority, error) {
	if !installationPattern.MatchString(installation) {
		return nil, api.Invalidf("the installation %s is not 1 to 32 of a-z and 0-9", api.Shorten(installation))
	}
	if now().Year() < caYear {
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "create certificate authority",
			Message: "the clock says " + now().UTC().Format(time.DateTime), Hint: "set the clock of this machine first"}
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	root := caTemplate("Nutshell root "+installation, installation, 1, now(), rootLife)
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	if root, err = x509.ParseCertificate(rootDER); err != nil {
		return nil, err
	}
	ca, caKey, err := signIntermediate(root, rootKey, installation, now())
	if err != nil {
		return nil, err
	}
	temp := dir + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(temp, filepath.Dir(rootKeyFile)), 0o700); err != nil {
		return nil, err
	}
	rootPEM, err := keyPEM(rootKey)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{{rootKeyFile, rootPEM, 0o400}, {rootCertFile, certPEM(root), 0o644}} {
		if err := writeFile(filepath.Join(temp, f.name), f.data, f.mode); err != nil {
			return nil, err
		}
	}
	if err := saveIntermediate(temp, ca, caKey); err != nil {
		return nil, err
	}
	if err := os.Rename(temp, dir); err != nil {
		return nil, fmt.Errorf("create certificate authority %s: %w", dir, err)
	}
	return Open(dir, now)
}

// Open reads an authority. It wraps fs.ErrNotExist when there is none.
func Open(dir string, now func() time.Time) (*Authority, error) {
	root, err := readCert(filepath.Join(dir, rootCertFile))
	if err != nil {
		return nil, err
	}
	if len(root.Subject.Organization) != 1 {
		return nil, fmt.Errorf("%s is not the root of a Nutshell installation", filepath.Join(dir, rootCertFile))
	}
	a := &Authority{installation: root.Subject.Organization[0], root: root, roots: x509.NewCertPool(), now: now}
	a.roots.AddCert(root)
	if err := a.openIntermediate(dir); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Authority) openIntermediate(dir string) error {
	ca, err := readCert(filepath.Join(dir, caCertFile))
	if err != nil {
		return err
	}
	key, err := readKey(filepath.Join(dir, caKeyFile))
	if err != nil {
		return err
	}
	sound := ca.CheckSignatureFrom(a.root) == nil && key.PublicKey.Equal(ca.PublicKey)
	if sound && ca.NotAfter.Sub(a.now()) > intermediateLow {
		a.ca, a.caKey = ca, key
		return nil
	}
	// The certificate is near its end, or a crash came between the renames of
	// the two files. The root can mend both.
	rootKey, err := readKey(filepath.Join(dir, rootKeyFile))
	if errors.Is(err, fs.ErrNotExist) && sound && a.now().Before(ca.NotAfter) {
		a.ca, a.caKey = ca, key
		return nil
	}
	if err != nil {
		return &api.Error{Code: api.CodeUnavailable, Op: "open certificate authority", Object: dir, Err: err,
			Message: "the intermediate certificate must be made anew", Hint: "put the root key back at " + filepath.Join(dir, rootKeyFile)}
	}
	if a.ca, a.caKey, err = signIntermediate(a.root, rootKey, a.installation, a.now()); err != nil {
		return err
	}
	return saveIntermediate(dir, a.ca, a.caKey)
}

// Installation is the name that every identity begins with.
func (a *Authority) Installation() string { return a.installation }

// RootPEM is the root certificate.
func (a *Authority) RootPEM() []byte { return certPEM(a.root) }

// Expires is when the first of the authority's certificates ends.
func (a *Authority) Expires() time.Time {
	if a.ca.NotAfter.Before(a.root.NotAfter) {
		return a.ca.NotAfter
	}
	return a.root.NotAfter
}

// RootSHA256 is the hash of the root certificate's DER, in hex. It is what
// instances and the command line pin.
func (a *Authority) RootSHA256() string { return fingerprint(a.root) }

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// caTemplate makes a certificate that signs others. It has no name
// constraints on purpose: the identities are URIs, and browsers that have
// imported the root refuse chains with constraints of a kind they do not know.
func caTemplate(name, installation string, path int, now time.Time, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: name, Organization: []string{installation}},
		NotBefore:             time.Date(caYear, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              now.Add(life).UTC(),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            path,
		MaxPathLenZero:        path == 0,
	}
}

func signIntermediate(root *x509.Certificate, rootKey *ecdsa.PrivateKey, installation string, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := caTemplate("Nutshell intermediate "+installation, installation, 0, now, intermediateLife)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if t.NotAfter.After(root.NotAfter) {
		t.NotAfter = root.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, root, key.Public(), rootKey)
	if err != nil {
		return nil, nil, fmt.Errorf("sign intermediate certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	return c, key, err
}

func saveIntermediate(dir string, ca *x509.Certificate, key *ecdsa.PrivateKey) error {
	pem, err := keyPEM(key)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, caKeyFile), pem, 0o600); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, caCertFile), certPEM(ca), 0o644)
}

// serial is 128 random bits, never 0.
func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		panic("pki: no randomness: " + err.Error()) // crypto/rand never fails on Linux
	}
	return n.Add(n, big.NewInt(1))
}
