package agent

import (
	"testing"
	"time"

	"nutshell/roles/api"
)

// An instance that was not told yet what to be tells what it uses, and bytes
// only of a network of its own.
func TestMeasured(t *testing.T) {
	a := &Agent{c: Config{Address: "127.0.0.1", Now: time.Now, Identity: api.Identity{Name: "a1-s1-x", Service: 1}}, figures: newFigures(t.TempDir())}
	if m := a.measured(t.Context()); m.Instance != "a1-s1-x" || m.Service != 1 || m.Parts == nil || m.Samples == nil || len(m.Samples) != 0 {
		t.Errorf("before anything was measured: %+v", m)
	}
	a.figures.last, a.figures.cpu = api.Figures{At: time.Now(), MemoryBytes: 5, MemoryLimit: 9, Processes: 2}, 1.5
	got := map[string]float64{}
	for _, s := range a.measured(t.Context()).Samples {
		got[s.Name+s.Labels["direction"]] = s.Value
	}
	want := map[string]float64{"nutshell_cpu_seconds_total": 1.5, "nutshell_memory_bytes": 5, "nutshell_memory_limit_bytes": 9, "nutshell_disk_bytes": 0, "nutshell_processes": 2}
	for name, v := range want {
		if w, ok := got[name]; !ok || w != v {
			t.Errorf("%s is %v %v, want %v", name, w, ok, v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	a.c.Address = "10.0.0.5"
	n := 0
	for _, s := range a.measured(t.Context()).Samples {
		if s.Name == "nutshell_network_bytes_total" {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d figures of the network, want in and out", n)
	}
}
