package director

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/auth/passkey/passkeytest"
	"nutshell/roles/internal/auth/totp"
	"nutshell/roles/internal/httpapi"
)

// browser is a client with a session cookie, at a name.
type browser struct {
	client
	base, cookie, csrf string
}

// browser comes to the director by a name, as browsers with passkeys must.
func (h *house) browser() *browser {
	return &browser{client: client{h: h, http: h.admin.http}, base: strings.Replace(h.url, "127.0.0.1", "localhost", 1)}
}

func (b *browser) ask(method, path string, in, out any) (int, *api.Error) {
	b.h.t.Helper()
	text, err := json.Marshal(in)
	if err != nil {
		b.h.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(b.h.t.Context(), method, b.base+"/api/v1"+path, strings.NewReader(string(text)))
	if err != nil {
		b.h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Testing/1.0")
	if b.cookie != "" {
		req.AddCookie(&http.Cookie{Name: httpapi.SessionCookie, Value: b.cookie})
		req.Header.Set("X-CSRF-Token", b.csrf)
	}
	resp, err := b.http.Do(req)
	if err != nil {
		b.h.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.h.t.Fatal(err)
	}
	for _, c := range resp.Cookies() {
		if c.Name == httpapi.SessionCookie {
			b.cookie = c.Value
			var s api.Session
			if json.Unmarshal(body, &s) == nil {
				b.csrf = s.CSRF
			}
		}
	}
	if resp.StatusCode >= 400 {
		var e api.Error
		if err := json.Unmarshal(body, &e); err != nil {
			b.h.t.Fatalf("%s %s: %s", method, path, body)
		}
		return resp.StatusCode, &e
	}
	if out != nil {
		if err := json.Unmarshal(body, out); err != nil {
			b.h.t.Fatalf("%s %s: %v in %s", method, path, err, body)
		}
	}
	return resp.StatusCode, nil
}

func (b *browser) ok(method, path string, in, out any) {
	b.h.t.Helper()
	if status, e := b.ask(method, path, in, out); e != nil {
		b.h.t.Fatalf("%s %s: got %d (%v)", method, path, status, e)
	}
}

func (b *browser) not(method, path string, in any, code api.Code) *api.Error {
	b.h.t.Helper()
	status, e := b.ask(method, path, in, nil)
	if e == nil || e.Code != code {
		b.h.t.Fatalf("%s %s: got %d (%v), want %s", method, path, status, e, code)
	}
	return e
}

func (b *browser) signIn(name string) *browser {
	b.h.t.Helper()
	b.ok("POST", "/session", api.SignIn{Name: name, Password: "correct horse " + name}, nil)
	return b
}

func code(t *testing.T, secret string, steps int) string {
	t.Helper()
	c, err := totp.Code(secret, time.Now().Add(time.Duration(steps)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// withApp turns ann's second factor on and gives its secret and recovery codes.
func (b *browser) withApp(steps int) (string, []string) {
	b.h.t.Helper()
	var made api.NewTOTP
	b.ok("POST", "/factors/totp/begin", nil, &made)
	var codes api.RecoveryCodes
	b.ok("POST", "/factors/totp", api.OneTimeCode{Code: code(b.h.t, made.Secret, steps)}, &codes)
	return made.Secret, codes.Codes
}

func TestSecondFactor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	token := h.user("ann")
	ann := h.browser().signIn("ann")
	var made api.NewTOTP
	ann.ok("POST", "/factors/totp/begin", nil, &made)
	if made.QR.Size < 21 || made.QR.Path == "" || !strings.Contains(made.URI, made.Secret) {
		t.Errorf("begin answers %+v", made)
	}
	ann.not("POST", "/factors/totp", api.OneTimeCode{Code: "abcdef"}, api.CodeInvalid)
	var u api.User
	ann.ok("GET", "/users/ann", nil, &u)
	if u.SecondFactor {
		t.Fatal("it is on before a code came")
	}
	secret, recovery := ann.withApp(-1) // so that the code of now is not taken yet
	if len(recovery) != 10 {
		t.Fatalf("%d recovery codes", len(recovery))
	}
	right := api.SignIn{Name: "ann", Password: "correct horse ann"}
	e := h.browser().not("POST", "/session", right, api.CodeSecondFactor)
	if e.Code.Status() != 401 || strings.Join(e.Factors, " ") != "totp recovery" || len(e.Fields) != 1 || e.Fields[0] != "code" {
		t.Errorf("without a code: %+v", e)
	}
	wrong := right
	wrong.Password = "wrong"
	if e := h.browser().not("POST", "/session", wrong, api.CodeUnauthorized); len(e.Factors) > 0 {
		t.Errorf("a wrong password learns that there is a second factor: %+v", e)
	}
	right.Code = code(t, secret, 0)
	second := h.browser()
	second.ok("POST", "/session", right, nil)
	h.browser().not("POST", "/session", right, api.CodeSecondFactor) // the code was used

	typed := right
	typed.Code = strings.ToUpper(strings.ReplaceAll(recovery[3], "-", " "))
	h.browser().ok("POST", "/session", typed, nil)
	h.browser().not("POST", "/session", typed, api.CodeSecondFactor)
	var f api.Factors
	ann.ok("GET", "/factors", nil, &f)
	if f.TOTP == nil || f.TOTP.Recovery != 9 {
		t.Errorf("factors %+v", f.TOTP)
	}

	basic := token
	basic.auth, basic.basic = "", [2]string{"ann", "correct horse ann"}
	if e := basic.refused("GET", "/session", nil, api.CodeSecondFactor); !strings.Contains(e.Hint, "token") {
		t.Errorf("hint %q", e.Hint)
	}
	basic.basic[1] = strings.TrimPrefix(token.auth, "Bearer ")
	basic.must("GET", "/session", nil, nil, 200)
	opened := api.SignIn{Name: "ann", Password: basic.basic[1]}
	h.browser().not("POST", "/session", opened, api.CodeUnauthorized) // a token may be allowed less than a session

	var fresh api.RecoveryCodes
	second.ok("POST", "/factors/recovery", nil, &fresh)
	typed.Code = recovery[4]
	h.browser().not("POST", "/session", typed, api.CodeSecondFactor)
	second.ok("DELETE", "/factors/totp", nil, nil)
	right.Code = ""
	h.browser().ok("POST", "/session", right, nil)
	basic.basic[1] = "correct horse ann"
	basic.must("GET", "/session", nil, nil, 200)
}

func TestCodesAreRateLimited(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.user("ann")
	h.browser().signIn("ann").withApp(-1)
	try := api.SignIn{Name: "ann", Password: "correct horse ann", Code: "000000"}
	for range 5 {
		h.browser().not("POST", "/session", try, api.CodeSecondFactor)
	}
	if e := h.browser().not("POST", "/session", try, api.CodeTooMany); e.RetryAfter < 1 || e.RetryAfter > 31 {
		t.Errorf("retry after %d s", e.RetryAfter)
	}
}

func TestFactorsNeedProof(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.user("ann") // with a token, which proves nothing
	e := ann.refused("POST", "/factors/totp/begin", nil, api.CodeProof)
	if strings.Join(e.Factors, " ") != "password" {
		t.Errorf("factors %v", e.Factors)
	}
	for _, try := range [][2]string{{"POST", "/factors/totp"}, {"DELETE", "/factors/totp"}, {"POST", "/factors/recovery"}, {"POST", "/passkeys/begin"}} {
		ann.refused(try[0], try[1], api.OneTimeCode{Code: "1"}, api.CodeProof)
	}
	ann.refused("POST", "/proof", api.Proof{Password: "wrong"}, api.CodeForbidden)
	ann.refused("POST", "/factors/totp/begin", nil, api.CodeProof)
	ann.must("POST", "/proof", api.Proof{Password: "correct horse ann"}, nil, 204)
	ann.must("POST", "/factors/totp/begin", nil, nil, 200)
	other := h.user("bob")
	other.refused("POST", "/factors/totp/begin", nil, api.CodeProof)
}

func TestSessions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	token := h.user("ann")
	one, two, three := h.browser().signIn("ann"), h.browser().signIn("ann"), h.browser().signIn("ann")
	var list []api.OpenSession
	one.ok("GET", "/sessions", nil, &list)
	var mine int
	for _, s := range list {
		if s.Remote != "127.0.0.1" || s.Agent != "Testing/1.0" || s.ID == "" || s.Seen.IsZero() || !s.Expires.After(time.Now()) {
			t.Errorf("session %+v", s)
		}
		if s.This {
			mine++
		}
	}
	if len(list) != 3 || mine != 1 {
		t.Errorf("%d sessions, %d of them this one", len(list), mine)
	}
	var seen []api.OpenSession
	two.ok("GET", "/sessions", nil, &seen)
	id := ""
	for _, s := range seen {
		if s.This {
			id = s.ID
		}
	}
	stream := two.listen()
	h.user("eve")
	h.browser().signIn("eve").not("DELETE", "/sessions/"+id, nil, api.CodeNotFound)
	one.ok("DELETE", "/sessions/"+id, nil, nil)
	stream.ends(t)
	two.not("GET", "/session", nil, api.CodeUnauthorized)

	stream = three.listen()
	one.ok("DELETE", "/sessions", nil, nil)
	stream.ends(t)
	one.ok("GET", "/session", nil, nil)
	three.not("GET", "/session", nil, api.CodeUnauthorized)
	token.refused("DELETE", "/users/ann/sessions", nil, api.CodeForbidden)
	stream = one.listen()
	h.admin.must("DELETE", "/users/ann/sessions", nil, nil, 204)
	stream.ends(t)
	one.not("GET", "/session", nil, api.CodeUnauthorized)
}

// listening is an open stream of events.
type listening struct{ ended chan error }

func (b *browser) listen() listening {
	b.h.t.Helper()
	req, err := http.NewRequestWithContext(b.h.t.Context(), http.MethodGet, b.base+"/api/v1/events", nil)
	if err != nil {
		b.h.t.Fatal(err)
	}
	req.AddCookie(&http.Cookie{Name: httpapi.SessionCookie, Value: b.cookie})
	resp, err := b.http.Do(req)
	if err != nil {
		b.h.t.Fatal(err)
	}
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); err != nil || resp.StatusCode != http.StatusOK {
		b.h.t.Fatalf("events: %d %q %v", resp.StatusCode, line, err)
	}
	l := listening{make(chan error, 1)}
	go func() {
		_, err := io.Copy(io.Discard, lines)
		_ = resp.Body.Close()
		l.ended <- err
	}()
	return l
}

func (l listening) ends(t *testing.T) {
	t.Helper()
	select {
	case <-l.ended:
	case <-time.After(time.Minute):
		t.Fatal(errors.New("the stream of events of a revoked session goes on"))
	}
}

func TestPasskeys(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.user("ann")
	ann := h.browser().signIn("ann")
	device := passkeytest.New("localhost", ann.base)
	key := ann.addPasskey(device, "my laptop")
	if key.Host != "localhost" || key.Name != "my laptop" {
		t.Errorf("made %+v", key)
	}
	byKey := h.browser()
	byKey.ok("POST", "/session/passkey", byKey.answer(device), nil)
	var s api.Session
	byKey.ok("GET", "/session", nil, &s)
	if s.User.Name != "ann" {
		t.Errorf("signed in as %+v", s.User)
	}
	byKey.ok("POST", "/factors/totp/begin", nil, nil) // it proved more than a password does

	used := byKey.answer(device)
	h.browser().ok("POST", "/session/passkey", used, nil)
	h.browser().not("POST", "/session/passkey", used, api.CodeUnauthorized) // a challenge works once
	for _, try := range []struct {
		name string
		lie  func(*passkeytest.Device)
	}{
		{"other-origin", func(d *passkeytest.Device) { d.Origin = "https://evil.example" }},
		{"other-name", func(d *passkeytest.Device) { d.Host = "evil.example" }},
		{"not-verified", func(d *passkeytest.Device) { d.Verified = false }},
		{"copied", func(d *passkeytest.Device) { d.Count = 0 }},
	} {
		t.Run(try.name, func(t *testing.T) {
			liar := *device
			try.lie(&liar)
			h.browser().not("POST", "/session/passkey", byKey.answer(&liar), api.CodeUnauthorized)
		})
	}
	h.user("bob")
	bob := h.browser().signIn("bob")
	bob.not("PATCH", "/passkeys/"+key.ID, api.Rename{Name: "mine"}, api.CodeNotFound)
	bob.not("DELETE", "/passkeys/"+key.ID, nil, api.CodeNotFound)
	if e := bob.not("POST", "/proof", api.Proof{Passkey: ptr(bob.answer(device))}, api.CodeForbidden); !strings.Contains(e.Message, "another user") {
		t.Errorf("%v", e)
	}
	var made api.Ceremony
	bob.ok("POST", "/passkeys/begin", nil, &made)
	answer, err := passkeytest.New("localhost", bob.base).Create(made.Options)
	if err != nil {
		t.Fatal(err)
	}
	ann.not("POST", "/passkeys", api.AddPasskey{Ceremony: made.ID, Credential: answer}, api.CodeForbidden) // begun by another

	ann.ok("PATCH", "/passkeys/"+key.ID, api.Rename{Name: "old laptop"}, nil)
	var f api.Factors
	ann.ok("GET", "/factors", nil, &f)
	if len(f.Passkeys) != 1 || f.Passkeys[0].Name != "old laptop" || f.Passkeys[0].Used.IsZero() || f.PasskeyHost != "localhost" {
		t.Errorf("factors %+v", f)
	}
	ann.ok("DELETE", "/passkeys/"+key.ID, nil, nil)
	if e := h.browser().not("POST", "/session/passkey", byKey.answer(device), api.CodeUnauthorized); !strings.Contains(e.Message, "does not know") {
		t.Errorf("%v", e)
	}
}

func (b *browser) addPasskey(device *passkeytest.Device, name string) api.Passkey {
	b.h.t.Helper()
	var c api.Ceremony
	b.ok("POST", "/passkeys/begin", nil, &c)
	answer, err := device.Create(c.Options)
	if err != nil {
		b.h.t.Fatal(err)
	}
	var key api.Passkey
	b.ok("POST", "/passkeys", api.AddPasskey{Ceremony: c.ID, Name: name, Credential: answer}, &key)
	return key
}

func (b *browser) answer(device *passkeytest.Device) api.UsePasskey {
	b.h.t.Helper()
	var c api.Ceremony
	b.ok("POST", "/session/passkey/begin", nil, &c)
	answer, err := device.Get(c.Options)
	if err != nil {
		b.h.t.Fatal(err)
	}
	return api.UsePasskey{Ceremony: c.ID, Credential: answer}
}

func TestPasskeysNeedAName(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.user("ann")
	ann := h.browser()
	ann.base = h.url // an address
	ann.signIn("ann")
	for _, path := range []string{"/passkeys/begin", "/session/passkey/begin"} {
		if e := ann.not("POST", path, nil, api.CodeInvalid); !strings.Contains(e.Hint, "by a name") {
			t.Errorf("%s: %v", path, e)
		}
	}
	var f api.Factors
	ann.ok("GET", "/factors", nil, &f)
	if f.PasskeyHost != "" || f.PasskeyProblem == "" {
		t.Errorf("factors %+v", f)
	}
}

func TestResetFactors(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	token := h.user("ann")
	ann := h.browser().signIn("ann")
	ann.withApp(-1)
	ann.addPasskey(passkeytest.New("localhost", ann.base), "phone")
	token.refused("DELETE", "/users/ann/factors", nil, api.CodeForbidden)
	h.admin.must("POST", "/users", api.CreateUser{Name: "root", Email: "root@example.org", Password: "correct horse root", Admin: true}, nil, 201)
	root := h.browser().signIn("root")
	h.d.proofs.give(signedInBy(httpapi.Principal{Session: root.cookie}), time.Now().Add(-time.Hour))
	root.not("DELETE", "/users/ann/factors", nil, api.CodeProof)
	h.admin.must("DELETE", "/users/ann/factors", nil, nil, 204) // on the director's own machine
	ann.not("GET", "/session", nil, api.CodeUnauthorized)
	again := h.browser().signIn("ann")
	var f api.Factors
	again.ok("GET", "/factors", nil, &f)
	if f.TOTP != nil || len(f.Passkeys) != 0 {
		t.Errorf("factors %+v", f)
	}
}

func TestFirstRun(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.user("ann").refused("GET", "/setup", nil, api.CodeForbidden)
	var s api.Setup
	h.admin.must("GET", "/setup", nil, &s, 200)
	if !s.Needed || !s.PasswordGenerated || len(s.Clouds) != 1 || !s.Clouds[0].Default || s.Applications != 0 {
		t.Errorf("at first: %+v", s)
	}
	h.admin.must("PATCH", "/users/admin", api.ChangeUser{Password: ptr("a password of my own")}, nil, 200)
	h.admin.refused("PUT", "/clouds/nowhere/default", nil, api.CodeNotFound)
	h.admin.must("PUT", "/clouds/default/default", nil, nil, 200)
	h.admin.must("POST", "/setup/done", nil, nil, 204)
	h.stopDirector()
	h.start()
	h.admin.must("GET", "/setup", nil, &s, 200)
	if s.Needed || s.PasswordGenerated {
		t.Errorf("at last: %+v", s)
	}
}
