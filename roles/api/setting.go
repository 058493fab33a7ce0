package api

import "time"

// Kinds of values of settings.
const (
	SettingText     = "text"
	SettingNumber   = "number"
	SettingSize     = "size"     // bytes, such as 512M
	SettingDuration = "duration" // such as 168h
	SettingChoice   = "choice"
)

// SystemSetting is one effective value of the installation's configuration.
type SystemSetting struct {
	Key     string   `json:"key"`
	Value   string   `json:"value"`  // secrets are masked
	Origin  string   `json:"origin"` // default, here, or the file, variable or flag that says so
	Default string   `json:"default"`
	Help    string   `json:"help,omitempty"`
	Kind    string   `json:"kind"`
	Choices []string `json:"choices,omitempty"`
	// Changeable is set where an administrator may change it here.
	Changeable bool       `json:"changeable"`
	By         string     `json:"by,omitempty"` // who changed it here
	Changed    *time.Time `json:"changed,omitempty"`
}

// ChangeSystem changes settings of the installation. An empty value puts
// back the default.
type ChangeSystem struct {
	Set map[string]string `json:"set"`
}
