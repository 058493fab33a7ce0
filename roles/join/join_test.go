package join

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	cloudcontext "nutshell/cloud/context"
	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
)

var agent = api.Identity{Installation: "i1", Role: api.RoleAgent, Application: 3, Service: 1, Name: "a3-s1-k2"}

// director answers as the real one does, with a real authority behind it.
type director struct {
	*pki.Authority
	dir    string // of its authority
	url    string
	server *http.Server

	mu       sync.Mutex
	keys     map[string]string // used secret → hash of its key
	broken   int               // so many answers are lost after they took effect
	life     time.Duration
	identity api.Identity
	enrolled int
	renewed  int
	removed  bool
}

func newDirector(t *testing.T) *director {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	a, err := pki.Create(dir, "i1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	// A port below those that the kernel gives away: it is still free when the
	// director comes back.
	var l net.Listener
	for range 1000 {
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000))); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	d := &director{Authority: a, dir: dir, url: "https://" + l.Addr().String(), keys: map[string]string{}, identity: agent}
	d.serve(t, l)
	return d
}

func (d *director) serve(t *testing.T, l net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/enrol", d.enrol)
	mux.HandleFunc("POST /api/v1/renew", d.renew)
	server := &http.Server{Handler: mux, TLSConfig: d.ServerTLS(func() []string { return []string{"127.0.0.1"} }), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	d.server = server
	go func() { _ = server.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = server.Close() })
}

func (d *director) enrol(w http.ResponseWriter, r *http.Request) {
	var in api.Enrol
	_ = json.NewDecoder(r.Body).Decode(&in)
	d.mu.Lock()
	defer d.mu.Unlock()
	hash, err := pki.KeySHA256([]byte(in.CSR))
	if err != nil {
		answer(w, err)
		return
	}
	if used, ok := d.keys[in.Secret]; in.Secret != "good" || ok && used != hash {
		answer(w, &api.Error{Code: api.CodeForbidden, Message: "the secret is used or unknown"})
		return
	}
	d.keys[in.Secret] = hash
	d.enrolled++
	d.sign(w, in.CSR, d.identity)
}

func (d *director) renew(w http.ResponseWriter, r *http.Request) {
	var in api.Enrol
	_ = json.NewDecoder(r.Body).Decode(&in)
	d.mu.Lock()
	defer d.mu.Unlock()
	id, ok := d.RenewingIdentity(r.TLS)
	if !ok || d.removed {
		answer(w, &api.Error{Code: api.CodeUnauthorized, Message: "who are you"})
		return
	}
	d.renewed++
	d.sign(w, in.CSR, id)
}

func (d *director) sign(w http.ResponseWriter, csr string, id api.Identity) {
	chain, end, err := d.Sign([]byte(csr), id, []string{"127.0.0.1"}, d.life)
	switch {
	case err != nil:
		answer(w, err)
	case d.broken > 0:
		d.broken--
		panic(http.ErrAbortHandler) // the connection breaks
	default:
		answer(w, api.Enrolled{Chain: string(chain), Identity: id.String(), Expires: end, Now: time.Now()})
	}
}

func answer(w http.ResponseWriter, v any) {
	var e *api.Error
	if err, ok := v.(error); ok {
		errors.As(err, &e)
		w.WriteHeader(e.Code.Status())
		v = e
	}
	_ = json.NewEncoder(w).Encode(v)
}

// options are those of a fresh instance that is told what the arguments say.
func (d *director) options(t *testing.T, change func(*cloudcontext.Context)) Options {
	t.Helper()
	c := cloudcontext.Context{Directors: []string{d.url}, CASHA256: d.RootSHA256(), Secret: "good", Identity: agent.String(), Expires: time.Now().Add(time.Minute)}
	if change != nil {
		change(&c)
	}
	b, err := cloudcontext.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "context.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return Options{ContextFile: path, Dir: filepath.Join(t.TempDir(), "identity"), Log: slog.New(slog.DiscardHandler), Now: time.Now}
}

func run(t *testing.T, o Options) *Joined {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	j, err := Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestJoinOnceAndAgain(t *testing.T) {
	d := newDirector(t)
	o := d.options(t, nil)
	j := run(t, o)
	if j.Identity != agent || j.Credentials.Identity() != agent || j.Director != d.url {
		t.Errorf("got %v at %s", j.Credentials.Identity(), j.Director)
	}
	if j = run(t, o); d.enrolled != 1 || j.Credentials.Identity() != agent {
		t.Errorf("enrolled %d times, want 1", d.enrolled)
	}
	if entries, _ := os.ReadDir(o.Dir); len(entries) != 2 { // the identity, and the director that answered
		t.Errorf("left over: %v", entries)
	}
}

func TestJoinIsRefused(t *testing.T) {
	d := newDirector(t)
	first := d.options(t, nil)
	run(t, first)
	for _, c := range []struct {
		name   string
		change func(*cloudcontext.Context)
		want   api.Code
	}{
		{"secret-used", nil, api.CodeForbidden},
		{"secret-unknown", func(c *cloudcontext.Context) { c.Secret = "bad" }, api.CodeForbidden},
		{"identity-unreadable", func(c *cloudcontext.Context) { c.Identity = "root" }, api.CodeInvalid},
		{"other-ca-until-expiry", func(c *cloudcontext.Context) { c.CASHA256, c.Expires = strings.Repeat("0", 64), time.Now() }, api.CodeDeadline},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := d.options(t, c.change)
			_, err := Run(context.Background(), o)
			if api.CodeOf(err) != c.want || api.AsError(err).Hint == "" {
				t.Errorf("got %v, want code %s and a hint", err, c.want)
			}
			if _, err := pki.Load(o.Dir, time.Now); err == nil {
				t.Error("it has an identity all the same")
			}
		})
	}
}

func TestJoinRefusesAnotherIdentityThanPromised(t *testing.T) {
	d := newDirector(t)
	d.identity.Name = "somebody-else"
	if _, err := Run(context.Background(), d.options(t, nil)); api.CodeOf(err) != api.CodeForbidden {
		t.Errorf("got %v, want code forbidden", err)
	}
}

func TestContextFileIsWrong(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "no-json": "hello", "unknown-field": `{"director":"x"}`} {
		t.Run(name, func(t *testing.T) {
			o := Options{ContextFile: filepath.Join(t.TempDir(), "c"), Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Now: time.Now}
			if err := os.WriteFile(o.ContextFile, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Run(context.Background(), o); api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), o.ContextFile) {
				t.Errorf("got %v, want code invalid and the file's path", err)
			}
		})
	}
}

// TestAnswerLost is an instance whose certificate was made but never arrived,
// even across its own restart: the secret is used, and it must get in.
func TestAnswerLost(t *testing.T) {
	d := newDirector(t)
	d.broken = 2
	o := d.options(t, nil)
	j := &Joined{o: o, Identity: agent, directors: []string{d.url}}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := j.pendingKey() // and here it was killed
	if err != nil {
		t.Fatal(err)
	}
	csr, _ := pki.CSR(key)
	told, _, _ := readContext(o.ContextFile)
	if err := j.ask(context.Background(), d.url, key, api.Enrol{Secret: "good", CSR: string(csr)}, told); err == nil {
		t.Fatal("the answer was not lost")
	}
	if run(t, o); d.enrolled != 3 {
		t.Errorf("asked %d times, want 3", d.enrolled)
	}
}

func TestDirectorComesLater(t *testing.T) {
	d := newDirector(t)
	address := strings.TrimPrefix(d.url, "https://")
	_ = d.server.Close()
	o := d.options(t, func(c *cloudcontext.Context) { c.Directors = []string{"https://127.0.0.1:1", d.url} })
	asked := make(chan struct{}, 100)
	o.Log = slog.New(notify{slog.DiscardHandler, asked})
	done := make(chan error, 1)
	go func() { _, err := Run(context.Background(), o); done <- err }()
	<-asked // it has found nobody
	<-asked
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	d.serve(t, l)
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("did not join after the director came back")
	}
}

// notify tells of each log line.
type notify struct {
	slog.Handler
	lines chan struct{}
}

func (n notify) Enabled(context.Context, slog.Level) bool { return true }

func (n notify) Handle(context.Context, slog.Record) error {
	n.lines <- struct{}{}
	return nil
}

func TestGivenUp(t *testing.T) {
	d := newDirector(t)
	o := d.options(t, func(c *cloudcontext.Context) { c.Directors = []string{"https://127.0.0.1:1"} })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, o); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestClockOf1970(t *testing.T) {
	d := newDirector(t)
	o := d.options(t, nil)
	began := time.Now()
	o.Now = func() time.Time { return time.Unix(0, 0).Add(time.Since(began)) }
	j := run(t, o)
	if off := time.Since(j.Credentials.Now()); off < -time.Minute || off > time.Minute {
		t.Errorf("its time is %v off the director's", off)
	}
	j = run(t, o) // started again, still in 1970
	if err := j.renewOnce(context.Background()); err != nil || d.enrolled != 1 || d.renewed != 1 {
		t.Errorf("renewal: %v; enrolled %d times, renewed %d times", err, d.enrolled, d.renewed)
	}
}

// TestClockWasAhead: an identity of a clock that was years ahead is made anew
// when the instance starts under the right one; its director knows it no more.
func TestClockWasAhead(t *testing.T) {
	d := newDirector(t)
	o := d.options(t, nil)
	later, err := pki.Open(d.dir, func() time.Time { return time.Now().AddDate(14, 0, 0) })
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.CSR(key)
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := later.Sign(csr, agent, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pki.NewCredentials(key, chain, d.RootSHA256(), time.Now)
	if err == nil {
		err = c.Save(o.Dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	j := run(t, o)
	if off := time.Since(j.Credentials.Issued()); off < 0 || off > time.Hour || d.enrolled+d.renewed != 1 {
		t.Errorf("enrolled %d times and renewed %d times, with a certificate of %v", d.enrolled, d.renewed, j.Credentials.Issued())
	}
}

func TestRenewsAtTwoThirds(t *testing.T) {
	issued := time.Unix(1e9, 0)
	if got, want := renewalDue(issued, issued.Add(24*time.Hour)), issued.Add(16*time.Hour); !got.Equal(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	d := newDirector(t)
	d.life = 3 * time.Second
	o := d.options(t, nil)
	j := run(t, o)
	first := j.Credentials.NotAfter()
	d.mu.Lock()
	d.life, d.broken = 0, 1 // the first try fails on the way back
	d.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Renew(ctx) }()
	deadline := time.After(time.Minute)
	for !j.Credentials.NotAfter().After(first) {
		select {
		case err := <-done:
			t.Fatal(err)
		case <-deadline:
			t.Fatal("not renewed")
		case <-time.After(20 * time.Millisecond):
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	saved, err := pki.Load(o.Dir, time.Now)
	if err != nil || !saved.NotAfter().Equal(j.Credentials.NotAfter()) || d.renewed != 2 {
		t.Errorf("saved until %v, %v; renewed %d times", saved.NotAfter(), err, d.renewed)
	}
}

// TestLongSleep is a laptop that is opened again after its instances'
// certificates have ended and their secrets are long used.
func TestLongSleep(t *testing.T) {
	d := newDirector(t)
	d.life = time.Second
	o := d.options(t, nil)
	j := run(t, o)
	d.mu.Lock()
	d.life = 0
	d.mu.Unlock()
	for time.Now().Before(j.Credentials.NotAfter()) {
		time.Sleep(50 * time.Millisecond)
	}
	if err := j.renewOnce(context.Background()); err != nil || !j.Credentials.NotAfter().After(time.Now()) {
		t.Errorf("the running instance: not renewed: %v", err)
	}
	d.mu.Lock()
	d.life = time.Second
	d.mu.Unlock()
	if err := j.renewOnce(context.Background()); err != nil {
		t.Fatal(err)
	}
	for time.Now().Before(j.Credentials.NotAfter()) {
		time.Sleep(50 * time.Millisecond)
	}
	d.mu.Lock()
	d.life = 0
	d.mu.Unlock()
	if j = run(t, o); d.enrolled != 1 || !j.Credentials.NotAfter().After(time.Now()) {
		t.Errorf("the instance that was started again: enrolled %d times, want 1", d.enrolled)
	}
}

// keepRenewing renews until the end of the test, and fails it if that ends.
func keepRenewing(t *testing.T, j *Joined) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Renew(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("renewing ended by %v", err)
		}
	})
}

func soon(t *testing.T, what string, good func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !good(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// TestDirectorAwayForLong is a director that comes back when the certificate
// has long ended: the instance goes on meanwhile, also when it is started
// again, and has another certificate before anybody takes it for lost.
func TestDirectorAwayForLong(t *testing.T) {
	d := newDirector(t)
	d.life = 2 * time.Second
	o := d.options(t, nil)
	j := run(t, o)
	address := strings.TrimPrefix(d.url, "https://")
	_ = d.server.Close()
	lines := make(chan struct{}, 10000)
	j.o.Log = slog.New(notify{slog.DiscardHandler, lines})
	keepRenewing(t, j)
	soon(t, "the end of the certificate", j.Credentials.Ended)
	if !j.Credentials.Now().Before(j.Credentials.NotAfter()) {
		t.Error("its own clock has gone past the certificate: members do not believe each other any more")
	}
	again := run(t, o) // does not wait for the director
	if !again.Credentials.Ended() || !again.Credentials.Now().Before(again.Credentials.NotAfter()) {
		t.Errorf("started again, it has a certificate until %v", again.Credentials.NotAfter())
	}
	keepRenewing(t, again)

	time.Sleep(12 * time.Second) // so long that tries would have become rare
	d.mu.Lock()
	d.life = 0
	d.mu.Unlock()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	d.serve(t, l)
	began := time.Now()
	soon(t, "other certificates", func() bool { return !j.Credentials.Ended() && !again.Credentials.Ended() })
	if took := time.Since(began); took > 9*time.Second {
		t.Logf("it took %v, and a manager counts one as lost after 10 s", took)
	}
	if said := len(lines); said > 8 {
		t.Errorf("it has said %d times that the director is away", said)
	}
}

// clock is one that can be set, and goes on.
type clock struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off).Round(0)
}

func (c *clock) set(off time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = off
}

// TestClockIsPutBack lets an instance join while its clock and the director's
// are ahead, which are put right then: it is not known by its certificate any
// more, nor does it know others, until it has another.
func TestClockIsPutBack(t *testing.T) {
	for name, off := range map[string]time.Duration{"two-hours": 2 * time.Hour, "two-years": 2 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			d := newDirector(t)
			right := d.Authority
			c := &clock{off: off}
			ahead, err := pki.Open(d.dir, c.Now)
			if err != nil {
				t.Fatal(err)
			}
			o := d.options(t, func(told *cloudcontext.Context) { told.Expires = c.Now().Add(time.Minute) })
			o.Now = c.Now
			d.mu.Lock()
			d.Authority = ahead
			d.mu.Unlock()
			j := run(t, o)
			if j.Credentials.Issued().Before(time.Now().Add(off / 2)) {
				t.Fatalf("the certificate is of %v", j.Credentials.Issued())
			}
			keepRenewing(t, j)
			c.set(0)
			d.mu.Lock()
			d.Authority = right
			d.mu.Unlock()
			soon(t, "a certificate of now", func() bool { return j.Credentials.Issued().Before(time.Now().Add(time.Minute)) })
			if wrong := time.Until(j.Credentials.Now()); wrong.Abs() > time.Hour {
				t.Errorf("its time is still %v off", wrong)
			}
		})
	}
}

func TestRenewalIsRefused(t *testing.T) {
	d := newDirector(t)
	d.life = time.Second
	j := run(t, d.options(t, nil))
	d.mu.Lock()
	d.removed = true
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := j.Renew(ctx); api.CodeOf(err) != api.CodeUnauthorized {
		t.Errorf("got %v, want code unauthorized", err)
	}
}

// TestAddress is an instance that nobody told its address, whose first
// director is one that it cannot reach, at its first and at its second start.
func TestAddress(t *testing.T) {
	d := newDirector(t)
	o := d.options(t, func(c *cloudcontext.Context) { c.Directors = []string{"https://[::1]:1", d.url} })
	for range 2 {
		j := run(t, o)
		if got, err := j.Address(t.Context()); err != nil || got != "127.0.0.1" || j.Director != d.url {
			t.Errorf("got address %s and director %s, %v", got, j.Director, err)
		}
	}
	if d.enrolled != 1 {
		t.Errorf("it enrolled %d times", d.enrolled)
	}
}
