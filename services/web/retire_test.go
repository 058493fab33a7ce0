package web

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// former is a process on its way out.
type former struct {
	busy  atomic.Bool
	ended atomic.Int32
	took  time.Duration // of its end
}

func (f *former) retirement() *Retirement {
	return &Retirement{
		Busy: func(context.Context, string) (bool, error) { return f.busy.Load(), nil },
		End: func(context.Context, string) error {
			time.Sleep(f.took)
			f.ended.Add(1)
			return nil
		},
		Grace: time.Minute, Log: slog.New(slog.DiscardHandler),
	}
}

const patience = 30 * time.Second

// Time stands still in these tests unless all wait: see testing/synctest.
func TestRetirement(t *testing.T) {
	tests := []struct {
		name  string
		f     former
		story func(t *testing.T, f *former, r *Retirement)
		ended int32
	}{
		{"idle-at-once", former{}, func(t *testing.T, _ *former, r *Retirement) {
			began := time.Now()
			<-r.Retire("a", patience)
			if took := time.Since(began); took > time.Second {
				t.Errorf("it took %v", took)
			}
		}, 1},
		{"requests-are-finished", former{}, func(t *testing.T, f *former, r *Retirement) {
			f.busy.Store(true)
			done := r.Retire("a", patience)
			time.Sleep(patience / 2)
			if f.ended.Load() != 0 {
				t.Error("ended while it had requests")
			}
			f.busy.Store(false)
			<-done
		}, 1},
		{"patience-ends", former{}, func(t *testing.T, f *former, r *Retirement) {
			f.busy.Store(true)
			began := time.Now()
			<-r.Retire("a", patience)
			if took := time.Since(began); took < patience || took > patience+time.Second {
				t.Errorf("ended after %v of %v", took, patience)
			}
		}, 1},
		{"asked-twice", former{}, func(t *testing.T, _ *former, r *Retirement) {
			done := r.Retire("a", patience)
			if r.Retire("a", patience) != done {
				t.Error("two ends of one process")
			}
		}, 1},
		{"spared", former{}, func(t *testing.T, _ *former, r *Retirement) {
			done := r.Retire("a", patience)
			if err := r.Spare(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			<-done
		}, 0},
		{"spared-and-retired-again-has-all-its-time", former{}, func(t *testing.T, f *former, r *Retirement) {
			f.busy.Store(true)
			r.Retire("a", patience)
			time.Sleep(patience - time.Second)
			if err := r.Spare(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			began := time.Now()
			<-r.Retire("a", patience)
			if took := time.Since(began); took < patience {
				t.Errorf("requests had %v of %v", took, patience)
			}
		}, 1},
		{"too-late-to-spare", former{took: 10 * time.Second}, func(t *testing.T, f *former, r *Retirement) {
			done := r.Retire("a", patience)
			time.Sleep(5 * time.Second)
			if err := r.Spare(t.Context(), "a"); err != nil || f.ended.Load() != 1 {
				t.Errorf("Spare did not wait for the end: %v, ended %d times", err, f.ended.Load())
			}
			<-done
		}, 1},
		{"retired-while-its-end-is-awaited", former{took: 10 * time.Second}, func(t *testing.T, _ *former, r *Retirement) {
			done := r.Retire("a", patience)
			time.Sleep(5 * time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := r.Spare(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Spare: %v", err)
			}
			if r.Retire("a", patience) != done {
				t.Error("two ends of one process")
			}
		}, 1},
	}
	for i := range tests {
		tt := &tests[i]
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := tt.f.retirement()
				tt.story(t, &tt.f, r)
				time.Sleep(2 * patience)
				if got := tt.f.ended.Load(); got != tt.ended {
					t.Errorf("ended %d times, want %d", got, tt.ended)
				}
				r.mu.Lock()
				defer r.mu.Unlock()
				if len(r.ends) != 0 {
					t.Errorf("ends left: %d", len(r.ends))
				}
			})
		})
	}
}
