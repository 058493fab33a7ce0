package roles

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nutshell/cloud/process"
	"nutshell/roles/doctor"
	"nutshell/services/helloworld"
)

// program is a nutshell with one cloud and one kind, and what it printed.
func program(t *testing.T, args ...string) (out string, exit int) {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("NUTSHELL_DIRECTOR", "")
	var b bytes.Buffer
	p := &Program{Stdout: &b, Stderr: &b}
	p.Clouds.Register("process", process.New)
	p.Services.Register(helloworld.Kind())
	exit = p.Main(t.Context(), append([]string{"nutshell"}, args...))
	return b.String(), exit
}

func TestDoctorOfADirectorToBe(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "nutshell.yaml")
	if err := os.WriteFile(config, []byte("listen: [\"127.0.0.1:0\"]\nclouds: [{name: here, driver: process}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	look := func() (string, int) {
		return program(t, "doctor", "--config", config, "--data-dir", filepath.Join(dir, "data"), "-o", "json")
	}
	out, exit := look()
	for i := 0; i < 10 && strings.Contains(out, "no answer within"); i++ { // as it says of a very busy machine
		out, exit = look()
	}
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	levels := map[string]doctor.Level{}
	for _, f := range r.Findings {
		levels[f.Check] = f.Level
	}
	for _, check := range []string{"configuration", "data", "database", "authority", "cloud-here", "port 127.0.0.1:0"} {
		if levels[check] != doctor.OK {
			t.Errorf("%s: %q in %s", check, levels[check], out)
		}
	}
	if want := map[doctor.Level]int{doctor.OK: 0, doctor.Skip: 0, doctor.Warn: 1, doctor.Fail: 2}[r.Worst]; exit != want || r.For != doctor.Director {
		t.Errorf("exit %d for %s, worst %s", exit, r.For, r.Worst)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".doctor*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDoctorTellsWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "nutshell.yaml")
	if err := os.WriteFile(config, []byte("lisen: [x]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, exit := program(t, "doctor", "--config", config)
	if exit != 2 || !strings.Contains(out, "FAIL") || !strings.Contains(out, "lisen") {
		t.Errorf("exit %d: %s", exit, out)
	}
	if out, exit = program(t, "doctor", "--for", "king"); exit != 2 || !strings.Contains(out, "there is no such machine") {
		t.Errorf("exit %d: %s", exit, out)
	}
}

func TestDoctorMends(t *testing.T) {
	dir := t.TempDir()
	config, data := filepath.Join(dir, "nutshell.yaml"), filepath.Join(dir, "data")
	secret := filepath.Join(data, "client.yaml")
	err := errors.Join(os.WriteFile(config, []byte("listen: [\"127.0.0.1:0\"]\nclouds: [{name: here, driver: process}]\n"), 0o600), os.Mkdir(data, 0o711), os.WriteFile(secret, nil, 0o600), os.Chmod(secret, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	mode := func() os.FileMode {
		st, err := os.Stat(secret)
		if err != nil {
			t.Fatal(err)
		}
		return st.Mode().Perm()
	}
	args := []string{"doctor", "--for", "instance", "--config", config, "--data-dir", data, "--fix"}
	if out, exit := program(t, args...); exit != 2 || !strings.Contains(out, "--yes would do this:\n  chmod go= "+secret) || mode() != 0o644 {
		t.Errorf("exit %d, mode %v: %s", exit, mode(), out)
	}
	if out, _ := program(t, append(args, "--yes")...); !strings.Contains(out, "done  chmod go= "+secret) || mode() != 0o600 {
		t.Errorf("mode %v: %s", mode(), out)
	}
	if out, _ := program(t, args...); !strings.Contains(out, "nothing that it can mend") {
		t.Errorf("again: %s", out)
	}
}

func TestVersionAndBill(t *testing.T) {
	out, exit := program(t, "--version", "-o", "json")
	var facts struct{ Version, Go, SHA256 string }
	if err := json.Unmarshal([]byte(out), &facts); err != nil || exit != 0 || facts.Go == "" || len(facts.SHA256) != 64 {
		t.Errorf("%d, %v: %s", exit, err, out)
	}
	if out, exit = program(t, "version"); exit != 0 || !strings.Contains(out, "built without") {
		t.Errorf("%d: %s", exit, out)
	}
	if out, exit = program(t, "sbom"); exit != 0 || !strings.Contains(out, `"bomFormat": "CycloneDX"`) {
		t.Errorf("%d: %.300s", exit, out)
	}
}
