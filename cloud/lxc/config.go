package lxc

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"nutshell/cloud"
	"nutshell/cloud/lxc/order"
)

const (
	shareDir   = "/usr/share/lxc/config" // of Debian's lxc
	contextAt  = "/etc/nutshell/context.json"
	dataAt     = "/var/lib/nutshell"
	cpuPeriod  = 100_000   // microseconds
	roomMemory = 16 << 20  // on top of the asked limit, for init and agent
	roomTasks  = 32        // the same, and for attach, which fails without
	bootLogMax = "1048576" // bytes, then the log is rotated
)

// The root file system is mounted at the same path for every instance: each
// sees its own, in a mount namespace of its own. /run is open to all users,
// as the container's root, who is none of ours, must be able to get there.
func (d *driver) stage() string { return "/run/nutshell/" + d.c.Installation }
func (d *driver) root() string  { return d.stage() + "/root" }

// containerConfig is the container's liblxc configuration.
func (d *driver) containerConfig(r record) string {
	var b strings.Builder
	set := func(key, format string, args ...any) { fmt.Fprintf(&b, key+" = "+format+"\n", args...) }
	if r.Privileged {
		set("lxc.include", shareDir+"/common.conf") // device list, /proc and /sys protected
		// The first process and its daemons need none of these; several are
		// known ways out of a container without a user namespace.
		set("lxc.cap.drop", "sys_admin sys_boot sys_nice sys_pacct sys_ptrace sys_tty_config syslog mknod audit_control audit_read"+
			" block_suspend dac_read_search linux_immutable wake_alarm bpf perfmon checkpoint_restore")
		set("lxc.mount.auto", "")
	} else {
		set("lxc.seccomp.profile", shareDir+"/common.seccomp")
		set("lxc.idmap", "u 0 %d %d", r.Owner, idRange)
		set("lxc.idmap", "g 0 %d %d", r.Owner, idRange)
	}
	set("lxc.mount.auto", "proc:mixed sys:mixed")
	set("lxc.uts.name", r.Name)
	set("lxc.rootfs.path", "dir:"+d.root())
	set("lxc.init.cmd", "/usr/bin/nutshell --role init --context %s --dir %s", contextAt, dataAt)
	for _, e := range environment(r) {
		set("lxc.environment", "%s", e)
	}
	set("lxc.signal.halt", "SIGTERM")
	set("lxc.tty.max", "0")
	set("lxc.pty.max", "1024")
	set("lxc.console.logfile", "%s", filepath.Join(d.dir(r.Name), "boot.log"))
	set("lxc.console.size", bootLogMax)
	set("lxc.console.rotate", "1")

	gateway := d.net.gateway(r.Slot)
	set("lxc.net.0.type", "veth")
	set("lxc.net.0.link", "%s", d.net.bridge(r.Slot))
	set("lxc.net.0.flags", "up")
	set("lxc.net.0.name", "eth0")
	set("lxc.net.0.veth.pair", "%s", d.net.veth(r.Name))
	set("lxc.net.0.hwaddr", "%s", hardware(r.Address))
	set("lxc.net.0.ipv4.address", "%s/24", r.Address)
	set("lxc.net.0.ipv4.gateway", "%s", gateway)

	group := d.cgroup(r.Name)
	set("lxc.cgroup.dir.container", "%s/payload", group)
	set("lxc.cgroup.dir.monitor", "%s/monitor", group)
	limits(set, r.Limits, unified())
	return b.String()
}

// limits writes the limits for control groups of version 2 only, or for
// version 1 with or without 2 beside it.
func limits(set func(string, string, ...any), l cloud.Limits, v2 bool) {
	switch {
	case v2:
		if l.MemoryBytes > 0 {
			set("lxc.cgroup2.memory.max", "%d", l.MemoryBytes+roomMemory)
			set("lxc.cgroup2.memory.swap.max", "0")
		}
		if l.CPUPercent > 0 {
			set("lxc.cgroup2.cpu.max", "%d %d", l.CPUPercent*cpuPeriod/100, cpuPeriod)
		}
		if l.Processes > 0 {
			set("lxc.cgroup2.pids.max", "%d", l.Processes+roomTasks)
		}
	default:
		if l.MemoryBytes > 0 {
			set("lxc.cgroup.memory.limit_in_bytes", "%d", l.MemoryBytes+roomMemory)
		}
		if l.CPUPercent > 0 {
			set("lxc.cgroup.cpu.cfs_period_us", "%d", cpuPeriod)
			set("lxc.cgroup.cpu.cfs_quota_us", "%d", l.CPUPercent*cpuPeriod/100)
		}
		if l.Processes > 0 {
			set("lxc.cgroup.pids.max", "%d", l.Processes+roomTasks)
		}
	}
}

func environment(r record) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root",
		"LANG=C.UTF-8",
		"NUTSHELL_ADDRESS=" + r.Address.String(),
		"NUTSHELL_INSTANCE=" + r.Name,
	}
	if r.Limits.MemoryBytes > 0 {
		env = append(env, fmt.Sprintf("NUTSHELL_MEMORY=%d", r.Limits.MemoryBytes))
	}
	return env
}

// files are written into the instance at each start.
func (d *driver) files(r record, told []byte) []order.File {
	hosts := fmt.Sprintf("127.0.0.1 localhost\n::1 localhost ip6-localhost\n%s %s\n", r.Address, r.Name)
	return []order.File{
		{Path: contextAt[1:], Mode: 0o600, Data: told},
		{Path: "etc/hostname", Mode: 0o644, Data: []byte(r.Name + "\n")},
		{Path: "etc/hosts", Mode: 0o644, Data: []byte(hosts)},
		{Path: "etc/resolv.conf", Mode: 0o644, Data: resolvers("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")},
	}
}

// resolvers is the first of the host's files that names a resolver which a
// container reaches. One at the host's loopback address is none.
func resolvers(files ...string) []byte {
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		var keep strings.Builder
		usable := false
		for line := range strings.Lines(string(b)) {
			w := strings.Fields(line)
			if len(w) < 2 || strings.HasPrefix(w[0], "#") {
				continue
			}
			if w[0] == "nameserver" {
				if a, err := netip.ParseAddr(w[1]); err != nil || !a.Is4() || a.IsLoopback() {
					continue
				}
				usable = true
			}
			keep.WriteString(strings.Join(w, " ") + "\n")
		}
		if usable {
			return []byte(keep.String())
		}
	}
	return nil
}

// hardware is a MAC address that follows from the IP address: when an address
// gets another instance, nobody's ARP table is wrong.
func hardware(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("02:6e:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}
