package services

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
)

func TestKeep(t *testing.T) {
	tests := []struct {
		name, have  string
		n           int
		prefer      string
		stay, leave string
	}{
		{"newest-leaves", "a b c", 2, "", "a b", "c"},
		{"preferred-leaves-first", "a b c", 2, "a", "b c", "a"},
		{"enough", "a b", 5, "a", "a b", ""},
		{"none", "a b", 0, "", "", "a b"},
		{"negative", "a b", -1, "", "", "a b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var have []api.Instance
			for n, id := range strings.Fields(tt.have) {
				have = append(have, api.Instance{ID: id, Created: time.Unix(int64(n), 0)})
			}
			slices.Reverse(have)
			stay, leave := Keep(have, tt.n, strings.Fields(tt.prefer))
			if s, l := ids(stay), ids(leave); s != tt.stay || l != tt.leave {
				t.Errorf("got %q and %q, want %q and %q", s, l, tt.stay, tt.leave)
			}
		})
	}
}

func ids(list []api.Instance) string {
	var all []string
	for _, i := range list {
		all = append(all, i.ID)
	}
	return strings.Join(all, " ")
}

func TestMergeSettingsLeavesTheDefaultsAlone(t *testing.T) {
	k := Kind{Name: "x", Settings: &struct {
		List []string `json:"list"`
	}{[]string{"one", "two"}}}
	merged, err := k.MergeSettings(nil, json.RawMessage(`{"list":["three"]}`))
	if err != nil || string(merged) != `{"list":["three"]}` {
		t.Errorf("got %s, %v", merged, err)
	}
	if got := string(k.DefaultSettings()); got != `{"list":["one","two"]}` {
		t.Errorf("the defaults are now %s", got)
	}
}
