// Package appliance is what a machine needs to be a Nutshell machine: units,
// network, kernel settings and scripts, as they lie on it.
package appliance

import "io/fs"

// Root is a root file system that files are put into: a tree of imagebuild,
// or that of a running machine.
type Root interface {
	Write(name string, content []byte, mode fs.FileMode)
	Mkdir(name string, mode fs.FileMode)
	Symlink(name, target string)
}

// Profile is what a machine is for.
type Profile string

// Profiles.
const (
	Director Profile = "director" // everything in one machine: the OVA. NAT and host-only network, 192.168.56.2
	Backend  Profile = "backend"  // the director of a cluster of nodes, on 172.16.0.0/24
	Node     Profile = "node"     // lends its containers to a director: the SD card
	Instance Profile = "instance" // of a cloud: becomes what the cloud's context says
	Package  Profile = "package"  // the Debian package: no network, no kernel settings beside the modules
)
