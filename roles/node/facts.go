package node

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"nutshell/roles/api"
)

// gatherFixed is what does not change while the machine runs.
func gatherFixed(c Config) api.NodeFacts {
	f := api.NodeFacts{Name: c.Name, Arch: runtime.GOARCH, Version: c.Version, CPUs: runtime.NumCPU()}
	if f.Name == "" {
		f.Name, _ = os.Hostname()
	}
	f.Serial = firstOf("/proc/device-tree/serial-number", "/sys/class/dmi/id/product_serial", "/sys/class/dmi/id/board_serial", "/etc/machine-id")
	f.Model = firstOf("/proc/device-tree/model", "/sys/class/dmi/id/product_name")
	f.Memory, _ = memory()
	if _, port, err := net.SplitHostPort(c.Listen); err == nil {
		f.Port, _ = strconv.Atoi(port)
	}
	return f
}

// unset is what makers write where there is no number.
var unset = []string{"", "none", "default string", "to be filled by o.e.m.", "not specified", "system serial number", "0"}

func firstOf(paths ...string) string {
	for _, p := range paths {
		b, err := os.ReadFile(p)
		text := strings.TrimSpace(strings.TrimRight(string(b), "\x00\n"))
		known := err == nil
		for _, u := range unset {
			known = known && !strings.EqualFold(text, u)
		}
		if known {
			return text
		}
	}
	return ""
}

// facts is what the director is told with each heartbeat.
func (n *node) facts() api.NodeFacts {
	f := n.fixed
	_, f.MemoryFree = memory()
	f.Disk, f.DiskFree = disk(n.c.Disk)
	f.Load = load()
	var low bool
	if f.Heat, f.HeatMost, low = health("/sys/class"); low {
		n.lowPower = n.c.Now()
	}
	f.PowerLow = !n.lowPower.IsZero() && n.c.Now().Sub(n.lowPower).Abs() < lowPowerTime
	f.Networks = networks(n.state.Orders.Subnet)
	if n.c.Layers != nil {
		var err error
		if f.Layers, err = n.c.Layers.All(); err != nil {
			n.c.Log.Warn("layers not listed", "error", err)
		}
	}
	return f
}

// memory reads /proc/meminfo, in bytes.
func memory() (total, free int64) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	return parseMemory(string(b))
}

func parseMemory(text string) (total, free int64) {
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":")
		value, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		kib, err := strconv.ParseInt(value, 10, 64)
		switch {
		case err != nil:
		case name == "MemTotal":
			total = kib << 10
		case name == "MemAvailable":
			free = kib << 10
		}
	}
	return total, free
}

func disk(dir string) (total, free int64) {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return 0, 0
	}
	return int64(s.Blocks) * s.Bsize, int64(s.Bavail) * s.Bsize //nolint:gosec // no disk has 2^63 bytes
}

func load() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	v, _ := strconv.ParseFloat(first, 64)
	return v
}

// networks are those that this machine has addresses in, its containers' left
// out: no node's containers may get one of them.
func networks(own string) []string {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	containers, _ := netip.ParsePrefix(own)
	var list []string
	for _, a := range addresses {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().Is4() || p.Addr().IsLoopback() || containers.IsValid() && containers.Contains(p.Addr()) {
			continue
		}
		list = append(list, p.Masked().String())
	}
	return list
}
