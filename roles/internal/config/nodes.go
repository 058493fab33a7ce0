package config

import (
	"fmt"
	"net/netip"

	"nutshell/roles/api"
)

// checkSubnets wants a network with room for groups of instances: each gets a
// /24 of it.
func checkSubnets(s string) error {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() || !p.Addr().IsPrivate() || p.Bits() > 16 || p.Bits() < 10 || p.Masked() != p {
		return fmt.Errorf("%s is not a private network of /10 to /16, such as 10.201.0.0/16", api.Shorten(s))
	}
	return nil
}

func checkFind(s string) error {
	if s == "" || s == "none" {
		return nil
	}
	if _, err := netip.ParseAddrPort(s); err != nil {
		return fmt.Errorf("%s is neither an address with a port, such as 172.16.255.255:5555, nor none", api.Shorten(s))
	}
	return nil
}
