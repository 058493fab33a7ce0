package api

import (
	"encoding/json"
	"time"
)

// Desired is everything a manager must know, as the director wants it. The
// manager asks for it with a long poll and loses nothing when it is killed.
type Desired struct {
	Revision    int64            `json:"revision"` // grows with every change
	Application Application      `json:"application"`
	Services    []DesiredService `json:"services"`
}

// DesiredService is one service as the director wants it. A service that is
// to be deleted comes with Desired stopped and Deleting set.
type DesiredService struct {
	Service   Service      `json:"service"`
	Instances []Instance   `json:"instances"`
	Code      *CodeVersion `json:"code,omitempty"`     // the wanted version
	Previous  *CodeVersion `json:"previous,omitempty"` // the version that served before it
	Operation *Operation   `json:"operation,omitempty"`
	Script    string       `json:"script,omitempty"`
	// Environment comes with the values of secrets.
	Environment []Variable `json:"environment,omitempty"`
	Remove      []string   `json:"remove,omitempty"`   // instances the user wants to go first
	Front       []string   `json:"front,omitempty"`    // addresses from which the director's edge asks; only they may tell of a client's address
	Retry       int        `json:"retry"`              // grows when a user asks to try again out of ERROR
	Deleting    bool       `json:"deleting,omitempty"` // data and instances go; it will not come back
	Served      bool       `json:"served,omitempty"`   // it was RUNNING once, so what its volumes hold is somebody's
	// Secrets has the values of the kind's secrets by name.
	Secrets map[string]string `json:"secrets,omitempty"`
	Volumes []Volume          `json:"volumes,omitempty"`
	// Patience is how many seconds instances may take from their launch to their
	// first answer, by cloud. Clouds that are not in it are as quick as containers.
	Patience map[string]int `json:"patience,omitempty"`
}

// LaunchRequest asks the director for instances of one service. Names come
// from the manager and make the request idempotent.
type LaunchRequest struct {
	Service   int64         `json:"service"`
	Instances []LaunchEntry `json:"instances"`
}

// LaunchEntry is one instance asked for.
type LaunchEntry struct {
	ID    string   `json:"id"` // made by NewInstanceID
	Parts []string `json:"parts"`
}

// VolumesRequest asks the director for the volumes that an instance's parts
// need, attached and as large as the settings say.
type VolumesRequest struct {
	Service  int64    `json:"service"`
	Instance string   `json:"instance"`
	Parts    []string `json:"parts"`
}

// LaunchResult tells which came up and what went wrong with the rest.
type LaunchResult struct {
	Instances []Instance     `json:"instances"`
	Error     *Error         `json:"error,omitempty"`
	Patience  map[string]int `json:"patience,omitempty"` // as in DesiredService
}

// Report is what a manager observed of one service.
type Report struct {
	Service   int64            `json:"service"`
	State     State            `json:"state"`
	Reason    string           `json:"reason"`
	Serving   string           `json:"serving"` // code version
	URLs      []string         `json:"urls"`
	Instances []InstanceReport `json:"instances"`
}

// InstanceReport is what a manager observed of one instance.
type InstanceReport struct {
	ID      string        `json:"id"`
	State   InstanceState `json:"state"`
	Reason  string        `json:"reason,omitempty"`
	Parts   []string      `json:"parts"`
	Figures *Figures      `json:"figures,omitempty"`
}

// OperationReport changes an operation that a manager carries out.
type OperationReport struct {
	State    OperationState `json:"state"`
	Steps    []Step         `json:"steps"`
	Progress float64        `json:"progress"`
	Error    *Error         `json:"error,omitempty"`
	Undone   string         `json:"undone,omitempty"`
}

// OperationReply tells the manager whether a user wants the operation
// cancelled.
type OperationReply struct {
	Cancelling bool `json:"cancelling"`
}

// Enrol asks for a certificate with a single-use secret and a CSR whose key
// never left the asker.
type Enrol struct {
	Secret string `json:"secret"`
	CSR    string `json:"csr"` // PEM
}

// Enrolled is the answer to Enrol and to a renewal.
type Enrolled struct {
	Chain    string    `json:"chain"`    // PEM, leaf first
	Identity string    `json:"identity"` // the leaf's URI SAN
	Expires  time.Time `json:"expires"`
	Now      time.Time `json:"now"` // the director's clock
}

// AgentConfig is what a manager tells an agent to be. It is complete and
// idempotent: sending it twice changes nothing.
type AgentConfig struct {
	Kind     string        `json:"kind"`
	Instance Instance      `json:"instance"` // with the parts it must hold
	Code     []CodeVersion `json:"code"`     // versions to keep unpacked, wanted first
	Script   string        `json:"script,omitempty"`
	// Environment is for the user's code, by the kind's means.
	Environment []Variable      `json:"environment,omitempty"`
	Volumes     []Mounted       `json:"volumes,omitempty"`
	Bindings    []Binding       `json:"bindings,omitempty"` // of siblings; their variables are in Environment, too
	Config      json.RawMessage `json:"config"`             // of the kind
}

// AgentStatus is what an agent observed of its instance.
type AgentStatus struct {
	Instance  string          `json:"instance"`
	Booted    time.Time       `json:"booted"` // when this agent process began
	Ready     bool            `json:"ready"`  // all processes that should run do
	Problem   string          `json:"problem,omitempty"`
	Processes []Process       `json:"processes"`
	Logs      []Log           `json:"logs"`
	Figures   Figures         `json:"figures"`
	Kind      json.RawMessage `json:"kind,omitempty"` // the kind's own observation
}
