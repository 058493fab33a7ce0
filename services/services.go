// Package services defines what a service kind is: a description and two
// halves, one in the application's manager and one in each instance's agent,
// and the registry of kinds. Kinds live one per folder below it. A service
// does not know its cloud, nor that there is a database.
package services

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sort"

	"nutshell/roles/api"
)

// Kind is one plug-in: everything that Nutshell knows of a kind of service.
type Kind struct {
	Name, Title, Summary string
	Parts                []Part
	Packages             []string // Debian packages of its image layer
	// ExtraPackages are those that a service's settings ask for beside Packages;
	// may be nil. Instances that were launched before they were asked for lack them.
	ExtraPackages func(settings json.RawMessage) ([]string, error)
	Settings      any // pointer to a struct with defaults in it and tags, see Describe; nil: no settings
	Actions       []api.Action
	Code          api.CodeRules
	DefaultCode   map[string]string        // files of the version code-default; the file name ends in .sh: executable
	Check         func(settings any) error // beyond what the tags say; gets a pointer to a filled copy of Settings; may be nil
	Manager       func(Host) Manager
	Agent         func(Machine) Agent
	Tools         map[string]Tool // daemons that come with the kind, see Process.Tool
	Offers        []api.Offer     // what its services offer to siblings; the manager half is an Offerer
	Secrets       []Secret
	Volumes       bool // users may make volumes for its instances
	// Backups reads from settings when a service is backed up on its own; nil:
	// it cannot be backed up. The halves then know the streams StreamBackup,
	// StreamRestore, StreamVerify, StreamLog and StreamReplay.
	Backups func(settings json.RawMessage) (api.BackupPolicy, error)
}

// Secret is a random text that each service of a kind has for itself, made
// with the service, kept sealed, and told to its own manager half only.
type Secret struct {
	Name, Title, Help string
	Own               bool                     // users may have it shown once, and change it
	Check             func(value string) error // what users may set; may be nil
}

// VolumeRule says that each holder of a part has a volume.
type VolumeRule struct {
	Name, Title string
	// Bytes is the size of new ones by the service's settings. Those that
	// exist grow to it.
	Bytes func(settings json.RawMessage) int64
}

// Part is one part of a kind.
type Part struct {
	Name, Title, Summary string
	Default, Min, Max    int
	Fixed                bool // users cannot change its count
	Ports                []api.Port
	To                   []string    // parts of its kind that it passes requests to
	Volume               *VolumeRule // nil: none
}

// Manager is the service's brain, inside the application's manager. Every
// method is idempotent and may be called again after a crash at any point.
type Manager interface {
	// Plan is pure: which instance holds which parts, what to launch, what leaves.
	// It moves as little as it can. prefer lists instances that should leave first.
	Plan(have []api.Instance, want map[string]int, prefer []string) (Layout, error)
	// Converge makes all instances serve l with no interruption. All of
	// l.Have answer. Instances in l.Leave still run and must get no new work
	// when it returns.
	Converge(ctx context.Context, l Layout) error
	// Drain moves data and connections off first; an error keeps the instances.
	Drain(ctx context.Context, leaving []api.Instance) error
	// Observe tells what is really so.
	Observe(ctx context.Context) (Health, error)
	// Act runs one of the kind's actions.
	Act(ctx context.Context, action string, args map[string]string) (api.ActResult, error)
}

// Layout says who holds what.
type Layout struct {
	Have   []api.Instance // stay; Parts are the parts wanted
	Launch [][]string     // parts of each instance to start; empty when Converge gets it
	Leave  []api.Instance // Parts are the parts they hold now
}

// Health is what a manager half observed.
type Health struct {
	Ready   bool
	Problem string   // why not, for people; of a service that is ready: what is not as it should be
	Serving string   // id of the code version that serves
	URLs    []string // where people reach the service
}

// Host is all that a manager half may ask of the manager that runs it.
type Host interface {
	// Service is the service as the director wants it now: settings, parts, version.
	Service() api.DesiredService
	// Instances are those that exist, with the parts they were last told to hold.
	Instances() []api.Instance
	// Apply sends the kind's config to an agent and returns when the agent
	// has made it so. Parts and code versions go with it.
	Apply(ctx context.Context, instance string, parts []string, code []api.CodeVersion, config any) error
	// Status asks an agent what it observes.
	Status(ctx context.Context, instance string) (api.AgentStatus, error)
	// Call calls a method of the agent half; result may be nil.
	Call(ctx context.Context, instance, method string, args, result any) error
	// Step names what is being done, for the operation under way.
	Step(name string)
	// Port is the real number of a port in this cloud (see Machine.Port).
	Port(instance string, port int) int
	// Log is the service's log on the manager.
	Log() *slog.Logger
}

// Agent does one instance's share.
type Agent interface {
	// Apply is idempotent: render, validate, start or reload. An error leaves
	// the old configuration serving.
	Apply(ctx context.Context, c api.AgentConfig) error
	// Observe returns the kind's own observation, sent as AgentStatus.Kind; an
	// error makes the instance not ready.
	Observe(ctx context.Context) (any, error)
	// Call answers Host.Call.
	Call(ctx context.Context, method string, args json.RawMessage) (any, error)
	// Close is called when the instance stops in order, before its processes
	// are stopped.
	Close(ctx context.Context) error
}

// Measurer is an agent half that counts what its daemons do. Measure is asked
// every few seconds and must be quick; counters begin at any value and only
// grow while the instance lives.
type Measurer interface {
	Measure(ctx context.Context) ([]api.Sample, error)
}

// Offerer is a manager half whose service offers values to its siblings.
type Offerer interface {
	// Offers is asked after each Observe and must be quick; empty while there
	// is nothing to reach. When it changes, siblings are configured anew.
	Offers() map[string]string
}

// Busy is a manager half that can say why nothing may be taken from its
// instances now, such as a volume.
type Busy interface {
	// Busy is nil when nothing is in the way, else a conflict that says what to do.
	Busy(ctx context.Context) error
}

// Streams between the director and the agents of a service, beside those of
// actions, which bear the action's name.
const (
	StreamBackup  = "backup"  // gives a copy of the data; its position is where changes after it begin
	StreamRestore = "restore" // takes such a copy, in the place of the data; alone
	StreamVerify  = "verify"  // takes such a copy and tries it beside the data; the result's text is what it found
	StreamLog     = "log"     // gives the changes after args["after"], a position
	StreamReplay  = "replay"  // takes such changes, and repeats them up to args["until"], a time in RFC 3339; alone
)

// StreamPlan is what a manager half makes of the wish for a stream.
type StreamPlan struct {
	Instance string // whose agent half takes or gives it
	// Alone says that the service's loop rests until the stream has ended: the
	// instances are not as they should be meanwhile.
	Alone bool
}

// Streamer is a manager half that lets data stream from and to its agents.
type Streamer interface {
	// Stream chooses the instance and prepares the service. Nothing changes in
	// it when it returns an error.
	Stream(ctx context.Context, name string, args map[string]string) (StreamPlan, error)
	// Streamed is called when a stream that was Alone has ended, also after a
	// failure; the loop then configures the service anew.
	Streamed(ctx context.Context, name string, plan StreamPlan, failed error) error
}

// StreamAgent is an agent half at the other end. A connection that breaks is
// an error of r or w: what came before it is not the whole.
type StreamAgent interface {
	Receive(ctx context.Context, name string, args map[string]string, r io.Reader) (api.ActResult, error)
	// Send answers the stream's position, if the kind has such.
	Send(ctx context.Context, name string, args map[string]string, w io.Writer) (position string, err error)
}

// Machine gives an agent half its directories, address, ports and processes.
type Machine interface {
	// Dir makes and returns a directory of the instance: etc, run, log, tmp, data;
	// sockets is run by a name that is short enough for sockets of up to 50 bytes.
	Dir(name string) string
	// Address is the instance's IP.
	Address() string
	// Port is the number to listen on for a port of the description: the same
	// in containers; in the process cloud, ports below 1024 are shifted by 20000.
	Port(port int) int
	// Program finds a program of a Debian package, or says which package is missing.
	Program(name, debianPackage string) (string, error)
	// Code is the directory of an unpacked code version that the config named.
	// Its base name begins with the version's id.
	Code(version string) (string, error)
	// User is the unprivileged account for user code: name, uid and gid; ok is
	// false where the agent itself is unprivileged and everything runs as it.
	User() (name string, uid, gid int, ok bool)
	// Supervisor runs the instance's daemons.
	Supervisor() Supervisor
	// Log is the agent's log.
	Log() *slog.Logger
}

// Supervisor keeps child processes running.
type Supervisor interface {
	// Ensure starts p, or leaves it if the same is running, or restarts it if
	// its command, environment or Revision changed. It returns when the process
	// runs and p.Ready (if any) passed, or when the context ends.
	Ensure(ctx context.Context, p Process) error
	// Signal sends a signal by name (HUP, USR2, QUIT) to a running process.
	Signal(name, signal string) error
	// Stop stops a process in order: p.Stop signal, grace, then KILL, with all
	// its children. Not running is no error.
	Stop(ctx context.Context, name string) error
	// Run runs a command to its end in its own process group, its output
	// going to the named log, and returns the exit status.
	Run(ctx context.Context, p Process) (exit int, err error)
	// Processes lists what is supervised.
	Processes() []api.Process
	// AddLog makes a file readable as one of the instance's logs and rotates it.
	AddLog(name, description, path string)
}

// Process describes a daemon (Ensure) or a command (Run).
type Process struct {
	Name     string
	Argv     []string // Argv[0] is an absolute path
	Tool     string   // instead of a program: a tool by KIND/NAME, whose arguments are Argv
	Sockets  []Socket // inherited from descriptor 3 on
	Env      []string // complete environment; nil: PATH, HOME, LANG only
	Dir      string
	User     bool                        // run as Machine.User
	Log      string                      // name of the log its output goes to; default Name
	Describe string                      // of that log
	Stop     string                      // signal for an orderly stop, default TERM
	Grace    int                         // seconds before KILL, default 10
	Revision string                      // changing it restarts the process
	Ready    func(context.Context) error // polled until nil after the start
}

// Socket is a Unix socket that the supervisor listens on for a process. It
// stays open while the process is started again, so that clients wait for a
// moment instead of being refused.
type Socket struct {
	Path string // at most 103 bytes
	User bool   // Machine.User may connect, too; else only the agent's own account
}

// Tool is a daemon that is this program itself, so that nothing else must be
// installed. It ends when its context does.
type Tool func(ctx context.Context, t ToolHost) error

// ToolHost is what a tool gets.
type ToolHost struct {
	Args   []string
	Log    *slog.Logger
	Server *tls.Config // lets in instances of the same service only
	Client *tls.Config // trusts instances of the same service only
	Files  func(n int) *os.File
}

// Socket is the n-th of Process.Sockets.
func (t ToolHost) Socket(n int) (net.Listener, error) {
	f := t.Files(n)
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("socket %d is not inherited: %w", n, err)
	}
	return l, f.Close()
}

// Registry holds the kinds that main lists.
type Registry struct{ kinds []Kind }

// Register adds a kind.
func (r *Registry) Register(k Kind) {
	for _, o := range r.kinds {
		if o.Name == k.Name {
			panic("services: two kinds named " + k.Name) // a bug in main.go, not a condition
		}
	}
	r.kinds = append(r.kinds, k)
	sort.Slice(r.kinds, func(i, j int) bool { return r.kinds[i].Name < r.kinds[j].Name })
}

// Get returns the kind of that name, or an error that lists the kinds.
func (r *Registry) Get(name string) (Kind, error) {
	for _, k := range r.kinds {
		if k.Name == name {
			return k, nil
		}
	}
	return Kind{}, &api.Error{Code: api.CodeInvalid, Object: "service kind " + api.Shorten(name), Message: "there is no such kind", Hint: "one of: " + r.names()}
}

// Kinds lists all kinds, sorted by name.
func (r *Registry) Kinds() []Kind { return r.kinds }

func (r *Registry) names() string {
	s := ""
	for i, k := range r.kinds {
		if i > 0 {
			s += ", "
		}
		s += k.Name
	}
	return s
}
