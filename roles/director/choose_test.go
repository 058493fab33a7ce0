package director

import (
	"slices"
	"strings"
	"testing"

	"nutshell/roles/api"
	"nutshell/services"
)

// TestChosenInstanceGoes: the instance that a user names goes, or the user is
// told why it cannot.
func TestChosenInstanceGoes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	path := "/applications/shop/services/test"
	h.admin.done("POST", path+"/scale", api.Scale{Set: map[string]int{"web": 3}})
	chosen := h.admin.service(path).Instances[1].ID
	if e := h.admin.refused("POST", path+"/scale", api.Scale{Set: map[string]int{"web": 3}, Remove: []string{chosen}}, api.CodeInvalid); !strings.Contains(e.Message, "it would stay") {
		t.Errorf("counts that do not shrink: %v", e)
	}
	var p api.Preview
	h.admin.must("POST", path+"/preview", api.Scale{Remove: []string{chosen}}, &p, 200)
	if !slices.Equal(p.Leave, []string{chosen}) || p.Parts["web"] != 2 {
		t.Errorf("preview: %+v", p)
	}
	h.admin.done("POST", path+"/scale", api.Scale{Remove: []string{chosen}})
	s := h.admin.service(path)
	if s.Parts["web"] != 2 || len(s.Instances) != 2 || slices.ContainsFunc(s.Instances, func(i api.Instance) bool { return i.ID == chosen }) {
		t.Errorf("after the removal of %s: %+v", chosen, s)
	}
	h.admin.refused("POST", path+"/scale", api.Scale{Remove: []string{chosen}}, api.CodeInvalid)
	h.admin.refused("POST", path+"/scale", api.Scale{Remove: []string{s.Instances[0].ID, s.Instances[1].ID}}, api.CodeConflict)
	h.admin.refused("POST", path+"/scale", api.Scale{}, api.CodeInvalid)
}

func TestLess(t *testing.T) {
	kind := services.Kind{Parts: []services.Part{{Name: "proxy", Min: 1, Max: 9}, {Name: "web", Min: 1, Max: 9}, {Name: "master", Min: 1, Max: 1, Fixed: true}}}
	i := func(parts ...string) api.Instance { return api.Instance{ID: "i", Parts: parts} }
	for _, c := range []struct {
		proxy, web int
		chosen     []api.Instance
		want       string
	}{
		{2, 1, []api.Instance{i("proxy", "web")}, "proxy-1"}, // the last web moves
		{2, 2, []api.Instance{i("proxy", "web")}, "proxy-1 web-1"},
		{2, 3, []api.Instance{i("web"), i("web")}, "web-2"},
		{1, 3, []api.Instance{i("proxy"), i("web")}, "refused"},
		{2, 2, []api.Instance{i("proxy"), i("proxy")}, "refused"},
		{2, 2, []api.Instance{i("master")}, "refused"},
	} {
		add, err := less(kind, map[string]int{"proxy": c.proxy, "web": c.web, "master": 1}, c.chosen)
		var got []string
		for _, p := range []string{"proxy", "web"} {
			if add[p] != 0 {
				got = append(got, p+"-"+string(rune('0'-add[p])))
			}
		}
		if err != nil {
			got = []string{"refused"}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("of %d proxies and %d webs, %v: %s, want %s", c.proxy, c.web, c.chosen, s, c.want)
		}
	}
}
