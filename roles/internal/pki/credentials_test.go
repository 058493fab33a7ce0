package pki

import (
	"crypto/elliptic"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"nutshell/roles/api"
)

func TestCredentialsOnDisk(t *testing.T) {
	a, dir := newAuthority(t, "i1"), filepath.Join(t.TempDir(), "pki")
	c := member(t, a, agent3)
	if err := c.Save(dir); err != nil {
		t.Fatal(err)
	}
	if s, err := os.Stat(filepath.Join(dir, credentialsFile)); err != nil || s.Mode() != 0o600 {
		t.Errorf("mode %v, %v", s.Mode(), err)
	}
	d, err := Load(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if d.Identity() != c.Identity() || !d.NotAfter().Equal(c.NotAfter()) || d.RootSHA256() != a.RootSHA256() {
		t.Error("loaded credentials differ")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
}

func TestCredentialsRefuse(t *testing.T) {
	a, foreign := newAuthority(t, "i1"), newAuthority(t, "i1")
	key := ecKey(t, elliptic.P256())
	csr, err := CSR(key)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(a *Authority, id api.Identity) []byte {
		id.Installation = "i1"
		chain, _, err := a.Sign(csr, id, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		return chain
	}
	for _, c := range []struct {
		name  string
		chain []byte
	}{
		{"other-root", sign(foreign, agent3)},
		{"other-identity", sign(a, agent4)},
		{"leaf-of-other-root", append(certPEM(mustCerts(t, sign(foreign, agent3))[:2]...), a.RootPEM()...)},
		{"empty", nil},
		{"garbage", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			held := member(t, a, agent3)
			before := held.NotAfter()
			if err := held.Replace(key, c.chain); err == nil {
				t.Error("no error")
			}
			if !held.NotAfter().Equal(before) {
				t.Error("the old credentials are gone")
			}
		})
	}
	held := member(t, a, agent3)
	if err := held.Replace(ecKey(t, elliptic.P256()), sign(a, agent3)); err == nil {
		t.Error("other-key: no error")
	}
	if err := held.Replace(key, sign(a, agent3)); err != nil {
		t.Errorf("a proper renewal: %v", err)
	}
}

func mustCerts(t *testing.T, chain []byte) []*x509.Certificate {
	t.Helper()
	certs, _, err := parsePEM(chain)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

func TestClockThatIsBehind(t *testing.T) {
	a := newAuthority(t, "i1")
	local := time.Unix(0, 0)
	c := member(t, a, agent3)
	c.now = func() time.Time { return local }
	c.told, c.toldAt = time.Time{}, time.Time{}

	told := time.Now()
	c.Told(told)
	local = local.Add(time.Hour)
	if got := c.Now(); !got.Equal(told.Add(time.Hour)) {
		t.Errorf("an hour later: got %v, want %v", got, told.Add(time.Hour))
	}
	local = told.Add(2 * time.Hour) // put right, and it is ahead of the director's
	if got := c.Now(); got.Before(local) {
		t.Errorf("after the clock was put right: got %v, want %v", got, local)
	}

	dir := t.TempDir()
	if err := c.Save(dir); err != nil {
		t.Fatal(err)
	}
	d, err := Load(dir, func() time.Time { return time.Unix(5, 0) }) // started again, in 1970
	if err != nil {
		t.Fatal(err)
	}
	if d.Now().Before(d.Issued()) {
		t.Errorf("the time %v is before the certificate was made, %v", d.Now(), d.Issued())
	}
	_, se, ce := hands(t, a.ServerTLS(localhost), ClientTLS(d, Director))
	if se != nil || ce != nil {
		t.Errorf("a member whose clock says 1970 cannot connect: %v, %v", se, ce)
	}
}

func TestRenewalWhileInUse(t *testing.T) {
	a := newAuthority(t, "i1")
	c := member(t, a, agent3)
	config := ServerTLS(c, ManagerOf(3))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			key, err := NewKey()
			if err != nil {
				t.Error(err)
				return
			}
			csr, _ := CSR(key)
			chain, _, err := a.Sign(csr, c.Identity(), nil, 0)
			if err != nil {
				t.Error(err)
				return
			}
			if err := c.Replace(key, chain); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	client := ClientTLS(member(t, a, manager3), AgentOf(3, "a3-s1-k"))
	for range 20 {
		if _, se, ce := hands(t, config, client); se != nil || ce != nil {
			t.Fatalf("server %v, client %v", se, ce)
		}
	}
	<-done
}

func TestConnectionsEndWithTheirCertificate(t *testing.T) {
	a := newAuthority(t, "i1")
	for _, c := range []struct {
		name        string
		credentials *Credentials
		want        int64
	}{
		{"fresh", member(t, a, agent3), 1},
		{"an-hour-left", member(t, at(a, time.Hour-Life), agent3), 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			var opened atomic.Int64
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := &http.Server{TLSConfig: a.ServerTLS(localhost), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
				Handler: FreshConnections(time.Now, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })),
				ConnState: func(_ net.Conn, state http.ConnState) {
					if state == http.StateNew {
						opened.Add(1)
					}
				}}
			go func() { _ = s.ServeTLS(l, "", "") }()
			defer s.Close()
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: ClientTLS(c.credentials, Director), ForceAttemptHTTP2: true}}
			defer client.CloseIdleConnections()
			for range 3 {
				resp, err := client.Get("https://" + l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "HTTP/2.0" {
					t.Errorf("got %s, %v", b, err)
				}
				resp.Body.Close()
			}
			if got := opened.Load(); got != c.want {
				t.Errorf("%d connections for 3 requests, want %d", got, c.want)
			}
		})
	}
}

func TestAgentsOf(t *testing.T) {
	accept := AgentsOf(3, 1)
	for _, c := range []struct {
		name string
		id   api.Identity
		ok   bool
	}{
		{"same-service", api.Identity{Role: api.RoleAgent, Application: 3, Service: 1, Name: "any"}, true},
		{"other-service", api.Identity{Role: api.RoleAgent, Application: 3, Service: 2, Name: "any"}, false},
		{"other-application", api.Identity{Role: api.RoleAgent, Application: 4, Service: 1, Name: "any"}, false},
		{"manager", api.Identity{Role: api.RoleManager, Application: 3, Service: 1}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := accept(c.id); (err == nil) != c.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Whoever waits goes on when certificates end because nobody can renew them,
// and takes what another process has renewed.
func TestWaitAndReload(t *testing.T) {
	a := newAuthority(t, "i1")
	id := api.Identity{Installation: "i1", Role: api.RoleAgent, Application: 3, Service: 1, Name: "x"}
	now, dir := time.Now(), t.TempDir()
	save := func() {
		t.Helper()
		key, err := NewKey()
		if err != nil {
			t.Fatal(err)
		}
		csr, err := CSR(key)
		if err != nil {
			t.Fatal(err)
		}
		chain, _, err := a.Sign(csr, id, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		c, err := NewCredentials(key, chain, a.RootSHA256(), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Save(dir); err != nil {
			t.Fatal(err)
		}
	}
	save()
	c, err := Load(dir, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(48 * time.Hour)
	if !c.Now().After(c.NotAfter()) {
		t.Fatal("the certificate has not ended")
	}
	c.Wait()
	if end := c.NotAfter(); !c.Now().Before(end) || end.Sub(c.Now()) < 7*time.Hour {
		t.Errorf("it is %v before the end of the certificate, want the time of its renewal", end.Sub(c.Now()))
	}
	before := c.NotAfter()
	time.Sleep(1100 * time.Millisecond) // certificates count whole seconds
	save()
	if err := c.Reload(dir); err != nil || !c.NotAfter().After(before) {
		t.Errorf("the renewed certificate was not taken: %v, %v", c.NotAfter(), err)
	}
}
