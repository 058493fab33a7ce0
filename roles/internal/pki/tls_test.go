package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"nutshell/roles/api"
)

// hands makes both ends of a connection shake hands and returns both errors
// and what the server saw.
func hands(t *testing.T, server, client *tls.Config) (seen tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			serverErr = err
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		s := tls.Server(c, server)
		if serverErr = s.Handshake(); serverErr == nil {
			seen = s.ConnectionState()
			_, serverErr = s.Write([]byte("x"))
		}
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	c := tls.Client(raw, client)
	if clientErr = c.Handshake(); clientErr == nil {
		// With TLS 1.3 the client learns of a refusal when it reads.
		_, clientErr = c.Read(make([]byte, 1))
	}
	raw.Close()
	<-done
	return seen, serverErr, clientErr
}

func member(t *testing.T, a *Authority, id api.Identity) *Credentials {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := CSR(key)
	if err != nil {
		t.Fatal(err)
	}
	id.Installation = a.installation
	chain, _, err := a.Sign(csr, id, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCredentials(key, chain, a.RootSHA256(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// at is the authority as it was, or will be, at another time.
func at(a *Authority, d time.Duration) *Authority {
	return &Authority{installation: a.installation, root: a.root, ca: a.ca, caKey: a.caKey, roots: a.roots, now: func() time.Time { return time.Now().Add(d) }}
}

var (
	manager3 = api.Identity{Role: api.RoleManager, Application: 3, Name: "a3-s0-m"}
	manager4 = api.Identity{Role: api.RoleManager, Application: 4, Name: "a4-s0-m"}
	agent3   = api.Identity{Role: api.RoleAgent, Application: 3, Service: 1, Name: "a3-s1-k"}
	agent4   = api.Identity{Role: api.RoleAgent, Application: 4, Service: 1, Name: "a4-s1-k"}
)

func localhost() []string { return []string{"127.0.0.1", "localhost"} }

func TestWhoMayTalkToWhom(t *testing.T) {
	a, foreign := newAuthority(t, "i1"), newAuthority(t, "i1")
	agent := func() *tls.Config { return ServerTLS(member(t, a, agent3), ManagerOf(3)) }
	toAgent := AgentOf(3, "a3-s1-k")
	old := ClientTLS(member(t, a, manager3), toAgent)
	old.MinVersion, old.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
	for _, c := range []struct {
		name           string
		server, client *tls.Config
		ok             bool
	}{
		{"own-manager-to-agent", agent(), ClientTLS(member(t, a, manager3), toAgent), true},
		{"manager-of-other-application", agent(), ClientTLS(member(t, a, manager4), toAgent), false},
		{"director-to-agent", agent(), a.ClientTLS(toAgent), false},
		{"agent-to-agent", agent(), ClientTLS(member(t, a, agent3), toAgent), false},
		{"no-certificate", agent(), &tls.Config{InsecureSkipVerify: true}, false},
		{"other-ca", agent(), ClientTLS(member(t, foreign, manager3), toAgent), false},
		{"other-ca-client-does-not-look", agent(), blind(member(t, foreign, manager3)), false},
		{"expired-manager", agent(), blind(member(t, at(a, -Life-time.Minute), manager3)), false},
		{"expired-agent", ServerTLS(member(t, at(a, -Life-time.Minute), agent3), ManagerOf(3)), ClientTLS(member(t, a, manager3), toAgent), false},
		{"clock-of-issuer-ahead", ServerTLS(member(t, at(a, time.Hour), agent3), ManagerOf(3)), ClientTLS(member(t, at(a, time.Hour), manager3), toAgent), true},
		{"tls-1-1", agent(), old, false},
		{"agent-of-other-application-answers", ServerTLS(member(t, a, agent4), func(api.Identity) error { return nil }), ClientTLS(member(t, a, manager3), toAgent), false},
		{"user-certificate-as-server", ServerTLS(member(t, a, api.Identity{Role: api.RoleUser, Name: "1"}), func(api.Identity) error { return nil }),
			ClientTLS(member(t, a, manager3), func(api.Identity) error { return nil }), false},
		{"director-to-manager", ServerTLS(member(t, a, manager3), Director), a.ClientTLS(ManagerOf(3)), true},
		{"agent-to-director", a.ServerTLS(localhost), ClientTLS(member(t, a, agent3), Director), true},
		{"agent-to-false-director", ServerTLS(member(t, a, manager3), func(api.Identity) error { return nil }), ClientTLS(member(t, a, agent3), Director), false},
		{"foreign-agent-to-director", a.ServerTLS(localhost), blind(member(t, foreign, agent3)), false},
		{"pinned", a.ServerTLS(localhost), PinnedTLS(a.RootSHA256()), true},
		{"pinned-upper-case", a.ServerTLS(localhost), PinnedTLS(strings.ToUpper(a.RootSHA256())), true},
		{"pinned-to-other-ca", a.ServerTLS(localhost), PinnedTLS(foreign.RootSHA256()), false},
		{"pinned-but-not-director", blindServer(member(t, a, agent3)), PinnedTLS(a.RootSHA256()), false},
		{"pinned-root-sent-but-not-used", mixed(t, foreign, a), PinnedTLS(a.RootSHA256()), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, se, ce := hands(t, c.server, c.client)
			if ok := se == nil && ce == nil; ok != c.ok {
				t.Errorf("got server %v, client %v, want success %v", se, ce, c.ok)
			}
		})
	}
}

// blind is a client that shows its certificate to anybody.
func blind(c *Credentials) *tls.Config {
	cert, _, _ := c.certificate()
	return &tls.Config{Certificates: []tls.Certificate{*cert}, InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }}
}

func blindServer(c *Credentials) *tls.Config {
	cert, _, _ := c.certificate()
	return &tls.Config{Certificates: []tls.Certificate{*cert}}
}

// mixed is a false director that adds the victim's root, which is public, to its chain.
func mixed(t *testing.T, liar, victim *Authority) *tls.Config {
	t.Helper()
	cert, err := liar.certificate(localhost())
	if err != nil {
		t.Fatal(err)
	}
	copied := *cert
	copied.Certificate = append(copied.Certificate[:len(copied.Certificate):len(copied.Certificate)], victim.root.Raw)
	return &tls.Config{Certificates: []tls.Certificate{copied}}
}

func TestDirectorSeesWhoCalls(t *testing.T) {
	a := newAuthority(t, "i1")
	var denied sync.Map
	a.Denied = func(id api.Identity) bool { _, ok := denied.Load(id.Name); return ok }
	server := a.ServerTLS(localhost)
	see := func(c *tls.Config) (tls.ConnectionState, bool) {
		cs, se, ce := hands(t, server, c)
		return cs, se == nil && ce == nil
	}

	cs, ok := see(PinnedTLS(a.RootSHA256()))
	if _, known := a.PeerIdentity(&cs); !ok || known {
		t.Errorf("no certificate: connected %v, identity known %v", ok, known)
	}
	cs, ok = see(ClientTLS(member(t, a, agent3), Director))
	want := agent3
	want.Installation = "i1"
	if id, known := a.PeerIdentity(&cs); !ok || !known || id != want {
		t.Errorf("agent: connected %v, got %v %v", ok, id, known)
	}
	denied.Store(agent3.Name, true)
	if _, known := a.PeerIdentity(&cs); known {
		t.Error("a denied agent is still known on its open connection")
	}
	if _, ok := see(ClientTLS(member(t, a, agent3), Director)); ok {
		t.Error("a denied agent can connect")
	}

	ended := member(t, at(a, -Life-time.Hour), agent4)
	cs, ok = see(blind(ended))
	if _, known := a.PeerIdentity(&cs); !ok || known {
		t.Errorf("ended an hour ago: connected %v, known %v, want connected and not known", ok, known)
	}
	if id, known := a.RenewingIdentity(&cs); !known || id.Name != agent4.Name {
		t.Errorf("ended an hour ago: cannot renew: %v %v", id, known)
	}
	if _, ok = see(blind(member(t, at(a, -Life-Grace-time.Hour), agent4))); ok {
		t.Error("ended before the grace: can connect")
	}
}

func TestPeerIdentityNeedsAVerifiedChain(t *testing.T) {
	a := newAuthority(t, "i1")
	cs, _, _ := hands(t, ServerTLS(member(t, a, agent3), ManagerOf(3)), ClientTLS(member(t, a, manager3), AgentOf(3, "a3-s1-k")))
	if id, ok := PeerIdentity(&cs); !ok || id.Name != manager3.Name {
		t.Errorf("got %v %v", id, ok)
	}
	cs.VerifiedChains = nil
	if _, ok := PeerIdentity(&cs); ok {
		t.Error("an identity without a verified chain")
	}
	if _, ok := PeerIdentity(nil); ok {
		t.Error("an identity without TLS")
	}
}

func TestDirectorLeafFollowsNamesAndTime(t *testing.T) {
	a := newAuthority(t, "i1")
	clock := time.Now()
	a.now = func() time.Time { return clock }
	names := []string{"127.0.0.1"}
	get := a.ServerTLS(func() []string { return names }).GetCertificate
	leaf := func() *x509.Certificate {
		c, err := get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf
	}
	first := leaf()
	if leaf() != first {
		t.Error("a new leaf for every handshake")
	}
	clock = clock.Add(Life * 2 / 3).Add(-time.Minute)
	if leaf() != first {
		t.Error("made anew before two thirds of its life")
	}
	clock = clock.Add(2 * time.Minute)
	second := leaf()
	if second == first || !second.NotAfter.After(first.NotAfter) {
		t.Error("not made anew after two thirds of its life")
	}
	clock = clock.Add(-48 * time.Hour)
	if leaf() == second {
		t.Error("a leaf of the future is kept after the clock was put back")
	}
	names = append(names, "shop.example")
	if got := leaf(); got.VerifyHostname("shop.example") != nil {
		t.Errorf("the new name is missing: %v", got.DNSNames)
	}
}

func TestFetchRootThenPin(t *testing.T) {
	a := newAuthority(t, "i1")
	l, err := tls.Listen("tcp", "127.0.0.1:0", a.ServerTLS(localhost))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			c.Close()
		}
	}()
	pem, hash, err := FetchRoot(context.Background(), l.Addr().String())
	if err != nil || hash != a.RootSHA256() || string(pem) != string(a.RootPEM()) {
		t.Errorf("got %s, %v", hash, err)
	}
}
