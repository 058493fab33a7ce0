package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nutshell/roles/api"
)

func TestVolumes(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	link := func(name, target string) {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("data", elsewhere)
	link("dangling", filepath.Join(elsewhere, "gone"))
	if err := os.WriteFile(filepath.Join(elsewhere, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link("to-a-file", filepath.Join(elsewhere, "file"))
	if err := os.Mkdir(filepath.Join(dir, "unmounted"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, says := range map[string]string{
		"data": "", "missing": "not in this instance", "dangling": "leads nowhere", "to-a-file": "leads nowhere", "unmounted": "nothing is mounted",
		"../data": "cannot be the name", "": "cannot be the name",
	} {
		t.Run("volume-"+name, func(t *testing.T) {
			a := &Agent{c: Config{Volumes: dir}}
			c := api.AgentConfig{Volumes: []api.Mounted{{ID: "a1-s1-v1", Name: name}}}
			err := a.mount(&c)
			switch {
			case says == "" && (err != nil || c.Volumes[0].Path != filepath.Join(dir, name)):
				t.Errorf("got %v, path %q", err, c.Volumes[0].Path)
			case says != "" && (api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), says) || c.Volumes[0].Path != ""):
				t.Errorf("got %v, path %q; want unavailable: %s", err, c.Volumes[0].Path, says)
			}
		})
	}
	if mounted, err := isMountPoint("/proc"); err != nil || !mounted {
		t.Errorf("/proc is a mount point: got %t, %v", mounted, err)
	}
	if err := (&Agent{}).mount(&api.AgentConfig{Volumes: []api.Mounted{{Name: "data"}}}); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("an instance without volumes: %v", err)
	}
}
