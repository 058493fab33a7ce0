package httpapi

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"nutshell/roles/api"
)

// doors is a guard with two known tokens that remembers what was audited.
type doors struct {
	mu    sync.Mutex
	audit []api.AuditEntry
}

func (d *doors) Session(_ context.Context, secret string) (Principal, error) {
	if secret != "ann's" {
		return Principal{}, unauthorized("no such session")
	}
	return Principal{User: api.User{ID: 1, Name: "ann"}, Session: secret, CSRF: "csrf"}, nil
}

func (d *doors) Token(_ context.Context, secret string) (Principal, error) {
	switch secret {
	case "reader":
		return Principal{User: api.User{ID: 1, Name: "ann"}, ReadOnly: true}, nil
	case "root":
		return Principal{User: api.User{ID: 2, Name: "root", Admin: true}}, nil
	}
	return Principal{}, unauthorized("no such token")
}

func (d *doors) Password(_ context.Context, name, password, _ string) (Principal, error) {
	if name != "ann" || password != "secret" {
		return Principal{}, unauthorized("wrong")
	}
	return Principal{User: api.User{ID: 1, Name: "ann"}}, nil
}

func (d *doors) Peer(context.Context, *tls.ConnectionState, bool) (Principal, error) {
	return Principal{Identity: api.Identity{Role: api.RoleAgent}}, nil
}

func (d *doors) Audit(_ context.Context, e api.AuditEntry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.audit = append(d.audit, e)
}

type thing struct {
	Name  string `json:"name"`
	Count int    `json:"count,omitempty" minimum:"0"`
}

func server(t *testing.T, routes ...Route) (*Server, *doors) {
	t.Helper()
	d := &doors{}
	ui := fstest.MapFS{"index.html": {Data: []byte("<!doctype html><title>shell</title>")}, "assets/app-abc.js": {Data: []byte("let x = 1")}}
	s, err := New(Config{Guard: d, Routes: routes, UI: ui, Log: slog.New(slog.DiscardHandler), Now: time.Now, KeepAlive: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

func echoThing(_ context.Context, in *struct{ Body thing }) (thing, error) { return in.Body, nil }

func ask(s http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestTableIsRefused(t *testing.T) {
	ok := On("POST", "/things", "thing.create", User, time.Minute, "make", echoThing)
	for name, r := range map[string]Route{
		"nobody-needs-it": On("POST", "/x", "x", "", time.Minute, "x", echoThing),
		"unknown-needs":   On("POST", "/x", "x", "anybody", time.Minute, "x", echoThing),
		"no-limit":        On("POST", "/x", "x", User, 0, "x", echoThing),
		"no-id":           On("POST", "/x", "", User, time.Minute, "x", echoThing),
		"no-summary":      On("POST", "/x", "x", User, time.Minute, "", echoThing),
		"same-path":       On("POST", "/things", "x", User, time.Minute, "x", echoThing),
		"same-id":         On("POST", "/x", "thing.create", User, time.Minute, "x", echoThing),
	} {
		t.Run(name, func(t *testing.T) {
			if err := CheckRoutes([]Route{ok, r}); err == nil {
				t.Error("the table was accepted")
			}
		})
	}
}

func TestRequests(t *testing.T) {
	s, _ := server(t,
		On("POST", "/things", "thing.create", User, time.Minute, "make", echoThing).Status(http.StatusCreated),
		On("GET", "/things", "thing.list", User, time.Minute, "list", func(context.Context, *struct {
			Limit int `query:"limit" minimum:"1"`
		}) ([]thing, error) {
			return []thing{}, nil
		}),
		On("DELETE", "/things", "thing.delete", Admin, time.Minute, "clear", func(context.Context, *struct{}) (None, error) { return None{}, nil }),
		On("GET", "/panic", "panic", Public, time.Minute, "panics", func(context.Context, *struct{}) (thing, error) { panic("boom") }),
		On("GET", "/bug", "bug", Public, time.Minute, "a bug", func(context.Context, *struct{}) (thing, error) { return thing{}, errors.New("password is hunter2") }),
		On("GET", "/slow", "slow", Public, 10*time.Millisecond, "too slow", func(ctx context.Context, _ *struct{}) (thing, error) {
			<-ctx.Done()
			return thing{}, ctx.Err()
		}),
		On("GET", "/agent", "agent", Agent, time.Minute, "for agents", func(context.Context, *struct{}) (thing, error) { return thing{Name: "a"}, nil }),
		On("GET", "/manager", "manager", Manager, time.Minute, "for managers", func(context.Context, *struct{}) (thing, error) { return thing{}, nil }),
	)
	root, cookie := []string{"Authorization", "Bearer root"}, []string{"Cookie", SessionCookie + "=ann's"}
	for _, try := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		says                     string
	}{
		{"token", "POST", "/things", `{"name":"x"}`, root, 201, `"name":"x"`},
		{"basic", "POST", "/things", `{"name":"x"}`, []string{"Authorization", "Basic YW5uOnNlY3JldA=="}, 201, ""},
		{"wrong-basic", "POST", "/things", `{"name":"x"}`, []string{"Authorization", "Basic YW5uOndyb25n"}, 401, `"code":"unauthorized"`},
		{"other-scheme", "GET", "/things", "", []string{"Authorization", "Digest x"}, 401, ""},
		{"nobody", "POST", "/things", `{"name":"x"}`, nil, 401, `"code":"unauthorized"`},
		{"cookie-reads", "GET", "/things", "", cookie, 200, "[]"},
		{"cookie-without-csrf", "POST", "/things", `{"name":"x"}`, cookie, 403, "X-CSRF-Token"},
		{"cookie-with-csrf", "POST", "/things", `{"name":"x"}`, append([]string{"X-CSRF-Token", "csrf"}, cookie...), 201, ""},
		{"reader-reads", "GET", "/things", "", []string{"Authorization", "Bearer reader"}, 200, ""},
		{"reader-writes", "POST", "/things", `{"name":"x"}`, []string{"Authorization", "Bearer reader"}, 403, "only read"},
		{"admin", "DELETE", "/things", "", root, 204, ""},
		{"no-admin", "DELETE", "/things", "", append([]string{"X-CSRF-Token", "csrf"}, cookie...), 403, "administrator"},
		{"unknown-field", "POST", "/things", `{"name":"x","nme":"y"}`, root, 422, `"fields":["nme"]`},
		{"missing-field", "POST", "/things", `{}`, root, 422, "name"},
		{"wrong-type", "POST", "/things", `{"name":7}`, root, 422, `"fields":["name"]`},
		{"below-minimum", "POST", "/things", `{"name":"x","count":-1}`, root, 422, `"fields":["count"]`},
		{"no-json", "POST", "/things", `{"name"`, root, 400, `"code":"invalid"`},
		{"no-body", "POST", "/things", ``, root, 400, `"code":"invalid"`},
		{"too-large", "POST", "/things", `{"name":"` + strings.Repeat("x", maxJSON) + `"}`, root, 413, `"code":"too_large"`},
		{"unknown-query", "GET", "/things?limt=3", "", root, 422, "limt"},
		{"bad-query", "GET", "/things?limit=0", "", root, 422, "limit"},
		{"long-key", "POST", "/things", `{"name":"x"}`, append([]string{"Idempotency-Key", strings.Repeat("k", 65)}, root...), 422, "Idempotency-Key"},
		{"panic", "GET", "/panic", "", nil, 500, `"code":"internal"`},
		{"bug", "GET", "/bug", "", nil, 500, `"code":"internal"`},
		{"slow", "GET", "/slow", "", nil, 504, `"code":"deadline"`},
		{"no-route", "GET", "/nothing", "", root, 404, `"code":"not_found"`},
		{"no-method", "PUT", "/things", "", root, 405, `"code":"not_found"`},
		{"agent", "GET", "/agent", "", nil, 200, ""},
		{"agent-as-manager", "GET", "/manager", "", nil, 403, `"code":"forbidden"`},
	} {
		t.Run(try.name, func(t *testing.T) {
			w := ask(s, try.method, Prefix+try.path, try.body, try.header...)
			if w.Code != try.status || !strings.Contains(w.Body.String(), try.says) {
				t.Errorf("got %d %s, want %d with %q", w.Code, w.Body, try.status, try.says)
			}
			if try.status >= 400 {
				var p problem
				if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != try.status || p.Code == "" || p.Title == "" || p.Request == "" {
					t.Errorf("no problem: %v in %s", err, w.Body)
				}
				if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
					t.Errorf("Content-Type %q", ct)
				}
			}
			if strings.Contains(w.Body.String(), "hunter2") || strings.Contains(w.Body.String(), "boom") {
				t.Errorf("the answer tells what belongs in the log: %s", w.Body)
			}
		})
	}
}

func TestAudit(t *testing.T) {
	s, d := server(t,
		On("POST", "/things", "thing.create", User, time.Minute, "make", echoThing),
		On("POST", "/beat", "beat", User, time.Minute, "heartbeat", echoThing).Quiet(),
		On("GET", "/things", "thing.list", User, time.Minute, "list", func(context.Context, *struct{}) ([]thing, error) { return []thing{}, nil }))
	ask(s, "POST", Prefix+"/things", `{"name":"x"}`, "Authorization", "Bearer root")
	ask(s, "POST", Prefix+"/things", `{"name":"x"}`)
	ask(s, "POST", Prefix+"/beat", `{"name":"x"}`, "Authorization", "Bearer root")
	ask(s, "GET", Prefix+"/things", "", "Authorization", "Bearer root")
	want := []api.AuditEntry{
		{Actor: "root", From: "192.0.2.1", Action: "thing.create", Object: "/things", Result: "ok"},
		{Actor: "", From: "192.0.2.1", Action: "thing.create", Object: "/things", Result: "unauthorized"},
	}
	if len(d.audit) != len(want) || d.audit[0] != want[0] || d.audit[1] != want[1] {
		t.Errorf("got %+v, want %+v", d.audit, want)
	}
}

func TestPages(t *testing.T) {
	s, _ := server(t)
	for _, try := range []struct {
		name, method, path string
		status             int
		says, cache        string
	}{
		{"root", "GET", "/", 200, "shell", "no-cache"},
		{"route-of-the-pages", "GET", "/applications/shop", 200, "shell", "no-cache"},
		{"asset", "GET", "/assets/app-abc.js", 200, "let x", "immutable"},
		{"old-asset", "GET", "/assets/app-old.js", 404, "not_found", ""},
		{"page-with-a-dot", "GET", "/applications/shop.v2", 200, "shell", "no-cache"},
		{"page-below-a-dot", "GET", "/applications/shop.v2/services/php.js", 200, "shell", "no-cache"},
		{"escape", "GET", "/../../etc/passwd", 200, "shell", ""},
		{"api-is-no-page", "GET", "/api/nothing", 404, "not_found", ""},
		{"post", "POST", "/", 404, "not_found", ""},
	} {
		t.Run(try.name, func(t *testing.T) {
			w := ask(s, try.method, try.path, "")
			if w.Code != try.status || !strings.Contains(w.Body.String(), try.says) || !strings.Contains(w.Header().Get("Cache-Control"), try.cache) {
				t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
			}
			if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'self'") || strings.Contains(csp, "unsafe") {
				t.Errorf("Content-Security-Policy %q", csp)
			}
		})
	}
	tag := ask(s, "GET", "/", "").Header().Get("ETag")
	if w := ask(s, "GET", "/", "", "If-None-Match", tag); w.Code != http.StatusNotModified {
		t.Errorf("with its ETag: got %d, want 304", w.Code)
	}
}

func TestDocument(t *testing.T) {
	s, _ := server(t, On("POST", "/things/{id}", "thing.create", User, time.Minute, "make a thing", func(_ context.Context, in *struct {
		ID   string `path:"id"`
		Body thing
	}) (thing, error) {
		return in.Body, nil
	}))
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Needs       string `json:"x-needs"`
			Responses   map[string]any
		}
	}
	w := ask(s, "GET", Prefix+"/openapi.json", "")
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	op := doc.Paths[Prefix+"/things/{id}"]["post"]
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || op.OperationID != "thing.create" || op.Needs != "user" || op.Responses["default"] == nil || op.Responses["200"] == nil {
		t.Errorf("got %s", w.Body)
	}
}

func TestEventsResumeAndStayAlive(t *testing.T) {
	var mu sync.Mutex
	changed := make(chan struct{})
	list := []api.Event{{ID: 4, Type: "service", Data: json.RawMessage(`{}`)}, {ID: 5, Type: "operation", Data: json.RawMessage(`{"x":1}`)}}
	s, _ := server(t, On("GET", "/events", "events", Public, time.Minute, "events", func(context.Context, *struct{}) (*Events, error) {
		return &Events{After: 4, Changed: func() <-chan struct{} {
			mu.Lock()
			defer mu.Unlock()
			return changed
		}, Next: func(_ context.Context, after int64) ([]api.Event, error) {
			mu.Lock()
			defer mu.Unlock()
			out := []api.Event{}
			for _, e := range list {
				if e.ID > after {
					out = append(out, e)
				}
			}
			return out, nil
		}}, nil
	}))
	h := httptest.NewServer(s)
	defer h.Close()
	resp, err := http.Get(h.URL + Prefix + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	next := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), want) {
				return
			}
			if strings.HasPrefix(lines.Text(), "id: 4") && want != "id: 4" {
				t.Errorf("an event that was seen before came again")
			}
		}
		t.Fatalf("the stream ended without %q: %v", want, lines.Err())
	}
	next("id: 4")
	next("event: hello")
	next("id: 5")
	next("event: operation")
	next(`"data":{"x":1}`)
	next(": alive")
	mu.Lock()
	list = append(list, api.Event{ID: 6, Type: "instance", Data: json.RawMessage(`{}`)})
	close(changed)
	changed = make(chan struct{})
	mu.Unlock()
	next("id: 6")
}

func TestStreams(t *testing.T) {
	read, write := io.Pipe()
	s, _ := server(t,
		On("GET", "/log", "log", Public, time.Minute, "a log", func(context.Context, *struct{}) (*Stream, error) {
			return &Stream{Type: "text/plain", Read: read}, nil
		}),
		On("POST", "/upload", "upload", Public, time.Minute, "bytes", func(ctx context.Context, _ *struct{}) (thing, error) {
			n, err := io.Copy(io.Discard, Body(ctx))
			return thing{Count: int(n)}, err
		}).Raw())
	h := httptest.NewServer(s)
	defer h.Close()
	resp, err := http.Get(h.URL + Prefix + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for _, line := range []string{"one\n", "two\n"} { // each must come before the next is written
		if _, err := io.WriteString(write, line); err != nil {
			t.Fatal(err)
		}
		if got, err := lines.ReadString('\n'); got != line {
			t.Errorf("got %q %v, want %q", got, err, line)
		}
	}
	_ = write.Close()
	const size = 8 << 20 // more than any JSON body may be
	up, err := http.Post(h.URL+Prefix+"/upload", "application/octet-stream", io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	defer up.Body.Close()
	var got thing
	if err := json.NewDecoder(up.Body).Decode(&got); err != nil || got.Count != size {
		t.Errorf("uploaded %+v %v", got, err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestPlainHTTPOnTheSamePort(t *testing.T) {
	s, _ := server(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Serve(ctx, l, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}, 200*time.Millisecond)
	}()
	idle, err := net.Dial("tcp", l.Addr().String()) // says nothing and must not be in the way
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	resp, err := c.Get("http://" + l.Addr().String() + "/applications?x=1")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got, want := resp.Header.Get("Location"), "https://"+l.Addr().String()+"/applications?x=1"; resp.StatusCode != http.StatusPermanentRedirect || got != want {
		t.Errorf("got %d to %q, want %q", resp.StatusCode, got, want)
	}
	resp, err = c.Get("https://" + l.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 || resp.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("over TLS: %s %s %v", resp.Status, resp.Proto, resp.Header)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
