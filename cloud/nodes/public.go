package nodes

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"nutshell/cloud"
	"nutshell/cloud/pool"
)

// Addresses of the option public are the director's machine's, which sends on
// what comes to them to wherever the instance runs. What machines say of public
// addresses counts for nothing.

// showing is an instance's place in the pool.
type showing struct {
	Public netip.Addr `json:"public"`
	Ports  []int      `json:"ports"`
}

// offer gives an instance an address of the pool: the one that it has, else
// that of an instance of the same parts that is lost, for which it is launched,
// else the lowest free. The caller holds mu and saves.
func (d *driver) offer(s cloud.Spec, f fleet) {
	if len(s.Public) == 0 || d.public.Device == "" {
		delete(d.book.Public, s.Name)
		return
	}
	has := d.book.Public[s.Name]
	has.Ports = s.Public
	used := map[netip.Addr]bool{}
	for name, o := range d.book.Public {
		if used[o.Public] = true; d.public.Has(has.Public) || !d.public.Has(o.Public) {
			continue
		}
		if lost := d.book.Instances[name]; name != s.Name && !f[lost.Machine].Up && lost.Group == s.Group && lost.Tags["service"] == s.Tags["service"] && lost.Tags["parts"] == s.Tags["parts"] {
			has.Public = o.Public
			delete(d.book.Public, name)
		}
	}
	if !d.public.Has(has.Public) {
		has.Public = d.public.Free(func(a netip.Addr) bool { return used[a] })
	}
	if !has.Public.IsValid() {
		d.log.Warn("no public address is left for an instance", "instance", s.Name, "pool", d.public.Range())
		delete(d.book.Public, s.Name)
		return
	}
	d.book.Public[s.Name] = has
}

// publicOf is the address of the pool that an instance has, or "".
func (d *driver) publicOf(name string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if o, ok := d.book.Public[name]; ok && d.public.Has(o.Public) {
		return o.Public.String()
	}
	return ""
}

// show makes the machine hold the addresses of those that have one and run
// somewhere, and takes back those of others. The caller holds mu.
func (d *driver) show() {
	var list []pool.Shown
	for name, o := range d.book.Public {
		i, there := d.book.Instances[name]
		if !there {
			delete(d.book.Public, name)
			continue
		}
		if inner, err := netip.ParseAddr(i.Address); err == nil && inner.Is4() && d.public.Has(o.Public) {
			list = append(list, pool.Shown{Public: o.Public, Inner: inner, Ports: o.Ports})
		}
	}
	slices.SortFunc(list, func(a, b pool.Shown) int { return a.Public.Compare(b.Public) })
	option := d.c.Options["public"]
	if option == "" && d.book.Pool == "" { // there never was one, and we may not be root
		return
	}
	said := fmt.Sprint(option, list)
	if said == d.shown.what && time.Since(d.shown.at) < routesLife {
		return
	}
	var err error
	if old, e := pool.Parse(d.book.Pool); e == nil && old != d.public {
		err = old.Hold(nil)
	}
	d.book.Pool = option
	err = cmp.Or(err, d.public.Hold(list), pool.Apart(d.table(), list))
	if err != nil && d.shown.err != err.Error() {
		d.log.Warn("public addresses of the cluster are not as they should be", "error", err)
	}
	d.shown.what, d.shown.at, d.shown.err = said, time.Now(), ""
	if err != nil {
		d.shown.err = err.Error()
	}
}

// hide takes all addresses back. The caller holds mu.
func (d *driver) hide() error {
	if d.shown.what == "" {
		return nil
	}
	d.shown.what = ""
	return cmp.Or(d.public.Hold(nil), pool.Apart(d.table(), nil))
}

// table is the firewall's, of this cloud alone.
func (d *driver) table() string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(d.owner()))
	return fmt.Sprintf("nutshell_pool_%08x", h.Sum32())
}
