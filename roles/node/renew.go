package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"time"

	"nutshell/roles/api"
)

// renewIfDue gets a new certificate for the same key at two thirds of the old
// one's life. Where that has ended long ago, it is asked for as at the first
// time: the key is still the one that was approved.
func (w *worker) renewIfDue(ctx context.Context) error {
	issued, end, now := w.creds.Issued(), w.creds.NotAfter(), w.creds.Now()
	if now.Before(issued.Add(end.Sub(issued)*2/3)) || w.tooEarly(now) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var out api.Enrolled
	err := w.director.Load().Do(ctx, http.MethodPost, "/api/v1/renew", api.Enrol{CSR: string(w.csr)}, &out)
	if err != nil && now.After(end) && !w.isRemoved(err) {
		out, err = w.askByKey(ctx)
	}
	return w.take(out, err)
}

// tooEarly reports whether a renewal failed a moment ago. What was noted by a
// clock that has been put back since counts for nothing.
func (w *worker) tooEarly(now time.Time) bool {
	return now.Before(w.renew) && w.renew.Sub(now) <= renewEvery
}

// estranged reports whether an error may come of two clocks: one end takes the
// other's certificate for ended, or for not yet begun.
func estranged(err error) bool {
	var cert x509.CertificateInvalidError
	var alert tls.AlertError
	return errors.As(err, &cert) && cert.Reason == x509.Expired || errors.As(err, &alert) || api.CodeOf(err) == api.CodeUnauthorized
}

// reconcile takes the time from our own director, and a new certificate. A
// machine without a battery for its clock needs it when it was off: its time is
// that of the moment when the power went, before the director's certificate
// began, and it cannot know that its own has ended.
func (w *worker) reconcile(ctx context.Context) (done bool, err error) {
	if w.tooEarly(w.creds.Now()) {
		return false, nil
	}
	err = w.take(w.askByKey(ctx))
	return err == nil, err
}

// askByKey asks as at the first time. The director is held to the CA that we
// joined, at whatever time.
func (w *worker) askByKey(ctx context.Context) (api.Enrolled, error) {
	joined, _, err := w.ask(ctx, w.address)
	if err != nil {
		return api.Enrolled{}, err
	}
	w.creds.Told(joined.Now)
	if joined.Enrolled == nil {
		return api.Enrolled{}, &api.Error{Code: api.CodeNotFound, Object: "node " + w.creds.Identity().Name, Message: "it has to be approved again"}
	}
	return *joined.Enrolled, nil
}

// take uses a new certificate, unless err says that there is none.
func (w *worker) take(out api.Enrolled, err error) error {
	end := w.creds.NotAfter()
	if err == nil {
		err = w.creds.Replace(w.key, []byte(out.Chain))
	}
	if err == nil {
		w.creds.Told(out.Now)
		err = w.creds.Save(w.c.Dir)
	}
	if err != nil {
		if w.renew = w.creds.Now(); !w.creds.Ended() { // else nothing can be told before: with each beat
			w.renew = w.renew.Add(renewEvery)
		}
		w.c.Log.Warn("certificate not renewed yet", "error", err, "expires", end)
		return err
	}
	w.renew = time.Time{}
	w.c.Log.Info("certificate renewed", "expires", w.creds.NotAfter())
	address := w.address
	w.address = ""
	w.choose(address) // a connection that is open would show the old one
	return nil
}
