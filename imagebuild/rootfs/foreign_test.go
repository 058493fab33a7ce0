package rootfs

import (
	"strings"
	"testing"

	"nutshell/roles/api"
)

// Each state of a machine has its own way out.
func TestForeignPrograms(t *testing.T) {
	const good = "enabled\ninterpreter /usr/libexec/q\nflags: POF\noffset 0\n"
	for _, c := range []struct {
		name, arch, status, entry string
		programs                  []string
		want                      string // of the hint; "": it runs
	}{
		{"own", "amd64", "", "", nil, ""},
		{"small-brother", "i386", "", "", nil, ""},
		{"all-there", "arm64", "enabled", good, []string{"qemu-aarch64-static"}, ""},
		{"registered-by-others", "arm64", "enabled", good, nil, ""},
		{"nothing", "arm64", "", "", nil, "apt-get install qemu-user-static"},
		{"not-mounted", "arm64", "", "", []string{"qemu-aarch64-static"}, "mount -t binfmt_misc"},
		{"not-registered", "arm64", "enabled", "", []string{"qemu-aarch64"}, "systemctl restart systemd-binfmt"},
		{"not-fixed", "arm64", "enabled", "enabled\nflags: PO\n", []string{"qemu-aarch64"}, "without the flag F"},
		{"off", "arm64", "enabled", strings.Replace(good, "enabled", "disabled", 1), []string{"qemu-aarch64"}, "echo 1 >"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := runs(c.arch, "amd64", func(name string) string {
				return map[string]string{"status": c.status, "qemu-aarch64": c.entry}[name]
			}, func(p string) bool { return strings.Contains(strings.Join(c.programs, " ")+" ", p+" ") })
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(api.AsError(err).Hint, c.want)):
				t.Errorf("got %v, want a hint of %q", err, c.want)
			}
		})
	}
}
