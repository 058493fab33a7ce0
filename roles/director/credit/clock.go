package credit

import "time"

// Clock tells the time by which instances pay. It goes as the machine's own
// counter does since its boot, which nobody can set: not by a jump of the time
// of day, and not while the machine sleeps. After another boot it goes on where
// it was seen last, because instances of this machine did not run meanwhile.
type Clock struct {
	Boot  string    `json:"boot"`  // of the machine
	Start time.Time `json:"start"` // the clock's time at that boot
	Last  time.Time `json:"last"`  // a time that it had reached when it was stored
}

// At is the time when the machine has been up for so long.
func (c Clock) At(up time.Duration) time.Time { return c.Start.Add(up).Truncate(time.Microsecond) }

// Next is the clock of a program that starts on a machine that has been up for
// so long. wall begins the very first one, so that its times look familiar.
func (c Clock) Next(boot string, up time.Duration, wall time.Time) Clock {
	if c.Last.IsZero() {
		c.Last = wall.UTC().Truncate(time.Microsecond)
	}
	if boot == "" || c.Boot != boot || c.At(up).Before(c.Last) {
		c.Boot, c.Start = boot, c.Last.Add(-up)
	}
	return c
}
