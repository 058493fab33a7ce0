package lxc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"nutshell/cloud"
)

// noUpper are file systems that overlayfs refuses for the files of an instance.
var noUpper = []int64{unix.OVERLAYFS_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.V9FS_MAGIC}

// Check says what is missing for containers here.
func (d *driver) Check(ctx context.Context) error {
	missing := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{cloud.ErrUnavailable}, args...)...)
	}
	if os.Geteuid() != 0 {
		return missing("containers need root; an ordinary user has the process cloud")
	}
	if st, err := os.Stat(d.c.Binary); err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return missing("%s is not a program", d.c.Binary)
	}
	for _, f := range []string{"common.conf", "common.seccomp"} {
		if _, err := os.Stat(filepath.Join(shareDir, f)); err != nil {
			return missing("%s/%s is missing: apt-get install lxc", shareDir, f)
		}
	}
	if _, err := d.tool.version(ctx); errors.Is(err, cloud.ErrUnavailable) {
		return err
	} else if err != nil {
		return missing("%w", err)
	}
	if len(hierarchies()) == 0 {
		return missing("no control groups are mounted at %s", cgroupDir)
	}
	b, err := os.ReadFile("/proc/filesystems")
	if err == nil && !strings.Contains(string(b), "\toverlay\n") {
		if _, err := os.Stat("/sys/module/overlay"); err != nil {
			return missing("the kernel has no overlayfs (modprobe overlay)")
		}
	}
	var fsys unix.Statfs_t
	if err := unix.Statfs(d.c.Dir, &fsys); err == nil && slices.Contains(noUpper, int64(fsys.Type)) { //nolint:unconvert // of 32 bits on small machines
		return missing("%s lies on a file system that cannot take instances' files (overlay or network): choose another data directory", d.c.Dir)
	}
	// Asked, not tried: a node is checked each minute, and every file that is made wears its card.
	if err := unix.Access(d.c.Dir, unix.W_OK); err != nil {
		return missing("cannot write in %s: %w", d.c.Dir, err)
	}
	if fsys.Files > 0 && fsys.Ffree == 0 {
		return missing("the file system of %s has no room for another file", d.c.Dir)
	}
	d.net.mu.Lock()
	defer d.net.mu.Unlock()
	if err := d.net.load(); err != nil {
		return missing("%w", err)
	}
	return nil
}
