package manager

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
	"nutshell/services"
)

// TestVolumesOf is about what an instance is told of its volumes, and when the
// director is asked for them.
func TestVolumesOf(t *testing.T) {
	volume := func(id, part, instance string, state api.VolumeState, bytes int64) api.Volume {
		return api.Volume{ID: id, Name: "n" + id, Part: part, Instance: instance, State: state, Bytes: bytes}
	}
	mine := volume("1", "db", "i1", api.VolumeAttached, 100)
	for name, c := range map[string]struct {
		parts      []string
		told, give []api.Volume
		asks       bool
		want       []string
		code       api.Code
	}{
		"has-it":                {[]string{"db"}, []api.Volume{mine}, nil, false, []string{"1"}, ""},
		"needs-none":            {[]string{"proxy"}, nil, nil, false, nil, ""},
		"got-the-part-just-now": {[]string{"db"}, nil, []api.Volume{mine}, true, []string{"1"}, ""},
		"too-small":             {[]string{"db"}, []api.Volume{volume("1", "db", "i1", api.VolumeAttached, 50)}, []api.Volume{mine}, true, []string{"1"}, ""},
		"not-attached-yet":      {[]string{"db"}, []api.Volume{volume("1", "db", "i1", api.VolumeAsked, 100)}, []api.Volume{mine}, true, []string{"1"}, ""},
		"another-instances":     {[]string{"db"}, []api.Volume{volume("1", "db", "i2", api.VolumeAttached, 100)}, nil, true, nil, api.CodeUnavailable},
		"never-without":         {[]string{"db"}, nil, []api.Volume{volume("9", "", "i1", api.VolumeAttached, 100)}, true, nil, api.CodeUnavailable},
		"with-a-users":          {[]string{"db"}, []api.Volume{volume("9", "", "i1", api.VolumeAttached, 1), mine}, nil, false, []string{"1", "9"}, ""},
		"a-free-one-of-a-user":  {[]string{"proxy"}, []api.Volume{volume("9", "", "i1", api.VolumeFree, 1)}, nil, false, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			asked := false
			director := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = true
				var in api.VolumesRequest
				if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Instance != "i1" || in.Service != 7 || !slices.Equal(in.Parts, c.parts) {
					t.Errorf("asked for %+v, %v", in, err)
				}
				_ = json.NewEncoder(w).Encode(append([]api.Volume{}, c.give...))
			}))
			defer director.Close()
			s := &service{m: &Manager{director: rpc.NewClient(director.URL, nil)}, id: 7, kind: services.Kind{Parts: []services.Part{{Name: "proxy"},
				{Name: "db", Volume: &services.VolumeRule{Name: "data", Bytes: func(json.RawMessage) int64 { return 100 }}}}}}
			got, err := s.volumesOf(t.Context(), api.DesiredService{Volumes: c.told}, "i1", c.parts)
			var ids []string
			for _, v := range got {
				ids = append(ids, v.ID)
			}
			if api.CodeOf(err) != c.code && (err != nil || c.code != "") || asked != c.asks || !slices.Equal(ids, c.want) {
				t.Errorf("got %v, %v, asked %t", ids, err, asked)
			}
		})
	}
}

func TestUsersVolumesAreTold(t *testing.T) {
	s := &service{}
	have := []api.Instance{{ID: "i1"}}
	users := api.Volume{ID: "9", Instance: "i1", State: api.VolumeAttached}
	parts := api.Volume{ID: "1", Part: "db", Instance: "i1", State: api.VolumeAttached}
	d := func(list ...api.Volume) api.DesiredService { return api.DesiredService{Volumes: list} }
	if s.untold(d(users), have) {
		t.Error("an instance that was not configured yet is told when it is")
	}
	s.told("i1", []api.Mounted{{ID: "1", Part: "db"}})
	if s.untold(d(parts), have) || s.untold(d(), have) {
		t.Error("volumes of parts are seen to elsewhere")
	}
	if !s.untold(d(parts, users), have) {
		t.Error("a user's volume came and nobody noticed")
	}
	s.told("i1", []api.Mounted{{ID: "1", Part: "db"}, {ID: "9"}})
	if s.untold(d(users, parts), have) || !s.untold(d(parts), have) {
		t.Error("a user's volume went, or did not")
	}
}
