package join

import (
	"context"
	"math/rand/v2"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
)

// Times of the renewal. A timer does not run while a laptop sleeps and knows
// nothing of clocks that are set, so the clock is looked at again and again
// instead of slept for hours; more often than a manager or a director takes to
// call somebody lost.
const (
	lookEvery    = 3 * time.Second
	renewBackoff = 5 * time.Minute // at most, between two tries
	endedBackoff = 2 * time.Second // the same while nobody new believes us any more
	clockSlack   = time.Minute
	noHelp       = 30 * time.Second // least time from one certificate to the next: what that does not mend, another does not either
)

// Renew keeps the credentials valid until ctx ends: a new key and certificate
// at two thirds of the old one's life. It returns an error before that only
// when the director refuses, because the instance is not wanted any more.
func (j *Joined) Renew(ctx context.Context) error {
	wait := time.Second
	var renewed, said time.Time
	for {
		due := renewalDue(j.Credentials.Issued(), j.Credentials.NotAfter())
		left := due.Sub(j.Credentials.Now())
		if j.urgent() {
			left = 0
		}
		if left = max(left, noHelp-time.Since(renewed)); left > 0 {
			wait = time.Second
			if err := sleep(ctx, min(left, lookEvery)); err != nil {
				return err
			}
			continue
		}
		err := j.renewOnce(ctx)
		switch {
		case err == nil:
			renewed, said = time.Now(), time.Time{}
			j.o.Log.Info("certificate renewed", "expires", j.Credentials.NotAfter())
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case refused(err):
			return &api.Error{Code: api.CodeOf(err), Op: "renew certificate of", Object: j.Identity.String(), Message: "the director refused", Err: err}
		}
		if time.Since(said) >= wait { // rarer and rarer: a director may be away for weeks, and disks are cards
			j.o.Log.Warn("certificate not renewed yet", "error", err, "expires", j.Credentials.NotAfter())
			said = time.Now()
		}
		if err := j.pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, renewBackoff)
	}
}

// pause waits between two tries, and not at the same moments as others: a
// director that comes back must not meet all at once. It ends early when the
// certificate does: then others take us for lost soon after the director is back.
func (j *Joined) pause(ctx context.Context, wait time.Duration) error {
	wait = wait/2 + rand.N(wait)                   //nolint:gosec // only spreads the tries
	hurry := endedBackoff/2 + rand.N(endedBackoff) //nolint:gosec // the same
	for began := time.Now(); time.Since(began) < wait; {
		left := wait - time.Since(began)
		if j.urgent() {
			left = min(left, hurry-time.Since(began))
		}
		if left <= 0 {
			return nil
		}
		if err := sleep(ctx, min(left, lookEvery)); err != nil {
			return err
		}
	}
	return nil
}

// urgent reports whether somebody does not believe us, or we somebody, before
// there is another certificate.
func (j *Joined) urgent() bool {
	return j.Credentials.Ended() || j.Credentials.Estranged() || j.fromFuture()
}

// fromFuture reports whether the certificate was made at a time that is still
// to come: the clock was put back since, and the director's mostly with it. One
// that is always behind is not meant.
func (j *Joined) fromFuture() bool {
	return j.ahead(j.Credentials.Issued()) && !j.behind.Equal(j.Credentials.Issued())
}

// note takes note of a certificate that has just come.
func (j *Joined) note() {
	if issued := j.Credentials.Issued(); j.ahead(issued) {
		j.behind = issued
	}
}

func (j *Joined) ahead(issued time.Time) bool { return issued.After(j.o.Now().Add(clockSlack)) }

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
		j.note()
		return j.Credentials.Save(j.o.Dir)
	}
	return err
}

func (j *Joined) askRenewal(ctx context.Context, url, csr string) (out api.Enrolled, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client := rpc.NewClient(url, pki.RenewalTLS(j.Credentials))
	defer client.HTTP.CloseIdleConnections()
	return out, client.Do(ctx, "POST", "/api/v1/renew", api.Enrol{CSR: csr}, &out)
}
