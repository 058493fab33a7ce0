package node

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
)

// era is a clock. The tests of this file play in the future: who has no
// certificate yet goes by the real clock, and it lets in who is behind.
type era struct {
	mu  sync.Mutex
	now time.Time
}

func (e *era) Now() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now
}

func (e *era) set(to time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now = to
	return nil
}

// authority is a director, as far as a node speaks to one.
type authority struct {
	*pki.Authority
	era
	dir     string
	address string
	server  *http.Server

	approved         bool
	enrolled, beaten int
	refused          int
}

func newAuthority(t *testing.T, begins time.Time) *authority {
	t.Helper()
	d := &authority{era: era{now: begins}, dir: filepath.Join(t.TempDir(), "ca"), address: "127.0.0.1:0", approved: true}
	if _, err := pki.Create(d.dir, "test1", d.Now); err != nil {
		t.Fatal(err)
	}
	d.start(t)
	return d
}

// start begins anew, with a certificate of now.
func (d *authority) start(t *testing.T) {
	t.Helper()
	if d.server != nil {
		_ = d.server.Close()
	}
	var err error
	if d.Authority, err = pki.Open(d.dir, d.Now); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", d.address)
	if err != nil {
		t.Fatal(err)
	}
	d.address = l.Addr().String()
	m := http.NewServeMux()
	m.HandleFunc("POST /api/v1/node/join", func(w http.ResponseWriter, r *http.Request) { answer(w, r, d.join) })
	m.HandleFunc("POST /api/v1/renew", func(w http.ResponseWriter, r *http.Request) { answer(w, r, d.renew) })
	m.HandleFunc("POST /api/v1/node/heartbeat", func(w http.ResponseWriter, r *http.Request) { answer(w, r, d.heartbeat) })
	s := &http.Server{Handler: m, TLSConfig: d.ServerTLS(func() []string { return []string{"127.0.0.1"} }), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), ReadHeaderTimeout: time.Minute}
	d.server = s
	go func() { _ = s.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = s.Close() })
}

func answer[T any](w http.ResponseWriter, r *http.Request, do func(*http.Request) (T, error)) {
	out, err := do(r)
	if err != nil {
		rpc.WriteError(w, err)
		return
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (d *authority) join(r *http.Request) (out api.NodeJoined, err error) {
	var in api.NodeJoin
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return out, err
	}
	d.mu.Lock()
	approved := d.approved
	d.mu.Unlock()
	out = api.NodeJoined{ID: "none", Challenge: "sign this", Now: d.Now(), Waiting: in.Challenge != "" && !approved}
	if ok, err := pki.Proved([]byte(in.CSR), out.Challenge, in.Proof); in.Challenge == "" || !ok || !approved {
		return out, err
	}
	e, err := d.sign(in.CSR)
	out.Enrolled = &e
	return out, err
}

func (d *authority) sign(csr string) (api.Enrolled, error) {
	id := api.Identity{Installation: "test1", Role: api.RoleNode, Name: "none"}
	chain, end, err := d.Sign([]byte(csr), id, nil, 0)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.enrolled++
	return api.Enrolled{Chain: string(chain), Identity: id.String(), Expires: end, Now: d.now}, err
}

func (d *authority) renew(r *http.Request) (out api.Enrolled, err error) {
	var in api.Enrol
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return out, err
	}
	if _, ok := d.RenewingIdentity(r.TLS); !ok {
		return out, &api.Error{Code: api.CodeUnauthorized}
	}
	return d.sign(in.CSR)
}

func (d *authority) heartbeat(r *http.Request) (api.NodeOrders, error) {
	_, ok := d.PeerIdentity(r.TLS)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !ok:
		d.refused++
		return api.NodeOrders{}, &api.Error{Code: api.CodeUnauthorized}
	case !d.approved:
		return api.NodeOrders{}, &api.Error{Code: api.CodeNotFound, Object: "node none", Message: "it was removed"}
	}
	d.beaten++
	return api.NodeOrders{Now: d.now, Name: "shelf-1"}, nil
}

func (d *authority) figures() (enrolled, beaten int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.enrolled, d.beaten
}

// empty is a cloud without instances.
type empty struct{}

func (empty) Launch(context.Context, []cloud.Spec) ([]cloud.Instance, error) { return nil, nil }
func (empty) Terminate(context.Context, []string) error                      { return nil }
func (empty) List(context.Context) ([]cloud.Instance, error)                 { return nil, nil }
func (empty) Check(context.Context) error                                    { return nil }

// on is a node that is switched on until the returned function is called.
func on(t *testing.T, d *authority, dir string, clock *era, set func(time.Time) error) (off func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{Dir: dir, Disk: dir, Directors: []string{d.address}, Listen: "127.0.0.1:0", Find: "none", Now: clock.Now, SetClock: set, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Say: io.Discard,
			Driver: func(string) (cloud.Driver, error) { return empty{}, nil }})
	}()
	var once sync.Once
	off = func() {
		once.Do(func() {
			stop()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("the node ended by %v", err)
			}
		})
	}
	t.Cleanup(off)
	return off
}

func soon(t *testing.T, what string, good func() bool) {
	t.Helper()
	for end := time.Now().Add(50 * time.Second); !good(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// TestCertificateComesToItsEnd switches a node off, and on again when the world
// has gone on, with a clock that knows of it or not.
func TestCertificateComesToItsEnd(t *testing.T) {
	t.Parallel()
	const hour, day = time.Hour, 24 * time.Hour
	nobody := func(time.Time) error { return errors.New("not permitted") }
	for _, c := range []struct {
		name    string
		off     time.Duration
		behind  time.Duration // of its clock, when it is on again
		settled bool          // its clock may be set
		renewed bool
	}{
		{"an-hour", hour, 0, false, false},
		{"two-days", 2 * day, 0, false, true},
		{"two-months", 60 * day, 0, false, true},
		{"an-hour-without-a-clock", hour, hour, true, true},
		{"two-days-without-a-clock", 2 * day, 2 * day, true, true},
		{"two-months-without-a-clock", 60 * day, 60 * day, true, true},
		{"two-months-without-a-clock-that-can-be-set", 60 * day, 60 * day, false, true},
		{"from-1970", 2 * day, 50 * 365 * day, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			begins := time.Now().Truncate(time.Second)
			d, dir := newAuthority(t, begins), t.TempDir()
			clock := &era{now: begins}
			off := on(t, d, dir, clock, nobody)
			soon(t, "a first word", func() bool { _, beaten := d.figures(); return beaten > 0 })
			off()
			first, before := d.figures()

			_ = d.set(begins.Add(c.off))
			_ = clock.set(begins.Add(c.off - c.behind))
			set := nobody
			if c.settled {
				set = clock.set
			}
			d.start(t)
			off = on(t, d, dir, clock, set)
			soon(t, "its return", func() bool { _, beaten := d.figures(); return beaten > before })
			off()
			if enrolled, _ := d.figures(); enrolled > first != c.renewed {
				t.Errorf("%d certificates were given, %d before", enrolled, first)
			}
			if c.settled && !clock.Now().Equal(d.Now()) {
				t.Errorf("its clock says %v", clock.Now())
			}
		})
	}
}

// TestRenewedWhileItRuns lets a day pass under a node that runs, and a month
// under one that the director does not know any more.
func TestRenewedWhileItRuns(t *testing.T) {
	t.Parallel()
	begins := time.Now().Truncate(time.Second)
	d, dir := newAuthority(t, begins), t.TempDir()
	clock := &era{now: begins}
	off := on(t, d, dir, clock, nil)
	soon(t, "a first word", func() bool { _, beaten := d.figures(); return beaten > 0 })
	for n := range 3 {
		enrolled, beaten := d.figures()
		_ = d.set(begins.Add(time.Duration(n+1) * 20 * time.Hour))
		_ = clock.set(d.Now())
		soon(t, "another certificate, and a word with it", func() bool {
			e, b := d.figures()
			return e > enrolled && b > beaten
		})
	}
	d.mu.Lock()
	refused := d.refused
	d.approved = false
	d.mu.Unlock()
	if refused != 0 {
		t.Errorf("%d words were refused", refused)
	}
	soon(t, "that it was removed", func() bool {
		var s Status
		_ = cloud.LoadState(filepath.Join(dir, statusFile), &s)
		return s.State == waiting
	})
	off()
}

// TestNoteOfAWrongClock: a renewal that failed in a year that never was keeps
// none away.
func TestNoteOfAWrongClock(t *testing.T) {
	now := time.Now()
	w := &worker{renew: now.Add(60 * 24 * time.Hour)}
	if w.tooEarly(now) {
		t.Error("it waits for two months")
	}
	if w.renew = now.Add(renewEvery / 2); !w.tooEarly(now) {
		t.Error("it asks again at once")
	}
}
