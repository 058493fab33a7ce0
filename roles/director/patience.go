package director

import (
	"slices"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
)

// startTime is how long an instance in a cloud may stay silent after its
// launch: as long as its driver says, and never less than least.
func (d *Director) startTime(name string, least time.Duration) time.Duration {
	p, err := d.place(name)
	if err != nil {
		return least
	}
	if slow, ok := p.driver.(cloud.Slow); ok {
		return max(least, slow.StartTime())
	}
	return least
}

// launchLimit is how long a driver may take to launch. Machines of a cluster
// may have to fetch layers first, onto slow cards; those that are lost
// meanwhile are not waited for.
func launchLimit(d cloud.Driver) time.Duration {
	if _, far := d.(cloud.Clustered); far {
		return 20 * time.Minute
	}
	if slow, ok := d.(cloud.Slow); ok {
		return max(launchTime, slow.StartTime())
	}
	return launchTime
}

// patience is what a manager must know of the clouds that a service's
// instances are in, or may be launched in: seconds by name of the slow ones.
func (d *Director) patience(wanted string, instances []api.Instance) map[string]int {
	names := []string{wanted}
	if p, err := d.place(wanted); err == nil { // by its name, which instances bear
		names[0] = p.name
	}
	for _, i := range instances {
		if !slices.Contains(names, i.Cloud) {
			names = append(names, i.Cloud)
		}
	}
	var told map[string]int
	for _, name := range names {
		if wait := d.startTime(name, 0); wait > 0 {
			if told == nil {
				told = map[string]int{}
			}
			told[name] = int((wait + time.Second - 1) / time.Second)
		}
	}
	return told
}
