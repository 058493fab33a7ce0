package cloud

import (
	"context"
	"net/netip"
)

// Machine is one computer of a cluster, as a driver that spreads instances
// over machines must know it.
type Machine struct {
	ID       string       // of [a-z0-9-], at most 32
	Name     string       // for people
	Address  netip.Addr   // on the network that machines and director share
	Subnet   netip.Prefix // of its containers
	Up       bool         // false only when it was declared lost: its instances are launched elsewhere
	Silent   bool         // it should have been heard by now: it may hang, or its cable be out
	Full     bool         // its disk is: instances may not fit
	Cordoned bool         // it keeps what it has and gets nothing new
	Arch     string       // as Go names it; empty: that of the director's machine
	CPUs     int
	Memory   int64 // bytes
	Free     int64 // bytes of memory that no program uses
}

// Machines is who knows the machines of a cluster: the director.
type Machines interface {
	// Machines returns those that were approved, sorted by id.
	Machines(ctx context.Context) ([]Machine, error)
	// Slot is the number that a group has on each machine: see Spec.Slot.
	Slot(ctx context.Context, group string) (int, error)
	// Call asks the machine's node. The body and the answer are JSON. It takes
	// as long as ctx lets it, and an error of it means that nothing is known of
	// what became of the request.
	Call(ctx context.Context, machine, method, path string, in, out any) error
}

// Clustered is implemented by drivers whose instances run on machines that
// joined the director.
type Clustered interface {
	// Use is called once, before all else.
	Use(machines Machines)
}

// Linked is implemented by drivers of one machine that can be part of a
// cluster: groups keep to the slots they are told (Spec.Slot), and reach their
// own on other machines.
type Linked interface {
	// Link says which subnet is this machine's and what the other machines
	// are. It is called again when that changes, and now and then: it is
	// idempotent, and mends what went with a network that was gone for a while.
	Link(ctx context.Context, own netip.Prefix, peers []Peer) error
}

// Peer is another machine of the cluster.
type Peer struct {
	Address netip.Addr   // by which it is reached
	Subnet  netip.Prefix // of its containers; zero: the director's own machine
	Ports   []int        // of the director's machine that instances may reach; none: all
}
