package web

import (
	"encoding/json"
	"fmt"
	"strings"

	"nutshell/roles/api"
	"nutshell/services"
)

// Configuration is the answer to a kind's get_…_config, as ConPaaS gave it:
// the code version, and the settings under the given key.
func (m *Manager) Configuration(kind services.Kind, key string) (api.ActResult, error) {
	d := m.Host.Service()
	var all map[string]json.RawMessage
	if err := json.Unmarshal(d.Service.Settings, &all); err != nil {
		return api.ActResult{}, fmt.Errorf("read settings: %w", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "codeVersionId = %s\n", d.Service.Version)
	for _, s := range kind.Describe().Settings {
		fmt.Fprintf(&b, "%s = %s\n", s.Name, strings.Trim(string(all[s.Name]), `"`))
	}
	result, err := json.Marshal(map[string]any{"codeVersionId": d.Service.Version, key: d.Service.Settings})
	return api.ActResult{Text: strings.TrimSpace(b.String()), Result: result}, err
}
