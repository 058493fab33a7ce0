package api

import "time"

// NodeState is what has become of a machine that wants to lend its containers.
type NodeState string

// States of a node.
const (
	NodeWaiting  NodeState = "waiting"  // it asks to join, and nobody has approved it yet
	NodeReady    NodeState = "ready"    // it gets instances
	NodeCordoned NodeState = "cordoned" // it keeps its instances and gets no new ones
	NodeDraining NodeState = "draining" // its instances are being replaced elsewhere
	NodeLost     NodeState = "lost"     // it does not answer, and its instances are replaced elsewhere
)

// Words are all states.
func (NodeState) Words() []string {
	return []string{string(NodeWaiting), string(NodeReady), string(NodeCordoned), string(NodeDraining), string(NodeLost)}
}

// Node is a physical machine that lends its containers to the director.
type Node struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	State       NodeState `json:"state"`
	Reason      string    `json:"reason,omitempty"` // why it is lost, or what is wrong with it
	Warnings    []string  `json:"warnings,omitempty" doc:"what is wrong with it and does not keep it from running instances"`
	Serial      string    `json:"serial" doc:"number that the machine's maker gave it"`
	Model       string    `json:"model"`
	Fingerprint string    `json:"fingerprint" doc:"SHA-256 of its public key; the node's own screen shows the same"`
	Address     string    `json:"address"`
	Subnet      string    `json:"subnet,omitempty" doc:"of its containers; none while it waits"`
	Arch        string    `json:"arch"`
	Version     string    `json:"version"`
	CPUs        int       `json:"cpus"`
	Memory      int64     `json:"memory" doc:"bytes"`
	MemoryFree  int64     `json:"memory_free" doc:"bytes that no program uses"`
	Disk        int64     `json:"disk" doc:"bytes of the file system that holds its instances"`
	DiskFree    int64     `json:"disk_free" doc:"bytes"`
	Load        float64   `json:"load" doc:"mean number of runnable processes over a minute"`
	Heat        float64   `json:"heat,omitempty" doc:"of the processor in degrees Celsius; none where the machine has no sensor"`
	HeatMost    float64   `json:"heat_most,omitempty" doc:"at which the machine switches itself off, in degrees Celsius"`
	PowerLow    bool      `json:"power_low,omitempty" doc:"the voltage of its supply was too low within the last hour, as a Raspberry Pi measures it"`
	Instances   int       `json:"instances"`
	Replaces    string    `json:"replaces,omitempty" doc:"id of a lost node with the same serial number, whose place a machine that waits can take"`
	Layers      []string  `json:"layers" doc:"digests of the image layers that it has"`
	Joined      time.Time `json:"joined" doc:"when it asked first"`
	Seen        time.Time `json:"seen"`
}

// ApproveNode lets a node join. Who gives a fingerprint approves only the
// machine whose screen showed it.
type ApproveNode struct {
	Name        string `json:"name,omitempty" doc:"that people call it by; the model and the end of the serial number otherwise"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Replace     string `json:"replace,omitempty" doc:"id of the lost node whose name and network it gets, and which is removed: what replaces says, or nothing"`
}
