// Package credit is the arithmetic of credits: one credit is one started
// instance-hour. It knows what a meter owes, who pays what, when a balance is
// used up, and which time counts. It does no I/O and reads no clock.
package credit

import (
	"slices"
	"time"
)

// Hour is what one credit pays for.
const Hour = time.Hour

// Meter is what one instance has cost so far. Its times are of a Clock.
type Meter struct {
	Instance                   string
	User, Application, Service int64
	Began                      time.Time // zero: a credit is held for it, and it has not started yet
	Paused                     time.Time // zero: it runs
	Hours                      int64     // that are paid, counted from Began
}

// Held reports whether a credit waits for the instance to start.
func (m Meter) Held() bool { return m.Began.IsZero() }

// Runs reports whether the instance's time counts now.
func (m Meter) Runs() bool { return !m.Held() && m.Paused.IsZero() }

// Start lets time count from now on. What a pause left of an hour that is paid
// is not lost.
func (m *Meter) Start(now time.Time) {
	switch {
	case m.Held():
		m.Began = now
	case !m.Paused.IsZero():
		m.Began = m.Began.Add(max(0, now.Sub(m.Paused)))
		m.Paused = time.Time{}
	}
}

// Pause lets time count no longer.
func (m *Meter) Pause(now time.Time) {
	if m.Runs() {
		m.Paused = now
	}
}

// Owed is how many hours have begun that are not paid.
func (m Meter) Owed(now time.Time) int64 {
	if m.Held() {
		return 0
	}
	if !m.Paused.IsZero() {
		now = m.Paused
	}
	return max(0, int64(max(0, now.Sub(m.Began))/Hour)+1-m.Hours)
}

// Due is when the next hour begins that is not paid.
func (m Meter) Due() time.Time { return m.Began.Add(time.Duration(m.Hours) * Hour) }

// Bill decides which hours of one user's meters are paid, by the order in which
// they began. Where the balance is a bound, it never goes below zero by this,
// and short says that something stays unpaid. paid is by the meters' order.
func Bill(balance int64, bound bool, meters []Meter, now time.Time) (paid []int64, short bool) {
	paid = make([]int64, len(meters))
	var sum int64
	for i, m := range meters {
		if m.Runs() {
			paid[i] = m.Owed(now)
			sum += paid[i]
		}
	}
	if !bound || sum <= max(0, balance) {
		return paid, false
	}
	type hour struct {
		meter int
		at    time.Time
	}
	var hours []hour
	for i, m := range meters {
		for n := range min(paid[i], max(0, balance)) {
			hours = append(hours, hour{i, m.Due().Add(time.Duration(n) * Hour)})
		}
		paid[i] = 0
	}
	slices.SortStableFunc(hours, func(a, b hour) int { return a.at.Compare(b.at) })
	for _, h := range hours[:min(int64(len(hours)), max(0, balance))] {
		paid[h.meter]++
	}
	return paid, true
}

// farAway is beyond what a forecast is good for.
const farAway = 100 * 366 * 24 // hours

// Forecast is what the meters cost per hour, and when as things are an hour
// begins that the balance does not pay for; zero: never.
func Forecast(balance int64, meters []Meter, now time.Time) (perHour int64, exhausted time.Time) {
	var dues []time.Time
	for _, m := range meters {
		if m.Runs() {
			due := m.Due()
			if due.Before(now) {
				due = now
			}
			dues = append(dues, due)
		}
	}
	perHour = int64(len(dues))
	balance = max(0, balance)
	if perHour == 0 || balance/perHour > farAway {
		return perHour, time.Time{}
	}
	slices.SortFunc(dues, time.Time.Compare)
	return perHour, dues[balance%perHour].Add(time.Duration(balance/perHour) * Hour)
}
