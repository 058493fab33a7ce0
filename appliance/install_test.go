package appliance

import (
	"io/fs"
	"net/netip"
	"path"
	"strings"
	"testing"

	"nutshell/roles/api"
)

// root keeps what is put into it.
type root struct {
	content map[string]string
	mode    map[string]fs.FileMode
	link    map[string]string
}

func (r root) Write(name string, content []byte, mode fs.FileMode) {
	r.content[name], r.mode[name] = string(content), mode
}
func (r root) Mkdir(string, fs.FileMode)   {}
func (r root) Symlink(name, target string) { r.link[name] = target }

func installed(t *testing.T, o Options) root {
	t.Helper()
	r := root{map[string]string{}, map[string]fs.FileMode{}, map[string]string{}}
	if err := Install(r, o); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEachProfile(t *testing.T) {
	for _, p := range Profiles() {
		t.Run(string(p), func(t *testing.T) {
			r := installed(t, Options{Profile: p})
			for link, target := range r.link {
				if !strings.Contains(link, ".wants/") || !strings.HasPrefix(path.Base(target), "nutshell") {
					continue
				}
				if r.content[target] == "" || path.Base(link) != path.Base(target) {
					t.Errorf("%s leads to %s, which is not among the files", link, target)
				}
			}
			for name, content := range r.content {
				if strings.HasSuffix(name, ".service") && !strings.Contains(content, "ExecStart=") {
					t.Errorf("%s starts nothing", name)
				}
				if strings.HasPrefix(content, "#!/bin/") != (r.mode[name] == 0o755) {
					t.Errorf("%s has mode %v", name, r.mode[name])
				}
			}
			for _, must := range []string{"/usr/lib/systemd/system/nutshell.service", "/etc/modules-load.d/nutshell.conf"} {
				if r.content[must] == "" {
					t.Errorf("%s is missing", must)
				}
			}
			if _, has := r.content["/etc/systemd/network/20-nutshell.network"]; p == Package && (has || r.link["/etc/systemd/system/default.target"] != "") {
				t.Error("a package changes the machine's network or target")
			}
		})
	}
	if err := Install(root{}, Options{Profile: "laptop"}); err == nil {
		t.Error("a profile that does not exist is installed")
	}
}

func TestNoSecretIsInside(t *testing.T) {
	for _, p := range Profiles() {
		for name := range installed(t, Options{Profile: p}).content {
			for _, bad := range []string{"shadow", "ssh_host_", "machine-id", "authorized_keys", "ca/"} {
				if strings.Contains(name, bad) {
					t.Errorf("%s: %s must be made by each machine for itself", p, name)
				}
			}
		}
	}
}

func TestNetworkOfTheDirector(t *testing.T) {
	r := installed(t, Options{Profile: Director, Hostname: "lab"})
	for name, want := range map[string]string{
		"/etc/hostname": "lab\n",
		"/etc/systemd/network/20-nutshell.network": "Name=eth1\n\n[Network]\nAddress=192.168.56.2/24\nConfigureWithoutCarrier=yes\n",
		"/etc/nutshell/nutshell.d/10-network.yaml": "      subnet: 10.200.0.0/16\n      public: eth1 192.168.56.10-192.168.56.99\n",
		FactsPath: `"address": "192.168.56.2/24"`,
	} {
		if !strings.Contains(r.content[name], want) {
			t.Errorf("%s is\n%s\nwithout\n%s", name, r.content[name], want)
		}
	}
	if b := installed(t, Options{Profile: Backend}).content["/etc/nutshell/nutshell.d/10-network.yaml"]; !strings.Contains(b, "driver: nodes") || !strings.Contains(b, "172.16.0.225-172.16.0.254") {
		t.Errorf("the backend's clouds are\n%s", b)
	}
}

func TestAddressesThatCannotBe(t *testing.T) {
	nat := []Used{{netip.MustParsePrefix("10.0.2.15/24"), "eth0"}}
	for _, c := range []struct {
		name, want string
		change     func(*Network)
	}{
		{"as-delivered", "", func(*Network) {}},
		{"another-network", "", func(n *Network) {
			n.Address, n.First, n.Last = netip.MustParsePrefix("192.168.60.2/24"), netip.MustParseAddr("192.168.60.10"), netip.MustParseAddr("192.168.60.20")
		}},
		{"pool-outside", "lies outside", func(n *Network) { n.Address = netip.MustParsePrefix("192.168.60.2/24") }},
		{"pool-backwards", "first and a last", func(n *Network) { n.First, n.Last = n.Last, n.First }},
		{"pool-holds-machine", "machine's own", func(n *Network) { n.First = n.Address.Addr() }},
		{"pool-holds-broadcast", "whole network", func(n *Network) { n.Last = netip.MustParseAddr("192.168.56.255") }},
		{"machine-is-network", "not an address of a machine", func(n *Network) { n.Address = netip.MustParsePrefix("192.168.56.0/24") }},
		{"gateway-in-pool", "the gateway", func(n *Network) { n.Gateway = n.First }},
		{"gateway-outside", "not another machine", func(n *Network) { n.Gateway = netip.MustParseAddr("10.1.1.1") }},
		{"containers-overlap", "overlap", func(n *Network) { n.Containers = netip.MustParsePrefix("192.168.0.0/16") }},
		{"containers-small", "/22 or larger", func(n *Network) { n.Containers = netip.MustParsePrefix("10.9.0.0/24") }},
		{"containers-are-nat", "eth0", func(n *Network) { n.Containers = netip.MustParsePrefix("10.0.0.0/16") }},
		{"network-is-nat", "eth0", func(n *Network) {
			n.Address, n.First, n.Last = netip.MustParsePrefix("10.0.2.2/24"), netip.MustParseAddr("10.0.2.30"), netip.MustParseAddr("10.0.2.40")
		}},
		{"no-interface", "not a network interface", func(n *Network) { n.Interface = "" }},
		{"lines-in-interface", "not a network interface", func(n *Network) { n.Interface = "eth1\n[Route]" }},
		{"lines-in-name-server", "name server", func(n *Network) { n.Servers = []netip.Addr{netip.MustParseAddr("fe80::1%a\nGateway=10.0.0.9")} }},
		{"yaml-in-name", "not a host name", func(n *Network) { n.Names = []string{"a]\nlisten: 0.0.0.0:1 #"} }},
		{"ipv6", "IPv4", func(n *Network) { n.Address = netip.MustParsePrefix("fd00::2/64") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, _ := Plan(Director)
			c.change(&n)
			err := n.Check(nat)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || api.AsError(err).Hint == ""):
				t.Errorf("got %v, want %q and a hint", err, c.want)
			}
		})
	}
}
