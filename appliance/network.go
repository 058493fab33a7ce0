package appliance

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"text/template"

	"nutshell/roles/api"
)

// FactsPath is where a machine of ours says what it is.
const FactsPath = "/etc/nutshell/appliance.json"

// Facts are what a machine knows about itself.
type Facts struct {
	Profile Profile  `json:"profile"`
	Network *Network `json:"network,omitempty"` // of machines with addresses of their own
}

// Network is the network on which an appliance and its instances are reached.
type Network struct {
	Interface  string       `json:"interface"`
	Address    netip.Prefix `json:"address"`           // of the machine, with the length of its network
	Gateway    netip.Addr   `json:"gateway,omitzero"`  // of published appliances; else the way out is another interface's
	First      netip.Addr   `json:"first"`             // of the instances' addresses
	Last       netip.Addr   `json:"last"`              // of the instances' addresses
	Containers netip.Prefix `json:"containers"`        // network behind the machine, a /16 or larger than /22
	Names      []string     `json:"names,omitempty"`   // under which people reach it, for its certificate
	Servers    []netip.Addr `json:"servers,omitempty"` // that resolve names
}

// Used is a network that is taken, and by what.
type Used struct {
	Prefix netip.Prefix
	By     string // such as: eth0, the way to the Internet
}

// File is one file of a machine.
type File struct {
	Path    string
	Content []byte
}

// Plan is the addresses with which a profile begins: those of ConPaaS's
// Nutshell, and of its Raspberry Pi cluster.
func Plan(p Profile) (Network, bool) {
	switch p {
	case Director:
		return Network{Interface: "eth1", Address: netip.MustParsePrefix("192.168.56.2/24"), First: netip.MustParseAddr("192.168.56.10"), Last: netip.MustParseAddr("192.168.56.99"),
			Containers: netip.MustParsePrefix("10.200.0.0/16")}, true
	case Backend:
		return Network{Interface: "eth1", Address: netip.MustParsePrefix("172.16.0.1/24"), First: netip.MustParseAddr("172.16.0.225"), Last: netip.MustParseAddr("172.16.0.254"),
			Containers: netip.MustParsePrefix("10.200.0.0/16")}, true
	default:
		return Network{}, false
	}
}

var (
	//go:embed network.tmpl
	networkText string
	//go:embed clouds.tmpl
	cloudsText string
)

// Files are what makes a machine have these addresses.
func (n Network) Files(p Profile) []File {
	render := func(text string) []byte {
		var b bytes.Buffer
		t := template.Must(template.New("").Parse(text)) // embedded, and tested
		if err := t.Execute(&b, map[string]any{"Profile": p, "N": n, "Names": append([]string{n.Address.Addr().String()}, n.Names...)}); err != nil {
			panic("appliance: " + err.Error())
		}
		return b.Bytes()
	}
	return []File{{"/etc/systemd/network/20-nutshell.network", render(networkText)}, {"/etc/nutshell/nutshell.d/10-network.yaml", render(cloudsText)}}
}

// What is written into files of others has no blanks, quotes and ends of lines.
var (
	interfaceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.@-]{0,14}$`)
	hostName      = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?$`)
)

// Check says why these addresses cannot be, alone or beside networks that are
// taken. Whatever it refuses would cut the machine or its instances off.
func (n Network) Check(used []Used) error {
	wrong := func(hint, format string, args ...any) error {
		return &api.Error{Code: api.CodeInvalid, Op: "use addresses", Object: n.String(), Message: fmt.Sprintf(format, args...), Hint: hint}
	}
	own, net := n.Address.Addr(), n.Address.Masked()
	switch {
	case !interfaceName.MatchString(n.Interface):
		return wrong("name one that `ip link` shows", "%q is not a network interface", n.Interface)
	case !own.Is4() || n.Address.Bits() < 8 || n.Address.Bits() > 29:
		return wrong("such as 192.168.56.2/24", "the machine's address is an IPv4 address with a network of /8 to /29")
	case !n.First.Is4() || !n.Last.Is4() || n.Last.Less(n.First):
		return wrong("such as 192.168.56.10-192.168.56.99", "the range of the instances is a first and a last IPv4 address")
	case own == net.Addr() || own == last(net):
		return wrong("choose another in "+net.String(), "%s is not an address of a machine but of the whole network", own)
	case !net.Contains(n.First) || !net.Contains(n.Last):
		return wrong("choose the range within "+net.String(), "the instances' range %s-%s lies outside of the network %s", n.First, n.Last, net)
	case n.First == net.Addr() || n.Last == last(net):
		return wrong("leave out the first and last address", "the instances' range holds an address of the whole network")
	case n.within(own):
		return wrong("let the range begin behind it", "the instances' range holds the machine's own address %s", own)
	case n.Gateway.IsValid() && (!net.Contains(n.Gateway) || n.Gateway == own):
		return wrong("it is the router's address, such as "+net.Addr().Next().String(), "the gateway %s is not another machine of %s", n.Gateway, net)
	case n.Gateway.IsValid() && n.within(n.Gateway):
		return wrong("leave it out of the range", "the instances' range holds the gateway %s", n.Gateway)
	case !n.Containers.Addr().Is4() || n.Containers.Bits() > 22 || !n.Containers.Addr().IsPrivate():
		return wrong("such as 10.200.0.0/16", "the containers' network is a private one of /22 or larger")
	case n.Containers.Overlaps(net):
		return wrong("choose another for one of them", "the containers' network %s and %s overlap", n.Containers, net)
	}
	for _, s := range n.Servers {
		if !s.IsValid() || s.Zone() != "" && !interfaceName.MatchString(s.Zone()) {
			return wrong("such as 192.168.56.1", "%q is not the address of a name server", s)
		}
	}
	for _, name := range n.Names {
		if !hostName.MatchString(name) {
			return wrong("such as nutshell.example.org", "%.80q is not a host name", name)
		}
	}
	for _, u := range used {
		switch {
		case u.Prefix.Masked().Overlaps(net):
			return wrong("choose another network, or change the other one first", "%s overlaps %s of %s", net, u.Prefix.Masked(), u.By)
		case u.Prefix.Masked().Overlaps(n.Containers):
			return wrong("choose another network for containers", "the containers' network %s overlaps %s of %s", n.Containers, u.Prefix.Masked(), u.By)
		}
	}
	return nil
}

// String is the addresses in one line.
func (n Network) String() string {
	return fmt.Sprintf("%s on %s, instances %s-%s", n.Address, n.Interface, n.First, n.Last)
}

// within reports whether the instances' range holds an address.
func (n Network) within(a netip.Addr) bool { return !a.Less(n.First) && !n.Last.Less(a) }

// Equal reports whether two machines would be reached alike.
func (n Network) Equal(o Network) bool {
	return n.String() == o.String() && n.Gateway == o.Gateway && n.Containers == o.Containers && slices.Equal(n.Names, o.Names) && slices.Equal(n.Servers, o.Servers)
}

// last is the highest address of a network.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}
