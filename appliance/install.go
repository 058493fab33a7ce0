package appliance

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// The first name below files is a set of files, the rest where they lie on
// the machine.
//
//go:embed all:files
var files embed.FS

// Options say what machine is made.
type Options struct {
	Profile  Profile
	Hostname string   // empty: nutshell
	Network  *Network // of the profiles director and backend; nil: that of ConPaaS's appliance, see Plan
}

// profile is what one kind of machine has.
type profile struct {
	sets   []string // below files
	wants  []string // units that start with the machine
	target string   // that the machine starts into
	keeps  []string // of what is masked elsewhere
}

// Units of Debian and ours. Each name stands for where it lies.
const (
	networkd = "/usr/lib/systemd/system/systemd-networkd.service"
	ssh      = "/usr/lib/systemd/system/ssh.socket"
	nftables = "/usr/lib/systemd/system/nftables.service"
	up       = "/usr/lib/systemd/system/nutshell.service"
	node     = "/usr/lib/systemd/system/nutshell-node.service"
	join     = "/usr/lib/systemd/system/nutshell-join.service"
	first    = "/usr/lib/systemd/system/nutshell-firstboot.service"
	resolv   = "/usr/lib/systemd/system/nutshell-resolv.path"
	card     = "/usr/lib/systemd/system/nutshell-card.service"
	guest    = "/usr/lib/systemd/system/nutshell-guest.service"
	undo     = "/usr/lib/systemd/system/nutshell-network-boot.service"
	whole    = "/usr/lib/systemd/system/nutshell-upgrade-boot.service"
	unended  = "/usr/lib/systemd/system/nutshell-upgrade.path"
	settle   = "/usr/lib/systemd/system/nutshell-kernel.service"
)

const multiUser = "/usr/lib/systemd/system/multi-user.target"

var profiles = map[Profile]profile{
	Director: {sets: []string{"modules", "machine", "units", "guest", "console", "director"}, wants: []string{networkd, ssh, first, resolv, guest, undo, whole, unended, settle, up}, target: multiUser},
	Backend:  {sets: []string{"modules", "machine", "units", "guest", "console", "backend"}, wants: []string{networkd, ssh, first, resolv, guest, undo, whole, unended, settle, nftables, up}, target: multiUser},
	Node: {sets: []string{"modules", "machine", "units", "node"}, wants: []string{networkd, ssh, first, resolv, card, node}, target: multiUser,
		keeps: []string{"systemd-sysusers.service"}},
	Instance: {sets: []string{"modules", "machine", "units", "guest", "instance"}, wants: []string{networkd, ssh, first, resolv, guest, join}, target: multiUser},
	Package:  {sets: []string{"modules", "units", "package"}},
}

// masked are units that a machine of ours never needs.
var masked = []string{"lxc.service", "lxc-net.service", "lxc-monitord.service", "systemd-networkd-wait-online.service", "systemd-pcrphase.service", "systemd-pcrphase-sysinit.service",
	"systemd-pcrmachine.service", "systemd-tpm2-setup.service", "systemd-tpm2-setup-early.service", "systemd-hwdb-update.service", "systemd-journal-catalog-update.service", "ldconfig.service",
	"systemd-update-done.service", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer",
	"modprobe@drm.service", "modprobe@configfs.service", "modprobe@efi_pstore.service", "modprobe@fuse.service", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "dev-hugepages.mount",
	"dev-mqueue.mount", "systemd-udev-load-credentials.service", "systemd-hibernate-clear.service", "systemd-sysusers.service", "getty-static.service"}

// Install puts a machine's files into its root file system. What is there
// already is replaced.
func Install(root Root, o Options) error {
	p, ok := profiles[o.Profile]
	if !ok {
		return fmt.Errorf("appliance: there is no profile %q", o.Profile)
	}
	for _, set := range p.sets {
		if err := installSet(root, set); err != nil {
			return fmt.Errorf("appliance: %w", err)
		}
	}
	if o.Profile == Package {
		return nil
	}
	name := o.Hostname
	if name == "" {
		name = "nutshell"
	}
	root.Write("/etc/hostname", []byte(name+"\n"), 0o644)
	root.Write("/etc/hosts", []byte("127.0.0.1 localhost\n127.0.1.1 "+name+"\n::1 localhost ip6-localhost ip6-loopback\n"), 0o644)
	root.Mkdir("/boot/efi", 0o700)
	for _, unit := range p.wants {
		dir := "multi-user.target.wants/"
		if strings.HasSuffix(unit, ".socket") {
			dir = "sockets.target.wants/"
		}
		root.Symlink("/etc/systemd/system/"+dir+path.Base(unit), unit)
	}
	for _, unit := range masked {
		if slices.Contains(p.keeps, unit) {
			continue
		}
		root.Symlink("/etc/systemd/system/"+unit, "/dev/null")
	}
	root.Symlink("/etc/systemd/system-generators/systemd-ssh-generator", "/dev/null")
	root.Symlink("/etc/systemd/system/default.target", p.target)
	root.Symlink("/etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
	return installNetwork(root, o)
}

// installNetwork writes the addresses of machines that have some of their own.
func installNetwork(root Root, o Options) error {
	facts := Facts{Profile: o.Profile}
	if plan, ok := Plan(o.Profile); ok {
		if o.Network != nil {
			plan = *o.Network
		}
		if err := plan.Check(nil); err != nil {
			return err
		}
		facts.Network = &plan
		for _, f := range plan.Files(o.Profile) {
			root.Write(f.Path, f.Content, 0o644)
		}
	}
	b, err := json.MarshalIndent(facts, "", "  ")
	if err != nil {
		return err
	}
	root.Write(FactsPath, append(b, '\n'), 0o644)
	return nil
}

// installSet writes all files below one name. A set that is missing is empty.
func installSet(root Root, set string) error {
	base := path.Join("files", set)
	if _, err := fs.Stat(files, base); err != nil {
		return nil //nolint:nilerr // a profile may have no files of its own
	}
	return fs.WalkDir(files, base, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		to := strings.TrimPrefix(name, base)
		root.Write(to, content, modeOf(to, content))
		return nil
	})
}

// modeOf is a file's mode: embedded files have none.
func modeOf(name string, content []byte) fs.FileMode {
	switch {
	case strings.HasPrefix(name, "/etc/sudoers.d/"):
		return 0o440
	case bytes.HasPrefix(content, []byte("#!/bin/")):
		return 0o755
	default:
		return 0o644
	}
}

// Profiles lists all profiles, sorted.
func Profiles() []Profile {
	var list []Profile
	for p := range profiles {
		list = append(list, p)
	}
	slices.Sort(list)
	return list
}
