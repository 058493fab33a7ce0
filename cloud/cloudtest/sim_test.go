package cloudtest_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
)

func TestSim(t *testing.T) {
	sims := map[string]*cloudtest.Sim{} // a cloud outlives its director
	boxes := t.TempDir()
	block := 0
	open := func(t *testing.T, dir string) cloud.Driver {
		if sims[dir] == nil {
			block++
			media := filepath.Join(dir, "media")
			sims[dir] = &cloudtest.Sim{
				Media: media, Disk: 1 << 30, LiveSnapshots: block%2 == 0,
				Boot: func(ctx context.Context, s cloud.Spec, address string) {
					g := cloudtest.Guest{Address: address, Context: s.Context, Dir: filepath.Join(boxes, filepath.Base(filepath.Dir(dir)), s.Name, address), Volumes: filepath.Join(media, s.Name)}
					if err := g.Serve(ctx); err != nil {
						t.Errorf("guest %s: %v", s.Name, err)
					}
				},
			}
		}
		return sims[dir]
	}
	cloudtest.Run(t, open, cloudtest.Options{
		Kill: func(t *testing.T, i cloud.Instance) {
			for _, s := range sims {
				s.Kill(i.Name)
			}
		},
	})
}

func TestSimKnobs(t *testing.T) {
	ctx := t.Context()
	three := []cloud.Spec{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	for _, c := range []struct {
		name string
		sim  *cloudtest.Sim
		want int
		err  error
	}{
		{"quota", &cloudtest.Sim{Quota: 2}, 2, cloud.ErrQuota},
		{"broken", &cloudtest.Sim{Broken: cloud.ErrUnavailable}, 0, cloud.ErrUnavailable},
		{"all-well", &cloudtest.Sim{}, 3, nil},
		{"latency", &cloudtest.Sim{Latency: time.Millisecond}, 3, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := c.sim.Launch(ctx, three)
			if len(list) != c.want || !errors.Is(err, c.err) {
				t.Errorf("Launch = %d instances, %v; want %d, %v", len(list), err, c.want, c.err)
			}
		})
	}
	t.Run("fail-next-then-works", func(t *testing.T) {
		s := &cloudtest.Sim{FailNext: 2}
		if list, err := s.Launch(ctx, three); len(list) != 1 || err == nil {
			t.Errorf("Launch = %v, %v; want one instance and an error", list, err)
		}
		if list, err := s.Launch(ctx, three); len(list) != 3 || err != nil {
			t.Errorf("Launch again = %v, %v; want three", list, err)
		}
	})
	t.Run("latency-ends-with-the-context", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		if _, err := (&cloudtest.Sim{Latency: time.Hour}).Launch(ctx, three); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Launch = %v, want deadline exceeded", err)
		}
	})
}
