package api

// ManifestCheck is what a manifest would make.
type ManifestCheck struct {
	Application string            `json:"application"` // the name it would get
	Services    []ManifestService `json:"services"`
	Credits     int               `json:"credits"` // per hour, manager included
	Missing     []string          `json:"missing"` // files that it names and that must be sent beside it
	Notes       []string          `json:"notes"`   // what has no effect, for people
}

// ManifestService is one service that a manifest would make.
type ManifestService struct {
	Name    string         `json:"name"`
	Kind    string         `json:"kind"`
	Parts   map[string]int `json:"parts"`
	Started bool           `json:"started"`
}
