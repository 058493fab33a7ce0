package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"

	"nutshell/imagebuild/disk"
	"nutshell/imagebuild/tree"
	"nutshell/roles/api"
)

// bootDir is where the boot partition is mounted while it is changed.
const bootDir = "/boot/efi"

var releaseName = regexp.MustCompile(`^[0-9][A-Za-z0-9.+~_-]{0,63}$`)

// InstallKernel makes an installed kernel the one that the machine starts
// with. The present one stays in the boot menu as the second choice.
func (m *Machine) InstallKernel(ctx context.Context, release string) (err error) {
	wrong := func(err error, hint string) error {
		return &api.Error{Code: api.CodeUnavailable, Op: "use", Object: "kernel " + api.Shorten(release), Err: err, Hint: hint}
	}
	if !releaseName.MatchString(release) {
		return &api.Error{Code: api.CodeInvalid, Op: "use", Object: "kernel " + api.Shorten(release), Message: "this is not the release of a kernel", Hint: "ls /usr/lib/modules shows them"}
	}
	kernel, err := os.ReadFile(m.path("/boot/vmlinuz-" + release))
	if err != nil {
		return wrong(err, "apt-get install linux-image-"+release)
	}
	initrd, err := m.initrd(release)
	if err != nil {
		return wrong(err, "apt-get install busybox-static, and linux-image-"+release)
	}
	mark, err := json.Marshal(trial{Release: release})
	if err != nil {
		return wrong(err, "")
	}
	if err := m.withBoot(ctx, func() error { return m.putKernel(kernel, initrd, release, mark) }); err != nil {
		return wrong(err, "the machine starts with the kernel it had; the boot partition has the label "+disk.BootLabel+", and needs room")
	}
	m.say("kernel %s starts next time; if it does not work, the present one comes back", release)
	return nil
}

// initrd makes what the kernel starts with.
func (m *Machine) initrd(release string) ([]byte, error) {
	busybox, err := os.ReadFile(m.path("/usr/bin/busybox"))
	if err != nil {
		return nil, err
	}
	root, err := tree.New()
	if err != nil {
		return nil, err
	}
	modules := "/usr/lib/modules/" + release
	if err := root.Copy(m.path(modules), modules); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = disk.WriteInitrd(&b, root, busybox, release)
	return b.Bytes(), err
}

// putKernel changes the boot partition. Each step leaves something that
// starts: the new kernel's files are whole before the menu names them, and
// the present ones are renamed only then.
func (m *Machine) putKernel(kernel, initrd []byte, release string, mark []byte) error {
	dir := m.path(bootDir)
	menu, err := os.ReadFile(filepath.Join(dir, "grub/grub.cfg"))
	if err != nil {
		return err
	}
	args, have, err := readMenu(string(menu))
	if err != nil {
		return err
	}
	old := have[0]
	if t, err := m.trial(); err == nil && len(have) > 1 && old.title == t.Release {
		old = have[1] // the first was installed since the machine started, and is replaced untried
	}
	names := [2]string{"a", "b"} // pairs of files that take turns
	next := names[0]
	if old.kernel == "/vmlinuz."+names[0] {
		next = names[1]
	}
	if err := removed(filepath.Join(dir, "vmlinuz."+next)); err != nil {
		return err
	}
	// The initrd first: a menu that names the pair cannot read it before both are there, and takes the second.
	if err := m.write(bootDir+"/initrd."+next, initrd, 0o600); err != nil {
		return err
	}
	if err := m.write(bootDir+"/vmlinuz."+next, kernel, 0o600); err != nil {
		return err
	}
	if err := m.write(trialPath, mark, 0o600); err != nil {
		return err
	}
	if err := m.setTrial("new"); err != nil {
		return err
	}
	return m.write(bootDir+"/grub/grub.cfg", []byte(writeMenu(args, []entry{{release, "/vmlinuz." + next, "/initrd." + next}, old})), 0o600)
}

// entry is one choice of the boot menu.
type entry struct{ title, kernel, initrd string }
