package manager

import (
	"slices"
	"testing"
	"time"

	"nutshell/roles/api"
)

// An instance of a slow cloud may stay silent for as long as its cloud says
// while it starts, and no longer than others once it has answered.
func TestSlowCloudsMayBeSilent(t *testing.T) {
	began := time.Unix(1e9, 0)
	now := began
	c := newCrew(&Manager{c: Config{Now: func() time.Time { return now }}})
	in := func(id, cloud string, state api.InstanceState) api.Instance {
		return api.Instance{ID: id, Cloud: cloud, State: state}
	}
	c.want([]api.Instance{in("container", "quick", api.InstanceBooting), in("ready", "vms", api.InstanceReady)}, nil)
	machine := in("machine", "vms", api.InstanceBooting)
	c.launched([]api.Instance{machine}, map[string]int{"vms": 180})
	for _, x := range []struct {
		after time.Duration
		lost  []string
	}{
		{lostAfter, nil},
		{bootTime, []string{"ready"}},
		{bootTime + 1, []string{"container", "ready"}},
		{3 * time.Minute, []string{"container", "ready"}},
		{3*time.Minute + 1, []string{"container", "machine", "ready"}},
	} {
		now = began.Add(x.after)
		_, lost := c.sort(now)
		var got []string
		for _, i := range lost {
			got = append(got, i.ID)
		}
		if slices.Sort(got); !slices.Equal(got, x.lost) {
			t.Errorf("after %v: lost are %v, want %v", x.after, got, x.lost)
		}
	}
	if got := c.bootTime([]api.Instance{in("a", "quick", ""), machine}); got != 3*time.Minute {
		t.Errorf("they are waited for %v, want 3m", got)
	}
	if got := c.bootTime([]api.Instance{in("a", "quick", "")}); got != bootTime {
		t.Errorf("containers are waited for %v, want %v", got, bootTime)
	}
	// What the director says anew counts, as after a start of the manager.
	c.want([]api.Instance{machine}, map[string]int{"vms": 240})
	if got := c.bootTime([]api.Instance{machine}); got != 4*time.Minute {
		t.Errorf("it is waited for %v, want 4m", got)
	}
}
