package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"nutshell/roles/api"
)

// Grace is how long after its end a certificate may still be renewed. A
// laptop that slept over the holidays must find its instances alive.
const Grace = 30 * 24 * time.Hour

// ServerTLS is for the director's port, where browsers, the command line and
// roles meet: a client certificate is verified if there is one. hosts gives
// the names and addresses the director is reached by and is asked at each
// handshake.
func (a *Authority) ServerTLS(hosts func() []string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		Time:       a.now,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return a.certificate(append([]string{}, hosts()...))
		},
		// Not VerifyClientCertIfGiven: that would refuse a certificate that has
		// just ended before it can be renewed. VerifyConnection does the work.
		ClientAuth: tls.RequestClientCert,
		ClientCAs:  a.roots, // tells browsers not to offer certificates of others
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return nil
			}
			_, err := a.peer(&cs, Grace)
			return err
		},
	}
}

// PeerIdentity tells who is at the other end of a connection to the
// director's port. It is false for no certificate, and for one that has ended
// or is denied by now.
func (a *Authority) PeerIdentity(cs *tls.ConnectionState) (api.Identity, bool) {
	id, err := a.peer(cs, 0)
	return id, err == nil
}

// RenewingIdentity is PeerIdentity for the renewal of a certificate alone: it
// also accepts one that ended less than Grace ago, and one that was signed
// while our clock was ahead.
func (a *Authority) RenewingIdentity(cs *tls.ConnectionState) (api.Identity, bool) {
	id, err := a.peer(cs, Grace)
	return id, err == nil
}

func (a *Authority) peer(cs *tls.ConnectionState, grace time.Duration) (api.Identity, error) {
	if cs == nil || len(cs.PeerCertificates) == 0 {
		return api.Identity{}, errors.New("no certificate")
	}
	at := a.now()
	switch leaf := cs.PeerCertificates[0]; {
	case at.After(leaf.NotAfter) && at.Before(leaf.NotAfter.Add(grace)):
		at = leaf.NotAfter
	case grace > 0 && at.Before(leaf.NotBefore): // signed while our clock was ahead
		at = leaf.NotBefore
	}
	id, err := verifyPeer(cs.PeerCertificates, a.roots, at, x509.ExtKeyUsageClientAuth)
	switch {
	case err != nil:
		return api.Identity{}, err
	case id.Installation != a.installation:
		return api.Identity{}, fmt.Errorf("%s is of another installation", id)
	case a.Denied != nil && a.Denied(id):
		return api.Identity{}, fmt.Errorf("%s is not a member any more", id)
	}
	return id, nil
}

// ClientTLS is for the director's calls to managers and nodes.
func (a *Authority) ClientTLS(accept func(api.Identity) error) *tls.Config {
	return clientConfig(a.now, func() (*tls.Certificate, *x509.CertPool, api.Identity, error) {
		cert, err := a.certificate(nil)
		return cert, a.roots, api.Identity{Installation: a.installation, Role: api.RoleDirector}, err
	}, accept)
}

// ServerTLS is for the port of a manager, agent or node: a certificate of
// this installation is required and its identity must be accepted.
func ServerTLS(c *Credentials, accept func(api.Identity) error) *tls.Config {
	_, roots, own := c.certificate()
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		Time:       c.Now,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, _, _ := c.certificate()
			return cert, nil
		},
		ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs:  roots,
		VerifyConnection: func(cs tls.ConnectionState) error {
			id, err := leafIdentity(cs.PeerCertificates[0])
			if err != nil {
				return err
			}
			return acceptable(own, id, accept)
		},
	}
}

// ClientTLS is for a role's calls to others: it shows our certificate and
// verifies the peer's chain and identity, whatever host it runs on.
func ClientTLS(c *Credentials, accept func(api.Identity) error) *tls.Config {
	config := clientConfig(c.Now, func() (*tls.Certificate, *x509.CertPool, api.Identity, error) {
		cert, roots, id := c.certificate()
		return cert, roots, id, nil
	}, accept)
	verify := config.VerifyConnection
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		err := verify(cs)
		if err != nil {
			c.refuses(cs.PeerCertificates, err)
		}
		return err
	}
	return config
}

// RenewalTLS is for the renewal of a certificate: it shows the one there is and
// holds the director to our root. Its time is not believed to be ours: of two
// clocks that do not agree, ours may be the wrong one.
func RenewalTLS(c *Credentials) *tls.Config {
	config := PinnedTLS(c.RootSHA256())
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert, _, _ := c.certificate()
		return cert, nil
	}
	return config
}

func clientConfig(now func() time.Time, own func() (*tls.Certificate, *x509.CertPool, api.Identity, error), accept func(api.Identity) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		Time:       now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, _, _, err := own()
			return cert, err
		},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies chain and identity instead of the host name
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, roots, self, err := own()
			if err != nil {
				return err
			}
			id, err := verifyPeer(cs.PeerCertificates, roots, now(), x509.ExtKeyUsageServerAuth)
			if err != nil {
				return err
			}
			return acceptable(self, id, accept)
		},
	}
}

// PinnedTLS is for those who know only the hash of the root: an instance that
// enrols, and the command line. The peer must be the director under that root.
func PinnedTLS(rootSHA256 string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2", "http/1.1"},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies against the pinned root
		VerifyConnection: func(cs tls.ConnectionState) error {
			roots := x509.NewCertPool()
			found := false
			for _, c := range cs.PeerCertificates {
				if strings.EqualFold(fingerprint(c), rootSHA256) {
					roots.AddCert(c)
					found = true
				}
			}
			if !found {
				return errors.New("the server does not belong to the installation whose CA was pinned")
			}
			at := time.Now()
			// Who enrols has no other source of time yet; a clock that is behind
			// must not keep a machine out.
			if issued := cs.PeerCertificates[0].NotBefore; at.Before(issued) {
				at = issued
			}
			id, err := verifyPeer(cs.PeerCertificates, roots, at, x509.ExtKeyUsageServerAuth)
			if err != nil {
				return err
			}
			// Every member has a certificate under this root; only one may be told secrets.
			return Director(id)
		},
	}
}

// FetchRoot asks the server at address (host:port) for the root certificate it
// sends and returns its hash, for a person to compare before it is pinned.
// Nothing about the server is verified.
func FetchRoot(ctx context.Context, address string) (rootPEM []byte, rootSHA256 string, err error) {
	d := tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}} //nolint:gosec // see above
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	certs := conn.(*tls.Conn).ConnectionState().PeerCertificates
	root := certs[len(certs)-1]
	if !root.IsCA || root.CheckSignatureFrom(root) != nil {
		return nil, "", &api.Error{Code: api.CodeInvalid, Op: "ask for the CA of", Object: address, Message: "this is not a Nutshell director",
			Hint: "check the address and the port"}
	}
	return certPEM(root), fingerprint(root), nil
}

// PeerIdentity tells who is at the other end of a connection to a server with
// ServerTLS. The director's port has Authority.PeerIdentity instead.
func PeerIdentity(cs *tls.ConnectionState) (api.Identity, bool) {
	if cs == nil || len(cs.VerifiedChains) == 0 {
		return api.Identity{}, false
	}
	id, err := leafIdentity(cs.PeerCertificates[0])
	return id, err == nil
}

func acceptable(own, peer api.Identity, accept func(api.Identity) error) error {
	if peer.Installation != own.Installation {
		return fmt.Errorf("%s is of another installation than %s", peer, own)
	}
	return accept(peer)
}

// leafIdentity reads the one URI SAN of a certificate.
func leafIdentity(c *x509.Certificate) (api.Identity, error) {
	if len(c.URIs) != 1 {
		return api.Identity{}, fmt.Errorf("the certificate has %d identities, expected 1", len(c.URIs))
	}
	return api.ParseIdentity(c.URIs[0].String())
}

func verifyPeer(chain []*x509.Certificate, roots *x509.CertPool, at time.Time, usage x509.ExtKeyUsage) (api.Identity, error) {
	if len(chain) == 0 {
		return api.Identity{}, errors.New("the peer has no certificate")
	}
	if err := verifyChain(chain, roots, at, usage); err != nil {
		return api.Identity{}, err
	}
	return leafIdentity(chain[0])
}

func verifyChain(chain []*x509.Certificate, roots *x509.CertPool, at time.Time, usages ...x509.ExtKeyUsage) error {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if len(usages) == 0 {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: usages})
	return err
}

// FreshConnections makes a server close connections whose client certificate
// is near its end. Clients keep connections open for days; without this, one
// that has renewed its certificate would still be known by the ended one.
func FreshConnections(now func() time.Time, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			leaf := r.TLS.PeerCertificates[0]
			if left := leaf.NotAfter.Sub(now()); left < leaf.NotAfter.Sub(leaf.NotBefore)/4 {
				w.Header().Set("Connection", "close") // HTTP/2 sends GOAWAY and ends what is under way
			}
		}
		next.ServeHTTP(w, r)
	})
}
