package director

import (
	"context"
	"fmt"
	"regexp"
	"slices"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// Bounds of a volume that a user asks for. The cloud knows how much it has.
const (
	leastVolume = 1 << 20
	mostVolume  = 64 << 40
)

var volumeName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// VolumePath names a volume in a path.
type VolumePath struct {
	ServicePath
	Volume string `path:"volume"`
}

// SnapshotPath names a snapshot in a path.
type SnapshotPath struct {
	VolumePath
	Snapshot string `path:"snapshot"`
}

func shownVolumes(rows []store.Volume) []api.Volume {
	list := make([]api.Volume, len(rows))
	for i, r := range rows {
		list[i] = r.Volume
	}
	return list
}

func (d *Director) listApplicationVolumes(ctx context.Context, in *ApplicationPath) ([]api.Volume, error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return nil, err
	}
	rows, err := d.store.ServiceVolumes(ctx, a.ID, 0)
	return shownVolumes(rows), err
}

func (d *Director) listVolumes(ctx context.Context, in *ServicePath) ([]api.Volume, error) {
	a, s, err := d.service(ctx, *in)
	if err != nil {
		return nil, err
	}
	rows, err := d.store.ServiceVolumes(ctx, a.ID, s.ID)
	return shownVolumes(rows), err
}

// volume finds a volume by its id, or by a name that only one of the service's
// has.
func (d *Director) volume(ctx context.Context, in VolumePath) (store.Volume, error) {
	a, s, err := d.service(ctx, in.ServicePath)
	if err != nil {
		return store.Volume{}, err
	}
	rows, err := d.store.ServiceVolumes(ctx, a.ID, s.ID)
	if err != nil {
		return store.Volume{}, err
	}
	var named []store.Volume
	for _, v := range rows {
		if v.ID == in.Volume {
			return v, nil
		}
		if v.Name == in.Volume {
			named = append(named, v)
		}
	}
	if len(named) > 1 { // one that is just being deleted does not count
		if living := slices.DeleteFunc(slices.Clone(named), func(v store.Volume) bool { return v.State == api.VolumeLeaving }); len(living) > 0 {
			named = living
		}
	}
	switch len(named) {
	case 1:
		return named[0], nil
	case 0:
		return store.Volume{}, api.NotFoundf("service %s has no volume %s", s.Name, api.Shorten(in.Volume))
	}
	return store.Volume{}, &api.Error{Code: api.CodeConflict, Object: "volume " + in.Volume, Message: fmt.Sprintf("%d volumes of service %s have this name", len(named), s.Name), Hint: "use an id, such as " + named[0].ID}
}

func (d *Director) getVolume(ctx context.Context, in *VolumePath) (api.Volume, error) {
	v, err := d.volume(ctx, *in)
	return v.Volume, err
}

func checkVolumeSize(op, name string, bytes int64) error {
	if bytes >= leastVolume && bytes <= mostVolume {
		return nil
	}
	return &api.Error{Code: api.CodeInvalid, Op: op, Object: "volume " + api.Shorten(name), Message: fmt.Sprintf("a size of %d bytes cannot be", bytes),
		Hint: "1 MB (1048576 bytes) is the least, 64 TB the most", Fields: []string{"bytes"}}
}

func (d *Director) createVolume(ctx context.Context, in *struct {
	ServicePath
	Body api.CreateVolume
}) (api.Operation, error) {
	b := in.Body
	if !volumeName.MatchString(b.Name) {
		return api.Operation{}, &api.Error{Code: api.CodeInvalid, Op: "create", Object: "volume " + api.Shorten(b.Name), Message: "this cannot be the name of a volume",
			Hint: "use 1 to 32 letters, digits, - and _", Fields: []string{"name"}}
	}
	if err := checkVolumeSize("create", b.Name, b.Bytes); err != nil {
		return api.Operation{}, err
	}
	_, s, err := d.service(ctx, in.ServicePath)
	if err != nil {
		return api.Operation{}, err
	}
	return d.submit(ctx, d.volumeOrder(s.Application, s.ID, volumeChange{Do: volumeCreate, Volume: newVolumeID(s), Name: b.Name, Bytes: b.Bytes, Instance: b.Instance}))
}

func (d *Director) onVolume(ctx context.Context, in VolumePath, c volumeChange) (api.Operation, error) {
	v, err := d.volume(ctx, in)
	if err != nil {
		return api.Operation{}, err
	}
	c.Volume, c.Name = v.ID, v.Name
	return d.submit(ctx, d.volumeOrder(v.Application, v.Service, c))
}

func (d *Director) growVolume(ctx context.Context, in *struct {
	VolumePath
	Body api.ChangeVolume
}) (api.Operation, error) {
	if in.Body.Bytes == nil {
		return api.Operation{}, &api.Error{Code: api.CodeInvalid, Op: "grow", Object: "volume " + api.Shorten(in.Volume), Message: "no size is named", Fields: []string{"bytes"}}
	}
	if err := checkVolumeSize("grow", in.Volume, *in.Body.Bytes); err != nil {
		return api.Operation{}, err
	}
	return d.onVolume(ctx, in.VolumePath, volumeChange{Do: volumeGrow, Bytes: *in.Body.Bytes})
}

func (d *Director) deleteVolume(ctx context.Context, in *struct {
	VolumePath
	Now bool `query:"now" doc:"for good, instead of into the bin"`
}) (api.Operation, error) {
	return d.onVolume(ctx, in.VolumePath, volumeChange{Do: volumeDelete, Now: in.Now})
}

func (d *Director) attachVolume(ctx context.Context, in *struct {
	VolumePath
	Body api.AttachVolume
}) (api.Operation, error) {
	return d.onVolume(ctx, in.VolumePath, volumeChange{Do: volumeAttach, Instance: in.Body.Instance})
}

func (d *Director) detachVolume(ctx context.Context, in *VolumePath) (api.Operation, error) {
	return d.onVolume(ctx, *in, volumeChange{Do: volumeDetach})
}

func (d *Director) takeSnapshot(ctx context.Context, in *struct {
	VolumePath
	Body *api.CreateSnapshot
}) (api.Operation, error) {
	name := ""
	if in.Body != nil {
		name = in.Body.Name
	}
	if name == "" {
		name = d.c.Now().UTC().Format("20060102-150405")
	}
	if !volumeName.MatchString(name) {
		return api.Operation{}, &api.Error{Code: api.CodeInvalid, Op: "take", Object: "snapshot " + api.Shorten(name), Message: "this cannot be the name of a snapshot",
			Hint: "use 1 to 32 letters, digits, - and _", Fields: []string{"name"}}
	}
	return d.onVolume(ctx, in.VolumePath, volumeChange{Do: volumeSnapshot, Snapshot: name})
}

func (d *Director) onSnapshot(ctx context.Context, in SnapshotPath, do string) (api.Operation, error) {
	v, err := d.volume(ctx, in.VolumePath)
	if err != nil {
		return api.Operation{}, err
	}
	if !slices.ContainsFunc(v.Snapshots, func(s api.Snapshot) bool { return s.Name == in.Snapshot }) {
		return api.Operation{}, api.NotFoundf("volume %s has no snapshot %s", v.Name, api.Shorten(in.Snapshot))
	}
	return d.onVolume(ctx, in.VolumePath, volumeChange{Do: do, Snapshot: in.Snapshot})
}

func (d *Director) deleteSnapshot(ctx context.Context, in *SnapshotPath) (api.Operation, error) {
	return d.onSnapshot(ctx, *in, snapshotDelete)
}

func (d *Director) restoreSnapshot(ctx context.Context, in *SnapshotPath) (api.Operation, error) {
	return d.onSnapshot(ctx, *in, volumeRestore)
}

// volumeRoutes are the routes on volumes.
func (d *Director) volumeRoutes() []httpapi.Route {
	const (
		service = "/applications/{app}/services/{service}"
		volumes = service + "/volumes"
		volume  = volumes + "/{volume}"
	)
	return []httpapi.Route{
		httpapi.On("GET", "/applications/{app}/volumes", "volume.list", httpapi.Viewer, short, "Volumes of an application", d.listApplicationVolumes),
		httpapi.On("GET", volumes, "volume.of", httpapi.Viewer, short, "Volumes of a service", d.listVolumes),
		httpapi.On("POST", volumes, "volume.create", httpapi.Developer, short, "Make a volume", d.createVolume).Status(202),
		httpapi.On("GET", volume, "volume.get", httpapi.Viewer, short, "One volume", d.getVolume),
		httpapi.On("PATCH", volume, "volume.grow", httpapi.Developer, short, "Make a volume larger", d.growVolume).Status(202),
		httpapi.On("DELETE", volume, "volume.delete", httpapi.Developer, short, "Delete a volume with all that it holds", d.deleteVolume).Status(202),
		httpapi.On("POST", volume+"/attach", "volume.attach", httpapi.Developer, short, "Give a free volume to an instance", d.attachVolume).Status(202),
		httpapi.On("POST", volume+"/detach", "volume.detach", httpapi.Developer, short, "Take a volume away from its instance", d.detachVolume).Status(202),
		httpapi.On("POST", volume+"/snapshots", "volume.snapshot", httpapi.Developer, short, "Keep what a volume holds now", d.takeSnapshot).Status(202),
		httpapi.On("DELETE", volume+"/snapshots/{snapshot}", "volume.delete_snapshot", httpapi.Developer, short, "Delete a snapshot", d.deleteSnapshot).Status(202),
		httpapi.On("POST", volume+"/snapshots/{snapshot}/restore", "volume.restore", httpapi.Developer, short, "Put a detached volume back to a snapshot", d.restoreSnapshot).Status(202),
	}
}
