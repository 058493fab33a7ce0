package gitserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gliderlabs/ssh"
	gossh "golang.org/x/crypto/ssh"

	"nutshell/roles/api"
	"nutshell/roles/internal/auth"
)

// Bounds of connections.
const (
	maxConnections = 200
	maxPerAddress  = 50
	maxSessions    = 10 // at once on one connection
	handshakeTime  = 20 * time.Second
	idleTime       = time.Hour // clients may think for long before they send a large push
	longest        = 12 * time.Hour
)

// door counts who is inside.
type door struct {
	s      *Server
	limits *auth.Limiter

	mu    sync.Mutex
	count map[string]int
	all   int
}

// Serve answers SSH connections until ctx ends, then lets pushes finish for
// as long as grace.
func (s *Server) Serve(ctx context.Context, l net.Listener, grace time.Duration) error {
	d := &door{s: s, limits: auth.NewLimiter(auth.LimiterConfig{Burst: 60, Every: time.Second, Now: s.c.Now}), count: map[string]int{}}
	srv := &ssh.Server{Version: "Nutshell", IdleTimeout: idleTime, MaxTimeout: longest, HostSigners: []ssh.Signer{s.host},
		ConnCallback: d.enter, PublicKeyHandler: d.known, ServerConfigCallback: serverConfig, Handler: d.session,
		PtyCallback:     func(ssh.Context, ssh.Pty) bool { return false },
		ChannelHandlers: map[string]ssh.ChannelHandler{"session": d.channel}}
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		_ = srv.Shutdown(end) // who is not ready by then is cut off
		_ = srv.Close()
	})
	defer stop()
	err := srv.Serve(l)
	if ctx.Err() != nil || errors.Is(err, ssh.ErrServerClosed) {
		return nil
	}
	return err
}

type provenKey struct{}

func serverConfig(ctx ssh.Context) *gossh.ServerConfig {
	// Only this tells which of the offered keys the client really holds.
	proven := func(_ gossh.ConnMetadata, key gossh.PublicKey, p *gossh.Permissions, _ string) (*gossh.Permissions, error) {
		ctx.SetValue(provenKey{}, gossh.FingerprintSHA256(key))
		return p, nil
	}
	return &gossh.ServerConfig{MaxAuthTries: 12, VerifiedPublicKeyCallback: proven, PublicKeyAuthAlgorithms: []string{
		gossh.KeyAlgoED25519, gossh.KeyAlgoSKED25519, gossh.KeyAlgoSKECDSA256, gossh.KeyAlgoECDSA256, gossh.KeyAlgoECDSA384, gossh.KeyAlgoECDSA521,
		gossh.KeyAlgoRSASHA256, gossh.KeyAlgoRSASHA512}}
}

// visitor is a connection that must sign in soon.
type visitor struct {
	net.Conn
	until  time.Time
	inside atomic.Bool // signed in
	count  atomic.Int32
	leave  func()
	once   sync.Once
}

// SetDeadline keeps whoever has not signed in to the time for that.
func (v *visitor) SetDeadline(t time.Time) error {
	if !v.inside.Load() && (t.IsZero() || t.After(v.until)) {
		t = v.until
	}
	return v.Conn.SetDeadline(t)
}

// Close makes room for the next one.
func (v *visitor) Close() error {
	v.once.Do(v.leave)
	return v.Conn.Close()
}

type visitorKey struct{}

func (d *door) enter(ctx ssh.Context, conn net.Conn) net.Conn {
	from := host(conn.RemoteAddr())
	if ok, _ := d.limits.Allow(from); !ok {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all >= maxConnections || d.count[from] >= maxPerAddress {
		return nil
	}
	d.all++
	d.count[from]++
	v := &visitor{Conn: conn, until: d.s.c.Now().Add(handshakeTime), leave: func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.all--
		if d.count[from]--; d.count[from] == 0 {
			delete(d.count, from)
		}
	}}
	ctx.SetValue(visitorKey{}, v)
	return v
}

func host(a net.Addr) string {
	h, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return h
}

// known is asked for each key that a client offers, before it has proven that
// it holds it.
func (d *door) known(ctx ssh.Context, key ssh.PublicKey) bool {
	fingerprint := gossh.FingerprintSHA256(key)
	lookup, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	ok, err := d.s.c.Host.KnownKey(lookup, fingerprint)
	if err != nil {
		d.s.c.Log.Error("public key not looked up", "error", err)
	}
	return ok && err == nil
}

// channel is the first thing that only somebody who has signed in can open.
func (d *door) channel(srv *ssh.Server, conn *gossh.ServerConn, ch gossh.NewChannel, ctx ssh.Context) {
	v, ok := ctx.Value(visitorKey{}).(*visitor)
	if !ok || v.count.Add(1) > maxSessions {
		_ = ch.Reject(gossh.ResourceShortage, "too many sessions on one connection")
		return
	}
	defer v.count.Add(-1)
	if !v.inside.Swap(true) {
		d.limits.Forget(host(conn.RemoteAddr()))
	}
	ssh.DefaultSessionHandler(srv, conn, ch, ctx)
}

// session runs one command, which can only be git's.
func (d *door) session(s ssh.Session) {
	code := 0
	if err := d.run(s); err != nil {
		code = 1
		d.s.c.Log.Info("git session ended with an error", "from", host(s.RemoteAddr()), "command", api.Shorten(s.RawCommand()), "error", err)
	}
	_ = s.Exit(code)
}

func (d *door) run(s ssh.Session) error {
	words := s.Command()
	if len(words) > 0 && words[0] == "git" { // git upload-pack is the same as git-upload-pack
		words = append([]string{"git-" + strings.Join(words[1:min(2, len(words))], "")}, words[min(2, len(words)):]...)
	}
	if len(words) != 2 || (words[0] != "git-upload-pack" && words[0] != "git-receive-pack") {
		_, _ = fmt.Fprint(s.Stderr(), "You are signed in. There is no shell here, only git:\n  git clone ssh://git@HOST:PORT/OWNER/APPLICATION\n"+
			"The exact line is shown by: nutshell git show APPLICATION\n")
		return nil
	}
	proven, ok := s.Context().Value(provenKey{}).(string)
	if !ok {
		return errors.New("the session has no key")
	}
	who := Caller{Fingerprint: proven, Login: s.User(), Remote: host(s.RemoteAddr()), Write: words[0] == "git-receive-pack"}
	a, err := d.s.c.Host.Find(s.Context(), who, cleanPath(words[1]))
	if err != nil {
		return refuse(s, err)
	}
	r, err := d.s.repository(a.Repository, true)
	if err != nil {
		return refuse(s, err)
	}
	if !who.Write {
		if err := d.s.uploadPack(s.Context(), r, s); err != nil {
			return refuse(s, err)
		}
		return nil
	}
	err = d.s.receivePack(s.Context(), r, s, func(changes []Change, out io.Writer) {
		d.s.c.Host.Pushed(s.Context(), Push{Access: a, Caller: who, Changes: changes}, out)
		d.s.tidy(s.Context(), a.Repository)
	})
	if err != nil {
		return refuse(s, err)
	}
	return nil
}

// cleanPath is a path without slashes around it and without .git behind it.
func cleanPath(p string) string {
	p = strings.Trim(path.Clean("/"+strings.TrimPrefix(p, "~/")), "/")
	return strings.TrimSuffix(p, ".git")
}

// refuse shows an error in the place where git shows it: on standard error.
func refuse(s ssh.Session, err error) error {
	var e *api.Error
	text := "something went wrong; the director's log says what"
	if errors.As(err, &e) {
		text = err.Error()
	}
	_, _ = fmt.Fprintf(s.Stderr(), "ERROR: %s\n", text)
	return err
}
