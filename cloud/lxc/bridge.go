package lxc

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

// makeBridge makes a slot's bridge with the first address of its /24, or
// mends what exists.
func (n *network) makeBridge(slot int) error {
	name, address := n.bridge(slot), n.at(slot, 1)
	mac, err := net.ParseMAC(hardware(address))
	if err != nil {
		return err
	}
	// A bridge without an address of its own changes it with each cable.
	b := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name, HardwareAddr: mac}}
	if err := netlink.LinkAdd(b); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make bridge %s: %w", name, err)
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", name, err)
	}
	ip := net.IP(address.AsSlice())
	if err := netlink.AddrReplace(l, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(24, 32)}}); err != nil {
		return fmt.Errorf("address of bridge %s: %w", name, err)
	}
	for key, value := range map[string]string{
		"net/ipv4/conf/" + name + "/rp_filter": "1", // an instance cannot speak for another group's address
		// The firewall of groups is for IPv4; nothing else shall pass beside it.
		"net/ipv6/conf/" + name + "/disable_ipv6": "1",
	} {
		if err := writeSysctl(key, value); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("bridge %s: %w", name, err)
	}
	return nil
}

// removeBridges removes those of our bridges that which says.
func (n *network) removeBridges(which func(name string) bool) (int, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return 0, fmt.Errorf("read interfaces: %w", err)
	}
	count := 0
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		number, ok := strings.CutPrefix(name, n.prefix())
		if _, err := strconv.Atoi(number); !ok || err != nil || l.Type() != "bridge" || !which(name) {
			continue
		}
		count++
		if err := netlink.LinkDel(l); err != nil {
			errs = append(errs, fmt.Errorf("remove bridge %s: %w", name, err))
		}
	}
	return count, errors.Join(errs...)
}

func writeSysctl(key, value string) error {
	path := "/proc/sys/" + key
	if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == value {
		return nil
	}
	return os.WriteFile(path, []byte(value), 0o644)
}
