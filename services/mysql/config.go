package mysql

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// config is what the manager half tells an agent half.
type config struct {
	Service  string            `json:"service"` // name of the cluster
	Settings settings          `json:"settings"`
	Members  []member          `json:"members"`            // all database nodes
	Secrets  map[string]string `json:"secrets,omitempty"`  // those that the instance needs
	Node     *nodeConfig       `json:"node,omitempty"`     // nil: it holds no data
	Balancer *balancerConfig   `json:"balancer,omitempty"` // nil: it balances nothing
}

// nodeConfig is for an instance that holds data.
type nodeConfig struct {
	Join   bool     `json:"join"`   // others run a cluster: an empty node may start, and gets a copy
	Solo   bool     `json:"solo"`   // it is the only node, and begins its cluster whenever it starts
	Donors []string `json:"donors"` // whom to ask first for a copy
	// Entries are the addresses of balancers, for which its certificate is good, too.
	Entries []string `json:"entries,omitempty"`
}

// balancerConfig is for an instance that balances.
type balancerConfig struct {
	Peers   []member       `json:"peers"`   // all balancers
	Slots   map[string]int `json:"slots"`   // of nodes, by id, from 1; the same on all balancers
	Drain   []string       `json:"drain"`   // nodes that get no new clients
	Arbiter bool           `json:"arbiter"` // it votes, because the number of nodes is even
}

// member is an instance that others must reach.
type member struct {
	ID      string `json:"id"`
	Address string `json:"address"`
}

func sortMembers(list []member) {
	slices.SortFunc(list, func(a, b member) int { return cmp.Compare(a.ID, b.ID) })
}

// groupAddress lists where replication listens.
func groupAddress(list []member) string {
	all := make([]string, len(list))
	for i, m := range list {
		all[i] = m.Address + ":" + strconv.Itoa(groupPort)
	}
	return strings.Join(all, ",")
}

// membership lies on each volume: which volumes hold the data. Only one who
// has seen all of them may begin a cluster again.
type membership struct {
	Generation int64    `json:"generation"`
	Holders    []string `json:"holders"` // ids of volumes, sorted
	Writer     string   `json:"writer"`  // instance that takes writes
}

// position is how far the data of a node is. Those of one history are compared
// by number.
type position struct {
	History string `json:"history"` // UUID; empty: none
	Number  int64  `json:"number"`  // -1: not known
}

const noHistory = "00000000-0000-0000-0000-000000000000"

// parsePosition reads "uuid:number", with a GTID behind a comma.
func parsePosition(text string) position {
	text, _, _ = strings.Cut(strings.TrimSpace(text), ",")
	history, number, ok := strings.Cut(text, ":")
	n, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || history == noHistory {
		return position{Number: -1}
	}
	return position{history, n}
}

// observation is what an agent half tells of itself.
type observation struct {
	Set      bool           `json:"set"` // it was told what to be
	Node     *nodeState     `json:"node,omitempty"`
	Balancer *balancerState `json:"balancer,omitempty"`
}

// nodeState is how a database node is.
type nodeState struct {
	Volume     string     `json:"volume"`
	Fresh      bool       `json:"fresh"` // it has no data
	Solo       bool       `json:"solo"`
	Membership membership `json:"membership"`
	Process    string     `json:"process"` // its state
	Restarts   int        `json:"restarts"`
	Answers    bool       `json:"answers"`   // SQL
	Connected  bool       `json:"connected"` // to the group, with quorum or without
	Primary    bool       `json:"primary"`   // it is of the part that has quorum
	Synced     bool       `json:"synced"`
	Donor      bool       `json:"donor"` // it gives another its data, and serves meanwhile
	State      string     `json:"state"` // as Galera calls it
	Size       int        `json:"size"`  // of the group, arbitrators counted
	At         position   `json:"at"`
	Copied     int64      `json:"copied"` // bytes of data so far, of a node that joins
	Problem    string     `json:"problem,omitempty"`
	Figures    figures    `json:"figures"`
}

// figures are those of the status table.
type figures struct {
	Queries     float64 `json:"queries"` // per second
	Selects     int64   `json:"selects"` // since its start, as the next ones
	Inserts     int64   `json:"inserts"`
	Updates     int64   `json:"updates"`
	Deletes     int64   `json:"deletes"`
	Connections int     `json:"connections"`
	Running     int     `json:"running"`
	Queue       float64 `json:"queue"`        // mean length of the queue of changes from others
	Queued      int64   `json:"queued"`       // now
	Paused      float64 `json:"paused"`       // share of time that replication stood still to wait for slow nodes
	DataBytes   int64   `json:"data_bytes"`   // used of the volume
	DiskBytes   int64   `json:"volume_bytes"` // its size
	HitRatio    float64 `json:"hit_ratio"`    // of the buffer pool
}

// balancerState is how a balancer is.
type balancerState struct {
	Running bool            `json:"running"`
	Writer  string          `json:"writer"` // node that takes writes
	Up      map[string]bool `json:"up"`     // nodes by id
	Clients map[string]int  `json:"clients"`
	Slots   map[string]int  `json:"slots"`
	Arbiter bool            `json:"arbiter"`
}

// seen tells whether p can be used to begin a cluster.
func (p position) known() bool { return p.History != "" && p.Number >= 0 }
