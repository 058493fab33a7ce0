package api

import "time"

// Volume is storage that outlives instances. A part's volume is made with the
// first instance that holds the part and is handed on from one holder to the
// next; others are made by users.
type Volume struct {
	ID          string      `json:"id"` // unique in the installation, also its name in the cloud
	Application int64       `json:"application"`
	Service     int64       `json:"service"`
	Name        string      `json:"name"`           // where it appears in an instance; users' names are unique in their application
	Part        string      `json:"part,omitempty"` // whose holders get it; empty: a user's
	Cloud       string      `json:"cloud"`
	Bytes       int64       `json:"bytes"`
	Used        int64       `json:"used"`               // bytes, as measured last; 0: not known
	Instance    string      `json:"instance,omitempty"` // that has it, or had it last while it is free
	State       VolumeState `json:"state"`
	Reason      string      `json:"reason,omitempty"`
	Created     time.Time   `json:"created"`
	Since       time.Time   `json:"since"` // when State began
	Snapshots   []Snapshot  `json:"snapshots"`
}

// VolumeState is the condition of a volume.
type VolumeState string

// The states of a volume.
const (
	VolumeAsked    VolumeState = "asked"    // stored, before the cloud was asked
	VolumeFree     VolumeState = "free"     // no instance has it; what it holds is kept
	VolumeAttached VolumeState = "attached" // its instance has it
	VolumeLeaving  VolumeState = "leaving"  // being deleted with what it holds
	VolumeFailed   VolumeState = "error"    // see Reason
)

// Snapshot is what a volume held at one moment.
type Snapshot struct {
	Name    string    `json:"name"`
	Bytes   int64     `json:"bytes"` // that it takes beside the volume; 0: not known
	Created time.Time `json:"created"`
}

// CreateVolume asks for a volume of a service, attached to one of its instances.
type CreateVolume struct {
	Name     string `json:"name"`
	Bytes    int64  `json:"bytes"`
	Instance string `json:"instance,omitempty"` // empty: it stays free
}

// ChangeVolume changes a volume; nil fields stay. Volumes only grow.
type ChangeVolume struct {
	Bytes *int64 `json:"bytes,omitempty"`
}

// AttachVolume gives a free volume to an instance of its service.
type AttachVolume struct {
	Instance string `json:"instance"`
}

// CreateSnapshot asks for a snapshot; the name is made of the time if empty.
type CreateSnapshot struct {
	Name string `json:"name,omitempty"`
}

// Mounted is a volume as an agent half gets it.
type Mounted struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Part  string `json:"part,omitempty"`
	Bytes int64  `json:"bytes"`
	// Path is set by the agent, which has seen that the volume is really there.
	Path string `json:"path,omitempty"`
}
