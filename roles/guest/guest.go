// Package guest makes a machine of a cloud what its cloud says it is: its name,
// the keys of those who may sign in, its addresses where the network gives
// none, and a root file system as large as its disk. What the machine becomes
// within Nutshell is told elsewhere, see join.
package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	cloudcontext "nutshell/cloud/context"
	"nutshell/roles/internal/rootdisk"
)

// Times of a metadata service, which may come up after its machines.
const (
	firstWait = time.Second
	lastWait  = 15 * time.Second
	giveUp    = 10 * time.Minute
)

// given is the name that images have.
const given = "nutshell"

// Config is what Prepare needs. Ready is called when the network may start.
type Config struct {
	Root   string              // "/", or a directory in tests
	Finder cloudcontext.Finder // Metadata: only where it is to be believed
	Host   func(name string) error
	Ready  func()
	Reload func(context.Context) error // makes a network that runs already take new files; nil: it does not run yet
	Grow   func() (int64, error)
	Log    *slog.Logger
}

// GrowRoot grows the machine's root file system.
func GrowRoot() (int64, error) {
	d, err := rootdisk.Find("/")
	if err != nil {
		return 0, err
	}
	return d.Grow()
}

// Prepare does all of it. What fails is told in the log and does not keep the
// rest: a machine that somebody can reach is better than none.
func Prepare(ctx context.Context, c Config) error {
	disks := c.Finder
	disks.Metadata = ""
	m, where, err := disks.Machine(ctx)
	if err == nil {
		c.apply(ctx, m, where)
	}
	c.Ready()
	switch size, err := c.Grow(); {
	case err != nil:
		c.Log.Warn("the root file system did not grow to the disk", "error", err)
	case size > 0:
		c.Log.Info("the root file system is as large as the disk", "bytes", size)
	}
	if err == nil || c.Finder.Metadata == "" {
		return nil
	}
	return c.ask(ctx)
}

// ask waits for the metadata service.
func (c Config) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, giveUp)
	defer cancel()
	service := c.Finder
	service.Disks = nil
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		m, where, err := service.Machine(ctx)
		if err == nil {
			c.apply(ctx, m, where)
			return nil
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			c.Log.Info("no cloud says anything of this machine", "error", err)
			return nil
		}
	}
}

func (c Config) path(name string) string { return filepath.Join(c.Root, name) }

// apply puts into force what a cloud says. It changes no file that is so already.
func (c Config) apply(ctx context.Context, m cloudcontext.Machine, where string) {
	c.Log.Info("the cloud says what this machine is", "where", where, "hostname", m.Hostname, "keys", len(m.Keys), "networks", len(m.Networks))
	keys := ""
	if len(m.Keys) > 0 {
		keys = strings.Join(m.Keys, "\n") + "\n"
	}
	errs := []error{c.rename(m.Hostname), c.write("/etc/nutshell/authorized_keys/admin", keys)}
	for i, n := range m.Networks {
		errs = append(errs, c.write(fmt.Sprintf("/run/systemd/network/05-cloud-%d.network", i), networkFile(n)))
	}
	if len(m.Networks) > 0 && c.Reload != nil {
		errs = append(errs, c.Reload(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		c.Log.Error("not all of it could be done", "error", err)
	}
}

// rename gives the machine its first name. Later names are its own matter.
func (c Config) rename(name string) error {
	b, err := os.ReadFile(c.path("/etc/hostname"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if have := strings.TrimSpace(string(b)); name == "" || have != "" && have != given {
		return nil
	}
	hosts, err := os.ReadFile(c.path("/etc/hosts"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(c.write("/etc/hosts", strings.ReplaceAll(string(hosts), "127.0.1.1 "+given+"\n", "127.0.1.1 "+name+" "+given+"\n")),
		c.write("/etc/hostname", name+"\n"), c.Host(name))
}

// networkFile is for systemd-networkd.
func networkFile(n cloudcontext.Network) string {
	var b strings.Builder
	b.WriteString("# By the cloud.\n[Match]\n")
	if n.MAC != "" {
		fmt.Fprintf(&b, "MACAddress=%s\n", n.MAC)
	} else {
		fmt.Fprintf(&b, "Name=%s\n", n.Interface)
	}
	b.WriteString("\n[Network]\nLLMNR=no\n")
	for _, a := range n.Addresses {
		fmt.Fprintf(&b, "Address=%s\n", a)
	}
	for _, a := range n.Gateways {
		fmt.Fprintf(&b, "Gateway=%s\n", a)
	}
	for _, a := range n.Servers {
		fmt.Fprintf(&b, "DNS=%s\n", a)
	}
	return b.String()
}

// write replaces a file as a whole where it differs; without text there is none.
func (c Config) write(name, text string) error {
	name = c.path(name)
	have, err := os.ReadFile(name)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case string(have) == text:
		return nil
	case text == "":
		return os.Remove(name)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// InCloud reports whether the firmware says that a cloud runs this machine.
// Only then is its metadata service believed by a machine that did not come
// from an image for clouds: anybody on a network can answer there.
func InCloud(root string) bool {
	for _, name := range []string{"sys_vendor", "product_name", "chassis_asset_tag", "bios_vendor"} {
		b, err := os.ReadFile(filepath.Join(root, "sys/class/dmi/id", name))
		if err != nil {
			continue
		}
		for _, cloud := range []string{"OpenStack", "Amazon EC2", "OpenNebula", "OpenTelekomCloud"} {
			if strings.Contains(string(b), cloud) {
				return true
			}
		}
	}
	return false
}
