package process

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"strings"

	"nutshell/cloud"
)

// places is how many addresses an installation has: 254 × 254 of a /16 of
// loopback, leaving out those that look like networks and broadcasts.
const places = 254 * 254

func hash(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return h.Sum32()
}

// addressAt is the n-th address of the installation. 127.0.x.y and 127.1.x.y
// are left to the machine and to people.
func (d *driver) addressAt(n uint32) string {
	n %= places
	return fmt.Sprintf("127.%d.%d.%d", 2+hash(d.c.Installation)%253, 1+n/254, 1+n%254)
}

// reserve picks an address that no instance has and nobody listens on, and
// keeps it until release. It begins at a place that follows from the name, so
// that an address is not used again at once by another instance.
func (d *driver) reserve(name string) (address string, release func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	records, err := d.records()
	if err != nil {
		return "", nil, err
	}
	taken := listening()
	for _, r := range records {
		taken[r.Address] = true
	}
	first := hash(name)
	for n := range uint32(places) {
		a := d.addressAt(first%places + n)
		if taken[a] || d.reserved[a] {
			continue
		}
		d.reserved[a] = true
		return a, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			delete(d.reserved, a)
		}, nil
	}
	return "", nil, fmt.Errorf("%w: all %d loopback addresses are in use", cloud.ErrQuota, places)
}

// listening is the set of IPv4 addresses on which some process listens.
func listening() map[string]bool {
	set := map[string]bool{}
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return set // hidden by the system; a clash then shows when the instance starts
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		// "0: 0100007F:1F90 00000000:0000 0A": address in host byte order, 0A is LISTEN.
		c := strings.Fields(s.Text())
		if len(c) < 4 || c[3] != "0A" {
			continue
		}
		local, _, _ := strings.Cut(c[1], ":")
		if b, err := hex.DecodeString(local); err == nil && len(b) == net.IPv4len {
			set[netip.AddrFrom4([4]byte{b[3], b[2], b[1], b[0]}).String()] = true
		}
	}
	return set
}
