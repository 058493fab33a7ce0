package director

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
	"nutshell/roles/internal/terminal"
)

// newTerminalHouse has managers whose terminals echo what is typed, print
// without end for the command flood, and end for exit.
func newTerminalHouse(t *testing.T) *house {
	t.Helper()
	h := newHouse(t)
	h.answer = func(mux *http.ServeMux) {
		mux.HandleFunc("GET /v1/services/{id}/instances/{instance}/terminal", func(w http.ResponseWriter, r *http.Request) {
			c, err := terminal.Accept(w, r)
			if err != nil {
				return
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			e := terminal.NewEnd(ctx, c)
			_ = e.Control(api.TerminalFrame{Hello: &api.TerminalHello{Instance: r.PathValue("instance"), Dir: strings.Join(r.URL.Query()["command"], " ") + " " + r.URL.Query().Get("cols")}})
			go func() {
				for r.URL.Query().Get("command") == "flood" && e.Send(make([]byte, terminal.Chunk), false) == nil {
					h.mu.Lock()
					h.boots++ // chunks, from here on
					h.mu.Unlock()
				}
			}()
			go func() {
				for {
					p, err := e.Receive()
					if err != nil {
						return
					}
					if string(p.Bytes) == "exit" {
						_ = e.Control(api.TerminalFrame{Exit: &api.TerminalExit{Code: 5}})
						return
					}
					_ = e.Send(p.Bytes, false)
				}
			}()
			_ = e.Run(func(api.TerminalFrame) {})
			c.Close(nil)
		})
		mux.HandleFunc("GET /v1/services/{id}/instances/{instance}/files", func(w http.ResponseWriter, r *http.Request) {
			rpc.WriteJSON(w, api.Directory{Path: r.URL.Query().Get("path"), Entries: []api.Entry{}})
		})
	}
	return h
}

// dial opens a terminal as the command line does.
func (c client) dial(path string, header http.Header) (*terminal.Conn, error) {
	c.h.t.Helper()
	if header == nil {
		header = http.Header{}
	}
	if c.auth != "" {
		header.Set("Authorization", c.auth)
	}
	if c.basic[0] != "" {
		c.h.t.Fatal("not with a password")
	}
	wire := rpc.NewClient(c.h.url, pki.PinnedTLS(c.h.d.CASHA256()))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return terminal.Dial(ctx, wire.Upgrading(), wire.Base+"/api/v1"+path, header, rpc.Refusal)
}

// open opens one and reads its hello.
func (c client) open(path string, header http.Header) (*terminal.Conn, api.TerminalHello) {
	c.h.t.Helper()
	t, err := c.dial(path, header)
	if err != nil {
		c.h.t.Fatal(err)
	}
	f := next(c.h.t, t)
	if f.Hello == nil {
		c.h.t.Fatalf("got %+v (%v), want hello", f, f.Error)
	}
	return t, *f.Hello
}

// next is the next control frame.
func next(t *testing.T, c *terminal.Conn) api.TerminalFrame {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		_, f, err := c.Read(ctx)
		if err != nil {
			t.Fatalf("no control frame came: %v", err)
		}
		if f != nil {
			return *f
		}
	}
}

// instance is a started service's only instance, and where its terminal is.
func (c client) terminalOf(app string) (id, path string) {
	c.h.t.Helper()
	c.running(app)
	s := c.service("/applications/" + app + "/services/test")
	return s.Instances[0].ID, "/applications/" + app + "/services/test/instances/" + s.Instances[0].ID + "/terminal"
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	h := newTerminalHouse(t)
	ann := h.user("ann")
	id, path := ann.terminalOf("shop")

	c, hello := ann.open(path+"?cols=132&command=ls&command=-l+a", nil)
	if hello.Instance != id || hello.Dir != "ls -l a 132" {
		t.Errorf("got hello %+v", hello)
	}
	ctx := t.Context()
	if err := c.Data(ctx, []byte("typed")); err != nil {
		t.Fatal(err)
	}
	if b, _, err := c.Read(ctx); err != nil || string(b) != "typed" {
		t.Errorf("got %q, %v, want what was typed", b, err)
	}
	_ = c.Data(ctx, []byte("exit"))
	if f := next(t, c); f.Exit == nil || f.Exit.Code != 5 {
		t.Errorf("got %+v, want exit 5", f)
	}
	if _, _, err := c.Read(ctx); !terminal.Closed(err) {
		t.Errorf("not closed in order: %v", err)
	}
	h.eventually("the audit", func() bool {
		var log []api.AuditEntry
		h.admin.must("GET", "/audit?limit=100", nil, &log, 200)
		found := map[string]bool{}
		for _, e := range log {
			if e.From == "127.0.0.1" && strings.HasPrefix(e.Object, path) {
				found[e.Actor+" "+e.Action+" "+e.Result] = true
			}
		}
		return found["ann terminal.open ok"] && found["ann terminal.open.end ok"]
	})
	if n := len(h.d.terminals.users) + len(h.d.terminals.instances); n != 0 {
		t.Errorf("%d are still counted", n)
	}
}

func TestTerminalIsRefused(t *testing.T) {
	t.Parallel()
	h := newTerminalHouse(t)
	ann, eve := h.user("ann"), h.user("eve")
	_, path := ann.terminalOf("shop")
	reader := ann
	var s struct{ Secret string }
	ann.must("POST", "/tokens", api.CreateToken{Name: "reader", Scope: "read"}, &s, 201)
	reader.auth = "Bearer " + s.Secret
	cookie, session := ann.session("ann", "correct horse ann")
	here := http.Header{"Origin": {h.url}}
	for name, c := range map[string]struct {
		who    client
		path   string
		header http.Header
		want   api.Code
	}{
		"stranger":          {eve, path, nil, api.CodeNotFound},
		"nobody":            {client{h: h}, path, nil, api.CodeUnauthorized},
		"reading-token":     {reader, path, nil, api.CodeForbidden},
		"other-origin":      {ann, path, http.Header{"Origin": {"https://evil.example"}}, api.CodeForbidden},
		"other-port":        {ann, path, http.Header{"Origin": {"https://127.0.0.1:1"}}, api.CodeForbidden},
		"plain-origin":      {ann, path, http.Header{"Origin": {strings.Replace(h.url, "https", "http", 1)}}, api.CodeForbidden},
		"null-origin":       {ann, path, http.Header{"Origin": {"null"}}, api.CodeForbidden},
		"session-elsewhere": {client{h: h}, path, http.Header{"Cookie": {cookie}, "Origin": {"https://evil.example"}}, api.CodeForbidden},
		"session-no-origin": {client{h: h}, path, http.Header{"Cookie": {cookie}}, api.CodeForbidden},
		"no-instance":       {ann, strings.Replace(path, "/terminal", "x/terminal", 1), here, api.CodeNotFound},
		"too-wide":          {ann, path + "?cols=5000", here, api.CodeInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.who.dial(c.path, c.header)
			if err == nil {
				got.Close(nil)
			}
			if api.CodeOf(err) != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	ann.refused("GET", path, nil, api.CodeInvalid) // no WebSocket
	for _, way := range []string{"/files?path=/", "/files/content?path=/etc/passwd"} {
		eve.refused("GET", strings.Replace(path, "/terminal", way, 1), nil, api.CodeNotFound)
	}
	eve.refused("PUT", strings.Replace(path, "/terminal", "/files/content?path=/tmp/x", 1), nil, api.CodeNotFound)
	reader.refused("PUT", strings.Replace(path, "/terminal", "/files/content?path=/tmp/x", 1), nil, api.CodeForbidden)

	// A page of ours with a session is let in, and out when the session ends.
	c, _ := client{h: h}.open(path, http.Header{"Cookie": {cookie}, "Origin": {h.url}})
	session()
	if f := next(t, c); f.Error == nil || f.Error.Code != api.CodeUnauthorized {
		t.Errorf("signed out: got %+v, want unauthorized", f)
	}
	// So is a token that is revoked.
	second := reader
	var made struct {
		Secret string
		Token  api.Token
	}
	ann.must("POST", "/tokens", api.CreateToken{Name: "second"}, &made, 201)
	second.auth = "Bearer " + made.Secret
	c, _ = second.open(path, nil)
	ann.must("DELETE", "/tokens/"+made.Token.ID, nil, nil, 204)
	if f := next(t, c); f.Error == nil || f.Error.Code != api.CodeUnauthorized {
		t.Errorf("token revoked: got %+v, want unauthorized", f)
	}
	// So is who may only look from now on.
	bob := h.user("bob")
	ann.must("PUT", "/applications/shop/members/bob", api.SetMember{Access: api.AccessDeveloper}, nil, 200)
	c, _ = bob.open(strings.Replace(path, "/applications/shop/", "/applications/1/", 1), nil)
	ann.must("PUT", "/applications/shop/members/bob", api.SetMember{Access: api.AccessViewer}, nil, 200)
	if f := next(t, c); f.Error == nil || f.Error.Code != api.CodeForbidden {
		t.Errorf("made a viewer: got %+v, want forbidden", f)
	}
	// And who looks into an application that is stopped.
	c, _ = ann.open(path, nil)
	ann.done("POST", "/applications/shop/stop", nil)
	if f := next(t, c); f.Error == nil || f.Error.Hint == "" {
		t.Errorf("application stopped: got %+v, want the reason", f)
	}
}

// session signs in as a browser does; end signs out.
func (c client) session(name, password string) (cookie string, end func()) {
	c.h.t.Helper()
	c.auth = ""
	resp := c.raw("POST", "/session", strings.NewReader(`{"name":"`+name+`","password":"`+password+`"}`), http.Header{"Content-Type": {"application/json"}})
	_ = resp.Body.Close()
	if resp.StatusCode >= 300 || len(resp.Cookies()) == 0 {
		c.h.t.Fatalf("sign in: %d", resp.StatusCode)
	}
	secret := resp.Cookies()[0].Value
	return resp.Cookies()[0].Name + "=" + secret, func() {
		p, err := guard{c.h.d}.Session(context.Background(), secret)
		if err != nil {
			c.h.t.Fatal(err)
		}
		resp := c.raw("DELETE", "/session", nil, http.Header{"Cookie": {"nutshell_session=" + secret}, "X-Csrf-Token": {p.CSRF}})
		_ = resp.Body.Close()
		if resp.StatusCode != 204 {
			c.h.t.Fatalf("sign out: %d", resp.StatusCode)
		}
	}
}

// TestTerminalBounds has a client that does not acknowledge.
func TestTerminalBounds(t *testing.T) {
	t.Parallel()
	h := newTerminalHouse(t)
	_, path := h.admin.terminalOf("shop")
	h.mu.Lock()
	h.boots = 0
	h.mu.Unlock()
	c, _ := h.admin.open(path+"?command=flood", nil)
	got, ctx := 0, t.Context()
	chunks := func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.boots
	}
	for got < api.TerminalWindow {
		b, _, err := c.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got += len(b)
	}
	if n := chunks() * terminal.Chunk; got > api.TerminalWindow || n > api.TerminalWindow {
		t.Errorf("%d bytes came and %d were sent without an acknowledgement, want %d", got, n, api.TerminalWindow)
	}
	if err := c.Control(ctx, api.TerminalFrame{Ack: terminal.Chunk}); err != nil {
		t.Fatal(err)
	}
	if b, _, err := c.Read(ctx); err != nil || len(b) != terminal.Chunk {
		t.Errorf("got %d bytes, %v, want one chunk more", len(b), err)
	}
	// A lie about it ends the terminal.
	_ = c.Control(ctx, api.TerminalFrame{Ack: 1 << 30})
	if f := next(t, c); f.Error == nil {
		t.Errorf("got %+v, want an error", f)
	}

	h.d.terminals.mu.Lock()
	h.d.terminals.perInstance = 2
	h.d.terminals.mu.Unlock()
	h.eventually("room again", func() bool {
		h.d.terminals.mu.Lock()
		defer h.d.terminals.mu.Unlock()
		return len(h.d.terminals.users) == 0
	})
	first, _ := h.admin.open(path, nil)
	_, _ = h.admin.open(path, nil)
	third, err := h.admin.dial(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f := next(t, third); f.Error == nil || f.Error.Code != api.CodeTooMany {
		t.Errorf("got %+v, want too many", f)
	}
	first.Close(nil)
	h.eventually("a place for another", func() bool {
		c, err := h.admin.dial(path, nil)
		return err == nil && next(t, c).Hello != nil
	})
}

func TestTerminalIdles(t *testing.T) {
	t.Parallel()
	h := newTerminalHouse(t)
	_, path := h.admin.terminalOf("shop")
	h.d.terminals.idle, h.d.terminals.warn = 8*time.Second, 6*time.Second
	c, _ := h.admin.open(path, nil)
	if f := next(t, c); f.Idle < 1 || f.Idle > 8 {
		t.Errorf("got %+v, want a warning", f)
	}
	_ = c.Data(t.Context(), []byte("here"))
	if f := next(t, c); f.Idle >= 0 {
		t.Errorf("got %+v, want the warning taken back", f)
	}
	if f := next(t, c); f.Idle < 1 {
		t.Errorf("got %+v, want a second warning", f)
	}
	if f := next(t, c); f.Error == nil || f.Error.Code != api.CodeDeadline {
		t.Errorf("got %+v, want the end", f)
	}

	// The director goes: the client is told.
	c, _ = h.admin.open(path, nil)
	h.stopDirector()
	if f := next(t, c); f.Error == nil || f.Error.Code != api.CodeUnavailable {
		t.Errorf("got %+v, want unavailable", f)
	}
}
