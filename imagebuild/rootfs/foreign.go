package rootfs

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"nutshell/roles/api"
)

// emulated is which processor emulators shall be, by architecture. QEMU's best
// one for arm64 signs each return address in software, which makes it fifteen
// times slower; this is the processor of a Pi 3, so that what runs here runs there.
var emulated = map[string]string{"arm64": "cortex-a53"}

// run runs unshare for this job.
func (j Job) run(ctx context.Context, text, status watcher, args []string) error {
	cpu := emulated[j.Arch]
	if j.Arch == runtime.GOARCH || cpu == "" {
		return run(ctx, j.Log, text, status, "unshare", args...)
	}
	return run(ctx, j.Log, text, status, "env", append([]string{"QEMU_CPU=" + cpu, "unshare"}, args...)...)
}

// binfmt is where the kernel says which programs it gives to emulators.
const binfmt = "/proc/sys/fs/binfmt_misc/"

// Runs says why this machine cannot run programs of an architecture, or nil.
func Runs(arch string) error {
	return runs(arch, runtime.GOARCH, func(name string) string {
		b, _ := os.ReadFile(binfmt + name)
		return string(b)
	}, func(program string) bool {
		_, err := exec.LookPath(program)
		return err == nil
	})
}

// runs is told what the kernel's files say ("" where one is missing), and which
// programs there are.
func runs(arch, host string, read func(string) string, has func(program string) bool) error {
	if arch == host || arch == "i386" && host == "amd64" || arch == "armhf" && host == "arm" {
		return nil
	}
	machine := map[string]string{"arm64": "aarch64", "amd64": "x86_64", "armhf": "arm", "riscv64": "riscv64"}[arch]
	if machine == "" {
		machine = arch
	}
	name := "qemu-" + machine
	said := read(name)
	hint := ""
	switch {
	case strings.HasPrefix(said, "enabled") && fixed(said):
		return nil
	case !has(name+"-static") && !has(name):
		hint = "apt-get install qemu-user-static binfmt-support"
	case read("status") == "":
		hint = "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc, and then systemctl restart systemd-binfmt or update-binfmts --enable " + name
	case said == "":
		hint = "the emulator is here and the kernel does not know it: systemctl restart systemd-binfmt, or apt-get install binfmt-support and update-binfmts --enable " + name
	case !fixed(said): // the emulator is not within the layer
		hint = name + " is registered without the flag F: apt-get install --reinstall qemu-user-static"
	default:
		hint = "it is switched off: echo 1 >" + binfmt + name
	}
	return &api.Error{Code: api.CodeUnavailable, Op: "build image", Message: "packages for " + arch + " have scripts that this machine (" + host + ") cannot run",
		Hint: hint + "; or build the layers on a machine that is " + arch}
}

// fixed reports whether the kernel has opened the emulator already, so that it
// need not be within the root file system.
func fixed(said string) bool {
	for line := range strings.Lines(said) {
		if flags, ok := strings.CutPrefix(line, "flags:"); ok {
			return strings.Contains(flags, "F")
		}
	}
	return false
}
