package doctor

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// checkOverlay: instances' file systems are layers over each other.
func checkOverlay(_ context.Context, p *Patient) Finding {
	if !p.Containers {
		return skip("no containers here")
	}
	for line := range strings.Lines(p.read("/proc/filesystems")) {
		if strings.TrimSpace(strings.TrimPrefix(line, "nodev")) == "overlay" {
			return ok("overlay is there")
		}
	}
	if p.module("overlay") == present {
		return ok("overlay can be loaded")
	}
	return fail("modprobe overlay; where there is no such module, take Debian's own kernel: apt-get install linux-image-"+debianArch(), "the kernel has no overlay file system")
}

// checkFirewall: bridges of applications are kept apart by nf_tables.
func checkFirewall(_ context.Context, p *Patient) Finding {
	if !p.Containers {
		return skip("no containers here")
	}
	if p.Euid != 0 || p.Firewall == nil {
		return skip("only root can ask the kernel for nf_tables")
	}
	if err := p.Firewall(); err != nil {
		return p.loaded(fail("modprobe nf_tables; where there is no such module, take Debian's own kernel: apt-get install linux-image-"+debianArch(), "the kernel has no nf_tables: %v", err), "nf_tables")
	}
	return ok("nf_tables answers")
}

// checkModules looks for what networks and volumes of containers need.
func checkModules(_ context.Context, p *Patient) Finding {
	if !p.Containers {
		return skip("no containers here")
	}
	var lost []string
	told := false
	for _, m := range []string{"bridge", "veth", "loop"} {
		switch p.module(m) { //nolint:exhaustive // of what is unknown nothing is told
		case absent:
			lost, told = append(lost, m), true
		case present:
			told = true
		}
	}
	switch {
	case !told:
		return skip("this kernel does not tell its modules")
	case len(lost) == 1 && lost[0] == "loop":
		return warn("modprobe loop", "the kernel has no loop devices: volumes are plain directories without a size that holds")
	case len(lost) > 0:
		return fail("modprobe "+strings.Join(lost, " "), "the kernel has no %s", strings.Join(lost, ", "))
	}
	return ok("bridge, veth and loop are there")
}

type presence int

const (
	unknown presence = iota
	present
	absent
)

// module says whether the kernel has a module, in it or to load.
func (p *Patient) module(name string) presence {
	if p.exists(filepath.Join("/sys/module", name)) {
		return present
	}
	release := strings.TrimSpace(p.read("/proc/sys/kernel/osrelease"))
	dir := filepath.Join("/lib/modules", release)
	known := unknown
	for _, list := range []string{"modules.builtin", "modules.dep"} {
		f, err := os.Open(p.path(filepath.Join(dir, list)))
		if err != nil {
			continue
		}
		known = absent
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			file, _, _ := strings.Cut(lines.Text(), ":")
			if module, _, ok := strings.Cut(filepath.Base(file), ".ko"); ok && strings.ReplaceAll(module, "-", "_") == name {
				_ = f.Close()
				return present
			}
		}
		_ = f.Close()
	}
	return known
}

// checkControlGroups: limits of instances are those of control groups.
func checkControlGroups(_ context.Context, p *Patient) Finding {
	if !p.Containers {
		return skip("no containers here")
	}
	have, version := p.controllers()
	if version == "" {
		return fail("mount -t cgroup2 none /sys/fs/cgroup; systemd does so by itself", "no control groups are mounted")
	}
	var lost []string
	for _, c := range []string{"memory", "cpu", "pids"} {
		if !slices.Contains(have, c) {
			lost = append(lost, c)
		}
	}
	switch {
	case slices.Contains(lost, "memory"):
		do := "add cgroup_enable=memory to the kernel's command line and boot again"
		if p.inside() {
			do = "this is a container: its own machine must give it these controllers"
		} else if p.exists("/boot/firmware/cmdline.txt") {
			do = "add cgroup_enable=memory to the line in /boot/firmware/cmdline.txt and boot again"
		}
		return warn(do, "%s without the controllers %s: memory of instances is not limited", version, strings.Join(lost, ", "))
	case len(lost) > 0:
		return warn("take Debian's own kernel: apt-get install linux-image-"+debianArch(), "%s without the controllers %s: what they limit is not limited", version, strings.Join(lost, ", "))
	}
	return ok("%s with memory, cpu and pids", version)
}

// inside reports whether this machine is itself a container.
func (p *Patient) inside() bool {
	return slices.ContainsFunc([]string{"/run/systemd/container", "/run/host/container-manager", "/.dockerenv", "/run/.containerenv"}, p.exists)
}

// controllers are those of all mounted hierarchies.
func (p *Patient) controllers() (have []string, version string) {
	for line := range strings.Lines(p.read("/proc/self/mountinfo")) {
		before, after, ok := strings.Cut(line, " - ")
		fields, what := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(what) < 3 {
			continue
		}
		switch what[0] {
		case "cgroup2":
			if version == "" {
				version = "control groups v2"
			}
			have = append(have, strings.Fields(p.read(filepath.Join(fields[4], "cgroup.controllers")))...)
		case "cgroup":
			version = "control groups v1"
			have = append(have, strings.Split(what[len(what)-1], ",")...)
		}
	}
	return have, version
}

// checkUsers: without user namespaces, root in a container is root.
func checkUsers(ctx context.Context, p *Patient) Finding {
	if !p.Containers {
		return skip("no containers here")
	}
	if text := strings.TrimSpace(p.read("/proc/sys/user/max_user_namespaces")); text != "" {
		if n, err := strconv.Atoi(text); err == nil && n > 0 {
			// A container in whose /proc something is covered cannot make others with one of their own.
			if p.Euid == 0 && p.inside() && p.Nested != nil {
				if err := p.Nested(ctx); err != nil {
					return fail("this is a container: its own machine must let it nest; in LXC: lxc.include = /usr/share/lxc/config/nesting.conf, in Incus: security.nesting=true", "containers in this container cannot have a /proc: %v", err)
				}
			}
			return ok("up to %d", n)
		}
		return warn("sysctl -w user.max_user_namespaces=10000, and the same line in /etc/sysctl.d/", "switched off: root in a container is root of this machine")
	}
	return warn("take Debian's own kernel: apt-get install linux-image-"+debianArch(), "the kernel has none: root in a container is root of this machine")
}

// checkMemory: a director takes 100 MB, an instance what its limit says.
func checkMemory(_ context.Context, p *Patient) Finding {
	for line := range strings.Lines(p.read("/proc/meminfo")) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "MemAvailable:" {
			continue
		}
		kb, err := strconv.Atoi(f[1])
		switch {
		case err != nil:
		case kb < 128<<10:
			return fail("stop something else, or give the machine more memory", "%d MB are free: a director alone needs 100", kb>>10)
		case kb < 512<<10:
			return warn("stop something else, or give the machine more memory", "%d MB are free: hardly an instance fits", kb>>10)
		default:
			return ok("%d MB are free", kb>>10)
		}
	}
	return skip("the kernel does not tell")
}

// checkHandles: each connection of the edge and each log takes one.
func checkHandles(_ context.Context, p *Patient) Finding {
	const enough = 4096
	for line := range strings.Lines(p.read("/proc/self/limits")) {
		f := strings.Fields(line)
		if !strings.HasPrefix(line, "Max open files") || len(f) < 5 {
			continue
		}
		if n, err := strconv.Atoi(f[4]); err == nil && n < enough {
			return warn("ulimit -Hn 20000 before the start, or LimitNOFILE= in the unit", "a process may have %d files open: few connections fit", n)
		}
		return ok("a process may have %s files open", f[4])
	}
	return skip("the kernel does not tell")
}
