package context

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Machine is what a cloud says of a machine beside the context: its name, who
// may sign in, and its addresses where the network gives none. All of it was
// checked; what cannot be is left out.
type Machine struct {
	Hostname string
	Keys     []string // lines of authorized_keys, without options
	Networks []Network
}

// Network is one interface with fixed addresses.
type Network struct {
	MAC       string // "": the one named Interface
	Interface string
	Addresses []netip.Prefix
	Gateways  []netip.Addr
	Servers   []netip.Addr
}

// most bounds lists of what a cloud says.
const most = 64

// Machine returns what the first place says that speaks of the machine, and
// where that is. The metadata service is asked once.
func (f Finder) Machine(ctx context.Context) (m Machine, where string, err error) {
	err = errNothing
	disks := f.disks()
	for _, d := range drives {
		device, ok := disks[d.label]
		if !ok {
			continue
		}
		if err = f.mounted(device, func(read reader) error { m, err = d.machine(read); return err }); err == nil {
			return m.clean(), "disk " + d.label, nil
		}
		if f.Said != nil {
			f.Said("disk "+d.label, err)
		}
	}
	if f.Metadata == "" {
		return m, "", err
	}
	m, err = f.metadataMachine(ctx)
	return m.clean(), f.Metadata, err
}

// metadataMachine asks as OpenStack's service is asked, then as EC2's.
func (f Finder) metadataMachine(ctx context.Context) (m Machine, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	header, err := f.token(ctx)
	if err != nil {
		return m, err
	}
	ask := func(path string) ([]byte, error) { return f.ask(ctx, http.MethodGet, path, header) }
	if m, err = openStack(func(name string) ([]byte, error) { return ask("/" + name) }); err == nil || !errors.Is(err, errNothing) {
		m.Networks = nil // the network that led there is good
		return m, err
	}
	name, err := ask("/latest/meta-data/local-hostname")
	if err != nil && !errors.Is(err, errNothing) {
		return m, err
	}
	m.Hostname = string(name)
	list, err := ask("/latest/meta-data/public-keys/")
	if errors.Is(err, errNothing) && m.Hostname != "" {
		return m, nil // a machine that was started without a key
	}
	if err != nil {
		return m, err
	}
	for _, line := range strings.Fields(string(list)) {
		n, _, _ := strings.Cut(line, "=")
		if _, err := strconv.Atoi(n); err != nil || len(m.Keys) == most {
			continue
		}
		key, err := ask("/latest/meta-data/public-keys/" + n + "/openssh-key")
		if err != nil {
			return m, err
		}
		m.Keys = append(m.Keys, string(key))
	}
	return m, nil
}

// reader reads a file of a disk or a service.
type reader func(name string) ([]byte, error)

// openStack reads a config drive.
func openStack(read reader) (m Machine, err error) {
	b, err := read("openstack/latest/meta_data.json")
	if err != nil {
		return m, missing(err)
	}
	var meta struct {
		Hostname string            `json:"hostname"`
		Keys     map[string]string `json:"public_keys"`
	}
	if err := json.Unmarshal(b, &meta); err != nil {
		return m, fmt.Errorf("meta_data.json: %w", err)
	}
	m.Hostname = meta.Hostname
	for _, k := range meta.Keys {
		m.Keys = append(m.Keys, k)
	}
	slices.Sort(m.Keys)
	if b, err = read("openstack/latest/network_data.json"); err == nil {
		m.Networks, err = openStackNetworks(b)
	}
	if errors.Is(missing(err), errNothing) {
		err = nil
	}
	return m, err
}

// openStackNetworks are the networks whose addresses no DHCP gives.
func openStackNetworks(b []byte) ([]Network, error) {
	type service struct{ Type, Address string }
	var data struct {
		Links []struct {
			ID  string `json:"id"`
			MAC string `json:"ethernet_mac_address"`
		} `json:"links"`
		Networks []struct {
			Type    string `json:"type"`
			Link    string `json:"link"`
			Address string `json:"ip_address"`
			Mask    string `json:"netmask"`
			Routes  []struct{ Network, Netmask, Gateway string }
		} `json:"networks"`
		Services []service `json:"services"`
	}
	if err := json.Unmarshal(b, &data); err != nil {
		return nil, fmt.Errorf("network_data.json: %w", err)
	}
	var list []Network
	for _, n := range data.Networks {
		if n.Type != "ipv4" && n.Type != "ipv6" {
			continue // ipv4_dhcp and the like
		}
		var w Network
		for _, l := range data.Links {
			if l.ID == n.Link {
				w.MAC = l.MAC
			}
		}
		if p, ok := prefix(n.Address, n.Mask); ok {
			w.Addresses = []netip.Prefix{p}
		}
		for _, r := range n.Routes {
			if (r.Network == "0.0.0.0" && r.Netmask == "0.0.0.0") || r.Network == "::" {
				w.Gateways = addresses(r.Gateway)
			}
		}
		for _, s := range data.Services {
			if s.Type == "dns" {
				w.Servers = append(w.Servers, addresses(s.Address)...)
			}
		}
		list = append(list, w)
	}
	return list, nil
}

// noCloud reads meta-data of a disk for cloud-init without a cloud.
func noCloud(read reader) (m Machine, err error) {
	b, err := read("meta-data")
	if err != nil {
		return m, missing(err)
	}
	var meta struct {
		Hostname string    `yaml:"local-hostname"`
		Other    string    `yaml:"hostname"`
		Keys     yaml.Node `yaml:"public-keys"`
	}
	if err := yaml.Unmarshal(b, &meta); err != nil {
		return m, fmt.Errorf("meta-data: %w", err)
	}
	if m.Hostname = meta.Hostname; m.Hostname == "" {
		m.Hostname = meta.Other
	}
	m.Keys = scalars(&meta.Keys)
	return m, nil
}

// scalars are all values of a list, of a map, or the one value.
func scalars(n *yaml.Node) (list []string) {
	switch n.Kind { //nolint:exhaustive // the others have no values
	case yaml.ScalarNode:
		return strings.Split(n.Value, "\n")
	case yaml.SequenceNode:
		for _, c := range n.Content {
			list = append(list, scalars(c)...)
		}
	case yaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			list = append(list, scalars(n.Content[i])...)
		}
	}
	return list
}

// openNebula reads context.sh, which also has the addresses: its networks need
// no DHCP.
func openNebula(read reader) (m Machine, err error) {
	b, err := read("context.sh")
	if err != nil {
		return m, missing(err)
	}
	v := variables(b)
	first := func(names ...string) string {
		for _, n := range names {
			if v[n] != "" {
				return v[n]
			}
		}
		return ""
	}
	m.Hostname = first("SET_HOSTNAME", "HOSTNAME")
	if e := first("EC2_PUBLIC_KEY", "SSH_PUBLIC_KEY"); e != "" {
		m.Keys = strings.Split(e, "\n")
	}
	for i := range 16 {
		eth := "ETH" + strconv.Itoa(i) + "_"
		w := Network{MAC: v[eth+"MAC"], Interface: "eth" + strconv.Itoa(i)}
		address, mask, gateway, servers := v[eth+"IP"], v[eth+"MASK"], v[eth+"GATEWAY"], first(eth+"DNS", "DNS")
		if i == 0 && address == "" { // as ConPaaS named them
			address, mask, gateway, servers = v["IP_PUBLIC"], v["NETMASK"], v["IP_GATEWAY"], v["NAMESERVER"]
		}
		if mask == "" {
			mask = "255.255.255.0" // OpenNebula's own scripts take this
		}
		p, ok := prefix(address, mask)
		if !ok || v[eth+"METHOD"] != "" && v[eth+"METHOD"] != "static" {
			continue
		}
		w.Addresses = []netip.Prefix{p}
		w.Gateways = addresses(gateway)
		w.Servers = addresses(servers)
		m.Networks = append(m.Networks, w)
	}
	return m, nil
}

// addresses reads those that are some.
func addresses(text string) (list []netip.Addr) {
	for _, word := range strings.Fields(text) {
		if a, err := netip.ParseAddr(word); err == nil && a.Zone() == "" {
			list = append(list, a)
		}
	}
	return list
}

// prefix reads an address that has its length behind it, or a mask beside it.
func prefix(address, mask string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(address); err == nil {
		return p, true
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}, false
	}
	m := net.ParseIP(mask)
	if v4 := m.To4(); v4 != nil && a.Is4() {
		m = v4
	}
	bits, all := net.IPMask(m).Size()
	if all != a.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, bits), true
}

func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errNothing
	}
	return err
}

var (
	nameOfMachine = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	nameOfDevice  = regexp.MustCompile(`^[a-z0-9]{1,15}$`)
)

// clean keeps what can be used as it is: these are a stranger's words, and end
// up in files of sshd and systemd.
func (m Machine) clean() (c Machine) {
	name, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(m.Hostname)), ".")
	if nameOfMachine.MatchString(name) {
		c.Hostname = name
	}
	for _, k := range m.Keys {
		if k = strings.TrimSpace(k); publicKey(k) && len(c.Keys) < most && !slices.Contains(c.Keys, k) {
			c.Keys = append(c.Keys, k)
		}
	}
	for _, n := range m.Networks {
		if mac, err := net.ParseMAC(n.MAC); err == nil {
			n.MAC, n.Interface = mac.String(), ""
		} else if n.MAC = ""; !nameOfDevice.MatchString(n.Interface) {
			continue
		}
		i := slices.IndexFunc(c.Networks, func(have Network) bool { return have.MAC == n.MAC && have.Interface == n.Interface })
		switch {
		case len(n.Addresses) == 0 || len(c.Networks) == most:
		case i < 0:
			c.Networks = append(c.Networks, n)
		default: // IPv4 and IPv6 of one interface
			have := &c.Networks[i]
			have.Addresses, have.Gateways = append(have.Addresses, n.Addresses...), append(have.Gateways, n.Gateways...)
		}
	}
	return c
}

// publicKey tells a line of authorized_keys that has no options.
func publicKey(line string) bool {
	words := strings.Fields(line)
	if len(words) < 2 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return false
	}
	b, err := base64.StdEncoding.DecodeString(words[1])
	return err == nil && len(b) >= 30 && strings.HasPrefix(string(b[4:]), words[0]) &&
		(strings.HasPrefix(words[0], "ssh-") || strings.HasPrefix(words[0], "ecdsa-") || strings.HasPrefix(words[0], "sk-"))
}
