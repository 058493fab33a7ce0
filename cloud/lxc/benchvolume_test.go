package lxc_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"nutshell/cloud"
)

// TestVolumeSpeed prints what volumes cost, beside what instances cost without
// them. It runs when NUTSHELL_BENCH is set.
func TestVolumeSpeed(t *testing.T) {
	if os.Getenv("NUTSHELL_BENCH") == "" {
		t.Skip("set NUTSHELL_BENCH to measure")
	}
	b := newBed(t, nil)
	driver, _ := b.driver(t)
	d := driver.(interface {
		cloud.Driver
		cloud.Volumes
		cloud.Snapshots
	})
	spent := map[string][]time.Duration{}
	var order []string
	timed := func(what string, do func() error) {
		began := time.Now()
		if err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if spent[what] == nil {
			order = append(order, what)
		}
		spent[what] = append(spent[what], time.Since(began))
	}
	launch := func(name string, volumes ...cloud.Mount) func() error {
		return func() error {
			list, err := d.Launch(t.Context(), []cloud.Spec{{Name: name, Group: "shop", Layers: []string{b.Layer}, Context: []byte("{}"), Volumes: volumes}})
			if err == nil {
				answers(t, list[0], "/pid")
			}
			return err
		}
	}
	end := func(name string) func() error {
		return func() error { return d.Terminate(t.Context(), []string{name}) }
	}
	must(t, launch("first")()) // the group's bridge stays during the run
	for round := range 11 {
		name, vol := fmt.Sprintf("one-%d", round), fmt.Sprintf("vol-%d", round)
		timed("launch without", launch(name))
		timed("terminate without", end(name))
		timed("create 1 GiB", func() error {
			_, err := d.CreateVolume(t.Context(), cloud.VolumeSpec{Name: vol, Group: "shop", Bytes: 1 << 30})
			return err
		})
		timed("launch with a new volume", launch(name, cloud.Mount{Volume: vol, Name: "data"}))
		timed("detach", func() error { return d.Detach(t.Context(), vol) })
		timed("attach", func() error { return d.Attach(t.Context(), vol, name, "data") })
		timed("terminate with", end(name))
		timed("launch with", launch(name, cloud.Mount{Volume: vol, Name: "data"}))
		must(t, end(name)())
		timed("snapshot", func() error { _, err := d.Snapshot(t.Context(), vol, "a"); return err })
		timed("list of one", func() error { _, err := d.ListVolumes(t.Context()); return err })
		timed("delete", func() error { return d.DeleteVolume(t.Context(), vol) })
	}
	for _, what := range order {
		slices.Sort(spent[what])
		n := len(spent[what])
		t.Logf("%-26s median %v, least %v, most %v", what, spent[what][n/2].Round(100*time.Microsecond), spent[what][0].Round(100*time.Microsecond), spent[what][n-1].Round(100*time.Microsecond))
	}
}
