package manager

import (
	"testing"
	"time"
)

func TestUntilMeasured(t *testing.T) {
	point := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name        string
		now         time.Time
		application int64
		want        time.Duration
	}{
		{"soon", point.Add(10 * time.Second), 0, 3 * time.Second},
		{"just-done", point.Add(13 * time.Second), 0, 15 * time.Second},
		{"past", point.Add(14 * time.Second), 0, 14 * time.Second},
		{"apart", point.Add(10 * time.Second), 1250, 3250 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := untilMeasured(c.now, c.application); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
