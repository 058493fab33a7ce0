package api

import "time"

// NodeFacts are what a machine says of itself. All of it is the machine's
// word, and hostile until somebody has approved it.
type NodeFacts struct {
	Name       string   `json:"name,omitempty"` // that it would like to have
	Serial     string   `json:"serial,omitempty"`
	Model      string   `json:"model,omitempty"`
	Arch       string   `json:"arch,omitempty"`
	Version    string   `json:"version,omitempty"`
	Port       int      `json:"port,omitempty"` // on which it answers the director; 0: NodePort
	CPUs       int      `json:"cpus,omitempty"`
	Memory     int64    `json:"memory,omitempty"`      // bytes
	MemoryFree int64    `json:"memory_free,omitempty"` // bytes
	Disk       int64    `json:"disk,omitempty"`        // bytes
	DiskFree   int64    `json:"disk_free,omitempty"`   // bytes
	Load       float64  `json:"load,omitempty"`
	Heat       float64  `json:"heat,omitempty"`      // of the processor in degrees Celsius; 0: no sensor
	HeatMost   float64  `json:"heat_most,omitempty"` // at which the kernel switches the machine off; 0: unknown
	PowerLow   bool     `json:"power_low,omitempty"` // the supply's voltage was too low within the last hour, as a Raspberry Pi's firmware measures it
	Problem    string   `json:"problem,omitempty"`   // why it cannot run containers
	Layers     []string `json:"layers,omitempty"`    // digests
	Networks   []string `json:"networks,omitempty"`  // that it has addresses in, containers' left out

	// With heartbeats, and not kept:
	Clock time.Time `json:"clock,omitzero"` // of the machine
	Boot  string    `json:"boot,omitempty"` // another one each time that the node's process begins
}

// NodeJoin asks to lend a machine. The first time there is no challenge yet;
// the answer has one, and Proof is its signature by the key of the CSR.
type NodeJoin struct {
	CSR       string    `json:"csr"`
	Challenge string    `json:"challenge,omitempty"`
	Proof     []byte    `json:"proof,omitempty"`
	Facts     NodeFacts `json:"facts"`
}

// NodeJoined answers NodeJoin: a challenge for the next time, and the
// certificate once somebody has approved the machine.
type NodeJoined struct {
	ID        string    `json:"id"`
	Challenge string    `json:"challenge"`
	Waiting   bool      `json:"waiting"` // an administrator sees it and has not decided
	Enrolled  *Enrolled `json:"enrolled,omitempty"`
	Now       time.Time `json:"now"`
}

// NodeOrders answers a node's heartbeat.
type NodeOrders struct {
	Now    time.Time  `json:"now"`
	Name   string     `json:"name"`
	State  NodeState  `json:"state"`
	Subnet string     `json:"subnet"` // of its containers
	Peers  []NodePeer `json:"peers"`  // the other nodes, sorted by address
	Ports  []int      `json:"ports"`  // of the director's machine that containers may reach
}

// NodePeer is another node, as its neighbours must know it.
type NodePeer struct {
	Address string `json:"address"`
	Subnet  string `json:"subnet"`
}

// DirectorAnswer is what a director says to a node that asks a network for
// one. Where it is follows from where the answer comes from.
type DirectorAnswer struct {
	Nutshell     string `json:"nutshell"` // "director"
	Port         int    `json:"port"`
	CASHA256     string `json:"ca_sha256"`
	Installation string `json:"installation"`
	Nonce        string `json:"nonce"` // of the question
}
