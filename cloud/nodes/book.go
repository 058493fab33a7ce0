package nodes

import (
	"maps"
	"slices"
	"strings"
	"time"

	"nutshell/cloud"
)

// book says where everything is.
type book struct {
	Instances map[string]cloud.Instance `json:"instances"` // by name; without an address: asked for, and not heard of yet
	Volumes   map[string]volume         `json:"volumes"`   // by name
	// Stale is what machines must end when they are heard again, by machine
	// and name: it was replaced, stopped or ended while they were away.
	Stale map[string]map[string]bool `json:"stale"`
	// StaleVolumes are empty ones of which another machine has the real one.
	StaleVolumes map[string]map[string]bool `json:"stale_volumes"`
	Public       map[string]showing         `json:"public,omitempty"` // by name of the instance
	Pool         string                     `json:"pool,omitempty"`   // the option public of the last director
}

// volume is a volume and the machine that has it.
type volume struct {
	cloud.Volume
	Machine string `json:"machine"`
	Fresh   bool   `json:"fresh"` // no instance ever had it: it is as good on any machine
}

func (b *book) init() {
	for _, m := range []*map[string]map[string]bool{&b.Stale, &b.StaleVolumes} {
		if *m == nil {
			*m = map[string]map[string]bool{}
		}
	}
	if b.Instances == nil {
		b.Instances = map[string]cloud.Instance{}
	}
	if b.Volumes == nil {
		b.Volumes = map[string]volume{}
	}
	if b.Public == nil {
		b.Public = map[string]showing{}
	}
}

// isStale reports whether any machine is to end an instance: who else tells of
// it has it from nobody.
func (b *book) isStale(name string) bool {
	for _, names := range b.Stale {
		if names[name] {
			return true
		}
	}
	return false
}

func mark(m map[string]map[string]bool, machine, name string) {
	if m[machine] == nil {
		m[machine] = map[string]bool{}
	}
	m[machine][name] = true
}

func unmark(m map[string]map[string]bool, machine, name string) {
	delete(m[machine], name)
	if len(m[machine]) == 0 {
		delete(m, machine)
	}
}

// recent is what need not outlive the director.
type recent struct {
	clock    uint64            // counts changes of the book
	changed  map[string]uint64 // when an instance's entry was written
	busy     map[string]bool   // instances that an order is about
	promises []promise
	failed   map[string]time.Time // machines, when they failed last
	open     map[string]bool      // machines that have not answered yet what they have
	seen     []cloud.Machine      // to which routes lead
}

// promise is memory that a machine will soon have less.
type promise struct {
	machine string
	bytes   int64
	until   time.Time
}

const (
	promiseLife = 45 * time.Second // until the machine's own figures show it
	failedLife  = time.Minute
)

func (r *recent) init() {
	r.changed, r.busy, r.failed, r.open = map[string]uint64{}, map[string]bool{}, map[string]time.Time{}, map[string]bool{}
}

// same reports whether routes to these machines have been seen to.
func (r *recent) same(list []cloud.Machine) bool {
	same := slices.EqualFunc(r.seen, list, func(a, b cloud.Machine) bool {
		return a.ID == b.ID && a.Address == b.Address && a.Subnet == b.Subnet
	})
	r.seen = list
	return same
}

// put writes an entry. The caller holds mu and saves.
func (d *driver) put(i cloud.Instance) {
	d.recent.clock++
	d.recent.changed[i.Name] = d.recent.clock
	d.book.Instances[i.Name] = i
}

func (d *driver) drop(name string) {
	delete(d.book.Instances, name)
	delete(d.recent.changed, name)
}

// save writes the book down, and shows what it says. The caller holds mu.
func (d *driver) save() error {
	d.show()
	return cloud.SaveState(d.file(), d.book)
}

// hold notes which volumes an instance has. The caller holds mu and saves.
func (d *driver) hold(instance string, mounts []cloud.Mount) {
	for id, v := range d.book.Volumes {
		has := slices.ContainsFunc(mounts, func(m cloud.Mount) bool { return m.Volume == id })
		switch {
		case has:
			v.Instance, v.Fresh = instance, false
		case v.Instance == instance:
			v.Instance = ""
		default:
			continue
		}
		d.book.Volumes[id] = v
	}
}

// noteHolder writes down who has a volume after an order on it that came to err.
func (d *driver) noteHolder(v volume, instance string, err error) error {
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v.Instance, v.Fresh = instance, v.Fresh && instance == ""
	d.book.Volumes[v.Name] = v
	return d.save()
}

// forsake forgets an instance of a machine that is away, which ends it when it
// comes back. The caller holds mu and saves.
func (d *driver) forsake(i cloud.Instance) {
	mark(d.book.Stale, i.Machine, i.Name)
	d.drop(i.Name)
}

// share reports whether two lists of parts have one in common.
func share(a, b string) bool {
	parts := strings.Split(b, ",")
	return a != "" && slices.ContainsFunc(strings.Split(a, ","), func(p string) bool { return slices.Contains(parts, p) })
}

// candidates are the machines as place looks at them. The caller holds mu.
func (d *driver) candidates(s cloud.Spec, list []cloud.Machine, without map[string]bool) []candidate {
	now := time.Now()
	d.recent.promises = slices.DeleteFunc(d.recent.promises, func(p promise) bool { return now.After(p.until) })
	maps.DeleteFunc(d.recent.failed, func(_ string, at time.Time) bool { return now.Sub(at) > failedLife })
	var all []candidate
	for _, m := range list {
		if without[m.ID] {
			continue
		}
		layered := d.layered && len(s.Layers)+len(s.Foreign) > 0 // a volume has none
		c := candidate{Machine: m, Alien: layered && len(layersFor(s, m)) == 0}
		_, c.Failed = d.recent.failed[m.ID]
		c.Failed = c.Failed || m.Silent || m.Full
		for _, p := range d.recent.promises {
			if p.machine == m.ID {
				c.Promised += p.bytes
			}
		}
		for _, i := range d.book.Instances {
			if i.Machine != m.ID || i.Group != s.Group || i.Name == s.Name {
				continue
			}
			c.Group++
			if i.Tags["service"] == s.Tags["service"] {
				c.Kin++
				if share(i.Tags["parts"], s.Tags["parts"]) {
					c.Twins++
				}
			}
		}
		all = append(all, c)
	}
	return all
}
