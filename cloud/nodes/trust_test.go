package nodes_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
	"nutshell/cloud/nodes"
	"nutshell/cloud/wire"
)

// liar is a machine that somebody took over: it answers what it likes.
type liar struct {
	mu      sync.Mutex
	answers map[string]any // by order
	asked   []string       // bodies of orders to terminate
}

func (l *liar) say(order string, answer any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers[order] = answer
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	order := strings.TrimPrefix(r.URL.Path, wire.Prefix)
	if order == "terminate" {
		var in struct {
			IDs []string `json:"ids"`
		}
		_ = json.NewDecoder(r.Body).Decode(&in)
		l.asked = append(l.asked, in.IDs...)
	}
	answer := l.answers[order]
	if text, ok := answer.(string); ok {
		_, _ = w.Write([]byte(text))
		return
	}
	if answer == nil {
		answer = struct{}{}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

type said struct {
	Instances []cloud.Instance `json:"instances,omitempty"`
	Volumes   []cloud.Volume   `json:"volumes,omitempty"`
}

// taken is a shelf on which machine a was taken over and b is honest and has
// the instance victim and the volume vault.
func taken(t *testing.T) (*liar, *cloudtest.Sim, cloud.Driver) {
	t.Helper()
	s, l := newShelf(), &liar{answers: map[string]any{}}
	b := &cloudtest.Sim{Address: func(n int) string { return fmt.Sprintf("10.202.1.%d", n) }}
	s.add(t, "b", b)
	s.add(t, "a", &cloudtest.Sim{})
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	s.set("a", func(m *cloud.Machine) { m.Subnet, m.Cordoned = netip.MustParsePrefix("10.201.0.0/16"), true })
	s.set("b", func(m *cloud.Machine) { m.Subnet = netip.MustParsePrefix("10.202.0.0/16") })
	s.mu.Lock()
	s.url["a"] = server.URL
	s.mu.Unlock()
	d, err := nodes.New(cloud.Config{Name: "nodes", Installation: "test0001", Dir: t.TempDir(), Binary: "/bin/true", Log: cloudtest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	d.(cloud.Clustered).Use(s)
	spec := specs("victim")[0]
	spec.Layers = []string{"/layers/" + strings.Repeat("a", 64)}
	launch(t, d, spec)
	if _, err := d.(cloud.Volumes).CreateVolume(t.Context(), cloud.VolumeSpec{Name: "vault", Group: "shop", Bytes: 64 * mib}); err != nil {
		t.Fatal(err)
	}
	s.set("a", func(m *cloud.Machine) { m.Cordoned, m.Free = false, 2*m.Free })
	return l, b, d
}

func TestMachineThatLies(t *testing.T) {
	old := time.Now().Add(-time.Hour)
	own := cloud.Instance{ID: "own", Name: "own", Group: "blog", Address: "10.201.1.7", Running: true, Created: old}
	with := func(change func(i *cloud.Instance)) cloud.Instance {
		i := own
		change(&i)
		return i
	}
	many := make([]cloud.Instance, 5000)
	for n := range many {
		many[n] = with(func(i *cloud.Instance) { i.Name = fmt.Sprintf("own-%d", n); i.ID = i.Name })
	}
	onlyVictim := map[string]string{"victim": "b"}
	for name, c := range map[string]struct {
		list any
		want map[string]string
	}{
		"its-own":                     {said{Instances: []cloud.Instance{own}}, map[string]string{"victim": "b", "own": "a"}},
		"an-id-that-is-another's":     {said{Instances: []cloud.Instance{with(func(i *cloud.Instance) { i.ID = "victim" })}}, onlyVictim},
		"another's-name":              {said{Instances: []cloud.Instance{with(func(i *cloud.Instance) { i.ID, i.Name = "victim", "victim" })}}, onlyVictim},
		"another's-address":           {said{Instances: []cloud.Instance{with(func(i *cloud.Instance) { i.Address = "10.202.1.1" })}}, onlyVictim},
		"an-address-in-the-world":     {said{Instances: []cloud.Instance{with(func(i *cloud.Instance) { i.Address = "203.0.113.7" })}}, onlyVictim},
		"no-address-at-all":           {said{Instances: []cloud.Instance{with(func(i *cloud.Instance) { i.Address = "$(reboot)" })}}, onlyVictim},
		"a-name-that-is-a-path":       {said{Instances: []cloud.Instance{with(func(i *cloud.Instance) { i.ID, i.Name = "../x", "../x" })}}, onlyVictim},
		"a-machine-that-is-another's": {said{Instances: []cloud.Instance{with(func(i *cloud.Instance) { i.Machine = "b" })}}, map[string]string{"victim": "b", "own": "a"}},
		"too-many":                    {said{Instances: many}, onlyVictim},
		"no-json":                     {"<html>", onlyVictim},
		"half-of-it":                  {`{"instances":[{"ID":"own","Name":"ow`, onlyVictim},
		"another-type":                {`{"instances":{"a":1}}`, onlyVictim},
	} {
		t.Run(name, func(t *testing.T) {
			l, b, d := taken(t)
			l.say("list", c.list)
			for range 2 {
				if diff := cmp.Diff(c.want, listed(t, d)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
			if !has(t, b, "victim") {
				t.Error("the victim is gone")
			}
			list, err := d.List(t.Context())
			if err != nil || slices.ContainsFunc(list, func(i cloud.Instance) bool { return i.Public != "" || i.ID != i.Name }) {
				t.Errorf("listed %+v, %v", list, err)
			}
		})
	}
}

func TestMachineThatMovesAnInstance(t *testing.T) {
	l, _, d := taken(t)
	own := cloud.Instance{ID: "own", Name: "own", Group: "blog", Address: "10.201.1.7", Running: true, Created: time.Now().Add(-time.Hour)}
	l.say("list", said{Instances: []cloud.Instance{own}})
	listed(t, d)
	own.Group, own.Public = "shop", "10.202.1.1" // would be let through to another application
	l.say("list", said{Instances: []cloud.Instance{own}})
	list, err := d.List(t.Context())
	if err != nil || len(list) != 2 || list[0].Group != "blog" || list[0].Public != "" {
		t.Errorf("listed %+v, %v", list, err)
	}
}

func TestMachineThatLaunchesSomethingElse(t *testing.T) {
	for name, answer := range map[string]said{
		"another's":           {Instances: []cloud.Instance{{ID: "victim", Name: "victim", Group: "shop", Address: "10.201.1.9"}}},
		"at-another's":        {Instances: []cloud.Instance{{ID: "web-1", Name: "web-1", Group: "shop", Address: "10.202.1.1"}}},
		"for-another-group":   {Instances: []cloud.Instance{{ID: "web-1", Name: "web-1", Group: "blog", Address: "10.201.1.9"}}},
		"nothing":             {},
		"without-an-address":  {Instances: []cloud.Instance{{ID: "web-1", Name: "web-1", Group: "shop"}}},
		"under-another's-id":  {Instances: []cloud.Instance{{ID: "victim", Name: "web-1", Group: "shop", Address: "10.201.1.9"}}},
		"two-in-place-of-one": {Instances: make([]cloud.Instance, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			l, b, d := taken(t)
			l.say("launch", answer)
			spec := specs("web-1")[0]
			spec.Layers = []string{"/layers/" + strings.Repeat("a", 64)}
			if at := launch(t, d, spec); at["web-1"] != "b" || !has(t, b, "victim") {
				t.Errorf("it is on %v", at)
			}
		})
	}
}

func TestMachineThatLiesAboutVolumes(t *testing.T) {
	l, b, d := taken(t)
	v := d.(cloud.Volumes)
	l.say("volume/list", said{Volumes: []cloud.Volume{{ID: "vault", Name: "other", Group: "shop", Bytes: mib}, {ID: "vault", Name: "vault", Group: "shop", Bytes: mib}, {ID: "huge", Name: "huge", Bytes: 1 << 62}}})
	list, err := v.ListVolumes(t.Context())
	if err != nil || len(list) != 1 || list[0].Name != "vault" || list[0].Bytes != 64*mib {
		t.Errorf("listed %+v, %v", list, err)
	}
	if err := v.DeleteVolume(t.Context(), "other"); err != nil {
		t.Error(err)
	}
	if left, err := b.ListVolumes(t.Context()); err != nil || len(left) != 1 {
		t.Errorf("b has %+v, %v", left, err)
	}
	l.say("volume/create", said{Volumes: []cloud.Volume{{ID: "vault", Name: "vault", Group: "shop", Bytes: 64 * mib}}})
	got, err := v.CreateVolume(t.Context(), cloud.VolumeSpec{Name: "fresh", Group: "shop", Bytes: 64 * mib})
	if left, e := b.ListVolumes(t.Context()); err != nil || got.Name != "fresh" || e != nil || len(left) != 2 {
		t.Errorf("the one that answers with another volume got it: %+v, %v; b has %+v, %v", got, err, left, e)
	}
}
