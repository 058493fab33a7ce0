package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// checks is the table of all checks, in the order of their findings.
func checks() []check {
	every := Subjects()
	machines := []Subject{Director, Node, Instance}
	hosts := []Subject{Director, Node}
	director := []Subject{Director}
	return []check{
		{"configuration", every, single(checkSettings)},
		{"secrets", every, checkSecretFiles},
		{"clock", every, single(checkClock)},
		{"memory", machines, single(checkMemory)},
		{"open-files", machines, single(checkHandles)},
		{"data", machines, single(checkData)},
		{"space", machines, single(checkSpace)},
		{"database", director, single(checkDatabase)},
		{"authority", director, checkAuthority},
		{"certificate", []Subject{Director}, single(checkEdge)},
		{"identity", []Subject{Node, Instance}, single(checkIdentity)},
		{"helper", hosts, single(checkHelper)},
		{"overlay", hosts, single(checkOverlay)},
		{"nf_tables", hosts, single(checkFirewall)},
		{"modules", hosts, single(checkModules)},
		{"control-groups", hosts, single(checkControlGroups)},
		{"user-namespaces", hosts, single(checkUsers)},
		{"programs", hosts, checkPrograms},
		{"layers", director, single(checkLayers)},
		{"cloud", hosts, checkClouds},
		{"ports", director, checkPorts},
		{"networks", hosts, checkNetworks},
		{"forwarding", hosts, single(checkForwarding)},
		{"names", hosts, single(checkNames)},
		{"unit", machines, checkUnits},
		{"director", every, checkDirector},
	}
}

func checkSettings(_ context.Context, p *Patient) Finding {
	if p.Settings != nil {
		return fail("mend that line; the rest below is of what is built in", "%v", p.Settings)
	}
	return ok("no unknown key, no value that cannot be")
}

// checkClock: certificates begin and end at moments, so a wrong clock looks
// like a wrong director.
func checkClock(_ context.Context, p *Patient) Finding {
	now := p.Now()
	const set = "timedatectl set-ntp true, or date -s; on a machine without a clock of its own: apt-get install systemd-timesyncd"
	switch {
	case !p.Built.IsZero() && now.Before(p.Built.Add(-24*time.Hour)):
		return fail(set, "it says %s, which is before this program was written", now.UTC().Format(time.DateTime))
	case now.Year() < 2024:
		return fail(set, "it says %s", now.UTC().Format(time.DateTime))
	}
	if newest, at := newestFile(p.DataDir); at.After(now.Add(time.Hour)) {
		return fail(set, "it says %s, but %s was written at %s", now.UTC().Format(time.DateTime), newest, at.UTC().Format(time.DateTime))
	}
	if p.Kept != nil {
		if kept, err := p.Kept(); err == nil && !kept {
			if p.inside() {
				return warn("this is a container: see to it on its machine", "%s UTC, and no time service keeps it", now.UTC().Format(time.DateTime))
			}
			return warn("apt-get install systemd-timesyncd, or chrony", "%s UTC, and no time service keeps it", now.UTC().Format(time.DateTime))
		}
	}
	return ok("%s UTC", now.UTC().Format(time.DateTime))
}

func checkHelper(_ context.Context, p *Patient) Finding {
	if p.Helper == nil {
		return skip("not asked")
	}
	if err := p.Helper(); err != nil {
		if !p.Containers {
			return ok("none in this binary, and no containers here")
		}
		return warn("take a binary of make build, or of make build-arm64", "%v", err)
	}
	return ok("in this binary")
}

// checkPrograms looks for what is not part of this program: tools for layers
// and volumes, and, for instances that are processes, the daemons of kinds.
func checkPrograms(_ context.Context, p *Patient) (all []Finding) {
	if p.Program == nil {
		return nil
	}
	if p.Containers {
		need := []struct{ program, pkg, without string }{
			{"mkfs.ext4", "e2fsprogs", "volumes are plain directories without a size that holds"},
			{"ip", "iproute2", "the console cannot show networks"},
		}
		if missing, _, err := p.layers(); err != nil || len(missing) > 0 {
			need = append(need, struct{ program, pkg, without string }{"mmdebstrap", "mmdebstrap", "layers that are missing cannot be built"})
		}
		for _, n := range need {
			if !p.Program(n.program) {
				all = append(all, p.packaged(warn("apt-get install --no-install-recommends "+n.pkg, "no %s: %s", n.program, n.without), n.pkg))
			}
		}
	}
	if status := p.installed(); p.Processes && status != nil {
		for _, kind := range slices.Sorted(maps.Keys(p.Kinds)) {
			var lost []string
			for _, name := range p.Kinds[kind] {
				if !status[name] {
					lost = append(lost, name)
				}
			}
			if len(lost) > 0 {
				all = append(all, warn("apt-get install --no-install-recommends "+strings.Join(lost, " "), "services of kind %s lack Debian packages on this machine", kind))
			}
		}
	}
	if len(all) == 0 {
		return []Finding{ok("all that is needed here")}
	}
	return all
}

// installed are dpkg's packages, also under the names that they provide; nil
// where there is no dpkg.
func (p *Patient) installed() map[string]bool {
	text := p.read("/var/lib/dpkg/status")
	if text == "" {
		return nil
	}
	have := map[string]bool{}
	for entry := range strings.SplitSeq(text, "\n\n") {
		if !strings.Contains(entry, "\nStatus: install ok installed") && !strings.Contains(entry, "\nStatus: hold ok installed") {
			continue
		}
		for line := range strings.Lines(entry) {
			key, value, _ := strings.Cut(line, ":")
			if key != "Package" && key != "Provides" {
				continue
			}
			for name := range strings.SplitSeq(value, ",") {
				name, _, _ = strings.Cut(strings.TrimSpace(name), " ")
				have[name] = true
			}
		}
	}
	return have
}

func (p *Patient) layers() (missing []string, suite string, err error) {
	if p.Layers == nil {
		return nil, "", nil
	}
	return p.Layers()
}

func checkLayers(_ context.Context, p *Patient) Finding {
	if !p.Containers {
		return skip("no containers here")
	}
	missing, suite, err := p.layers()
	switch {
	case err != nil:
		return warn("nutshell image layers list", "%v", err)
	case len(missing) > 0 && p.Program != nil && !p.Program("mmdebstrap"):
		return warn("apt-get install --no-install-recommends mmdebstrap, then: nutshell image layers build", "none for %s, and nothing that builds them", strings.Join(missing, ", "))
	case len(missing) > 0:
		return warn("nutshell image layers build; or wait a minute at the first start of a service", "none yet for %s", strings.Join(missing, ", "))
	}
	return ok("all kinds' (%s)", suite)
}

// checkClouds asks each driver, which knows best.
func checkClouds(ctx context.Context, p *Patient) (all []Finding) {
	for _, name := range slices.Sorted(maps.Keys(p.Clouds)) {
		f := ok("ready")
		if err := p.Clouds[name](ctx); err != nil {
			if other, ok := p.Fallback[name]; errors.Is(err, ErrBusy) {
				f = skip("%v", err)
			} else if ok {
				f = warn("", "%v: %s", err, other)
			} else {
				f = fail("", "%v", err)
			}
		}
		f.Check = "cloud-" + name
		all = append(all, f)
	}
	return all
}

// checkUnits tells of units that systemd has given up.
func checkUnits(ctx context.Context, p *Patient) (all []Finding) {
	if p.Unit == nil || !p.exists("/run/systemd/system") {
		return []Finding{skip("no systemd here")}
	}
	for _, unit := range []string{"nutshell.service", "nutshell-node.service", "nutshell-join.service"} {
		switch state := p.Unit(ctx, unit); state {
		case "", "inactive":
		case "failed":
			all = append(all, fail(fmt.Sprintf("journalctl -u %s -n 50; then: systemctl restart %s", unit, unit), "%s has failed", unit))
		default:
			all = append(all, ok("%s is %s", unit, state))
		}
	}
	if len(all) == 0 {
		return []Finding{skip("no unit of ours is switched on")}
	}
	return all
}
