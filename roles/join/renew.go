package join

import (
	"context"
	"math/rand/v2"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
)

// Times of the renewal. A timer does not run while a laptop sleeps, so the
// clock is looked at every minute instead of slept for hours.
const (
	lookEvery    = time.Minute
	renewBackoff = 5 * time.Minute // at most, between two tries
)

// Renew keeps the credentials valid until ctx ends: a new key and certificate
// at two thirds of the old one's life. It returns an error before that only
// when the director refuses, because the instance is not wanted any more.
func (j *Joined) Renew(ctx context.Context) error {
	wait := time.Second
	for {
		due := renewalDue(j.Credentials.Issued(), j.Credentials.NotAfter())
		if left := due.Sub(j.Credentials.Now()); left > 0 {
			wait = time.Second
			if err := sleep(ctx, min(left, lookEvery)); err != nil {
				return err
			}
			continue
		}
		err := j.renewOnce(ctx)
		switch {
		case err == nil:
			j.o.Log.Info("certificate renewed", "expires", j.Credentials.NotAfter())
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case refused(err):
			return &api.Error{Code: api.CodeOf(err), Op: "renew certificate of", Object: j.Identity.String(), Message: "the director refused", Err: err}
		}
		j.o.Log.Warn("certificate not renewed yet", "error", err, "retry_in", wait, "expires", j.Credentials.NotAfter())
		// Not all at the same moment when a director comes back.
		if err := sleep(ctx, wait/2+rand.N(wait)); err != nil { //nolint:gosec // only spreads the tries
			return err
		}
		wait = min(2*wait, renewBackoff)
	}
}

// renewalDue is at two thirds of a certificate's life.
func renewalDue(issued, end time.Time) time.Time {
	return issued.Add(end.Sub(issued) * 2 / 3)
}

// renewOnce asks each director in turn.
func (j *Joined) renewOnce(ctx context.Context) (err error) {
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	csr, err := pki.CSR(key)
	if err != nil {
		return err
	}
	for _, url := range j.directors {
		var out api.Enrolled
		if out, err = j.askRenewal(ctx, url, string(csr)); err != nil {
			if refused(err) {
				return err
			}
			continue
		}
		if err := j.Credentials.Replace(key, []byte(out.Chain)); err != nil {
			return err
		}
		j.Credentials.Told(out.Now)
		return j.Credentials.Save(j.o.Dir)
	}
	return err
}

func (j *Joined) askRenewal(ctx context.Context, url, csr string) (out api.Enrolled, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client := rpc.NewClient(url, pki.ClientTLS(j.Credentials, pki.Director))
	defer client.HTTP.CloseIdleConnections()
	return out, client.Do(ctx, "POST", "/api/v1/renew", api.Enrol{CSR: csr}, &out)
}
