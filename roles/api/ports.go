package api

import "net/netip"

// Ports that roles listen on. All are above 1024, so they are the same in
// every cloud.
const (
	DirectorPort = 5555
	AgentPort    = 5556
	ManagerPort  = 5557
	NodePort     = 5558
	FindPort     = 5555 // UDP: where a director answers nodes that look for one
)

// RealPort is the port number to use at an instance's address for a port of a
// kind's description. Instances of the process cloud live on loopback
// addresses without privileges, so there ports below 1024 are shifted by 20000.
func RealPort(address string, port int) int {
	if a, err := netip.ParseAddr(address); err == nil && a.IsLoopback() && port < 1024 {
		return port + 20000
	}
	return port
}
