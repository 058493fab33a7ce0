package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
	"nutshell/services/servicetest"
	"nutshell/services/web"
)

// echo is a pager whose backends are servers of this process: they tell who
// they are, bind sessions to themselves, and take upgrades.
type echo struct {
	m    services.Machine
	seen chan struct{} // a visitor has a piece of /stream, and asked for /seen
	stop context.CancelFunc
}

func (e *echo) Apply(_ context.Context, c web.Config, _ []web.Root, _ bool) error {
	if e.stop != nil {
		return nil
	}
	id := ""
	for _, b := range c.Backends {
		if b.Address == e.m.Address() {
			id = b.Instance
		}
	}
	l, err := net.Listen("tcp", net.JoinHostPort(e.m.Address(), strconv.Itoa(e.m.Port(web.BackendPort))))
	if err != nil {
		return err
	}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			upgrade(w)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "JSESSIONID", Value: "abc." + id, Path: "/"})
		if r.URL.Path == "/stream" {
			w.Header().Set("X-Accel-Buffering", "no")
			for n := range 3 {
				fmt.Fprintf(w, "piece %d\n", n)
				_ = http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
				case <-e.seen:
				}
			}
			return
		}
		if r.URL.Path == "/seen" {
			select {
			case <-r.Context().Done():
			case e.seen <- struct{}{}:
			}
			return
		}
		_, _ = io.WriteString(w, id)
	})}
	go func() { _ = s.Serve(l) }()
	e.stop = func() { _ = s.Close() }
	return nil
}

// upgrade speaks a protocol of its own: it says back each line.
func upgrade(w http.ResponseWriter) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	for {
		line, err := buffered.ReadString('\n')
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "back: "+line)
	}
}

func (e *echo) Pages(web.Config) (web.Pages, error) { return web.Pages{Sticky: "JSESSIONID"}, nil }

func (e *echo) Check(context.Context, web.Config, web.Root) error { return nil }

func (e *echo) Observe(context.Context) (any, error) { return nil, nil }

func (e *echo) Stop(context.Context) error {
	if e.stop != nil {
		e.stop()
		e.stop = nil
	}
	return nil
}

type echoManager struct{ web.Manager }

func (*echoManager) Act(context.Context, string, map[string]string) (api.ActResult, error) {
	return api.ActResult{}, errors.New("no actions")
}

func startEcho(t *testing.T, backends int) string {
	t.Helper()
	if _, err := exec.LookPath("nginx"); err != nil && os.Getenv("CI") != "true" {
		t.Skip("install nginx-light and libnginx-mod-http-lua to run this test")
	}
	w := servicetest.New(t, services.Kind{Name: "echo", Parts: web.Parts("echo"), Code: api.CodeRules{Accepts: true}, DefaultCode: map[string]string{"file.txt": "file"},
		Manager: func(h services.Host) services.Manager {
			return &echoManager{web.Manager{Host: h, Terms: func(json.RawMessage) (web.Terms, error) { return web.Terms{BodyMax: "1000000", ReadTimeout: 10}, nil }}}
		},
		Agent: func(m services.Machine) services.Agent {
			a, err := web.NewAgent(m, &echo{m: m, seen: make(chan struct{})})
			if err != nil {
				t.Fatal(err)
			}
			return a
		}})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := w.Scale(ctx, map[string]int{"backend": backends}); err != nil {
		t.Fatal(err)
	}
	h, err := w.Manager.Observe(ctx)
	if err != nil || len(h.URLs) != 1 {
		t.Fatal(h, err)
	}
	return strings.TrimSuffix(h.URLs[0], "/")
}

func ask(t *testing.T, url, cookie string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cookie != "" {
		req.Header.Set("Cookie", "JSESSIONID="+cookie)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", url, resp.Status, err)
	}
	return string(b)
}

// A session stays where it was made; one of a node that is gone goes anywhere.
func TestSticky(t *testing.T) {
	base := startEcho(t, 3)
	seen := map[string]bool{}
	for range 30 {
		seen[ask(t, base+"/", "")] = true
	}
	if len(seen) != 3 {
		t.Fatalf("requests without a session reach %v", seen)
	}
	for id := range seen {
		for range 10 {
			if got := ask(t, base+"/", "x.y."+id); got != id {
				t.Errorf("the session of %s came to %s", id, got)
			}
			if got := ask(t, base+"/page;jsessionid=abc."+id+"?x=1", ""); got != id {
				t.Errorf("the session of %s, named in the address, came to %s", id, got)
			}
		}
	}
	gone := map[string]bool{}
	for range 30 {
		gone[ask(t, base+"/", "abc.i99")] = true
	}
	if len(gone) != 3 {
		t.Errorf("sessions of a node that is gone reach %v only", gone)
	}
}

// An upgraded connection goes both ways, piece by piece.
func TestUpgrade(t *testing.T) {
	base := startEcho(t, 2)
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	defer func() { _ = resp.Body.Close() }()
	for _, line := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(conn, line); err != nil {
			t.Fatal(err)
		}
		if got, err := r.ReadString('\n'); err != nil || got != "back: "+line {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

// A page that streams arrives as it is made: a piece is made when somebody has
// seen the one before.
func TestStream(t *testing.T) {
	base := startEcho(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	r := bufio.NewReader(resp.Body)
	for n := range 3 {
		if line, err := r.ReadString('\n'); err != nil || line != fmt.Sprintf("piece %d\n", n) {
			t.Fatalf("piece %d: got %q, %v", n, line, err)
		}
		ask(t, base+"/seen", "")
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Fatalf("and then %q, %v", rest, err)
	}
}
