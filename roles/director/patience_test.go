package director

import (
	"maps"
	"testing"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
)

type slowCloud struct {
	cloud.Driver
	start time.Duration
}

func (s slowCloud) StartTime() time.Duration { return s.start }

// Managers are told of the clouds that are slow, and only of those in which
// they have instances or may get some.
func TestPatience(t *testing.T) {
	d := &Director{clouds: []*place{{name: "quick", driver: mixedCloud{}}, {name: "vms", driver: slowCloud{start: 3 * time.Minute}},
		{name: "odd", driver: slowCloud{start: 1500 * time.Millisecond}}, {name: "broken"}}}
	in := func(clouds ...string) (list []api.Instance) {
		for _, c := range clouds {
			list = append(list, api.Instance{Cloud: c})
		}
		return list
	}
	for _, c := range []struct {
		name, wanted string
		instances    []api.Instance
		want         map[string]int
	}{
		{"containers", "quick", in("quick", "quick"), nil},
		{"default-by-its-name", "default", in("vms"), map[string]int{"vms": 180}},
		{"nothing-yet", "vms", nil, map[string]int{"vms": 180}},
		{"on-its-way-back", "quick", in("quick", "vms"), map[string]int{"vms": 180}},
		{"rounded-up", "odd", in("odd"), map[string]int{"odd": 2}},
		{"without-a-driver", "broken", in("gone", "broken"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := d.patience(c.wanted, c.instances); !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	if got := d.startTime("vms", launchTime); got != launchTime {
		t.Errorf("got %v, never less than %v", got, launchTime)
	}
	if got := d.startTime("vms", managerBoot); got != 3*time.Minute {
		t.Errorf("got %v, want what the driver says", got)
	}
}
