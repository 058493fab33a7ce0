package node

import (
	"time"
)

// How far a clock may be behind before it is set: what is left after that does
// no harm. A year before wrongBefore is no time that a machine could have.
const (
	clockSlack  = 30 * time.Second
	wrongBefore = 2025
)

// behind reports whether the local clock should be set to the director's. It
// is only ever put forward: time that goes back confuses more than time that
// is ahead. A director that nobody vouches for is believed only against a
// clock that cannot be right. It is pure.
func behind(local, director time.Time, trusted bool) bool {
	if director.Sub(local) <= clockSlack || director.Year() < wrongBefore {
		return false
	}
	return trusted || local.Year() < wrongBefore
}

// tellTime puts the machine's clock right, where we may. Where we may not, the
// credentials go on from what the director said.
func (n *node) tellTime(director time.Time, trusted bool) {
	local := n.c.Now()
	if !behind(local, director, trusted) || n.c.SetClock == nil {
		return
	}
	if err := n.c.SetClock(director); err != nil {
		n.c.Log.Warn("the clock is behind the director's and cannot be set", "local", local, "director", director, "error", err)
		n.c.SetClock = nil // once is enough
		return
	}
	n.c.Log.Info("clock set by the director", "was", local, "is", director)
}
