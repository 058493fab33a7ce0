package nodes

import (
	"errors"
	"strings"
	"testing"

	"nutshell/cloud"
)

func TestPlace(t *testing.T) {
	const mib = 1 << 20
	m := func(id string, free int64, turn ...func(*candidate)) candidate {
		c := candidate{Machine: cloud.Machine{ID: id, Name: "name of " + id, Up: true, Memory: 924 * mib, Free: free * mib}}
		for _, t := range turn {
			t(&c)
		}
		return c
	}
	kin := func(n int) func(*candidate) { return func(c *candidate) { c.Kin, c.Group = n, n } }
	twin := func(c *candidate) { c.Twins, c.Kin, c.Group = 1, 1, 1 }
	group := func(n int) func(*candidate) { return func(c *candidate) { c.Group = n } }
	down := func(c *candidate) { c.Up = false }
	cordoned := func(c *candidate) { c.Cordoned = true }
	alien := func(c *candidate) { c.Alien, c.Arch = true, "riscv64" }
	failed := func(c *candidate) { c.Failed = true }
	promised := func(n int64) func(*candidate) { return func(c *candidate) { c.Promised = n * mib } }
	for _, c := range []struct {
		name     string
		machines []candidate
		want     string
		err      error
		says     string
	}{
		{"most-free-memory", []candidate{m("a", 300), m("b", 500), m("c", 400)}, "b", nil, ""},
		{"same-memory-by-id", []candidate{m("b", 300), m("a", 300)}, "a", nil, ""},
		{"spread-service-before-memory", []candidate{m("a", 800, kin(1)), m("b", 200)}, "b", nil, ""},
		{"spread-application-before-memory", []candidate{m("a", 800, group(2)), m("b", 300, group(1))}, "b", nil, ""},
		{"service-before-application", []candidate{m("a", 300, kin(1)), m("b", 300, group(3))}, "b", nil, ""},
		{"second-proxy-not-beside-the-first", []candidate{m("a", 900, twin), m("b", 200, kin(3))}, "b", nil, ""},
		{"third-instance-beside-the-first", []candidate{m("a", 800, kin(1)), m("b", 700, kin(1))}, "a", nil, ""},
		{"full-machine-is-passed-over", []candidate{m("a", 100), m("b", 200, kin(4))}, "b", nil, ""},
		{"promised-memory-counts", []candidate{m("a", 600, promised(400)), m("b", 400)}, "b", nil, ""},
		{"cordoned-gets-none", []candidate{m("a", 900, cordoned), m("b", 200, kin(3))}, "b", nil, ""},
		{"lost-gets-none", []candidate{m("a", 900, down), m("b", 200)}, "b", nil, ""},
		{"failed-lately-is-last", []candidate{m("a", 900, failed), m("b", 200, kin(5))}, "b", nil, ""},
		{"failed-is-better-than-none", []candidate{m("a", 900, failed), m("b", 20)}, "a", nil, ""},
		{"no-layers-for-it", []candidate{m("a", 900, alien), m("b", 200)}, "b", nil, ""},
		{"no-layers-for-any", []candidate{m("a", 900, alien)}, "", cloud.ErrUnavailable, "there are no images for name of a, which is riscv64"},
		{"no-machine", nil, "", cloud.ErrUnavailable, "no machine has joined"},
		{"all-lost", []candidate{m("a", 900, down)}, "", cloud.ErrUnavailable, "name of a does not answer"},
		{"nothing-fits", []candidate{m("a", 100), m("b", 900, cordoned), m("c", 900, down)}, "", cloud.ErrQuota,
			"no machine has 128 MiB of memory free for an instance: name of a has 52 MiB of 924, name of b is cordoned, name of c does not answer"},
		{"many-full", []candidate{m("a", 1), m("b", 1), m("c", 1), m("d", 1), m("e", 1), m("f", 1), m("g", 1), m("h", 1), m("i", 1), m("j", 1)}, "", cloud.ErrQuota, "and 2 more machines"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := place(128*mib, c.machines)
			if got != c.want || !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("place = %q, %v; want %q, %v with %q", got, err, c.want, c.err, c.says)
			}
		})
	}
}

func TestNeed(t *testing.T) {
	for _, c := range []struct{ limit, want int64 }{{0, 128}, {32, 64}, {256, 64}, {512, 128}, {1024, 256}, {8192, 512}} {
		if got := need(cloud.Limits{MemoryBytes: c.limit << 20}); got != c.want<<20 {
			t.Errorf("need of an instance of %d MiB = %d MiB, want %d", c.limit, got>>20, c.want)
		}
	}
}

func TestShare(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"proxy,web", "web", true}, {"proxy", "backend", false}, {"proxy", "", false}, {"", "", false}, {"prox", "proxy", false}} {
		if got := share(c.a, c.b); got != c.want || share(c.b, c.a) != c.want {
			t.Errorf("%q and %q: %v", c.a, c.b, got)
		}
	}
}
