package generic

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nutshell/roles/api"
)

// volumeVariables tell scripts where the instance's volumes are, as
// NUTSHELL_VOLUME_DATA=/media/data.
func volumeVariables(volumes []api.Mounted) []string {
	var env []string
	for _, v := range volumes {
		env = append(env, "NUTSHELL_VOLUME_"+strings.ToUpper(strings.ReplaceAll(v.Name, "-", "_"))+"="+v.Path)
	}
	return env
}

// bindings is the file beside agents.json that says what other services offer.
func (a *agent) bindings() string { return filepath.Join(filepath.Dir(a.agents), "bindings.json") }

// tellBindings keeps that file as it should be. Scripts that run see the new
// one when they open it again; none is called for it.
func (a *agent) tellBindings(list []api.Binding) error {
	b, err := json.MarshalIndent(append([]api.Binding{}, list...), "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if old, err := os.ReadFile(a.bindings()); err == nil && string(old) == string(b) {
		return nil
	}
	return writeAtomic(a.bindings(), b, 0o600) // with passwords; scripts run as this account
}

// Busy implements services.Busy: no volume is taken from under a script.
func (m *manager) Busy(ctx context.Context) error {
	for _, i := range m.host.Instances() {
		o, _, err := m.ask(ctx, i.ID)
		if err != nil {
			return err
		}
		if len(o.Busy) > 0 {
			return &api.Error{Code: api.CodeConflict, Op: "detach volume", Object: "service " + m.host.Service().Service.Name,
				Message: fmt.Sprintf("%s runs on %s", strings.Join(o.Busy, " and "), i.ID), Hint: "wait until it has ended, or interrupt it first"}
		}
	}
	return nil
}

// changing refuses to run scripts while a volume is being taken away.
func changing(volumes []api.Volume, action string) error {
	i := slices.IndexFunc(volumes, func(v api.Volume) bool { return v.State == api.VolumeAttached && v.Reason != "" })
	if i < 0 {
		return nil
	}
	return &api.Error{Code: api.CodeConflict, Op: action, Object: "volume " + volumes[i].Name, Message: "it is " + volumes[i].Reason, Hint: "wait until that is done"}
}
