package servicetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// Plan checks what every kind's Plan promises, over all counts up to 4 and
// over random walks: each part's count exact, no instance without parts or
// twice in the layout, the same answer for the same question, nothing to do
// when everything is as wanted, and the preferred ones leave first.
func Plan(t *testing.T, k services.Kind) {
	t.Helper()
	m := k.Manager(nil) // pure: the director plans previews without a host
	counts := combinations(k.Parts)
	for _, want := range counts {
		l, err := m.Plan(nil, want, nil)
		if err != nil {
			t.Fatalf("plan %v: %v", want, err)
		}
		have := materialise(l, new(int))
		check(t, l, nil, want)
		again, err := m.Plan(have, want, nil)
		if err != nil || len(again.Launch)+len(again.Leave) > 0 || !same(again.Have, have) {
			t.Fatalf("plan %v again: %v, %+v", want, err, again)
		}
	}
	for seed := range uint64(40) {
		walk(t, k, counts, rand.New(rand.NewPCG(seed, 7))) //nolint:gosec // a test repeats it
	}
	for _, p := range k.Parts {
		want := maps.Clone(counts[0])
		want[p.Name] = -1
		if _, err := m.Plan(nil, want, nil); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("plan %v: got %v, want an invalid error", want, err)
		}
	}
}

func combinations(parts []services.Part) []map[string]int {
	all := []map[string]int{{}}
	for _, p := range parts {
		var next []map[string]int
		for _, c := range all {
			for n := p.Min; n <= min(p.Max, 4); n++ {
				c := maps.Clone(c)
				c[p.Name] = n
				next = append(next, c)
			}
		}
		all = next
	}
	return all
}

func walk(t *testing.T, k services.Kind, counts []map[string]int, r *rand.Rand) {
	t.Helper()
	m := k.Manager(nil)
	bound := slices.ContainsFunc(k.Parts, func(p services.Part) bool { return p.Volume != nil }) // an instance keeps a part that has data
	var have []api.Instance
	made := 0
	for range 30 {
		want := counts[r.IntN(len(counts))]
		var prefer []string
		for _, i := range have {
			if r.IntN(4) == 0 {
				prefer = append(prefer, i.ID)
			}
		}
		if r.IntN(5) == 0 && len(have) > 0 { // a cloud loses one
			have = slices.Delete(have, 0, 1)
		}
		r.Shuffle(len(have), func(i, j int) { have[i], have[j] = have[j], have[i] })
		before := fmt.Sprint(have)
		l, err := m.Plan(have, want, prefer)
		if err != nil {
			t.Fatalf("plan %v of %v: %v", want, have, err)
		}
		if fmt.Sprint(have) != before {
			t.Fatalf("plan %v changed its input", want)
		}
		reversed := slices.Clone(have)
		slices.Reverse(reversed)
		if other, _ := m.Plan(reversed, want, prefer); !reflect.DeepEqual(other, l) {
			t.Fatalf("plan %v depends on the order of instances:\n%+v\n%+v", want, l, other)
		}
		check(t, l, have, want)
		if !bound && len(l.Launch) > 0 && len(l.Leave) > 0 && !slices.ContainsFunc(l.Leave, func(i api.Instance) bool { return slices.Contains(prefer, i.ID) }) {
			t.Fatalf("plan %v of %v both starts and ends instances: %+v", want, have, l)
		}
		have = materialise(l, &made)
	}
}

func check(t *testing.T, l services.Layout, have []api.Instance, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	seen := map[string]bool{}
	count := func(parts []string) {
		if len(parts) == 0 {
			t.Fatalf("plan %v of %v: an instance without parts: %+v", want, have, l)
		}
		if len(slices.Compact(slices.Sorted(slices.Values(parts)))) != len(parts) {
			t.Fatalf("plan %v of %v: a part twice on one instance: %v", want, have, parts)
		}
		for _, p := range parts {
			got[p]++
		}
	}
	for _, i := range l.Have {
		count(i.Parts)
		seen[i.ID] = true
	}
	for _, parts := range l.Launch {
		count(parts)
	}
	for _, i := range l.Leave {
		seen[i.ID] = true
	}
	if len(seen) != len(have) || len(l.Have)+len(l.Leave) != len(have) {
		t.Fatalf("plan %v of %v: instances lost or invented: %+v", want, have, l)
	}
	for p, n := range want {
		if got[p] != n {
			t.Fatalf("plan %v of %v: %d × %s: %+v", want, have, got[p], p, l)
		}
	}
}

func materialise(l services.Layout, made *int) []api.Instance {
	have := slices.Clone(l.Have)
	for _, parts := range l.Launch {
		*made++
		have = append(have, api.Instance{ID: fmt.Sprintf("n%04d", *made), Parts: parts, Created: time.Unix(int64(*made), 0)})
	}
	return have
}

func same(a, b []api.Instance) bool {
	key := func(list []api.Instance) []string {
		var keys []string
		for _, i := range list {
			keys = append(keys, i.ID+" "+strings.Join(slices.Sorted(slices.Values(i.Parts)), ","))
		}
		slices.Sort(keys)
		return keys
	}
	return slices.Equal(key(a), key(b))
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
