package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

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
	// Whoever mounted it before us keeps it.
	if _, err := os.Stat(m.path(bootDir + "/grub/grub.cfg")); errors.Is(err, fs.ErrNotExist) {
		if err := m.run(ctx, "mount", bootDir); err != nil {
			return wrong(err, "the boot partition has the label "+disk.BootLabel)
		}
		defer func() { err = errors.Join(err, m.run(context.WithoutCancel(ctx), "umount", bootDir)) }()
	}
	if err := m.putKernel(kernel, initrd, release); err != nil {
		return wrong(err, "the machine starts with the kernel it had; make room on the boot partition and try again")
	}
	m.say("kernel %s starts next time", release)
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
func (m *Machine) putKernel(kernel, initrd []byte, release string) error {
	dir := m.path(bootDir)
	menu, err := os.ReadFile(filepath.Join(dir, "grub/grub.cfg"))
	if err != nil {
		return err
	}
	args, old, err := readMenu(string(menu))
	if err != nil {
		return err
	}
	names := [2]string{"a", "b"} // pairs of files that take turns
	next := names[0]
	if old.kernel == "/vmlinuz."+names[0] {
		next = names[1]
	}
	if err := removed(filepath.Join(dir, "vmlinuz."+next)); err != nil {
		return err
	}
	for name, content := range map[string][]byte{"vmlinuz." + next: kernel, "initrd." + next: initrd} {
		if err := m.write(bootDir+"/"+name, content, 0o600); err != nil {
			return err
		}
	}
	return m.write(bootDir+"/grub/grub.cfg", []byte(writeMenu(args, []entry{{release, "/vmlinuz." + next, "/initrd." + next}, old})), 0o600)
}

// entry is one choice of the boot menu.
type entry struct{ title, kernel, initrd string }

// readMenu finds the arguments and files of the kernel that starts now: the
// first of the file.
func readMenu(text string) (args string, first entry, err error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) > 1 && f[0] == "linux" && first.kernel == "":
			first.kernel, args = f[1], strings.Join(f[2:], " ")
		case len(f) > 1 && f[0] == "initrd" && first.initrd == "":
			first.initrd = f[1]
		case len(f) > 1 && f[0] == "menuentry" && first.title == "":
			first.title = strings.Trim(f[1], "'\"")
		}
	}
	if first.kernel == "" || first.initrd == "" {
		return "", first, errors.New("the boot menu names no kernel and initrd")
	}
	if first.title == "" {
		first.title = "as-delivered"
	}
	return args, first, nil
}

func writeMenu(args string, entries []entry) string {
	var b strings.Builder
	b.WriteString("# Written by `nutshell appliance kernel`. The first entry starts; if it cannot be read, the second.\n" +
		"serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\nset default=0\nset fallback=1\nset timeout=3\n")
	for _, e := range entries {
		fmt.Fprintf(&b, "menuentry '%s' {\n\tlinux %s %s\n\tinitrd %s\n}\n", e.title, e.kernel, args, e.initrd)
	}
	return b.String()
}
