package credit

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return noon.Add(d) }

func TestOwed(t *testing.T) {
	for _, c := range []struct {
		name string
		m    Meter
		now  time.Time
		want int64
	}{
		{"held-owes-nothing", Meter{}, after(5 * Hour), 0},
		{"first-hour-at-once", Meter{Began: noon}, noon, 1},
		{"first-hour-is-paid", Meter{Began: noon, Hours: 1}, after(Hour - 1), 0},
		{"second-hour-has-begun", Meter{Began: noon, Hours: 1}, after(Hour), 1},
		{"three-hours-unseen", Meter{Began: noon, Hours: 1}, after(3*Hour + time.Minute), 3},
		{"clock-behind-its-start", Meter{Began: noon, Hours: 1}, after(-5 * Hour), 0},
		{"paused-time-does-not-count", Meter{Began: noon, Hours: 1, Paused: after(10 * time.Minute)}, after(30 * Hour), 0},
		{"debt-stays-through-a-pause", Meter{Began: noon, Hours: 1, Paused: after(2 * Hour)}, after(30 * Hour), 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.m.Owed(c.now); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

// What a pause left of a paid hour is there after it.
func TestPauseKeepsTheRestOfAnHour(t *testing.T) {
	m := Meter{}
	m.Start(noon)
	m.Hours = 1
	m.Pause(after(40 * time.Minute))
	m.Start(after(50 * Hour))
	if got := m.Owed(after(50*Hour + 19*time.Minute)); got != 0 {
		t.Errorf("19 minutes after the pause it owes %d", got)
	}
	if got := m.Owed(after(50*Hour + 21*time.Minute)); got != 1 {
		t.Errorf("21 minutes after the pause it owes %d, want 1", got)
	}
}

func TestBill(t *testing.T) {
	old, young := Meter{Began: noon, Hours: 1}, Meter{Began: after(30 * time.Minute), Hours: 1}
	for _, c := range []struct {
		name    string
		balance int64
		bound   bool
		meters  []Meter
		at      time.Duration
		paid    []int64
		short   bool
	}{
		{"nothing-due", 5, true, []Meter{old, young}, 59 * time.Minute, []int64{0, 0}, false},
		{"each-by-its-own-start", 5, true, []Meter{old, young}, 61 * time.Minute, []int64{1, 0}, false},
		{"later-ones-pay-as-much", 50, true, []Meter{old, old, old}, 3*Hour + time.Minute, []int64{3, 3, 3}, false},
		{"who-was-due-first-is-paid-first", 1, true, []Meter{young, old}, 2 * Hour, []int64{0, 1}, true},
		{"last-credit-is-spent", 3, true, []Meter{young, old}, 2 * Hour, []int64{1, 2}, false},
		{"nothing-left", 0, true, []Meter{old}, Hour, []int64{0}, true},
		{"already-below-zero", -3, true, []Meter{old}, Hour, []int64{0}, true},
		{"counted-only", 0, false, []Meter{old, young}, 2 * Hour, []int64{2, 1}, false},
		{"paused-ones-are-left-alone", 5, true, []Meter{{Began: noon, Paused: after(Hour)}}, 9 * Hour, []int64{0}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			paid, short := Bill(c.balance, c.bound, c.meters, after(c.at))
			if !slices.Equal(paid, c.paid) || short != c.short {
				t.Errorf("got %v, short %v; want %v, %v", paid, short, c.paid, c.short)
			}
		})
	}
}

func meters(r *rand.Rand) []Meter {
	list := make([]Meter, r.IntN(8))
	for i := range list {
		ago := time.Duration(r.Int64N(int64(6 * Hour)))
		list[i] = Meter{Began: noon.Add(-ago), Hours: r.Int64N(int64(ago/Hour) + 2)} // nobody pays for hours that have not begun
		switch r.IntN(5) {
		case 0:
			list[i].Paused = noon.Add(-time.Duration(r.Int64N(int64(Hour))))
		case 1:
			list[i].Began = time.Time{}
		}
	}
	return list
}

// Whatever runs and whatever there is: nothing is paid that is not owed, a
// bound balance never goes below zero, and what stays unpaid is always said.
func TestBillHoldsItsPromises(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		list, balance, bound := meters(r), r.Int64N(12)-2, r.IntN(4) > 0
		paid, short := Bill(balance, bound, list, noon)
		var sum, unpaid int64
		for i, m := range list {
			owed := m.Owed(noon)
			if !m.Runs() {
				owed = 0
			}
			if paid[i] < 0 || paid[i] > owed {
				t.Fatalf("seed %d: pays %d of %d owed by %+v", seed, paid[i], owed, m)
			}
			sum += paid[i]
			unpaid += owed - paid[i]
		}
		if bound && sum > max(0, balance) {
			t.Fatalf("seed %d: %d paid of %d", seed, sum, balance)
		}
		if short != (unpaid > 0) || !bound && unpaid > 0 {
			t.Fatalf("seed %d: %d unpaid, short %v, bound %v", seed, unpaid, short, bound)
		}
		if short && sum != max(0, balance) {
			t.Fatalf("seed %d: short with %d of %d paid", seed, sum, balance)
		}
		// Paying in pieces, as somebody does who dies in between, comes to the same.
		again := slices.Clone(list)
		for i := range again {
			again[i].Hours += paid[i]
		}
		more, _ := Bill(balance-sum, bound, again, noon)
		for i := range more {
			if more[i] != 0 {
				t.Fatalf("seed %d: %+v pays again", seed, again[i])
			}
		}
	}
}

// The forecast is what happens when time really passes.
func TestForecastComesTrue(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		list, balance := meters(r), r.Int64N(30)
		paid, short := Bill(balance, true, list, noon)
		if short {
			continue
		}
		for i := range list {
			list[i].Hours += paid[i]
			balance -= paid[i]
		}
		perHour, end := Forecast(balance, list, noon)
		var want time.Time
		left := balance
		for now := noon; perHour > 0; now = now.Add(time.Minute) {
			p, short := Bill(left, true, list, now)
			if short {
				want = now
				break
			}
			for i := range list {
				list[i].Hours += p[i]
				left -= p[i]
			}
		}
		if d := want.Sub(end); d < 0 || d > time.Minute {
			t.Fatalf("seed %d: forecast %v, came true %v", seed, end, want)
		}
	}
}

func TestForecastOfMuch(t *testing.T) {
	if per, end := Forecast(1<<50, []Meter{{Began: noon, Hours: 1}}, noon); per != 1 || !end.IsZero() {
		t.Errorf("got %d, %v; want 1 and never", per, end)
	}
	if per, end := Forecast(5, []Meter{{}, {Began: noon, Paused: noon}}, noon); per != 0 || !end.IsZero() {
		t.Errorf("nothing runs: got %d, %v", per, end)
	}
}

func TestClock(t *testing.T) {
	c := Clock{}.Next("boot-1", 10*Hour, noon)
	if got := c.At(10 * Hour); !got.Equal(noon) {
		t.Errorf("begins at %v, want %v", got, noon)
	}
	for _, s := range []struct {
		name string
		boot string
		up   time.Duration
		wall time.Time
		want time.Duration // since noon
	}{
		{"program-down-for-three-hours", "boot-1", 13 * Hour, after(3 * Hour), 3 * Hour},
		{"time-of-day-jumps-by-a-year", "boot-1", 10*Hour + time.Minute, after(366 * 24 * Hour), time.Minute},
		{"time-of-day-goes-back", "boot-1", 11 * Hour, after(-100 * Hour), Hour},
		{"another-boot", "boot-2", time.Minute, after(48 * Hour), 0},
		{"unknown-boot", "", time.Minute, after(48 * Hour), 0},
		{"counter-went-back", "boot-1", 9 * Hour, after(48 * Hour), 0},
	} {
		t.Run(s.name, func(t *testing.T) {
			next := c.Next(s.boot, s.up, s.wall)
			if got := next.At(s.up).Sub(noon); got != s.want {
				t.Errorf("got %v after it was seen last, want %v", got, s.want)
			}
		})
	}
}

// Whatever the machine and the time of day do, the clock goes by as much as the
// machine was awake, and never back.
func TestClockNeverGoesBack(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 3))
		boot, up := "a", time.Duration(r.Int64N(int64(100*Hour)))
		wall := noon
		c := Clock{}.Next(boot, up, wall)
		now := c.At(up)
		for range 40 {
			step := time.Duration(r.Int64N(int64(5 * Hour)))
			most := step
			wall = wall.Add(time.Duration(r.Int64N(int64(1000*Hour))) - 500*Hour)
			if r.IntN(4) == 0 {
				boot, up = boot+"x", time.Duration(r.Int64N(int64(Hour)))
			} else {
				up += step
			}
			if r.IntN(3) > 0 {
				c.Last = now // it was stored
			}
			c = c.Next(boot, up, wall)
			then := c.At(up)
			if then.Before(c.Last) || then.Sub(now) > most+time.Microsecond { // which is as fine as it goes
				t.Fatalf("seed %d: from %v to %v in %v", seed, now, then, most)
			}
			now = then
		}
	}
}
