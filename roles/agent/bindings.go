package agent

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"

	"nutshell/roles/api"
)

// bindingsVariable tells the user's code where the file of bindings is.
const bindingsVariable = "NUTSHELL_BINDINGS"

// bind writes what siblings offer into a file that the account of the user's
// code can read, and nobody else but us, and names it in the environment.
// Unlike variables, a program that runs can read the file again.
func (a *Agent) bind(c api.AgentConfig) (api.AgentConfig, error) {
	list := c.Bindings
	if list == nil {
		list = []api.Binding{}
	}
	b, err := json.MarshalIndent(list, "", "\t")
	if err != nil {
		return c, err
	}
	path := filepath.Join(a.machine.Dir("etc"), "bindings.json")
	if err := a.writeForCode(path, append(b, '\n')); err != nil {
		return c, &api.Error{Code: api.CodeInternal, Op: "write", Object: path, Err: err}
	}
	env := make([]api.Variable, 0, len(c.Environment)+1)
	for _, v := range c.Environment {
		if v.Name != bindingsVariable { // a stored configuration has it
			env = append(env, v)
		}
	}
	c.Environment = append(env, api.Variable{Name: bindingsVariable, Value: path})
	return c, nil
}

// writeForCode replaces a file at once; it never has an owner or a mode that
// lets others read.
func (a *Agent) writeForCode(path string, b []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b) {
		return nil
	}
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !os.IsNotExist(err) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && a.machine.drops {
		err = f.Chown(a.machine.uid, a.machine.gid)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
