package director

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// withEdge is a house whose director has an edge for apps.test.
func withEdge(t *testing.T, change func(*EdgeConfig)) *house {
	h := newHouse(t)
	h.stopDirector()
	h.edge = EdgeConfig{HTTPS: "127.0.0.1:0", HTTP: "127.0.0.1:0", Domain: "apps.test"}
	if change != nil {
		change(&h.edge)
	}
	h.start()
	return h
}

// visit gets a page by name, as a browser would that trusts the CA.
func (h *house) visit(name string) (int, string, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(h.d.ca.RootPEM())
	port, _ := h.d.front.edge.Ports()
	t := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+strconv.Itoa(port))
	}}
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, "https://"+name+"/", nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// serveFrom makes each instance of a service answer with its own id, and says
// that it is ready, as its manager would.
func (h *house) serveFrom(app, service int64) {
	h.t.Helper()
	rows, err := h.d.store.ServiceInstances(h.t.Context(), app, service)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, row := range rows {
		h.serveOne(row.Instance)
	}
}

func (h *house) serveOne(i api.Instance) {
	h.t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(i.Address, strconv.Itoa(testPort)))
	if err != nil {
		h.t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, i.ID) })}
	go func() { _ = s.Serve(l) }()
	h.t.Cleanup(func() { _ = s.Close() })
	err = h.d.write(h.t.Context(), func(ctx context.Context, t *store.Tx) error {
		row, err := t.Instance(ctx, i.ID)
		if err != nil {
			return err
		}
		row.State = api.InstanceReady
		return t.SaveInstance(ctx, row)
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) sees(name string, status int, want string) {
	h.t.Helper()
	var got int
	var body string
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got, body, err = h.visit(name); err == nil && got == status && strings.Contains(body, want) {
			return
		}
	}
	h.t.Fatalf("%s: got %d %q, %v, want %d %q", name, got, body, err, status, want)
}

func (c client) sites(path string) map[string]api.Site {
	c.h.t.Helper()
	var list []api.Site
	c.must("GET", path+"/sites", nil, &list, 200)
	by := map[string]api.Site{}
	for _, s := range list {
		by[s.Name] = s
	}
	return by
}

func TestSitesFollowTheRows(t *testing.T) {
	h := withEdge(t, nil)
	ann := h.user("ann")
	ann.running("My_Shop")
	path := "/applications/My_Shop/services/test"
	h.sees("my-shop.apps.test", 503, "has nothing that runs")
	h.serveFrom(1, 1)
	first := ann.service(path).Instances[0].ID
	h.sees("my-shop.apps.test", 200, first)

	// Another instance gets its share, and nothing more when it leaves.
	ann.done("POST", path+"/scale", api.Scale{Set: map[string]int{"web": 2}})
	l := ann.service(path).Instances
	second := l[slices.IndexFunc(l, func(i api.Instance) bool { return i.ID != first })]
	for _, row := range []string{first, second.ID} {
		if row == second.ID {
			h.serveOne(second)
		}
		h.sees("my-shop.apps.test", 200, row)
	}
	ann.done("POST", path+"/scale", api.Scale{Set: map[string]int{"web": 1}, Remove: []string{first}})
	for range 10 {
		if status, body, err := h.visit("my-shop.apps.test"); status != 200 || body != second.ID {
			t.Fatalf("got %d %s, %v", status, body, err)
		}
	}

	// A second service has a name with both names in it, and keeps it.
	ann.must("POST", "/applications/My_Shop/services", api.CreateService{Kind: "test", Name: "Blog 2"}, nil, 201)
	h.sees("blog-2-my-shop.apps.test", 503, "was not started yet")
	if got := ann.sites("/applications/My_Shop/services/2")["blog-2-my-shop.apps.test"]; !got.Automatic || got.Certificate != "own" || time.Until(got.Expires) < 24*time.Hour || !strings.Contains(got.Problem, "start it") {
		t.Errorf("got %+v", got)
	}

	// Names follow.
	ann.must("PATCH", "/applications/My_Shop", api.Rename{Name: "store"}, nil, 200)
	h.sees("store.apps.test", 200, second.ID)
	h.sees("my-shop.apps.test", 404, "no site named")
	h.sees("blog-2-store.apps.test", 503, "")
	path = "/applications/store/services/test"
	ann.done("POST", path+"/stop", nil)
	h.sees("store.apps.test", 503, "store.apps.test is")
	ann.done("DELETE", path, nil)
	h.sees("store.apps.test", 503, "was not started yet") // the second is the first now
	h.sees("blog-2-store.apps.test", 503, "was not started yet")
	ann.done("DELETE", "/applications/store", nil)
	h.sees("store.apps.test", 404, "")
	if rows, err := h.d.store.Sites(t.Context()); err != nil || len(rows) != 0 {
		t.Errorf("left: %v, %v", rows, err)
	}
}

func TestURLsOfSitesComeFirst(t *testing.T) {
	h := withEdge(t, nil)
	h.admin.running("shop")
	h.sees("shop.apps.test", 503, "")
	h.admin.must("POST", "/applications/shop/services/test/sites", api.AddSite{Name: "www.shop.test"}, nil, 201)
	port, _ := h.d.front.edge.Ports()
	want := []string{fmt.Sprintf("https://www.shop.test:%d/", port), fmt.Sprintf("https://shop.apps.test:%d/", port), "http://10.0.0.1/"}
	h.eventually("names stand before addresses", func() bool { // the manager may just report that it has none
		s, err := h.d.store.ServiceByID(t.Context(), 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		s.Reported = want[2:]
		if err := h.d.write(t.Context(), func(ctx context.Context, t *store.Tx) error { return t.ObserveService(ctx, s) }); err != nil {
			t.Fatal(err)
		}
		return slices.Equal(h.admin.service("/applications/shop/services/test").URLs, want)
	})
	d, err := h.d.desiredOf(t.Context(), 1)
	if err != nil || slices.Contains(d.Services[0].Service.URLs, want[0]) || !slices.Equal(d.Services[0].Front, []string{"127.1.0.80"}) {
		t.Errorf("its manager is told %+v, %v", d.Services[0], err)
	}
	// With the edge off, names are kept, say why they do not answer, and managers are told.
	before := d.Revision
	h.stopDirector()
	h.edge = EdgeConfig{}
	h.start()
	h.eventually("the edge's URLs are gone", func() bool {
		return !slices.ContainsFunc(h.admin.service("/applications/shop/services/test").URLs, func(u string) bool { return strings.HasPrefix(u, "https:") })
	})
	if d, err = h.d.desiredOf(t.Context(), 1); err != nil || d.Revision <= before || len(d.Services[0].Front) != 0 {
		t.Errorf("its manager is told %+v, %v", d, err)
	}
	sites := h.admin.sites("/applications/shop/services/test")
	if s := sites["www.shop.test"]; len(sites) != 1 || !strings.Contains(s.Problem, "edge.https") || s.URL != "" {
		t.Errorf("got %+v", sites)
	}
	var e api.Edge
	h.admin.must("GET", "/edge", nil, &e, 200)
	if e.On || e.Fallback == "" {
		t.Errorf("got %+v", e)
	}
	h.admin.refused("POST", "/applications/shop/services/test/sites", api.AddSite{Name: "w2.shop.test"}, api.CodeUnavailable)
	h.admin.must("DELETE", "/applications/shop/services/test/sites/www.shop.test", nil, nil, 204)
}

func TestNamesOfSites(t *testing.T) {
	h := withEdge(t, nil)
	ann, bob := h.user("ann"), h.user("bob")
	ann.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	ann.must("POST", "/applications/shop/services", api.CreateService{Kind: "test"}, nil, 201)
	h.sees("shop.apps.test", 503, "")
	bob.must("POST", "/applications", api.CreateApplication{Name: "SHOP"}, nil, 201)
	bob.must("POST", "/applications/SHOP/services", api.CreateService{Kind: "test"}, nil, 201)
	bob.must("POST", "/applications", api.CreateApplication{Name: "own"}, nil, 201)
	bob.must("POST", "/applications/own/services", api.CreateService{Kind: "test"}, nil, 201)
	h.sees("own.apps.test", 503, "")
	if s := bob.sites("/applications/SHOP/services/test")["shop.apps.test"]; !strings.Contains(s.Problem, "another application has this name") || s.URL != "" {
		t.Errorf("got %+v", s)
	}
	// A name that somebody has is not taken away by calling something like it.
	h.admin.must("POST", "/applications", api.CreateApplication{Name: "late"}, nil, 201)
	h.admin.must("POST", "/applications/late/services", api.CreateService{Kind: "test"}, nil, 201)
	h.sees("late.apps.test", 503, "")
	ann.must("PATCH", "/applications/shop", api.Rename{Name: "late"}, nil, 200)
	h.sees("shop.apps.test", 503, "") // bob's now, as ann has given it up
	if row, err := h.d.store.Site(t.Context(), "late.apps.test"); err != nil || row.Application != 4 {
		t.Errorf("got %+v, %v", row, err)
	}
	ann.must("PATCH", "/applications/late", api.Rename{Name: strings.Repeat("long", 16)}, nil, 200)
	h.eventually("the problem is told", func() bool {
		for _, s := range ann.sites("/applications/1/services/test") {
			return strings.Contains(s.Problem, "63 letters")
		}
		return false
	})

	sites := "/applications/SHOP/services/test/sites"
	for _, c := range []struct {
		name string
		code api.Code
		want string
	}{
		{"", api.CodeInvalid, "required"},
		{"10.0.0.1", api.CodeInvalid, "address"},
		{"[::1]", api.CodeInvalid, "address"},
		{"10.1", api.CodeInvalid, "not a host name"},
		{"*.shop.test", api.CodeInvalid, "one name"},
		{"https://www.shop.test/", api.CodeInvalid, "more than"},
		{"www.shop.test:443", api.CodeInvalid, "more than"},
		{"a b.test", api.CodeInvalid, "not a host name"},
		{"-a.test", api.CodeInvalid, "not a host name"},
		{"a..test", api.CodeInvalid, "not a host name"},
		{"a_b.test", api.CodeInvalid, "not a host name"},
		{"xn--\u0000.test", api.CodeInvalid, "not a host name"},
		{strings.Repeat("a", 64) + ".test", api.CodeInvalid, "not a host name"},
		{strings.Repeat("a.", 200) + "test", api.CodeInvalid, "not a host name"},
		{"localhost", api.CodeConflict, "director's own"},
		{"apps.test", api.CodeConflict, "follow from"},
		{"Evil.Apps.Test.", api.CodeConflict, "follow from"},
	} {
		if e := bob.refused("POST", sites, api.AddSite{Name: c.name}, c.code); !strings.Contains(e.Message, c.want) || !slices.Equal(e.Fields, []string{"name"}) || e.Hint == "" {
			t.Errorf("%q: got %v", c.name, e)
		}
	}
	var s api.Site
	bob.must("POST", sites, api.AddSite{Name: "Bücher.Shop.Test."}, &s, 201)
	if s.Name != "xn--bcher-kva.shop.test" || s.Certificate != "own" || s.URL == "" || s.Automatic {
		t.Errorf("got %+v", s)
	}
	h.sees(s.Name, 503, "")
	if e := ann.refused("POST", "/applications/1/services/test/sites", api.AddSite{Name: s.Name}, api.CodeConflict); strings.Contains(e.Error(), "bob") || strings.Contains(e.Error(), "SHOP") {
		t.Errorf("it tells whose: %v", e)
	}
	if e := bob.refused("POST", "/applications/own/services/test/sites", api.AddSite{Name: s.Name}, api.CodeConflict); e.Message == "" {
		t.Errorf("got %v", e)
	}
	bob.must("POST", sites, api.AddSite{Name: s.Name}, nil, 201) // the same again changes nothing
	for _, in := range []api.AddSite{{Name: "w.shop.test", Certificate: "acme"}, {Name: "w.shop.test", Certificate: "best"}, {Name: "w.shop.test", Certificate: "own", Chain: "x"}, {Name: "w.shop.test", Certificate: "file"}} {
		bob.refused("POST", sites, in, api.CodeInvalid)
	}
	ann.refused("GET", "/applications/2/services/test/sites", nil, api.CodeNotFound)
	ann.refused("POST", "/applications/2/services/test/sites", api.AddSite{Name: "w.shop.test"}, api.CodeNotFound)
	ann.refused("DELETE", "/applications/2/services/test/sites/"+s.Name, nil, api.CodeNotFound)
	bob.refused("DELETE", sites+"/none.shop.test", nil, api.CodeNotFound)
	bob.refused("DELETE", sites+"/shop.apps.test", nil, api.CodeConflict)
	bob.must("DELETE", sites+"/b%C3%BCcher.shop.test", nil, nil, 204)
	if _, _, err := h.visit(s.Name); err == nil {
		t.Error("a name that was removed still has a certificate")
	}
	for n := range sitesMost {
		bob.must("POST", sites, api.AddSite{Name: fmt.Sprintf("w%d.shop.test", n)}, nil, 201)
	}
	bob.refused("POST", sites, api.AddSite{Name: "more.shop.test"}, api.CodeQuota)
}

// pair makes a certificate that signs itself.
func pair(t *testing.T, name string, from, to time.Time) (chain, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

func TestCertificatesOfUsers(t *testing.T) {
	h := withEdge(t, nil)
	h.admin.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	h.admin.must("POST", "/applications/shop/services", api.CreateService{Kind: "test"}, nil, 201)
	const sites = "/applications/shop/services/test/sites"
	now := time.Now()
	const day = 24 * time.Hour
	chain, key := pair(t, "www.shop.test", now.Add(-day), now.Add(90*day))
	other, otherKey := pair(t, "www.other.test", now.Add(-day), now.Add(90*day))
	ended, endedKey := pair(t, "www.shop.test", now.Add(-2*day), now.Add(-day))
	early, earlyKey := pair(t, "www.shop.test", now.Add(day), now.Add(2*day))
	for _, c := range []struct{ chain, key, field, want string }{
		{chain, otherKey, "key", "does not belong"},
		{other, otherKey, "chain", "it is for"},
		{ended, endedKey, "chain", "it ended"},
		{early, earlyKey, "chain", "it begins"},
		{"", key, "chain", "no PEM certificate"},
		{chain, "", "key", "no PEM key"},
		{chain, chain, "chain", ""},
		{chain + other, key, "chain", "did not sign"},
		{strings.Repeat(chain, 200), key, "chain", "longer"},
		{chain, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "key", "passphrase"},
	} {
		e := h.admin.refused("POST", sites, api.AddSite{Name: "www.shop.test", Certificate: "file", Chain: c.chain, Key: c.key}, api.CodeInvalid)
		if !strings.Contains(e.Message, c.want) || !slices.Equal(e.Fields, []string{c.field}) || strings.Contains(e.Error(), "PRIVATE KEY-----\n") {
			t.Errorf("want %q: got %v", c.want, e)
		}
	}
	var s api.Site
	h.admin.must("POST", sites, api.AddSite{Name: "www.shop.test", Chain: chain, Key: key}, &s, 201)
	if s.Certificate != "file" || s.Expires.Sub(now.Add(90*day)).Abs() > time.Minute {
		t.Errorf("got %+v", s)
	}
	presented := func() string {
		port, _ := h.d.front.edge.Ports()
		c, err := tls.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port), &tls.Config{ServerName: "www.shop.test", InsecureSkipVerify: true})
		if err != nil {
			return err.Error()
		}
		defer func() { _ = c.Close() }()
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ConnectionState().PeerCertificates[0].Raw}))
	}
	if presented() != chain {
		t.Error("another certificate is shown")
	}
	row, err := h.d.store.Site(t.Context(), "www.shop.test")
	if err != nil || strings.Contains(row.Key, "PRIVATE") {
		t.Errorf("the key is kept as %q, %v", row.Key, err)
	}
	h.stopDirector()
	h.start()
	h.eventually("it is shown after a restart", func() bool { return presented() == chain })

	// Near its end it is told of, once, and again when that is mended.
	soon, soonKey := pair(t, "www.shop.test", now.Add(-80*day), now.Add(5*day))
	h.admin.must("POST", sites, api.AddSite{Name: "www.shop.test", Chain: soon, Key: soonKey}, &s, 201)
	if presented() != soon || !strings.Contains(s.Problem, "ends on") {
		t.Errorf("got %+v", s)
	}
	told := func() (n int) {
		events, err := h.d.store.Events(t.Context(), 0, true, 0, 10000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Type == "site" && strings.Contains(string(e.Data), "ends on") {
				n++
			}
		}
		return n
	}
	for range 3 {
		if err := h.d.front.tell(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := told(); n != 1 {
		t.Errorf("told %d times", n)
	}
	h.admin.must("POST", sites, api.AddSite{Name: "www.shop.test", Chain: chain, Key: key}, nil, 201)
	if err := h.d.front.tell(t.Context()); err != nil {
		t.Fatal(err)
	}
	if row, err := h.d.store.Site(t.Context(), "www.shop.test"); err != nil || row.Told != "" {
		t.Errorf("got %+v, %v", row, err)
	}
}

func TestHostLabel(t *testing.T) {
	for in, want := range map[string]string{"shop": "shop", "My Shop": "my-shop", "a_b.c": "a-b-c", "xn--80ak6aa92e": "xn-80ak6aa92e", "9.-_": "9", "A..B--C": "a-b-c"} {
		if got, problem := hostLabel(in); got != want || problem != "" || !validHost(got+".test") {
			t.Errorf("%q: got %q, %s", in, got, problem)
		}
	}
	if _, problem := hostLabel(strings.Repeat("a", 60), "shop"); problem == "" {
		t.Error("a label of 65 letters was made")
	}
}
