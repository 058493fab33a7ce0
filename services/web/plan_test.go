package web

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// parse reads instances written as "id:parts": p, w and b for the three parts.
func parse(text string) []api.Instance {
	var list []api.Instance
	for n, f := range strings.Fields(text) {
		id, letters, _ := strings.Cut(f, ":")
		i := api.Instance{ID: id, Created: time.Unix(int64(n), 0)}
		for _, l := range letters {
			i.Parts = append(i.Parts, map[rune]string{'p': Proxy, 'w': Static, 'b': Backend}[l])
		}
		list = append(list, i)
	}
	return list
}

func letters(parts []string) string {
	s := ""
	for _, p := range []string{Proxy, Static, Backend} {
		if slices.Contains(parts, p) {
			s += p[:1]
		}
	}
	return s
}

func show(l services.Layout) string {
	var have, leave, launch []string
	for _, i := range l.Have {
		have = append(have, i.ID+":"+letters(i.Parts))
	}
	for _, i := range l.Leave {
		leave = append(leave, i.ID)
	}
	for _, p := range l.Launch {
		launch = append(launch, letters(p))
	}
	return fmt.Sprintf("%s +%s -%s", strings.Join(have, " "), strings.Join(launch, ","), strings.Join(leave, ","))
}

func TestPlan(t *testing.T) {
	tests := []struct {
		name, have      string
		proxy, web, bes int
		prefer, want    string
	}{
		{"first-start-packs-everything", "", 1, 1, 1, "", " +pwb -"},
		{"start-with-two-backends", "", 1, 1, 2, "", " +pw,b,b -"},
		{"start-with-everything-twice", "", 2, 2, 2, "", " +p,p,w,w,b,b -"},
		{"second-backend-moves-the-first-off", "a:pwb", 1, 1, 2, "", "a:pw +b,b -"},
		{"third-backend", "a:pw b:b c:b", 1, 1, 3, "", "a:pw b:b c:b +b -"},
		{"second-web-beside-backends", "a:pw b:b c:b", 1, 2, 2, "", "a:p b:b c:b +w,w -"},
		{"second-proxy", "a:pwb", 2, 1, 1, "", "a:pwb +p -"},
		{"back-to-one", "a:pw b:b c:b", 1, 1, 1, "", "a:pwb + -b,c"},
		{"newest-backend-leaves", "a:pw b:b c:b d:b", 1, 1, 2, "", "a:pw b:b c:b + -d"},
		{"preferred-backend-leaves", "a:pw b:b c:b d:b", 1, 1, 2, "b", "a:pw c:b d:b + -b"},
		{"newest-proxy-leaves", "a:pwb b:p c:p", 2, 1, 1, "", "a:pwb b:p + -c"},
		{"younger-first-proxy-stays", "a:p b:pwb", 1, 1, 1, "", "b:pwb + -a"},
		{"first-proxy-leaves-when-preferred", "a:pwb b:p", 1, 1, 1, "a", "b:pwb + -a"},
		{"preference-alone-ends-nothing", "a:pwb b:p", 2, 1, 1, "a", "a:pwb b:p + -"},
		{"web-nodes-become-backends", "a:pb b:w c:w", 1, 1, 2, "", "a:pw b:b c:b + -"},
		{"preferred-is-not-reused", "a:pb b:w c:w", 1, 1, 2, "c", "a:pw b:b +b -c"},
		{"lost-first-proxy", "b:b c:b", 1, 1, 2, "", "b:b c:b +pw -"},
		{"lost-packed-proxy", "b:p", 2, 1, 1, "", "b:pwb +p -"},
		{"instance-that-was-never-told", "a:pw b:b c:", 1, 1, 2, "", "a:pw b:b c:b + -"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := Plan(parse(tt.have), map[string]int{Proxy: tt.proxy, Static: tt.web, Backend: tt.bes}, strings.Fields(tt.prefer))
			if err != nil {
				t.Fatal(err)
			}
			if got := show(l); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// A part whose count stays and which is not packed or unpacked stays exactly
// where it is, whatever happens to the others.
func TestPlanMovesNothingWithoutNeed(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	holders := func(list []api.Instance, part string) string {
		var ids []string
		for _, i := range list {
			if slices.Contains(i.Parts, part) {
				ids = append(ids, i.ID)
			}
		}
		slices.Sort(ids)
		return strings.Join(ids, " ")
	}
	var have []api.Instance
	before := map[string]int{}
	for step := range 3000 {
		want := map[string]int{Proxy: 1 + r.IntN(4), Static: 1 + r.IntN(4), Backend: 1 + r.IntN(4)}
		for p := range before {
			if r.IntN(2) == 0 {
				want[p] = before[p]
			}
		}
		l, err := Plan(have, want, nil)
		if err != nil {
			t.Fatal(err)
		}
		for p, n := range before {
			if want[p] == n && holders(have, p) != holders(l.Have, p) {
				t.Fatalf("step %d, %v: %s moved from %q to %q: %s", step, want, p, holders(have, p), holders(l.Have, p), show(l))
			}
		}
		have = slices.Clone(l.Have)
		for n, parts := range l.Launch {
			id := step*100 + n
			have = append(have, api.Instance{ID: fmt.Sprintf("n%06d", id), Parts: parts, Created: time.Unix(int64(id), 0)})
		}
		before = want
	}
}

// Every added web or backend node, the first too, brings an instance whose
// whole capacity is its own, whatever the other counts are.
func TestPlanAddsCapacity(t *testing.T) {
	own := func(list []api.Instance, part string) (n int) {
		for _, i := range list {
			if slices.Equal(i.Parts, []string{part}) {
				n++
			}
		}
		return n
	}
	grown := func(have []api.Instance, want map[string]int) []api.Instance {
		t.Helper()
		l, err := Plan(have, want, nil)
		if err != nil {
			t.Fatal(err)
		}
		list := slices.Clone(l.Have)
		for _, parts := range l.Launch {
			list = append(list, api.Instance{ID: fmt.Sprintf("n%04d", len(have)+len(list)), Parts: parts, Created: time.Unix(int64(len(have)+len(list)), 0)})
		}
		return list
	}
	for p := 1; p <= 4; p++ {
		for w := 1; w <= 4; w++ {
			for b := 1; b <= 4; b++ {
				want := map[string]int{Proxy: p, Static: w, Backend: b}
				have := grown(nil, want)
				for _, part := range []string{Static, Backend} {
					more := map[string]int{Proxy: p, Static: w, Backend: b}
					more[part]++
					after := grown(have, more)
					if got, was := own(after, part), own(have, part); got != more[part] || got <= was {
						t.Errorf("%v, one more %s: %d of its own, before %d", want, part, got, was)
					}
				}
				more := map[string]int{Proxy: p + 1, Static: w, Backend: b}
				if after := grown(have, more); len(after) != len(have)+1 {
					t.Errorf("%v, one more proxy: %d instances, before %d", want, len(after), len(have))
				}
			}
		}
	}
}
