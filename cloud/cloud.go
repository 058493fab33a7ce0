// Package cloud defines what Nutshell needs from a place that can run
// instances, and the registry of such places. Drivers live one per folder
// below it and import it; it imports none of them.
package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sort"
	"time"
)

// Driver is what Nutshell needs from a place that can run instances.
type Driver interface {
	// Launch starts instances in parallel. It is idempotent in Spec.Name: an
	// instance that exists is returned as it is, started again if it is
	// stopped. It returns what exists, and an error that joins one
	// *LaunchError for each that does not.
	Launch(ctx context.Context, specs []Spec) ([]Instance, error)
	// Terminate ends instances and removes all that belonged to them. Gone
	// already is no error.
	Terminate(ctx context.Context, ids []string) error
	// List returns the instances that bear this installation's tag, running
	// or not.
	List(ctx context.Context) ([]Instance, error)
	// Check says why the cloud would not work here, and what to do.
	Check(ctx context.Context) error
}

// Stopper is implemented by drivers that can stop an instance and keep what
// it holds; Launch with the same name starts it again.
type Stopper interface {
	Stop(ctx context.Context, ids []string) error
}

// Gateway is implemented by local clouds whose instances reach the director
// at an address of this machine. The director must listen there.
type Gateway interface {
	// DirectorAddress makes the address usable and returns it, without a port;
	// empty: one on which the director listens anyway.
	DirectorAddress(ctx context.Context) (string, error)
}

// Layered is implemented by drivers whose instances need a root file system
// made of layers (Spec.Layers). A driver without it runs on the machine's own.
type Layered interface {
	UsesLayers() bool
}

// Mixed is implemented by Layered drivers whose machines may be of several
// architectures. A spec has layers for each (Layers, Foreign).
type Mixed interface {
	// Architectures are those of the machines there are, as Go names them.
	Architectures(ctx context.Context) ([]string, error)
}

// Console is implemented by drivers that keep what an instance printed while
// it booted.
type Console interface {
	BootLog(ctx context.Context, id string) (io.ReadCloser, error)
}

// Slow is implemented by drivers whose instances take longer to start than
// containers do: machines that boot.
type Slow interface {
	// StartTime is how long after its launch an instance may stay silent.
	StartTime() time.Duration
}

// Volumes is implemented by drivers that keep data apart from instances. A
// volume appears in its instance as a directory of its name below the
// directory that the environment variable NUTSHELL_VOLUMES names there: a
// mount point, or a symbolic link. A volume that is not attached leaves
// nothing of that name. Terminate detaches and never deletes.
type Volumes interface {
	// CreateVolume is idempotent in VolumeSpec.Name: one that exists is returned as it is.
	CreateVolume(ctx context.Context, v VolumeSpec) (Volume, error)
	// ListVolumes returns those that bear this installation's tag.
	ListVolumes(ctx context.Context) ([]Volume, error)
	// DeleteVolume removes a volume with its snapshots. Gone already is no
	// error; one that an instance has is ErrInUse.
	DeleteVolume(ctx context.Context, id string) error
	// Attach gives a volume to an instance, running or not. Attached there
	// already is no error; attached elsewhere is ErrInUse.
	Attach(ctx context.Context, volume, instance, name string) error
	// Detach takes it away. Not attached is no error; ErrInUse while programs
	// have files of it open.
	Detach(ctx context.Context, volume string) error
	// GrowVolume makes it at least this large, while it is in use, too.
	GrowVolume(ctx context.Context, id string, bytes int64) error
}

// Snapshots is implemented by drivers whose volumes can be kept as they are at
// one moment. ErrInUse: this one can only while it is detached.
type Snapshots interface {
	Snapshot(ctx context.Context, volume, name string) (Snapshot, error)
	ListSnapshots(ctx context.Context, volume string) ([]Snapshot, error)
	RestoreSnapshot(ctx context.Context, volume, name string) error // detached volumes only
	DeleteSnapshot(ctx context.Context, volume, name string) error  // gone already is no error
}

// VolumeSpec describes one volume to create.
type VolumeSpec struct {
	Name  string // unique in the installation, at most 32 of [a-z0-9-]
	Group string // only instances of this group can have it
	Bytes int64
	Tags  map[string]string
}

// Volume is a volume as the cloud sees it.
type Volume struct {
	ID       string // the cloud's own id; local drivers use the name
	Name     string
	Group    string
	Bytes    int64
	Used     int64  // 0: not known
	Instance string // that has it; empty: none
	Created  time.Time
	Tags     map[string]string
}

// Snapshot is what a volume held at one moment.
type Snapshot struct {
	Name    string
	Bytes   int64 // that it takes beside the volume; 0: not known
	Created time.Time
}

// Mount is a volume that an instance has from its start on.
type Mount struct {
	Volume string // id
	Name   string // of the directory, at most 32 of [A-Za-z0-9_-]
}

// Spec describes one instance to launch.
type Spec struct {
	Name    string              // unique in the installation, at most 32 of [a-z0-9-]
	Group   string              // instances of one group (an application) reach each other, others do not
	Layers  []string            // root file system, lowest first: absolute directories; Layered drivers only
	Context []byte              // what the instance is told, by context.Encode
	Limits  Limits              // zero fields: no limit
	Tags    map[string]string   // kept with the instance
	Volumes []Mount             // attached before it starts; launched again, it has these and no others
	Slot    int                 // of the group on each machine of a cluster, from 1; 0: the driver chooses
	Foreign map[string][]string // Layers for other architectures than this machine's, as Go names them; Mixed drivers only
	Public  []int               // TCP ports that people outside of the cloud shall reach, where it has addresses for that
}

// Limits bound an instance's use of the machine.
type Limits struct {
	MemoryBytes int64
	CPUPercent  int // of one core
	Processes   int
}

// Instance is a container, VM or process group as the cloud sees it.
type Instance struct {
	ID      string // the cloud's own id; local drivers use the name
	Name    string
	Group   string
	Address string // IP, empty while the cloud has not given one
	Public  string // IP by which people outside reach its public ports; empty: Address
	Machine string // id of the machine of a cluster that it runs on; empty: no cluster
	Running bool
	Created time.Time
	Tags    map[string]string
}

// Errors that drivers wrap, so that callers can tell kinds apart.
var (
	ErrQuota       = errors.New("over quota")          // another cloud, or fewer instances
	ErrUnavailable = errors.New("cloud not available") // try again later, or mend what Check says
	ErrInvalid     = errors.New("invalid request")
	ErrInUse       = errors.New("in use") // by an instance or its programs
)

// LaunchError is one instance that could not be launched.
type LaunchError struct {
	Name string
	Err  error
}

// Error names the instance and the cause.
func (e *LaunchError) Error() string { return fmt.Sprintf("launch %s: %v", e.Name, e.Err) }

// Unwrap returns the cause.
func (e *LaunchError) Unwrap() error { return e.Err }

// Config is what every driver gets.
type Config struct {
	Name         string            // of the cloud, "default" unless the user named it
	Installation string            // tag of everything we make; 8 of [a-z0-9]
	Dir          string            // absolute directory of the driver, made by the caller
	Binary       string            // path of the nutshell binary to run in instances
	Ports        []int             // of the director that instances may reach on this machine
	Options      map[string]string // of the driver; unknown keys are errors
	Log          *slog.Logger
}

// New makes a driver. It does not touch the cloud; Check does.
type New func(Config) (Driver, error)

// Registry holds the drivers that main lists.
type Registry struct{ byName map[string]New }

// Register adds a driver under the name that configuration uses.
func (r *Registry) Register(name string, n New) {
	if _, dup := r.byName[name]; dup {
		panic("cloud: two drivers named " + name) // a bug in main.go, not a condition
	}
	if r.byName == nil {
		r.byName = map[string]New{}
	}
	r.byName[name] = n
}

// Open makes the driver named driver, or says which there are.
func (r *Registry) Open(driver string, c Config) (Driver, error) {
	n, ok := r.byName[driver]
	if !ok {
		return nil, fmt.Errorf("%w: no cloud driver %q; there are %v", ErrInvalid, driver, r.Names())
	}
	return n(c)
}

// Names lists the registered drivers, sorted.
func (r *Registry) Names() []string {
	names := make([]string, 0, len(r.byName))
	for n := range r.byName {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}
