package director

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

// wantedSize is what its service's settings say of a volume of a part; 0 of a
// user's.
func (d *Director) wantedSize(ctx context.Context, v store.Volume) (int64, error) {
	if v.Part == "" {
		return 0, nil
	}
	s, err := d.store.ServiceByID(ctx, v.Application, v.Service)
	if err != nil {
		return 0, err
	}
	kind, err := d.c.Services.Get(s.Kind)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(kind.Parts, func(p services.Part) bool { return p.Name == v.Part && p.Volume != nil })
	if i < 0 {
		return 0, nil
	}
	return kind.Parts[i].Volume.Bytes(s.Settings), nil
}

// grown makes a volume at least this large.
func (d *Director) grown(ctx context.Context, p *place, v store.Volume, bytes int64) (store.Volume, error) {
	if bytes <= v.Bytes {
		return v, nil
	}
	driver, err := p.volumes()
	if err != nil {
		return v, err
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		return d.roomFor(ctx, t, v.OwnerID, api.Quota{VolumeBytes: bytes - v.Bytes})
	})
	if err != nil {
		return v, err
	}
	if err := driver.GrowVolume(ctx, v.CloudID, bytes); err != nil {
		return v, volumeError("grow", v, err)
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if v, err = t.Volume(ctx, v.ID); err != nil {
			return err
		}
		v.Bytes = max(v.Bytes, bytes)
		return t.SaveVolume(ctx, v)
	})
	return v, err
}

// checkSizes refuses settings that would make existing volumes of parts
// smaller, or let them grow beyond their owner's quota.
func (d *Director) checkSizes(ctx context.Context, t *store.Tx, kind services.Kind, s store.Service, before []byte) error {
	rows, err := t.ServiceVolumes(ctx, s.Application, s.ID)
	if err != nil {
		return err
	}
	for _, p := range kind.Parts {
		if p.Volume == nil {
			continue
		}
		wanted, more := p.Volume.Bytes(s.Settings), int64(0)
		for _, v := range rows {
			if v.Part == p.Name && v.Wanted() {
				more += max(0, wanted-v.Bytes)
			}
		}
		if wanted >= p.Volume.Bytes(before) {
			if err := d.roomFor(ctx, t, s.OwnerID, api.Quota{VolumeBytes: more}); err != nil {
				return err
			}
			continue
		}
		slices.SortFunc(rows, func(a, b store.Volume) int { return cmp.Compare(b.Bytes, a.Bytes) }) // the largest is named
		for _, v := range rows {
			if v.Part == p.Name && v.State != api.VolumeLeaving && v.Bytes > wanted {
				return &api.Error{Code: api.CodeInvalid, Op: "change settings of", Object: "service " + s.Name,
					Message: fmt.Sprintf("its volume %s has %d MB, and %d MB are less", v.ID, v.Bytes>>20, wanted>>20),
					Hint:    "volumes only grow: ask for at least what they have", Fields: []string{"settings"}}
			}
		}
	}
	return nil
}
