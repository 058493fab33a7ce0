// Package order is what the driver and its helper program say to each other:
// one JSON document in, one out. The driver is pure Go; the helper is cgo on
// liblxc and lives for one order only.
package order

// Descriptors that the driver passes to "start", beside the standard three.
const (
	UsersFD = 3 // the user namespace whose ids the instance gets, or /dev/null
	LockFD  = 4 // held while the helper works: see Start.
	MountFD = 5 // the mounts of Start.Volumes, from here on
)

// Start asks the helper to put the root file system together, in a mount
// namespace of its own, and to start the container in it. The driver's lock
// file is held by the helper too, so that a director that is killed and comes
// back at once does not start the same container beside it.
type Start struct {
	Container
	Root   string   `json:"root"`   // where the root file system is mounted; its parent is covered by a tmpfs
	Lowers []string `json:"lowers"` // lowest first
	Binary string   `json:"binary"` // becomes /usr/bin/nutshell
	Owner  int      `json:"owner"`  // host id of the container's root; 0: no user namespace
	Files  []File   `json:"files"`
	// Volumes are names of directories below Media, one for each descriptor
	// from MountFD on.
	Volumes []string `json:"volumes,omitempty"`
}

// Media is where volumes appear in an instance. A directory of the same name
// lies beside the root file system, in the mount namespace of the container's
// monitor; what is mounted there later appears here too.
const Media = "media"

// Container names a container.
type Container struct {
	Name string `json:"name"`
	// Path is what liblxc takes for the directory of all containers; the
	// container's root must be able to get there. It becomes part of the name
	// of the container's command socket, and nothing is kept there.
	Path string `json:"path"`
	Dir  string `json:"dir"` // of the instance: config, lxc.log, upper, work
}

// File is written into the root file system before the start.
type File struct {
	Path string `json:"path"` // relative to the root
	Mode uint32 `json:"mode"`
	Data []byte `json:"data"`
}

// Attach asks the helper to run a command in a container, with the helper's
// own standard streams. The order comes as an argument.
type Attach struct {
	Container
	Args []string `json:"args"`
}

// Answer is what the helper prints.
type Answer struct {
	Error string `json:"error,omitempty"`
	// Unmapped says that Error is this kernel's or file system's refusal to map
	// the layers' owners: without user namespaces it may work.
	Unmapped bool   `json:"unmapped,omitempty"`
	State    string `json:"state,omitempty"` // RUNNING, STOPPED, …
	InitPID  int    `json:"init_pid,omitempty"`
	Version  string `json:"version,omitempty"` // of liblxc
}
