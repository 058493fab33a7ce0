package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"nutshell/roles/api"
)

// A new kernel is on trial: the boot loader starts it once, and the one before
// from then on, until a machine that has started with it says that it works.

const (
	// trialPath names the kernel on trial. A unit looks for it by its name.
	trialPath = "/var/lib/nutshell/appliance/kernel"
	// grubEnv is what the boot loader reads and writes itself: in place, so it
	// always has the same size.
	grubEnv     = bootDir + "/grub/grubenv"
	grubEnvSize = 1024

	// trialTime is how long the director has under a new kernel.
	trialTime = 5 * time.Minute
)

// onTrial is what the menu says where the first kernel is new. A boot loader
// without these commands starts the first, as it always did.
const onTrial = `load_env
if [ "$trial" = "new" ]; then
	set trial=tried
	save_env trial
	set extra="panic=10 nutshell.trial"
elif [ "$trial" = "tried" ]; then
	set default=1
fi
`

// trial is a kernel that has not proved itself.
type trial struct {
	Release string `json:"release"`
}

func (m *Machine) trial() (t trial, err error) {
	b, err := os.ReadFile(m.path(trialPath))
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	return t, err
}

// setTrial tells the boot loader what it knows about its first kernel: "new",
// or nothing, which is trust.
func (m *Machine) setTrial(state string) error {
	text := "# GRUB Environment Block\n"
	if state != "" {
		text += "trial=" + state + "\n"
	}
	block := append([]byte(text), bytes.Repeat([]byte("#"), grubEnvSize-len(text))...)
	return m.write(grubEnv, block, 0o600)
}

// SettleKernel ends a trial: the kernel that runs, release, stays if it is the
// one on trial and the director answers. Otherwise the one before is the first
// again.
func (m *Machine) SettleKernel(ctx context.Context, release string) (err error) {
	t, err := m.trial()
	if errors.Is(err, fs.ErrNotExist) {
		return &api.Error{Code: api.CodeNotFound, Op: "settle", Object: "kernel " + release, Message: "no kernel is on trial", Hint: "nutshell appliance kernel RELEASE begins one"}
	}
	if err != nil {
		return err
	}
	works := release == t.Release
	if works {
		if err := m.healthy(ctx, trialTime); err != nil {
			// The boot loader has written down that it was tried once: the next start is the old one's.
			return &api.Error{Code: api.CodeUnavailable, Op: "keep", Object: "kernel " + release, Err: err, Message: "the director does not answer under it", Hint: "the next start is by the kernel before; journalctl -b -u nutshell"}
		}
	}
	if err := m.withBoot(ctx, func() error {
		if works {
			return m.setTrial("")
		}
		return m.swapMenu(t.Release)
	}); err != nil {
		return err
	}
	if err := m.forgetFile(trialPath); err != nil {
		return err
	}
	if works {
		m.say("kernel %s works and stays", release)
		return nil
	}
	m.say("kernel %s did not start; %s is used again, and %s is the second choice", t.Release, release, t.Release)
	return nil
}

// swapMenu makes the second kernel of the menu the first, and trusts it. A
// menu that does not begin with the failed one was never changed.
func (m *Machine) swapMenu(failed string) error {
	name := filepath.Join(m.path(bootDir), "grub/grub.cfg")
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	args, entries, err := readMenu(string(text))
	if err != nil {
		return err
	}
	if len(entries) > 1 && entries[0].title == failed {
		err = m.write(bootDir+"/grub/grub.cfg", []byte(writeMenu(args, []entry{entries[1], entries[0]})), 0o600)
	}
	return errors.Join(err, m.setTrial(""))
}

// withBoot does something while the boot partition is mounted. Whoever mounted
// it before us keeps it.
func (m *Machine) withBoot(ctx context.Context, do func() error) (err error) {
	if _, err := os.Stat(m.path(bootDir + "/grub/grub.cfg")); errors.Is(err, fs.ErrNotExist) {
		if err := m.run(ctx, "mount", bootDir); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, m.run(context.WithoutCancel(ctx), "umount", bootDir)) }()
	}
	return do()
}

// forgetFile removes a file so that it stays removed when the power goes.
func (m *Machine) forgetFile(name string) error {
	if err := removed(m.path(name)); err != nil {
		return err
	}
	return syncDir(filepath.Dir(m.path(name)))
}

// readMenu finds the arguments of the kernel that starts first, and the
// kernels of the menu with their files.
func readMenu(text string) (args string, entries []entry, err error) {
	title := ""
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) > 1 && f[0] == "menuentry":
			title = strings.Trim(f[1], "'\"")
		case len(f) > 1 && f[0] == "linux":
			entries = append(entries, entry{title: title, kernel: f[1]})
			if args == "" {
				args = strings.TrimSuffix(strings.Join(f[2:], " "), " $extra")
			}
		case len(f) > 1 && f[0] == "initrd" && len(entries) > 0:
			entries[len(entries)-1].initrd = f[1]
		}
	}
	if len(entries) == 0 || entries[0].initrd == "" {
		return "", nil, errors.New("the boot menu names no kernel and initrd")
	}
	for i := range entries {
		if entries[i].title == "" {
			entries[i].title = "as-delivered"
		}
	}
	return args, entries, nil
}

func writeMenu(args string, entries []entry) string {
	var b strings.Builder
	b.WriteString("# Written by `nutshell appliance kernel`. The first entry starts; if it cannot be read, or did not start when it\n# was new, the second.\n" +
		"serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\nset default=0\nset fallback=1\nset timeout=3\n" + onTrial)
	for i, e := range entries {
		extra := ""
		if i == 0 {
			extra = " $extra"
		}
		fmt.Fprintf(&b, "menuentry '%s' {\n\tlinux %s %s%s\n\tinitrd %s\n}\n", e.title, e.kernel, args, extra, e.initrd)
	}
	return b.String()
}
