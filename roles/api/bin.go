package api

import "time"

// Kinds of things in the bin.
const (
	BinnedApplication = "application"
	BinnedService     = "service"
	BinnedVersion     = "version"
	BinnedVolume      = "volume"
)

// Binned is something that was deleted and can be brought back until its time
// is up.
type Binned struct {
	ID              string    `json:"id"`
	Kind            string    `json:"kind"` // application, service, version, volume
	Name            string    `json:"name"` // what it was called
	Application     int64     `json:"application"`
	ApplicationName string    `json:"application_name"`
	Service         int64     `json:"service,omitempty"` // 0: of an application
	ServiceName     string    `json:"service_name,omitempty"`
	Object          string    `json:"object,omitempty"` // id of the version or volume
	Deleted         time.Time `json:"deleted"`
	By              string    `json:"by"`
	Until           time.Time `json:"until"` // then it is gone for good
	Bytes           int64     `json:"bytes"` // of its volumes and code
	Holds           []Held    `json:"holds"`
	// In is the entry that has to be restored first: its application or service.
	In string `json:"in,omitempty"`
}

// Held is one sort of thing that an entry of the bin holds.
type Held struct {
	What  string   `json:"what"` // service, version, volume, site, variable, secret, script, repository, backup
	Count int      `json:"count"`
	Names []string `json:"names,omitempty"` // the first few
	Bytes int64    `json:"bytes,omitempty"`
}

// Restored tells what came back from the bin, and what of it is not as it was.
type Restored struct {
	Kind        string   `json:"kind"`
	Name        string   `json:"name"` // another than before where that was taken
	Application int64    `json:"application"`
	Service     int64    `json:"service,omitempty"`
	Object      string   `json:"object,omitempty"`
	Notes       []string `json:"notes"`
}
