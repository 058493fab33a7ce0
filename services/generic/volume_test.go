package generic_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nutshell/roles/api"
	"nutshell/services"
)

func TestVolumesAndBindings(t *testing.T) {
	w := start(t, 0)
	v, err := w.AddVolume("i1", "my-data", 16<<20)
	if err != nil {
		t.Fatal(err)
	}
	w.Bindings = []api.Binding{{Service: "db", Kind: "mysql", Values: map[string]string{"host": "10.0.0.7", "password": "it's"}}}
	if err := w.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := read(w, "i1", "events"); got != "v0 init begins 1\nv0 init ends\n" {
		t.Errorf("a new volume called scripts: %q", got)
	}
	w.Files["code-one111"] = map[string]string{
		"init.sh": `cp "$BINDINGS_JSON" "$HOME/seen"; stat -c %a "$BINDINGS_JSON" > "$HOME/mode"; echo kept > "$NUTSHELL_VOLUME_MY_DATA/file"`,
		"run.sh":  `touch "$HOME/runs"; while [ -e "$HOME/runs" ]; do sleep 0.02; done`,
	}
	if err := w.Activate(t.Context(), "code-one111"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(w.VolumeDir(v.ID), "file")); err != nil || string(b) != "kept\n" {
		t.Errorf("written to the volume: %q, %v", b, err)
	}
	if got := read(w, "i1", "seen"); !strings.Contains(got, `"it's"`) || !strings.Contains(got, "10.0.0.7") {
		t.Errorf("bindings.json: %s", got)
	}
	if got := read(w, "i1", "mode"); got != "600\n" {
		t.Errorf("bindings.json, which has passwords, has mode %s", got)
	}

	busy := w.Manager.(services.Busy)
	if err := busy.Busy(t.Context()); err != nil {
		t.Errorf("nothing runs: %v", err)
	}
	if err := act(t, w, "run", ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "run.sh", func() bool { return status(t, w, "i1", "run.sh") == "RUNNING" })
	if err := busy.Busy(t.Context()); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "interrupt") {
		t.Errorf("while run.sh runs: %v", err)
	}
	if err := act(t, w, "interrupt", ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of run.sh", func() bool { return busy.Busy(context.Background()) == nil })
}
