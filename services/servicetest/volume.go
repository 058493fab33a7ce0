package servicetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// volume is a directory that outlives the instances that have it.
type volume struct {
	api.Volume
	used int // when it was freed last, in the order of events
}

// secretsOf are the values of a kind's secrets. They are the same in each run.
func secretsOf(k services.Kind) map[string]string {
	m := map[string]string{}
	for _, s := range k.Secrets {
		sum := sha256.Sum256([]byte("secret " + s.Name + " of " + k.Name))
		m[s.Name] = hex.EncodeToString(sum[:12])
	}
	return m
}

// SetSecret changes a secret and settles. What the kind's check refuses is an
// error, as from the director, and changes nothing.
func (w *World) SetSecret(ctx context.Context, name, value string) error {
	i := slices.IndexFunc(w.Kind.Secrets, func(s services.Secret) bool { return s.Name == name })
	if i < 0 {
		return api.NotFoundf("the kind has no secret %s", name)
	}
	if check := w.Kind.Secrets[i].Check; check != nil {
		if err := check(value); err != nil {
			return err
		}
	}
	secrets := w.Service().Secrets
	secrets[name] = value
	w.change(func(d *api.DesiredService) { d.Secrets = secrets })
	return w.Settle(ctx)
}

// Volumes are all volumes of the service, free ones too.
func (w *World) Volumes() []api.Volume {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.volumeList()
}

// VolumeDir is the directory that a volume is.
func (w *World) VolumeDir(id string) string { return filepath.Join(w.dir, "volumes", id) }

// AddVolume gives an instance a volume of a user's; Settle tells its agent.
func (w *World) AddVolume(instance, name string, bytes int64) (api.Volume, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, err := w.makeVolume(name, "", bytes)
	if err != nil {
		return api.Volume{}, err
	}
	return v.Volume, w.attach(v, instance, w.machine[instance])
}

// LoseVolume deletes a free volume with all that it holds.
func (w *World) LoseVolume(id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.volumes, func(v *volume) bool { return v.ID == id && v.State == api.VolumeFree })
	if i < 0 {
		return fmt.Errorf("there is no free volume %s", id)
	}
	w.volumes = slices.Delete(w.volumes, i, i+1)
	return os.RemoveAll(w.VolumeDir(id))
}

// The rest is called with the lock held.

func (w *World) volumeList() []api.Volume {
	list := make([]api.Volume, len(w.volumes))
	for i, v := range w.volumes {
		list[i] = v.Volume
	}
	return list
}

// hold gives an instance the volumes of its parts: those that were in use
// last, or new ones. It makes them as large as the settings say.
func (w *World) hold(instance string, m *machine, parts []string) error {
	for _, p := range w.Kind.Parts {
		if p.Volume == nil || !slices.Contains(parts, p.Name) {
			continue
		}
		v := w.volumeFor(instance, p.Name)
		if v == nil {
			var err error
			if v, err = w.makeVolume(p.Volume.Name, p.Name, 0); err != nil {
				return err
			}
		}
		v.Bytes = max(v.Bytes, p.Volume.Bytes(w.desired.Service.Settings))
		if err := w.attach(v, instance, m); err != nil {
			return err
		}
	}
	return nil
}

func (w *World) volumeFor(instance, part string) *volume {
	var best *volume
	for _, v := range w.volumes {
		switch {
		case v.Part != part:
		case v.State == api.VolumeAttached && v.Instance == instance:
			return v
		case v.State == api.VolumeFree && (best == nil || v.used > best.used):
			best = v
		}
	}
	return best
}

func (w *World) makeVolume(name, part string, bytes int64) (*volume, error) {
	w.made++
	v := &volume{Volume: api.Volume{ID: fmt.Sprintf("v%d", w.made), Service: 1, Name: name, Part: part, Bytes: bytes, State: api.VolumeFree,
		Created: time.Unix(int64(w.made), 0), Snapshots: []api.Snapshot{}}}
	if err := os.MkdirAll(w.VolumeDir(v.ID), 0o755); err != nil { // daemons of other accounts get in, as on a mount point
		return nil, err
	}
	w.volumes = append(w.volumes, v)
	return v, nil
}

func (w *World) attach(v *volume, instance string, m *machine) error {
	v.Instance, v.State = instance, api.VolumeAttached
	link := filepath.Join(m.Dir("volumes"), v.Name)
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	err := os.Symlink(w.VolumeDir(v.ID), link)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func (w *World) mounted(instance string, m *machine) []api.Mounted {
	var list []api.Mounted
	for _, v := range w.volumes {
		if v.State == api.VolumeAttached && v.Instance == instance {
			list = append(list, api.Mounted{ID: v.ID, Name: v.Name, Part: v.Part, Bytes: v.Bytes, Path: filepath.Join(m.Dir("volumes"), v.Name)})
		}
	}
	return list
}

// release frees the volumes of an instance that is gone.
func (w *World) release(instance string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range w.volumes {
		if v.State == api.VolumeAttached && v.Instance == instance {
			w.made++
			v.State, v.used = api.VolumeFree, w.made
		}
	}
}
