package manager

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"nutshell/roles/api"
)

// volumesOf are the volumes that an instance has. Those that its parts need
// and it has not, because it holds a part newly or because the director's word
// is behind, and those that are smaller than the settings say, the director
// is asked for: without them nothing is configured.
func (s *service) volumesOf(ctx context.Context, d api.DesiredService, instance string, parts []string) ([]api.Mounted, error) {
	have := volumesIn(d.Volumes, instance)
	if s.lacksVolume(d, have, parts) {
		var got []api.Volume
		err := s.m.director.Do(ctx, http.MethodPost, "/api/v1/manager/volumes", api.VolumesRequest{Service: s.id, Instance: instance, Parts: parts}, &got)
		if err != nil {
			return nil, err
		}
		have = volumesIn(got, instance)
		if s.lacksVolume(d, have, parts) {
			return nil, &api.Error{Code: api.CodeUnavailable, Op: "attach volumes to", Object: "instance " + instance, Message: "the director did not give what its parts need"}
		}
	}
	list := make([]api.Mounted, len(have))
	for i, v := range have {
		list[i] = api.Mounted{ID: v.ID, Name: v.Name, Part: v.Part, Bytes: v.Bytes}
	}
	return list, nil
}

func volumesIn(all []api.Volume, instance string) []api.Volume {
	var list []api.Volume
	for _, v := range all {
		if v.Instance == instance && v.State == api.VolumeAttached {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b api.Volume) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func (s *service) lacksVolume(d api.DesiredService, have []api.Volume, parts []string) bool {
	for _, p := range s.kind.Parts {
		if p.Volume == nil || !slices.Contains(parts, p.Name) {
			continue
		}
		if !slices.ContainsFunc(have, func(v api.Volume) bool { return v.Part == p.Name && v.Bytes >= p.Volume.Bytes(d.Service.Settings) }) {
			return true
		}
	}
	return false
}

// told remembers the users' volumes that an instance was told of.
func (s *service) told(instance string, list []api.Mounted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mounts == nil {
		s.mounts = map[string]string{}
	}
	var ids []string
	for _, v := range list {
		if v.Part == "" {
			ids = append(ids, v.ID)
		}
	}
	s.mounts[instance] = strings.Join(ids, " ")
}

// untold reports whether an instance that was configured has other volumes of
// users by now. Volumes of parts are seen to whenever it is configured.
func (s *service) untold(d api.DesiredService, have []api.Instance) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range have {
		was, configured := s.mounts[i.ID]
		var ids []string
		for _, v := range volumesIn(d.Volumes, i.ID) {
			if v.Part == "" {
				ids = append(ids, v.ID)
			}
		}
		if configured && was != strings.Join(ids, " ") {
			return true
		}
	}
	return false
}
