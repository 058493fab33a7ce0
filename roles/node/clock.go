package node

import (
	"crypto/x509"
	"errors"
	"time"

	"nutshell/roles/api"
)

// How far a clock may be behind before it is set: what is left after that does
// no harm. A year before wrongBefore is no time that a machine could have.
const (
	clockSlack  = 30 * time.Second
	wrongBefore = 2025
)

// wrong reports whether the local clock should be set to the director's. A
// director that nobody vouches for is believed only against a clock that cannot
// be right. It is pure.
func wrong(local, director time.Time, trusted bool) bool {
	off := director.Sub(local)
	if off.Abs() <= clockSlack || director.Year() < wrongBefore {
		return false
	}
	return trusted || local.Year() < wrongBefore
}

// tellTime puts the machine's clock right, where we may. Where we may not, the
// credentials go on from what the director said. It goes back only while no
// instance runs: time that goes back confuses them more than time that is ahead,
// and the director tells people of it.
func (n *node) tellTime(director time.Time, trusted bool, idle func() bool) {
	local := n.c.Now()
	ahead := local.After(director)
	if n.c.SetClock == nil || !wrong(local, director, trusted) || ahead && !idle() {
		return
	}
	if err := n.c.SetClock(director); err != nil {
		n.c.Log.Warn("the clock is not the director's and cannot be set", "local", local, "director", director, "error", err)
		n.c.SetClock = nil // once is enough
		return
	}
	n.c.Log.Info("clock set by the director", "was", local, "is", director)
}

func nothingRuns() bool { return true }

// inTime says what to do about a certificate that is out of date by a clock
// that may be wrong.
func inTime(err error, now time.Time) error {
	var c x509.CertificateInvalidError
	if !errors.As(err, &c) || c.Reason != x509.Expired {
		return err
	}
	return &api.Error{Code: api.CodeUnavailable, Op: "believe", Object: "the director's certificate",
		Message: "it counts from " + c.Cert.NotBefore.UTC().Format(time.DateTime) + " to " + c.Cert.NotAfter.UTC().Format(time.DateTime) + " UTC, and this machine's clock says " + now.UTC().Format(time.DateTime),
		Hint:    "set the clock that is wrong: this machine's, or the director's", Err: err}
}
