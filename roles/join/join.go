// Package join is the first seconds of a fresh instance: it finds what the
// cloud told it, makes a key, enrols with the director and gets an identity;
// and it keeps that identity valid as long as the instance lives. What the
// instance then becomes is decided elsewhere.
package join

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	cloudcontext "nutshell/cloud/context"
	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
)

// Times of a conversation with the director.
const (
	callTimeout  = 15 * time.Second
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 5 * time.Second
)

// pendingKey is the key whose certificate was asked for and did not come yet.
// With the same key the director may answer the same secret again.
const pendingKey = "pending.key"

// answered is a file with the director that answered. The first one that an
// instance is told may be one that it cannot reach, also when it starts again.
const answered = "director"

// Options are what Run needs. Dir holds the identity and must be the
// instance's own; it is made if it is missing.
type Options struct {
	ContextFile string
	Dir         string
	Log         *slog.Logger
	Now         func() time.Time
}

// Joined is an instance with an identity.
type Joined struct {
	Identity    api.Identity
	Credentials *pki.Credentials
	Director    string // URL of the director that answered, or the first one told

	o         Options
	directors []string
	behind    time.Time // when a certificate was made that is of the future by our clock, which is behind the director's
}

// Run returns the identity that the context promises, from Dir if it was
// joined before, else from the director. It waits for a director that is
// away, until the secret expires; a secret that is refused is final.
func Run(ctx context.Context, o Options) (*Joined, error) {
	switch {
	case o.ContextFile == "", o.Dir == "":
		return nil, errors.New("join: ContextFile and Dir are required")
	case o.Log == nil, o.Now == nil:
		return nil, errors.New("join: Log and Now are required")
	}
	told, want, err := readContext(o.ContextFile)
	if err != nil {
		return nil, err
	}
	j := &Joined{Identity: want, Director: told.Directors[0], o: o, directors: told.Directors}
	c, err := pki.Load(o.Dir, o.Now)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		o.Log.Warn("saved identity cannot be used", "error", err)
	case c.Identity() != want || c.RootSHA256() != told.CASHA256:
		o.Log.Info("saved identity is another one", "saved", c.Identity().String(), "wanted", told.Identity)
	case c.Now().Before(c.NotAfter()) && !ahead(c.Issued(), told.Expires, o.Now()):
		if b, err := os.ReadFile(filepath.Join(o.Dir, answered)); err == nil && slices.Contains(told.Directors, string(b)) {
			j.Director = string(b)
		}
		j.Credentials = c
		return j, nil
	default:
		j.Credentials = c // it has ended or is of a clock that was ahead, and may still be renewed
	}
	defer func() {
		if j.Credentials != nil { // members go on with each other while the director is away
			j.Credentials.Wait()
		}
	}()
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := j.enrol(ctx, told); err != nil {
		return nil, err
	}
	return j, nil
}

// ahead reports whether a certificate was made while the director's clock was
// ahead. A context is made at each start of an instance; a certificate that is
// much younger was renewed since, and then it is not younger than now.
func ahead(issued, told, now time.Time) bool {
	return !told.IsZero() && issued.After(told) && issued.After(now.Add(time.Hour))
}

// Address is this instance's own address on its way to the director: a machine
// of a cloud learns it from the network and from nobody else.
func (j *Joined) Address(ctx context.Context) (string, error) {
	director, err := url.Parse(j.Director)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", director.Host) // sends nothing
	if err != nil {
		return "", &api.Error{Code: api.CodeUnavailable, Op: "find", Object: "this instance's address", Err: err, Hint: "check that the network is there and leads to " + j.Director}
	}
	defer func() { _ = c.Close() }()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	return host, err
}

func readContext(path string) (told cloudcontext.Context, want api.Identity, err error) {
	wrong := func(err error) error {
		return &api.Error{Code: api.CodeInvalid, Op: "read context", Object: path, Err: err, Hint: "the cloud that started this instance writes this file"}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return told, want, wrong(err)
	}
	if told, err = cloudcontext.Parse(b); err != nil {
		return told, want, wrong(err)
	}
	if want, err = api.ParseIdentity(told.Identity); err != nil {
		return told, want, wrong(err)
	}
	return told, want, nil
}

func (j *Joined) enrol(ctx context.Context, told cloudcontext.Context) error {
	key, err := j.pendingKey()
	if err != nil {
		return err
	}
	csr, err := pki.CSR(key)
	if err != nil {
		return err
	}
	wait := firstBackoff
	for {
		if j.Credentials != nil {
			if err := j.renewOnce(ctx); err == nil {
				return nil
			} else if refused(err) {
				j.Credentials = nil
			}
		}
		for _, url := range told.Directors {
			err = j.ask(ctx, url, key, api.Enrol{Secret: told.Secret, CSR: string(csr)}, told)
			if err == nil {
				return nil
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if refused(err) {
				return &api.Error{Code: api.CodeOf(err), Op: "join as", Object: told.Identity, Message: "the director refused the secret", Err: err,
					Hint: "a secret works once and for a short time; the director must start this instance again"}
			}
			j.o.Log.Info("director does not answer yet", "director", url, "error", err)
		}
		if j.Credentials != nil && j.Credentials.Ended() {
			j.o.Log.Warn("certificate has ended and the director is away; going on with it among members until it is renewed", "expired", j.Credentials.NotAfter())
			return nil
		}
		// Only here, after a try: a clock that is ahead must not keep us from it.
		if !told.Expires.IsZero() && j.o.Now().After(told.Expires) {
			return &api.Error{Code: api.CodeDeadline, Op: "join as", Object: told.Identity, Message: "no director answered until the secret expired", Err: err,
				Hint: "check that the director runs and that this instance can reach " + told.Directors[0]}
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, lastBackoff)
	}
}

func (j *Joined) ask(ctx context.Context, url string, key *ecdsa.PrivateKey, in api.Enrol, told cloudcontext.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client := rpc.NewClient(url, pki.PinnedTLS(told.CASHA256))
	defer client.HTTP.CloseIdleConnections()
	var out api.Enrolled
	if err := client.Do(ctx, "POST", "/api/v1/enrol", in, &out); err != nil {
		return err
	}
	c, err := pki.NewCredentials(key, []byte(out.Chain), told.CASHA256, j.o.Now)
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", url, err)
	}
	if c.Identity() != j.Identity {
		return &api.Error{Code: api.CodeForbidden, Message: fmt.Sprintf("the certificate is for %s, not for %s", c.Identity(), j.Identity)}
	}
	c.Told(out.Now)
	if err := c.Save(j.o.Dir); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(j.o.Dir, answered), []byte(url), 0o600); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(j.o.Dir, pendingKey)) // it is in the credentials now
	j.Credentials, j.Director = c, url
	j.note()
	j.o.Log.Info("joined", "identity", j.Identity.String(), "director", url, "expires", c.NotAfter())
	return nil
}

// pendingKey makes a key, or takes the one of an attempt that was cut off.
func (j *Joined) pendingKey() (*ecdsa.PrivateKey, error) {
	path := filepath.Join(j.o.Dir, pendingKey)
	if key, err := pki.LoadKey(path); err == nil {
		return key, nil
	}
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	return key, pki.SaveKey(path, key)
}

// refused tells a director that says no from one that cannot answer now.
func refused(err error) bool {
	switch api.CodeOf(err) {
	case api.CodeInvalid, api.CodeUnauthorized, api.CodeForbidden, api.CodeNotFound, api.CodeConflict:
		return true
	default:
		return false
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
