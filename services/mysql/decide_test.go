package mysql

import (
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

func node(id, volume string, at int64, change ...func(*seen)) seen {
	s := seen{ID: id, State: nodeState{Volume: volume, At: position{"h", at}, Membership: membership{Generation: 3, Holders: []string{"v1", "v2", "v3"}}}}
	if at < 0 {
		s.State.At = position{Number: -1}
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

func silent(s *seen) { s.Error = "no answer" }
func fresh(s *seen)  { s.State.Fresh, s.State.Membership = true, membership{} }
func live(s *seen)   { s.State.Answers = true }
func other(s *seen)  { s.State.At.History = "other" }
func old(s *seen)    { s.State.Membership = membership{Generation: 1, Holders: []string{"v9"}} }

func TestMayBegin(t *testing.T) {
	for _, c := range []struct {
		name    string
		nodes   []seen
		volumes []string
		force   bool
		want    string // part of why not; empty: it may
	}{
		{"all-are-seen", []seen{node("a", "v1", 1), node("b", "v2", 1), node("c", "v3", 1)}, nil, false, ""},
		{"one-is-silent", []seen{node("a", "v1", 1), node("b", "v2", 1), node("c", "v3", 1, silent)}, nil, false, "c does not answer"},
		{"a-silent-one-is-not-overruled", []seen{node("a", "v1", 1), node("c", "v3", 1, silent)}, nil, true, "c does not answer"},
		{"a-volume-is-missing", []seen{node("a", "v1", 1), node("b", "v2", 1)}, nil, false, "volume v3"},
		{"a-volume-is-given-up", []seen{node("a", "v1", 1), node("b", "v2", 1)}, nil, true, ""},
		{"nothing-yet", []seen{node("a", "v1", -1, fresh)}, []string{"v1"}, false, ""},
		{"an-empty-node-beside-data", []seen{node("a", "v1", -1, fresh)}, []string{"v1", "v2"}, false, "volume v2"},
		{"an-older-word-does-not-count", []seen{node("a", "v1", 1), node("b", "v2", 1), node("c", "v3", 1), node("d", "v4", 1, old)}, nil, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := mayBegin(c.nodes, c.volumes, c.force)
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestMostAdvanced(t *testing.T) {
	for _, c := range []struct {
		name  string
		nodes []seen
		force bool
		want  origin
		fails string
	}{
		{"highest", []seen{node("a", "v1", 5), node("b", "v2", 9), node("c", "v3", 7)}, false, origin{ID: "b"}, ""},
		{"one-that-runs-at-the-same", []seen{node("a", "v1", 9), node("b", "v2", 9, live)}, false, origin{ID: "b", Live: true}, ""},
		{"one-that-runs-behind", []seen{node("a", "v1", 10), node("b", "v2", 9, live)}, false, origin{ID: "a"}, ""},
		{"unknown-is-not-chosen", []seen{node("a", "v1", -1), node("b", "v2", 2)}, false, origin{ID: "b"}, ""},
		{"nobody-knows", []seen{node("a", "v1", -1), node("b", "v2", -1)}, false, origin{}, "no node can say"},
		{"first-of-all", []seen{node("a", "v1", -1, fresh), node("b", "v2", -1, fresh)}, false, origin{ID: "a", Fresh: true}, ""},
		{"one-that-left-long-ago", []seen{node("a", "v1", 5), node("z", "v9", 99)}, false, origin{ID: "a"}, ""},
		{"two-histories", []seen{node("a", "v1", 5), node("b", "v2", 7, other)}, false, origin{}, "different histories"},
		{"two-histories-forced", []seen{node("a", "v1", 5), node("b", "v2", 7, other)}, true, origin{ID: "b"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := map[string]position{}
			for _, s := range c.nodes {
				at[s.ID] = s.State.At
			}
			got, problem := mostAdvanced(c.nodes, at, c.force)
			if got != c.want || !strings.Contains(problem, c.fails) || (problem == "") != (c.fails == "") {
				t.Errorf("got %+v %q, want %+v %q", got, problem, c.want, c.fails)
			}
		})
	}
}

func TestWriter(t *testing.T) {
	synced := func(s *seen) { s.State.Synced, s.State.Primary = true, true }
	a, b, c := node("a", "v1", 1, synced), node("b", "v2", 1, synced), node("c", "v3", 1)
	if w := chooseWriter([]seen{a, b, c}, "b", nil); w != "b" {
		t.Errorf("the writer moved to %s without need", w)
	}
	if w := chooseWriter([]seen{a, b, c}, "b", []string{"b"}); w != "a" {
		t.Errorf("writer %s, want a when b leaves", w)
	}
	if w := chooseWriter([]seen{a, b, c}, "c", nil); w != "a" {
		t.Errorf("writer %s, want a when c is not fit", w)
	}
	var order []string
	for _, s := range inOrder([]seen{a, c, b}, "a") {
		order = append(order, s.ID)
	}
	if got := strings.Join(order, ""); got != "bac" {
		t.Errorf("order %s, want bac: readers, the writer, then those that join", got)
	}
}

func TestPlaces(t *testing.T) {
	got := places(map[string]int{"a": 1, "gone": 2, "c": 3}, []string{"a", "c", "d", "e"})
	if len(got) != 4 || got["a"] != 1 || got["c"] != 3 || got["d"] != 2 || got["e"] != 4 {
		t.Errorf("places %v: nodes keep theirs, and others take the free ones", got)
	}
}

func TestPositions(t *testing.T) {
	for text, want := range map[string]position{
		" 1a-2b:17,0-1-5\n": {"1a-2b", 17}, "1a:-1": {"1a", -1}, noHistory + ":5": {Number: -1}, "": {Number: -1}, "nonsense": {Number: -1},
	} {
		if got := parsePosition(text); got != want {
			t.Errorf("%q: got %+v, want %+v", text, got, want)
		}
	}
	if got := parseState("# GALERA saved state\nversion: 2.1\nuuid:    ab-cd\nseqno:   12\nsafe_to_bootstrap: 0\n"); got != (position{"ab-cd", 12}) {
		t.Errorf("grastate.dat: %+v", got)
	}
}

func TestKeepsOldest(t *testing.T) {
	have := []api.Instance{{ID: "a", Parts: []string{database}, Created: time.Unix(1, 0)}, {ID: "b", Parts: []string{database}, Created: time.Unix(2, 0)}, {ID: "g", Parts: []string{balancer}, Created: time.Unix(3, 0)}}
	l, err := plan(have, map[string]int{database: 1, balancer: 1}, nil)
	if err != nil || len(l.Leave) != 1 || l.Leave[0].ID != "b" || len(l.Have) != 2 || len(l.Launch) != 0 {
		t.Errorf("plan %+v, %v: the newest node leaves, and the balancer stays", l, err)
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{"app": true, "my-db": true, "größe": true, "a`b": true, strings.Repeat("ü", 64): true, strings.Repeat("a", 65): false, "": false, "mysql": false, "SYS": false,
		"a/b": false, "a\\b": false, " a": false, "a\x00": false, "😀": false, "#x": false, "lost+found": false} {
		if err := checkDatabase(name); (err == nil) != ok {
			t.Errorf("database %q: %v", name, err)
		}
	}
	for name, ok := range map[string]bool{"wp": true, "root": false, "MysqlDB": false, "o'brien": true, "mariadb.sys": false} {
		if err := checkUser(name); (err == nil) != ok {
			t.Errorf("user %q: %v", name, err)
		}
	}
	if got := quoteName("a`b"); got != "`a``b`" {
		t.Errorf("quoted %s", got)
	}
	if got := quotePattern("a_b%c"); got != "`a\\_b\\%c`" {
		t.Errorf("quoted %s", got)
	}
	if got := passwordHash("password"); got != "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19" {
		t.Errorf("hash %s", got)
	}
}

func TestSettings(t *testing.T) {
	k := Kind()
	for patch, ok := range map[string]bool{
		`{"variables":["wait_timeout=60","SQL-MODE=ANSI,TRADITIONAL"]}`: true, `{"variables":["wait_timeout=60","wait_timeout=61"]}`: false, `{"variables":["datadir=/etc"]}`: false,
		`{"variables":["sql_mode=A\nplugin_load=x"]}`: false, `{"variables":["sql_mode"]}`: false, `{"volume_size":"100M"}`: false, `{"volume_size":"1G"}`: true, `{"database":"mysql"}`: false, `{"database":""}`: true,
		`{"routing":"nowhere"}`: false, `{"sync_wait":99}`: false,
	} {
		_, err := k.MergeSettings(k.DefaultSettings(), []byte(patch))
		if (err == nil) != ok {
			t.Errorf("%s: %v", patch, err)
		}
	}
	for value, ok := range map[string]bool{"short": false, "long enough": true, "with\nbreak": false, strings.Repeat("ü", 200): true, strings.Repeat("x", 1001): false} {
		if err := checkPassword(value); (err == nil) != ok {
			t.Errorf("password %q: %v", value, err)
		}
	}
}

func TestAuthority(t *testing.T) {
	a, err := newAuthority("seed", "nutshell-1")
	must(t, err)
	b, err := newAuthority("seed", "nutshell-1")
	must(t, err)
	c, err := newAuthority("another", "nutshell-1")
	must(t, err)
	if string(a.pem) != string(b.pem) || string(a.pem) == string(c.pem) {
		t.Error("an authority is the same of the same secret, and of no other")
	}
	_, cert, err := a.issue("n", []string{"127.0.0.9", "127.0.0.7"})
	must(t, err)
	if !b.issued(cert, []string{"127.0.0.9", "127.0.0.7"}) || c.issued(cert, []string{"127.0.0.9", "127.0.0.7"}) || b.issued(cert, []string{"127.0.0.9"}) {
		t.Error("a certificate is known by its authority and its address")
	}
}

var _ services.Offerer = (*manager)(nil)
var _ services.Measurer = (*agent)(nil)
