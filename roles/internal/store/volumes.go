package store

import (
	"context"
	"database/sql"
	"encoding/json"

	"nutshell/roles/api"
)

// Volume is a volume with what only the director needs.
type Volume struct {
	api.Volume
	OwnerID int64
	CloudID string // empty: the cloud has not made it yet, or has not said so
	// Held are the parts of Instance, by which a new instance is known to take
	// its place.
	Held []string
	// Binned is the entry of the bin that has it; empty: none.
	Binned string
}

// InCloud is the name by which the volume's cloud knows it.
func (v Volume) InCloud() string {
	if v.CloudID == "" {
		return v.ID // a driver may have made it before the director died
	}
	return v.CloudID
}

// Wanted reports whether its instance has the volume, or shall get it.
func (v Volume) Wanted() bool {
	return v.Instance != "" && (v.State == api.VolumeAsked || v.State == api.VolumeAttached)
}

const volumeColumns = `id, application, service, owner, name, part, cloud, cloud_id, bytes, used, instance, held, state, reason, snapshots, created, since, binned`

func scanVolume(r *sql.Rows) (Volume, error) {
	var v Volume
	var held, snapshots string
	var created, since int64
	err := r.Scan(&v.ID, &v.Application, &v.Service, &v.OwnerID, &v.Name, &v.Part, &v.Cloud, &v.CloudID, &v.Bytes, &v.Used, &v.Instance, &held,
		&v.State, &v.Reason, &snapshots, &created, &since, &v.Binned)
	if err != nil {
		return v, err
	}
	v.Held, v.Created, v.Since = list(held), timeOf(created), timeOf(since)
	return v, json.Unmarshal([]byte(snapshots), &v.Snapshots)
}

func (v View) volumes(ctx context.Context, where string, args ...any) ([]Volume, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT `+volumeColumns+` FROM volume WHERE `+where+` ORDER BY application, service, created, id`, args...)
	return scanAll(rows, err, scanVolume)
}

// Volumes lists all volumes of the installation.
func (v View) Volumes(ctx context.Context) ([]Volume, error) { return v.volumes(ctx, `1`) }

// ServiceVolumes lists the volumes of a service (0: of the application), also
// those that are being deleted, and not those in the bin.
func (v View) ServiceVolumes(ctx context.Context, application, service int64) ([]Volume, error) {
	return v.volumes(ctx, `application = ?1 AND (?2 = 0 OR service = ?2) AND binned = ''`, application, service)
}

// InstanceVolumes lists those that an instance has, shall get, or had last.
func (v View) InstanceVolumes(ctx context.Context, instance string) ([]Volume, error) {
	return v.volumes(ctx, `instance = ?`, instance)
}

// LeavingVolumes lists those that their cloud has not deleted yet.
func (v View) LeavingVolumes(ctx context.Context) ([]Volume, error) {
	return v.volumes(ctx, `state = ?`, api.VolumeLeaving)
}

// OwnerVolumes lists the volumes of a user, gone services' with them.
func (v View) OwnerVolumes(ctx context.Context, owner int64) ([]Volume, error) {
	return v.volumes(ctx, `owner = ?`, owner)
}

// Volume finds a volume.
func (v View) Volume(ctx context.Context, id string) (Volume, error) {
	found, err := v.volumes(ctx, `id = ?`, id)
	return one(found, err, func() error { return api.NotFoundf("there is no volume %s", api.Shorten(id)) })
}

// InsertVolume stores a volume before its cloud is asked for it.
func (t *Tx) InsertVolume(ctx context.Context, v Volume) (Volume, error) {
	v.Created = t.now
	if v.Since.IsZero() {
		v.Since = t.now
	}
	if v.Snapshots == nil {
		v.Snapshots = []api.Snapshot{}
	}
	_, err := t.exec(ctx, `INSERT INTO volume (`+volumeColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		v.ID, v.Application, v.Service, v.OwnerID, v.Name, v.Part, v.Cloud, v.CloudID, v.Bytes, v.Used, v.Instance, text(append([]string{}, v.Held...)),
		v.State, v.Reason, text(v.Snapshots), micros(v.Created), micros(v.Since), v.Binned)
	if isUnique(err) {
		return v, nameTaken("create", "volume", v.Name)
	}
	if err != nil {
		return v, err
	}
	t.Bump(v.Application)
	return v, t.volumeEvent(ctx, "volume", v)
}

// SaveVolume stores a changed volume, unless it is as before. Its service's
// manager is told, except of how full it is.
func (t *Tx) SaveVolume(ctx context.Context, v Volume) error {
	old, err := t.Volume(ctx, v.ID)
	if err != nil {
		return err
	}
	if v.State != old.State {
		v.Since = t.now
	}
	n, err := t.exec(ctx, `UPDATE volume SET cloud_id = ?1, bytes = ?2, used = ?3, instance = ?4, held = ?5, state = ?6, reason = ?7, snapshots = ?8, since = ?9 WHERE id = ?10
		AND (cloud_id <> ?1 OR bytes <> ?2 OR used <> ?3 OR instance <> ?4 OR held <> ?5 OR state <> ?6 OR reason <> ?7 OR snapshots <> ?8)`,
		v.CloudID, v.Bytes, v.Used, v.Instance, text(append([]string{}, v.Held...)), v.State, v.Reason, text(v.Snapshots), micros(v.Since), v.ID)
	if err != nil || n == 0 {
		return err
	}
	if v.State != old.State || v.Instance != old.Instance || v.Bytes != old.Bytes || v.Reason != old.Reason {
		t.Bump(v.Application)
	}
	return t.volumeEvent(ctx, "volume", v)
}

// DeleteVolume forgets a volume that is gone.
func (t *Tx) DeleteVolume(ctx context.Context, v Volume) error {
	n, err := t.exec(ctx, `DELETE FROM volume WHERE id = ?`, v.ID)
	if err != nil || n == 0 {
		return err
	}
	t.Bump(v.Application)
	return t.volumeEvent(ctx, "volume.deleted", v)
}

// freeVolumes makes the volumes of an instance that is gone free for the next.
// Whoever forgets an instance does it in the same transaction: no volume can
// be given away while its instance may still be there.
func (t *Tx) freeVolumes(ctx context.Context, instance string) error {
	rows, err := t.InstanceVolumes(ctx, instance)
	if err != nil {
		return err
	}
	for _, v := range rows {
		switch {
		case !v.Wanted():
			continue
		case v.State == api.VolumeAsked && v.CloudID == "": // it never held anything
			v.Instance = ""
		default:
			v.State = api.VolumeFree
		}
		if err := t.SaveVolume(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tx) volumeEvent(ctx context.Context, typ string, v Volume) error {
	if v.Binned != "" {
		return nil // it was told of as deleted
	}
	return t.event(ctx, typ, v.OwnerID, v.Application, v.Service, v.ID, v.Volume)
}
