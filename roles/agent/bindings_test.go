package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"nutshell/roles/api"
)

func TestBindingsFile(t *testing.T) {
	m, err := newMachine(Config{Dir: t.TempDir(), Address: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{machine: m}
	path := filepath.Join(m.Dir("etc"), "bindings.json")
	given := api.AgentConfig{Environment: []api.Variable{{Name: "MODE", Value: "x"}, {Name: bindingsVariable, Value: "/elsewhere"}},
		Bindings: []api.Binding{{Service: "db", Kind: "mysql", Values: map[string]string{"password": "p\"w"}}}}
	for range 2 { // a second time nothing changes
		c, err := a.bind(given)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Environment) != 2 || c.Environment[1] != (api.Variable{Name: bindingsVariable, Value: path}) {
			t.Errorf("got environment %+v", c.Environment)
		}
		given = c
	}
	b, err := os.ReadFile(path)
	var got []api.Binding
	if err == nil {
		err = json.Unmarshal(b, &got)
	}
	if err != nil || len(got) != 1 || got[0].Values["password"] != "p\"w" {
		t.Errorf("the file has %s, %v", b, err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o400 {
		t.Fatalf("got mode %v, %v", st.Mode(), err)
	}
	if owner := int(st.Sys().(*syscall.Stat_t).Uid); m.drops && owner != m.uid {
		t.Errorf("it belongs to %d, want %d", owner, m.uid)
	}
	if c, err := a.bind(api.AgentConfig{}); err != nil || len(c.Environment) != 1 {
		t.Errorf("without bindings: got %+v, %v", c.Environment, err)
	}
	if b, _ := os.ReadFile(path); string(b) != "[]\n" {
		t.Errorf("without bindings the file has %q", b)
	}
}
