package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
)

func newAuthority(t *testing.T, installation string) *Authority {
	t.Helper()
	a, err := Create(filepath.Join(t.TempDir(), "ca"), installation, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newCSR(t *testing.T, key any, names ...string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "root"}, DNSNames: names}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockCSR, Bytes: der})
}

func ecKey(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestCreateThenOpenIsTheSameAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := Open(dir, time.Now); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Open of nothing: got %v, want fs.ErrNotExist", err)
	}
	a, err := Create(dir, "i1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if a.RootSHA256() != b.RootSHA256() || b.Installation() != "i1" || !a.ca.Equal(b.ca) {
		t.Error("the authority changed when it was opened again")
	}
	if _, err := Create(dir, "i2", time.Now); err == nil {
		t.Error("Create over an existing authority: no error")
	}
	for name, want := range map[string]os.FileMode{rootKeyFile: 0o400, caKeyFile: 0o600, filepath.Dir(rootKeyFile): 0o700 | os.ModeDir} {
		if s, err := os.Stat(filepath.Join(dir, name)); err != nil || s.Mode() != want {
			t.Errorf("%s: got mode %v, %v, want %v", name, s.Mode(), err, want)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	for _, c := range []struct {
		name, installation string
		now                time.Time
	}{
		{"no-name", "", time.Now()},
		{"slash", "a/b", time.Now()},
		{"upper-case", "I1", time.Now()},
		{"clock-of-1970", "i1", time.Unix(60, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ca")
			if _, err := Create(dir, c.installation, func() time.Time { return c.now }); api.CodeOf(err) == api.CodeInternal || err == nil {
				t.Errorf("got %v, want an error for people", err)
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Error("something was left behind")
			}
		})
	}
}

// TestClockWasAhead: what an authority made while the clock was years ahead
// counts when it is put right, and so does an intermediate that it renewed.
func TestClockWasAhead(t *testing.T) {
	at := func(years int) func() time.Time {
		return func() time.Time { return time.Now().AddDate(years, 0, 0) }
	}
	for name, years := range map[string][2]int{"made-ahead": {14, 14}, "renewed-ahead": {0, 14}} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ca")
			if _, err := Create(dir, "i1", at(years[0])); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, at(years[1])); err != nil {
				t.Fatal(err)
			}
			a, err := Open(dir, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			own, err := a.certificate([]string{"192.0.2.1"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := own.Leaf.Verify(x509.VerifyOptions{Roots: a.roots, Intermediates: poolOf(a.ca), DNSName: "192.0.2.1"}); err != nil {
				t.Errorf("a browser says: %v", err)
			}
		})
	}
}

func poolOf(c *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c)
	return p
}

func TestRootKeyIsNotNeededAtRunTime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	a, err := Create(dir, "i1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	away := filepath.Join(t.TempDir(), "root.key")
	if err := os.Rename(filepath.Join(dir, rootKeyFile), away); err != nil {
		t.Fatal(err)
	}
	late := func() time.Time { return time.Now().Add(intermediateLife - 30*24*time.Hour) }
	for name, now := range map[string]func() time.Time{"today": time.Now, "shortly-before-the-end": late} {
		if _, err := Open(dir, now); err != nil {
			t.Errorf("%s: Open without root key: %v", name, err)
		}
	}
	after := func() time.Time { return time.Now().Add(intermediateLife + time.Hour) }
	if _, err := Open(dir, after); err == nil || !strings.Contains(err.Error(), rootKeyFile) {
		t.Errorf("Open with an ended intermediate and no root key: got %v, want the key's path", err)
	}
	if err := os.Rename(away, filepath.Join(dir, rootKeyFile)); err != nil {
		t.Fatal(err)
	}
	b, err := Open(dir, after)
	if err != nil {
		t.Fatal(err)
	}
	if b.ca.Equal(a.ca) || !b.ca.NotAfter.After(after()) || b.RootSHA256() != a.RootSHA256() {
		t.Error("the intermediate was not made anew under the same root")
	}
}

func TestOpenMendsKeyAndCertificateThatDoNotFit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := Create(dir, "i1", time.Now); err != nil {
		t.Fatal(err)
	}
	if err := SaveKey(filepath.Join(dir, caKeyFile), ecKey(t, elliptic.P256())); err != nil { // a crash between two renames
		t.Fatal(err)
	}
	a, err := Open(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if !a.caKey.PublicKey.Equal(a.ca.PublicKey) {
		t.Error("key and certificate still do not fit")
	}
}

func TestSign(t *testing.T) {
	a := newAuthority(t, "i1")
	id := api.Identity{Installation: "i1", Role: api.RoleAgent, Application: 3, Service: 1, Name: "a3-s1-k2"}
	chain, end, err := a.Sign(newCSR(t, ecKey(t, elliptic.P256()), "evil.example", "nutshell-director"), id, []string{"10.1.2.3", "web.example", "::1"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	certs, _, err := parsePEM(chain)
	if err != nil || len(certs) != 3 {
		t.Fatalf("chain: %d certificates, %v", len(certs), err)
	}
	leaf := certs[0]
	if got, err := leafIdentity(leaf); err != nil || got != id {
		t.Errorf("identity: got %v, %v", got, err)
	}
	if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != "web.example" || leaf.Subject.CommonName == "root" {
		t.Errorf("names of the CSR got in: %v, %v", leaf.DNSNames, leaf.Subject)
	}
	if len(leaf.IPAddresses) != 2 || !leaf.IPAddresses[0].Equal(net.IPv4(10, 1, 2, 3)) {
		t.Errorf("addresses: got %v", leaf.IPAddresses)
	}
	if left := time.Until(end); left < Life-time.Minute || left > Life || !leaf.NotAfter.Equal(end) {
		t.Errorf("life: got %v, want %v", left, Life)
	}
	if since := time.Since(leaf.NotBefore); since < backdate || since > backdate+time.Minute {
		t.Errorf("backdated by %v, want %v", since, backdate)
	}
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature || leaf.IsCA || leaf.SerialNumber.BitLen() < 64 {
		t.Errorf("usage %v, CA %v, serial %v", leaf.KeyUsage, leaf.IsCA, leaf.SerialNumber)
	}
	if certs[1].MaxPathLen != 0 || !certs[1].MaxPathLenZero || certs[2].MaxPathLen != 1 {
		t.Error("path lengths are not limited")
	}
	user := api.Identity{Installation: "i1", Role: api.RoleUser, Name: "7"}
	chain, _, err = a.Sign(newCSR(t, ecKey(t, elliptic.P256())), user, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	certs, _, _ = parsePEM(chain)
	if err := verifyChain(certs, a.roots, time.Now(), x509.ExtKeyUsageServerAuth); err == nil {
		t.Error("a user's certificate can be used by a server")
	}
}

func TestSignRefuses(t *testing.T) {
	a := newAuthority(t, "i1")
	agent := api.Identity{Installation: "i1", Role: api.RoleAgent, Application: 3, Service: 1, Name: "x"}
	good := newCSR(t, ecKey(t, elliptic.P256()))
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	broken, _ := pem.Decode(good)
	broken.Bytes[len(broken.Bytes)-1] ^= 1 // the signature
	other := agent
	other.Installation = "i2"
	for _, c := range []struct {
		name  string
		csr   []byte
		id    api.Identity
		hosts []string
	}{
		{"no-pem", []byte("hello"), agent, nil},
		{"empty", nil, agent, nil},
		{"certificate-instead", a.RootPEM(), agent, nil},
		{"too-large", []byte(strings.Repeat("a", maxPEM+1)), agent, nil},
		{"signature-broken", pem.EncodeToMemory(broken), agent, nil},
		{"rsa-key", newCSR(t, rsaKey), agent, nil},
		{"p224-key", newCSR(t, ecKey(t, elliptic.P224())), agent, nil},
		{"p384-key", newCSR(t, ecKey(t, elliptic.P384())), agent, nil},
		{"other-installation", good, other, nil},
		{"no-identity", good, api.Identity{Installation: "i1", Role: api.RoleNode}, nil},
		{"slash-in-name", good, api.Identity{Installation: "i1", Role: api.RoleNode, Name: "a/b"}, nil},
		{"wildcard-host", good, agent, []string{"*.example"}},
		{"host-with-blank", good, agent, []string{"a b"}},
		{"empty-host", good, agent, []string{""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, _, err := a.Sign(c.csr, c.id, c.hosts, 0); api.CodeOf(err) != api.CodeInvalid {
				t.Errorf("got %v, want code invalid", err)
			}
		})
	}
}

func TestKeySHA256TellsKeysApart(t *testing.T) {
	k1, k2 := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P256())
	hash := func(k *ecdsa.PrivateKey) string {
		csr, err := CSR(k)
		if err != nil {
			t.Fatal(err)
		}
		h, err := KeySHA256(csr)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	if first := hash(k1); first != hash(k1) || first == hash(k2) {
		t.Error("two requests of one key differ, or two keys do not")
	}
}
