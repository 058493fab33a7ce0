package manager

import (
	"testing"

	"nutshell/roles/api"
)

// TestSilentMachine: an instance whose machine lost its power does not refuse,
// it lets its callers wait; it must not stop the manager from replacing it.
func TestSilentMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startManager()
	w.change(func(d *api.DesiredService) {
		d.Service.Desired = api.GoalStarted
		d.Service.Parts["node"] = 2
	})
	w.until("it runs", w.state(api.Running))
	w.mu.Lock()
	silent := w.desired.Services[0].Instances[0].ID
	w.mu.Unlock()
	w.mute.Store(silent, true)
	w.until("the silent instance is replaced", func() bool {
		return w.agents[silent] == nil && len(w.agents) == 2 && w.reports[1].State == api.Running
	})
}
