package recipe

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Format is a kind of file that an image is made as.
type Format string

// Formats.
const (
	OVA     Format = "ova"     // a virtual machine for VirtualBox and VMware
	QCOW2   Format = "qcow2"   // a disk, compressed, for KVM and clouds
	Raw     Format = "raw"     // a disk as it is, with holes
	LXC     Format = "lxc"     // a container in two files, for LXC, Incus and LXD
	Unified Format = "unified" // a container in one file, for Incus and LXD
	SDCard  Format = "sdcard"  // a card for Raspberry Pis, compressed
)

// Formats lists all formats.
func Formats() []Format { return []Format{OVA, QCOW2, Raw, LXC, Unified, SDCard} }

// Place is where the packages of service kinds are in an image.
type Place string

// Places.
const (
	InRoot   Place = "root"   // installed: the machine itself is an instance
	InLayers Place = "layers" // as layers that the machine's containers are made of
)

// Words is a list that may be written as one word.
type Words []string

// UnmarshalYAML implements yaml.Unmarshaler.
func (w *Words) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		var one string
		if err := n.Decode(&one); err != nil {
			return err
		}
		*w = Words{one}
		return nil
	}
	var list []string
	err := n.Decode(&list)
	*w = list
	return err
}

// Image says what is made of layers. What a recipe leaves out is taken from the
// one it inherits.
type Image struct {
	Formats    []Format `yaml:"formats" json:"formats,omitempty"`
	Profile    string   `yaml:"profile" json:"profile,omitempty"`         // what the machine is for, in words of package appliance
	Services   Words    `yaml:"services" json:"services,omitempty"`       // names of kinds, or "all", or "none"
	ServicesIn Place    `yaml:"services_in" json:"services_in,omitempty"` // where their packages are
	// ServicesArch are the architectures whose layers of services are inside, by
	// Debian's names; none: that of the image. Those of others are for the nodes
	// of a cluster.
	ServicesArch Words    `yaml:"services_arch" json:"services_arch,omitempty"`
	Arch         []string `yaml:"arch" json:"arch,omitempty"`           // Debian's architectures that it can be made for; none: all
	DiskGB       int      `yaml:"disk_gb" json:"disk_gb,omitempty"`     // of the root file system, 2^30 bytes each
	CPUs         int      `yaml:"cpus" json:"cpus,omitempty"`           // of the OVA
	MemoryMB     int      `yaml:"memory_mb" json:"memory_mb,omitempty"` // of the OVA
	Networks     []string `yaml:"networks" json:"networks,omitempty"`   // of the OVA, one adapter each: NAT, HostOnly, Bridged
}

// all and none are the words for Services.
const (
	all  = "all"
	none = "none"
)

var word = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

func (i *Image) check() error {
	if i == nil {
		return nil
	}
	for _, f := range i.Formats {
		if !slices.Contains(Formats(), f) {
			return fmt.Errorf("formats: there is no format %q; there are %v", f, Formats())
		}
	}
	for _, s := range slices.Concat(i.Services, i.ServicesArch, i.Arch) {
		if !word.MatchString(s) {
			return fmt.Errorf("services, services_arch, arch: %q is not a name", s)
		}
	}
	if len(i.Services) > 1 && (slices.Contains(i.Services, all) || slices.Contains(i.Services, none)) {
		return errors.New(`services: "all" and "none" stand alone`)
	}
	for _, n := range i.Networks {
		if !slices.Contains([]string{"NAT", "HostOnly", "Bridged"}, n) {
			return fmt.Errorf("networks: %q is none of NAT, HostOnly, Bridged", n)
		}
	}
	switch {
	case i.Profile != "" && !word.MatchString(i.Profile):
		return fmt.Errorf("profile: %q is not a name", i.Profile)
	case i.ServicesIn != "" && i.ServicesIn != InRoot && i.ServicesIn != InLayers:
		return fmt.Errorf("services_in: %q is neither root nor layers", i.ServicesIn)
	case i.DiskGB < 0 || i.DiskGB > 2000:
		return fmt.Errorf("disk_gb: %d is not between 1 and 2000", i.DiskGB)
	case i.CPUs < 0 || i.CPUs > 64:
		return fmt.Errorf("cpus: %d is not between 1 and 64", i.CPUs)
	case i.MemoryMB != 0 && (i.MemoryMB < 512 || i.MemoryMB > 1<<20):
		return fmt.Errorf("memory_mb: %d is not between 512 and %d", i.MemoryMB, 1<<20)
	}
	return nil
}

// Kinds picks the wanted ones of the service kinds that there are.
func (i Image) Kinds(known []string) ([]string, error) {
	switch {
	case len(i.Services) == 0, i.Services[0] == none:
		return nil, nil
	case i.Services[0] == all:
		return known, nil
	}
	for _, s := range i.Services {
		if !slices.Contains(known, s) {
			return nil, fmt.Errorf("services: there is no service kind %q; there are %s", s, strings.Join(known, ", "))
		}
	}
	return i.Services, nil
}

// Resolve lays what the recipes of a chain say of the image over each other,
// lowest first. False: none says anything, so there are layers only.
func Resolve(chain []Recipe) (Image, bool) {
	var r Image
	found := false
	for _, c := range chain {
		if c.Image == nil {
			continue
		}
		found = true
		r = r.over(*c.Image)
	}
	return r, found && len(r.Formats) > 0
}

// over is r with what above says in place of its own.
func (i Image) over(above Image) Image {
	if above.Formats != nil {
		i.Formats = above.Formats
	}
	if above.Services != nil {
		i.Services = above.Services
	}
	if above.ServicesArch != nil {
		i.ServicesArch = above.ServicesArch
	}
	if above.Arch != nil {
		i.Arch = above.Arch
	}
	if above.Networks != nil {
		i.Networks = above.Networks
	}
	i.Profile, i.ServicesIn = either(above.Profile, i.Profile), either(above.ServicesIn, i.ServicesIn)
	i.DiskGB, i.CPUs, i.MemoryMB = either(above.DiskGB, i.DiskGB), either(above.CPUs, i.CPUs), either(above.MemoryMB, i.MemoryMB)
	return i
}

func either[T comparable](a, b T) T {
	var zero T
	if a != zero {
		return a
	}
	return b
}
