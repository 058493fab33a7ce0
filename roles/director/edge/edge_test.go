package edge

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestRequestsReachTheService(t *testing.T) {
	f := newFront(t, nil)
	at, _ := proxyAt(t, "127.0.0.1:0", http.HandlerFunc(seen))
	f.shows("shop.apps.test", at)
	for _, h2 := range []bool{false, true} {
		a := do(t, f.client(h2), "POST", "https://shop.apps.test/a%2Fb/../c?x=1;y=2&%zz", "the body",
			"X-Forwarded-For", "6.6.6.6", "X-Real-Ip", "6.6.6.6", "Forwarded", "for=6.6.6.6", "X-Forwarded-Host", "evil", "X-Nutshell-Version", "code-x", "Proxy", "evil", "Accept-Encoding", "identity")
		if a.StatusCode != 200 || a.TLS.ServerName != "shop.apps.test" || (a.ProtoMajor == 2) != h2 {
			t.Errorf("got %s by %s for %s", a.Status, a.Proto, a.TLS.ServerName)
		}
		for _, want := range []string{"POST /a%2Fb/../c?x=1;y=2&%zz from " + loopbackSource, "host shop.apps.test\n", "X-Forwarded-For: 127.0.0.1\r", "X-Real-Ip: 127.0.0.1\r",
			"X-Forwarded-Proto: https\r", "X-Forwarded-Host: shop.apps.test\r", "X-Forwarded-Port: 443\r", "\r\n\r\nthe body"} {
			if !strings.Contains(a.body, want) {
				t.Errorf("%q is not in %q", want, a.body)
			}
		}
		for _, bad := range []string{"6.6.6.6", "evil", "X-Nutshell-Version"} {
			if strings.Contains(a.body, bad) {
				t.Errorf("%q came through: %q", bad, a.body)
			}
		}
	}
	if source, err := Source("127.44.1.2"); err != nil || source != loopbackSource {
		t.Errorf("got %s, %v", source, err)
	}
	eventually(t, "the access log", func() bool {
		return strings.Count(f.log.String(), `shop.apps.test 127.0.0.1 - [`) == 2 && strings.Contains(f.log.String(), `"POST /a%2Fb/../c?x=1;y=2&%zz HTTP/2.0" 200`)
	})
	for _, s := range f.Figures() {
		if s.Name == "nutshell_edge_requests_total" && (s.Labels["code"] != "2xx" || s.Labels["application"] != "1" || s.Labels["service"] != "2" || s.Value != 2) {
			t.Errorf("got %+v", s)
		}
	}
}

func TestLoadBalancersInFrontAreBelieved(t *testing.T) {
	f := newFront(t, func(c *Config) {
		c.Trusted = []netip.Prefix{prefix(t, "127.0.0.0/8"), prefix(t, "10.0.0.0/8")}
	})
	at, _ := proxyAt(t, "127.0.0.1:0", http.HandlerFunc(seen))
	f.shows("shop.apps.test", at)
	for told, want := range map[string]string{
		"6.6.6.6, 203.0.113.9, 10.1.1.1": "203.0.113.9", // what is left of an untrusted one anybody may have written
		"203.0.113.9":                    "203.0.113.9",
		"nonsense":                       "127.0.0.1",
		"":                               "127.0.0.1",
	} {
		if a := do(t, f.client(false), "GET", "https://shop.apps.test/", "", "X-Forwarded-For", told); !strings.Contains(a.body, "X-Forwarded-For: "+want+"\r") {
			t.Errorf("%q: want %s in %q", told, want, a.body)
		}
	}
}

func TestWhoAsksForWhat(t *testing.T) {
	f := newFront(t, func(c *Config) { c.HSTS = time.Hour })
	at, _ := proxyAt(t, "127.0.0.1:0", saying("hello"))
	f.Show([]Site{
		{Name: "shop.apps.test", Application: 1, Service: 1, Certificate: CertificateOwn, Proxies: []Proxy{{at, 1}}},
		{Name: "other.apps.test", Application: 2, Service: 1, Certificate: CertificateOwn, Idle: "is stopped"},
		{Name: "www.example.test", Application: 3, Service: 1, Certificate: CertificateOwn, Proxies: []Proxy{{at, 1}}},
	})
	for _, c := range []struct {
		url, host, accept string
		status            int
		want              string
	}{
		{"https://shop.apps.test/", "", "", 200, "hello"},
		{"https://SHOP.apps.test./", "SHOP.Apps.Test.:443", "", 200, "hello"},
		{"https://other.apps.test/", "", "text/html", 503, "other.apps.test is stopped"},
		{"https://none.apps.test/", "", "text/html", 404, "There is no site named none.apps.test"},
		{"https://director.test/", "", "", 404, "nutshell site add"},
		{"https://shop.apps.test/", "www.example.test", "", 421, "Wrong connection"},
		{"https://shop.apps.test/", "a b", "", 400, "cannot be read"},
		{"https://shop.apps.test/", "<script>", "text/html", 400, ""},
		{"http://shop.apps.test/x?y", "", "", 308, ""},
		{"http://none.apps.test/x?y", "", "", 404, "no site named"},
		{"http://shop.apps.test/", "evil.test", "", 404, "no site named evil.test"},
	} {
		header := []string{"Accept", c.accept}
		if c.host != "" {
			header = append(header, "Host", c.host)
		}
		a := do(t, f.client(false), "GET", c.url, "", header...)
		if a.StatusCode != c.status || !strings.Contains(a.body, c.want) {
			t.Errorf("%s for %q: got %s %q", c.url, c.host, a.Status, a.body)
		}
		if c.accept == "text/html" && c.status > 400 {
			if strings.Contains(a.body, "src=") || strings.Contains(a.body, "href=") || !strings.Contains(a.Header.Get("Content-Security-Policy"), "default-src 'none'") {
				t.Errorf("%s: the page needs more than itself: %q %v", c.url, a.body, a.Header)
			}
		}
		if c.status == 308 && a.Header.Get("Location") != strings.TrimSuffix(f.URL("shop.apps.test"), "/")+"/x?y" {
			t.Errorf("leads to %s", a.Header.Get("Location"))
		}
		if c.status == 200 && a.Header.Get("Strict-Transport-Security") != "max-age=3600" {
			t.Errorf("%s: HSTS is %q", c.url, a.Header.Get("Strict-Transport-Security"))
		}
		if c.status == 503 && a.Header.Get("Retry-After") == "" {
			t.Error("nobody says when to come again")
		}
	}
	// A name that is nobody's gets no certificate.
	if c, err := tls.Dial("tcp", f.https, &tls.Config{ServerName: "www.elsewhere.test", RootCAs: f.roots()}); err == nil {
		t.Errorf("got a certificate for %v", c.ConnectionState().PeerCertificates[0].DNSNames)
	}
	// Who names no site still gets told so.
	c, err := tls.Dial("tcp", f.https, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if names := c.ConnectionState().PeerCertificates[0].DNSNames; !strings.Contains(fmt.Sprint(names), "*.apps.test") {
		t.Errorf("names are %v", names)
	}
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "TRACE / HTTP/1.1\r\nHost: shop.apps.test\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: shop.apps.test:99999\r\n\r\n", "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n", "GET http://127.0.0.1:5555/ HTTP/1.1\r\nHost: shop.apps.test\r\n\r\n"} {
		if got := raw(t, f, text); !strings.HasPrefix(got, "HTTP/1.1 4") {
			t.Errorf("%q: got %q", text, got)
		}
	}
}

// raw sends bytes over TLS and returns what comes back.
func raw(t *testing.T, f *front, text string) string {
	t.Helper()
	c, err := tls.Dial("tcp", f.https, &tls.Config{ServerName: "shop.apps.test", RootCAs: f.roots()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, _ := c.Read(b)
	return string(b[:n])
}

func TestLoadIsSpreadAndTheDeadGetNothing(t *testing.T) {
	f := newFront(t, nil)
	var hits [3]atomic.Int64
	var stop [3]func()
	var at [3]string
	for i := range at {
		at[i], stop[i] = proxyAt(t, fmt.Sprintf("127.77.0.%d:0", i+1), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			hits[i].Add(1)
			_, _ = io.Copy(w, r.Body)
		}))
	}
	f.shows("shop.apps.test", at[:]...)
	c := f.client(true)
	round := func(n int, method, body string) {
		t.Helper()
		for range n {
			if a := do(t, c, method, "https://shop.apps.test/", body); a.StatusCode != 200 || a.body != body {
				t.Fatalf("got %s %q", a.Status, a.body)
			}
		}
	}
	round(60, "GET", "")
	for i := range hits {
		if n := hits[i].Load(); n < 15 || n > 25 {
			t.Errorf("proxy %d got %d of 60", i, n)
		}
	}
	stop[0]()
	round(40, "POST", "must arrive once")
	round(40, "GET", "")
	before := hits[1].Load() + hits[2].Load()
	if before != 40+80 {
		t.Errorf("the other two got %d requests, want 120", before)
	}
	// It comes back by itself.
	proxyAt(t, at[0], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { hits[0].Add(1) }))
	was := hits[0].Load()
	eventually(t, "the first proxy is asked again", func() bool {
		do(t, c, "GET", "https://shop.apps.test/", "")
		return hits[0].Load() > was
	})
	// Those that leave get no more.
	f.shows("shop.apps.test", at[2])
	left := hits[1].Load()
	round(10, "GET", "")
	if hits[1].Load() != left {
		t.Error("a proxy that has left was asked")
	}
}

func TestWeights(t *testing.T) {
	f := newFront(t, nil)
	var hits [2]atomic.Int64
	s := Site{Name: "shop.apps.test", Certificate: CertificateOwn}
	for i, weight := range []int{300, 100} {
		at, _ := proxyAt(t, fmt.Sprintf("127.77.1.%d:0", i+1), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			hits[i].Add(1)
			time.Sleep(5 * time.Millisecond) // work, so that requests are under way at the same time
		}))
		s.Proxies = append(s.Proxies, Proxy{at, weight})
	}
	f.Show([]Site{s})
	c := f.client(true)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				do(t, c, "GET", "https://shop.apps.test/", "")
			}
		})
	}
	all.Wait()
	if share := float64(hits[0].Load()) / 400; share < 0.65 || share > 0.85 {
		t.Errorf("the proxy of weight 300 of 400 got %.0f %%", share*100)
	}
}

// A proxy that is started again, as nginx is after a crash, is waited for.
func TestARestartIsNotSeen(t *testing.T) {
	f := newFront(t, nil)
	at, stop := proxyAt(t, "127.77.2.1:0", saying("before"))
	f.shows("shop.apps.test", at)
	c := f.client(true)
	do(t, c, "GET", "https://shop.apps.test/", "")
	stop()
	got := make(chan answer, 2)
	for _, method := range []string{"GET", "POST"} {
		go func() { got <- do(t, c, method, "https://shop.apps.test/", "") }()
	}
	eventually(t, "a request waits", func() bool { return f.outward.tries.Load() >= 1 })
	proxyAt(t, at, saying("after"))
	for range 2 {
		if a := <-got; a.StatusCode != 200 || a.body != "after" {
			t.Errorf("got %s %q", a.Status, a.body)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	f := newFront(t, nil)
	at, stop := proxyAt(t, "127.77.3.1:0", saying("before"))
	stop()
	f.shows("shop.apps.test", at)
	began := time.Now()
	if a := do(t, f.client(true), "GET", "https://shop.apps.test/", "", "Accept", "text/html"); a.StatusCode != 502 || !strings.Contains(a.body, "does not answer") {
		t.Errorf("got %s %q", a.Status, a.body)
	}
	if took := time.Since(began); took > patience+20*time.Second {
		t.Errorf("it took %v", took)
	}
}

// What may have arrived is sent again only where that changes nothing.
func TestBrokenOff(t *testing.T) {
	f := newFront(t, nil)
	var asked atomic.Int64
	at, _ := proxyAt(t, "127.77.4.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%2 == 1 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "well")
	}))
	f.shows("shop.apps.test", at)
	if a := do(t, f.client(true), "GET", "https://shop.apps.test/", ""); a.body != "" && a.body != "well" {
		t.Errorf("got %s %q", a.Status, a.body)
	}
	before := asked.Load()
	if before%2 == 1 {
		asked.Add(1)
		before++
	}
	if a := do(t, f.client(true), "POST", "https://shop.apps.test/", "pay"); a.StatusCode != 502 || asked.Load() != before+1 {
		t.Errorf("got %s after %d tries", a.Status, asked.Load()-before)
	}
}

func TestWebSocket(t *testing.T) {
	f := newFront(t, nil)
	at, _ := proxyAt(t, "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			_ = c.Write(r.Context(), kind, append([]byte("echo "), b...))
		}
	}))
	f.shows("chat.apps.test", at)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "wss://chat.apps.test/room", &websocket.DialOptions{HTTPClient: f.client(false)}) // the connection is all that is left of the answer
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		text := strings.Repeat("x", i*1000)
		if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.Read(ctx); err != nil || string(b) != "echo "+text {
			t.Fatalf("got %d bytes, %v", len(b), err)
		}
	}
	if busy := f.table.Load().sites["chat.apps.test"].proxies[0].busy.Load(); busy != 1 {
		t.Errorf("%d requests are under way, want the tunnel", busy)
	}
	_ = c.Close(websocket.StatusNormalClosure, "")
	eventually(t, "the tunnel ends", func() bool {
		return f.table.Load().sites["chat.apps.test"].proxies[0].busy.Load() == 0 && strings.Contains(f.log.String(), `"GET /room HTTP/1.1" 101`)
	})
}

// Events arrive when they are sent, and so does the header before the first.
func TestEventsAreNotHeldBack(t *testing.T) {
	f := newFront(t, nil)
	next := make(chan string)
	at, _ := proxyAt(t, "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.URL.Query().Get("type"))
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		for text := range next {
			_, _ = io.WriteString(w, text)
			_ = http.NewResponseController(w).Flush()
			if text == "end" {
				return
			}
		}
	}))
	f.shows("news.apps.test", at)
	for _, c := range []struct {
		h2              bool
		kind, encodings string
	}{{false, "text/event-stream", "gzip"}, {true, "text/event-stream", "gzip"}, {true, "text/plain", "identity"}, {true, "text/html", "gzip"}, {true, "text/html", "zstd"}} {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://news.apps.test/?type="+c.kind, nil)
		req.Header.Set("Accept-Encoding", c.encodings)
		resp, err := f.client(c.h2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		next <- "one" // the header was here before it
		body := decoded(t, resp)
		for i, text := range []string{"one", "two", "end"} {
			if i > 0 {
				next <- text
			}
			b := make([]byte, len(text))
			if _, err := io.ReadFull(body, b); err != nil || string(b) != text {
				t.Fatalf("%+v: got %q, %v", c, b, err)
			}
		}
		_ = resp.Body.Close()
	}
}

// A big body passes through without being kept.
func TestBodiesAreStreamed(t *testing.T) {
	f := newFront(t, nil)
	first := make(chan struct{})
	at, _ := proxyAt(t, "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one := make([]byte, 1)
		if _, err := io.ReadFull(r.Body, one); err != nil {
			return
		}
		close(first)
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n+1, err)
	}))
	f.shows("up.apps.test", at)
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write([]byte("x"))
		<-first // the service has the beginning before the end is there
		for range 64 {
			_, _ = w.Write(make([]byte, 1<<20))
		}
		_ = w.Close()
	}()
	req, _ := http.NewRequestWithContext(t.Context(), "PUT", "https://up.apps.test/", r)
	resp, err := f.client(true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if b, _ := io.ReadAll(resp.Body); string(b) != "67108865 <nil>" {
		t.Errorf("got %q", b)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	f := newFront(t, func(c *Config) { c.MaxConnections = 16 }) // so 8 from one address
	f.shows("shop.apps.test")
	var open []net.Conn
	for range 8 {
		c, err := net.Dial("tcp", f.https)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	eventually(t, "all are counted", func() bool { return f.gate.count() == 8 })
	if _, err := tls.Dial("tcp", f.https, &tls.Config{ServerName: "shop.apps.test", RootCAs: f.roots()}); err == nil {
		t.Error("the ninth connection of one address was taken")
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77)}}
	if c, err := tls.DialWithDialer(&d, "tcp", f.https, &tls.Config{ServerName: "shop.apps.test", RootCAs: f.roots()}); err != nil {
		t.Errorf("another address: %v", err)
	} else {
		_ = c.Close()
	}
	for _, c := range open {
		_ = c.Close()
	}
	eventually(t, "they are counted out", func() bool { return f.gate.count() == 0 })
}

// A stock client over HTTP/2.
func TestCurl(t *testing.T) {
	curl := tool(t, "curl")
	f := newFront(t, nil)
	at, _ := proxyAt(t, "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, strings.Repeat("a page ", 1000))
	}))
	f.shows("shop.apps.test", at)
	root := t.TempDir() + "/root.pem"
	write(t, root, string(f.ca.RootPEM()))
	_, port, _ := net.SplitHostPort(f.https)
	for flag, version := range map[string]string{"--http2": "2", "--http1.1": "1.1"} {
		for _, encoding := range []string{"gzip", "zstd", "identity"} {
			out, err := exec.CommandContext(t.Context(), curl, "-sS", "--fail", flag, "--cacert", root, "--resolve", "shop.apps.test:"+port+":127.0.0.1", "-H", "Accept-Encoding: "+encoding,
				"--compressed", "-o", "/dev/null", "-w", "%{http_version} %{size_download}", "https://shop.apps.test:"+port+"/").CombinedOutput()
			var got string
			var size int
			if _, e := fmt.Sscan(string(out), &got, &size); err != nil || e != nil || got != version || (size < 1000) != (encoding != "identity") {
				t.Errorf("%s %s: %v %s", flag, encoding, err, out)
			}
		}
	}
}
