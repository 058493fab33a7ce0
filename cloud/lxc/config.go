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
func (d *driver) stage() string { return "/run/nutshell/" + d.tag }
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
	if p := appArmor("/sys/module/apparmor/parameters/enabled", "/sys/kernel/security/apparmor/profiles"); p != "" {
		set("lxc.apparmor.profile", p)
	}
	// As after a boot: no pid files and sockets of the time before a stop.
	set("lxc.mount.entry", "tmpfs run tmpfs rw,nosuid,nodev,mode=755,create=dir 0 0")
	set("lxc.mount.entry", "tmpfs dev/shm tmpfs rw,nosuid,nodev,mode=1777,create=dir 0 0")
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
	set("lxc.cgroup.dir.monitor.pivot", "%s", d.pivot())
	if missing := limits(set, r.Limits, controls(cgroupDir)); len(missing) > 0 {
		d.unlimited.Do(func() {
			d.log.Warn("this kernel has not all limits switched on: instances are not limited in these", "controllers", missing)
		})
	}
	return b.String()
}

// appArmor is the profile to ask for; "" leaves it to liblxc, whose own choice
// is right where its package's profiles are loaded. On a kernel with AppArmor
// but without them the container would not start.
func appArmor(enabled, profiles string) string {
	if b, err := os.ReadFile(enabled); err != nil || !strings.HasPrefix(string(b), "Y") {
		return "" // liblxc may be built without it and refuse the key
	}
	if b, err := os.ReadFile(profiles); err == nil && strings.Contains("\n"+string(b), "\nlxc-container-default-cgns ") {
		return ""
	}
	return "unconfined"
}

// limits writes the limits that the kernel can keep, and returns the
// controllers that it lacks for the others. Some systems start without the
// memory controller (Raspberry Pi OS does), and liblxc refuses a container
// whose limit it cannot set.
func limits(set func(string, string, ...any), l cloud.Limits, c controllers) (missing []string) {
	need := func(controller string, limit int64) bool {
		if limit <= 0 {
			return false
		}
		if !c.has[controller] {
			missing = append(missing, controller)
		}
		return c.has[controller]
	}
	if need("memory", l.MemoryBytes) {
		bytes := l.MemoryBytes + roomMemory
		if c.v2 {
			set("lxc.cgroup2.memory.max", "%d", bytes)
		} else {
			set("lxc.cgroup.memory.limit_in_bytes", "%d", bytes)
		}
		switch { // a limit that swap gets round would slow down all instances
		case c.swap && c.v2:
			set("lxc.cgroup2.memory.swap.max", "0")
		case c.swap:
			set("lxc.cgroup.memory.memsw.limit_in_bytes", "%d", bytes)
		}
	}
	if need("cpu", int64(l.CPUPercent)) {
		quota := l.CPUPercent * cpuPeriod / 100
		if c.v2 {
			set("lxc.cgroup2.cpu.max", "%d %d", quota, cpuPeriod)
		} else {
			set("lxc.cgroup.cpu.cfs_period_us", "%d", cpuPeriod)
			set("lxc.cgroup.cpu.cfs_quota_us", "%d", quota)
		}
	}
	if need("pids", int64(l.Processes)) {
		version := map[bool]string{true: "2"}[c.v2]
		set("lxc.cgroup"+version+".pids.max", "%d", l.Processes+roomTasks)
	}
	return missing
}

func environment(r record) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root",
		"LANG=C.UTF-8",
		"NUTSHELL_ADDRESS=" + r.Address.String(),
		"NUTSHELL_INSTANCE=" + r.Name,
		"NUTSHELL_VOLUMES=/" + order.Media,
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
