// Package api is the vocabulary of Nutshell: the things, states, errors and
// permissions that roles speak of. These types are stored, sent and shown as
// they are; there is no second set. It does no I/O, imports the standard
// library only, and no type here ever holds a secret.
package api

import (
	"encoding/json"
	"time"
)

// Application is a named set of services that belongs to a user.
type Application struct {
	ID      int64     `json:"id"`
	Name    string    `json:"name"`
	Owner   string    `json:"owner"`             // user name
	Access  Access    `json:"access"`            // what the asker is to it
	Offered bool      `json:"offered,omitempty"` // its owner wants to hand it over to the asker
	State   State     `json:"state"`
	Desired Goal      `json:"desired"`          // started or stopped
	Cloud   string    `json:"cloud"`            // where its manager runs
	Manager *Instance `json:"manager,omitzero"` // nil while stopped
	Reason  string    `json:"reason"`           // why it is in State, for people
	Created time.Time `json:"created"`
	// Services is filled when one application is asked for.
	Services  []Service `json:"services,omitempty"`
	Operation string    `json:"operation,omitempty"` // id of the operation under way
}

// Access is what a user is to an application. Each includes those before.
type Access string

// What a user can be to an application. An administrator of the installation
// is an owner of everything.
const (
	AccessViewer    Access = "viewer"    // sees everything but secrets
	AccessDeveloper Access = "developer" // changes what runs: code, settings, scale, data
	AccessOwner     Access = "owner"     // also people, deletion and money
)

// Member is somebody who may use an application: its owner, or another whom an
// owner has let in.
type Member struct {
	User    string    `json:"user"` // name
	Name    string    `json:"name"` // first and last, perhaps empty
	Access  Access    `json:"access"`
	Pays    bool      `json:"pays,omitempty"` // it is their application: their credits and quota count
	Since   time.Time `json:"since"`
	By      string    `json:"by,omitempty"`      // who let them in, or changed what they are
	Offered bool      `json:"offered,omitempty"` // the owner wants to hand the application over to them
}

// Goal is what a user asked an application or service to be.
type Goal string

// The two goals.
const (
	GoalStarted Goal = "started"
	GoalStopped Goal = "stopped"
)

// Service is one elastic building block of an application.
type Service struct {
	ID          int64           `json:"id"` // counts from 1 in each application, as in ConPaaS
	Application int64           `json:"application"`
	Name        string          `json:"name"`
	Kind        string          `json:"kind"`
	State       State           `json:"state"`
	Desired     Goal            `json:"desired"`
	Reason      string          `json:"reason"`
	Cloud       string          `json:"cloud"`
	Parts       map[string]int  `json:"parts"`                    // wanted count of each part
	Settings    json.RawMessage `json:"settings" schema:"object"` // the kind's settings, complete, without secrets
	Version     string          `json:"version,omitempty"`        // wanted code version
	AutoDeploy  bool            `json:"auto_deploy"`              // a push activates the version it makes
	Keep        int             `json:"keep_versions"`            // newest code versions that are kept, 0: all
	Revision    int64           `json:"revision"`                 // grows with each change of settings, environment, script or parts
	Bind        []string        `json:"bind"`                     // names of the siblings whose offers it gets; "*": all
	Serving     string          `json:"serving,omitempty"`        // code version that was observed to serve
	URLs        []string        `json:"urls"`                     // where people reach it now
	Operation   string          `json:"operation,omitempty"`      // id of the operation under way
	Created     time.Time       `json:"created"`
	Since       time.Time       `json:"since"` // when State began
	Instances   []Instance      `json:"instances,omitempty"`
}

// Instance is one container, VM or process group in which an agent or a
// manager runs.
type Instance struct {
	ID          string        `json:"id"` // unique in the installation, also its name in the cloud
	Application int64         `json:"application"`
	Service     int64         `json:"service"` // 0: the application's manager
	Cloud       string        `json:"cloud"`
	Address     string        `json:"address"` // IP, empty until the cloud tells
	Public      string        `json:"public,omitempty" doc:"IP by which people outside of the cloud reach its public ports; none: address"`
	Node        string        `json:"node,omitempty" doc:"name of the node it runs on, where its cloud has nodes"`
	Parts       []string      `json:"parts"` // what it holds, or is becoming
	State       InstanceState `json:"state"`
	Reason      string        `json:"reason,omitempty"`
	Created     time.Time     `json:"created"`
	Figures     *Figures      `json:"figures,omitempty"`
	// Weights are shares of the requests by part; 100 where a part is missing.
	Weights map[string]int `json:"weights,omitempty"`
}

// Figures are an instance's measured use of resources.
type Figures struct {
	At          time.Time `json:"at"`
	CPUPercent  float64   `json:"cpu_percent"`  // of one core
	MemoryBytes int64     `json:"memory_bytes"` // resident memory of all its processes
	MemoryLimit int64     `json:"memory_limit"` // bytes, 0: none
	DiskBytes   int64     `json:"disk_bytes"`   // used by its own layer or directory
	Processes   int       `json:"processes"`
}

// Process is one daemon that an agent supervises.
type Process struct {
	Name     string    `json:"name"`
	State    string    `json:"state"` // starting, running, backoff, stopped, failed
	PID      int       `json:"pid"`
	Restarts int       `json:"restarts"`
	Since    time.Time `json:"since"`
	Message  string    `json:"message,omitempty"` // last exit, for people
}

// Log is one log that can be read from an instance.
type Log struct {
	Name        string `json:"name"` // also the file name asked for
	Description string `json:"description"`
	Bytes       int64  `json:"bytes"`
}

// Change is one line of a history of states.
type Change struct {
	Time   time.Time `json:"time"`
	State  State     `json:"state"`
	Reason string    `json:"reason"`
}

// CodeVersion is one version of a service's code, stored once by content.
type CodeVersion struct {
	ID          string    `json:"id"` // code-xxxxxx, git-<7 hex> or code-default
	Filename    string    `json:"filename"`
	Description string    `json:"description"`
	Format      string    `json:"format"` // tar, tar.gz, tar.bz2, tar.xz, tar.zst, zip
	Strip       string    `json:"strip"`  // leading directory that is taken off at unpacking, or empty
	Bytes       int64     `json:"bytes"`
	SHA256      string    `json:"sha256"`
	Files       int       `json:"files"`
	By          string    `json:"by"`
	Created     time.Time `json:"created"`
	Current     bool      `json:"current"` // it is the service's wanted version
}

// Operation is one piece of long work, stored before it begins.
type Operation struct {
	ID          string          `json:"id"`
	Kind        string          `json:"kind"` // application.start, service.scale, …
	Title       string          `json:"title"`
	Actor       string          `json:"actor"`
	Application int64           `json:"application"`
	Service     int64           `json:"service"` // 0: the application itself
	State       OperationState  `json:"state"`
	Steps       []Step          `json:"steps"`
	Progress    float64         `json:"progress"` // 0 to 1
	Request     json.RawMessage `json:"request,omitempty"`
	Error       *Error          `json:"error,omitempty"`
	Undone      string          `json:"undone,omitempty"` // what was put back after a failure, for people
	Cancelling  bool            `json:"cancelling,omitempty"`
	Cancellable bool            `json:"cancellable"`
	RetryOf     string          `json:"retry_of,omitempty"`
	Parent      string          `json:"parent,omitempty"` // the operation that this one is a part of
	Created     time.Time       `json:"created"`
	Started     *time.Time      `json:"started,omitempty"`
	Ended       *time.Time      `json:"ended,omitempty"`
	Deadline    time.Time       `json:"deadline"`
	// ExpectedMS is how long such operations usually take, in milliseconds; 0:
	// there were none yet.
	ExpectedMS int64 `json:"expected_ms,omitempty"`
}

// Step is one step of an operation.
type Step struct {
	Name    string         `json:"name"`
	State   OperationState `json:"state"`
	Detail  string         `json:"detail,omitempty"`
	Started *time.Time     `json:"started,omitempty"`
	Ended   *time.Time     `json:"ended,omitempty"`
}

// Event tells that something changed. Data is the thing as it is now.
type Event struct {
	ID          int64           `json:"id"` // grows; the SSE id
	Time        time.Time       `json:"time"`
	Type        string          `json:"type"` // application, service, instance, operation, version, site, volume, backup, user; ".deleted" behind it when gone
	Application int64           `json:"application"`
	Service     int64           `json:"service"`
	Object      string          `json:"object"` // id of the thing
	Data        json.RawMessage `json:"data"`
}

// User is a person who may sign in.
type User struct {
	ID          int64     `json:"id"`
	Name        string    `json:"name"`
	Email       string    `json:"email"`
	FirstName   string    `json:"first_name"`
	LastName    string    `json:"last_name"`
	Affiliation string    `json:"affiliation"`
	Admin       bool      `json:"admin"`
	Credit      int64     `json:"credit"`
	Created     time.Time `json:"created"`
	// SecondFactor says that a code is asked for beside the password.
	SecondFactor bool `json:"second_factor"`
}

// Token is an API token; its secret is shown once, when it is made.
type Token struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Scope   string    `json:"scope"` // read or write
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Used    time.Time `json:"used,omitzero"`
}

// AuditEntry is one change that somebody asked for.
type AuditEntry struct {
	ID     int64     `json:"id"`
	Time   time.Time `json:"time"`
	Actor  string    `json:"actor"`
	From   string    `json:"from"` // remote address
	Action string    `json:"action"`
	Object string    `json:"object"`
	Result string    `json:"result"` // ok, or the error's code
}

// Cloud is a place that can run instances, as the director sees it.
type Cloud struct {
	Name      string   `json:"name"`
	Driver    string   `json:"driver"`
	Default   bool     `json:"default"`
	Ready     bool     `json:"ready"`
	Problem   string   `json:"problem,omitempty"` // why it is not ready, and what to do
	Warnings  []string `json:"warnings,omitempty" doc:"what is wrong with it and does not keep it from running instances"`
	Instances int      `json:"instances"`
}
