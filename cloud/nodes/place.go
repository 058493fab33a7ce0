package nodes

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"nutshell/cloud"
)

// Memory by which instances are placed. What an instance may use is no
// measure: most use a fraction of it, and a small machine would take none.
const (
	leastNeed = 64 << 20
	mostNeed  = 512 << 20
	usualNeed = 128 << 20 // of one without a limit
	keptFree  = 48 << 20  // of each machine, for its own programs
)

// need is the memory that a machine must have free to get an instance: a
// quarter of what the instance may use.
func need(l cloud.Limits) int64 {
	if l.MemoryBytes == 0 {
		return usualNeed
	}
	return min(max(l.MemoryBytes/4, leastNeed), mostNeed)
}

// candidate is a machine as place looks at it.
type candidate struct {
	cloud.Machine
	Twins    int   // instances that it has of the same part of the same service
	Kin      int   // instances that it has of the same service
	Group    int   // instances that it has of the same group
	Promised int64 // memory of instances that were placed there a moment ago, which Free does not show yet
	Alien    bool  // there are no layers for its architecture
	Failed   bool  // it failed to launch something a short while ago, should have been heard by now, or has no disk left
}

// place chooses a machine for an instance that needs so much memory: one that
// has it, if possible one that answers and has not failed lately, then the one with the
// fewest instances of the same part, of the same service, of the same
// application, and then the one with the most free memory.
func place(need int64, machines []candidate) (string, error) {
	if len(machines) == 0 {
		return "", fmt.Errorf("%w: no machine has joined the cluster and been approved", cloud.ErrUnavailable)
	}
	fit := slices.DeleteFunc(slices.Clone(machines), func(c candidate) bool {
		return !c.Up || c.Cordoned || c.Alien || c.left() < need
	})
	if len(fit) == 0 {
		return "", refusal(need, machines)
	}
	best := slices.MinFunc(fit, func(a, b candidate) int {
		return cmp.Or(order(a.Failed, b.Failed), cmp.Compare(a.Twins, b.Twins), cmp.Compare(a.Kin, b.Kin), cmp.Compare(a.Group, b.Group),
			cmp.Compare(b.left(), a.left()), strings.Compare(a.ID, b.ID))
	})
	return best.ID, nil
}

func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func (c candidate) left() int64 { return c.Free - c.Promised - keptFree }

// refusal says of each machine why it is not chosen.
func refusal(need int64, machines []candidate) error {
	var why []string
	kind := cloud.ErrUnavailable
	for _, c := range machines {
		name := cmp.Or(c.Name, c.ID)
		switch {
		case !c.Up:
			why = append(why, name+" does not answer")
		case c.Cordoned:
			why, kind = append(why, name+" is cordoned"), cloud.ErrQuota
		case c.Alien:
			why = append(why, "there are no images for "+name+", which is "+c.Arch+" (nutshell image layers build --arch "+c.Arch+" makes them)")
		default:
			why, kind = append(why, fmt.Sprintf("%s has %d MiB of %d", name, max(0, c.left())>>20, c.Memory>>20)), cloud.ErrQuota
		}
	}
	const most = 8
	if more := len(why) - most; more > 0 {
		why = append(why[:most], fmt.Sprintf("and %d more machines", more))
	}
	return fmt.Errorf("%w: no machine has %d MiB of memory free for an instance: %s", kind, need>>20, strings.Join(why, ", "))
}
