package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"nutshell/imagebuild/recipe"
)

// Unpack makes a root file system in j.Dir of packages that are unpacked and
// no more: none of their scripts runs, so that it may be of any architecture.
// The little that the scripts of those packages would have done, and without
// which no machine boots, is done here.
func Unpack(ctx context.Context, j Job, progress Progress) error {
	if err := Tools(); err != nil {
		return err
	}
	for program, pkg := range map[string]string{"mmdebstrap": "mmdebstrap", "dpkg-deb": "dpkg", "depmod": "kmod"} {
		if _, err := exec.LookPath(program); err != nil {
			return missing(program, pkg)
		}
	}
	progress("fetching package lists", 0)
	args := []string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "mmdebstrap",
		// dpkg's record of what is there, in its own words: unpacked, not configured.
		`--extract-hook=for d in "$1"/var/cache/apt/archives/*.deb; do dpkg-deb -f "$d" | sed '1a Status: install ok unpacked'; echo; done >"$1"/var/lib/dpkg/status`}
	for _, a := range j.mmdebstrap("extract") {
		// No hook of this way of unpacking comes later.
		args = append(args, strings.Replace(a, "--customize-hook=", "--extract-hook=", 1))
	}
	if err := run(ctx, j.Log, &aptText{report: progress}, nil, "unshare", args...); err != nil {
		return j.failed(ctx, err)
	}
	progress("tidying up", 0.95)
	if err := j.keepLists(); err != nil {
		return err
	}
	if err := j.configure(); err != nil {
		return fmt.Errorf("finish image %s: %w", j.Recipe.Name, err)
	}
	if err := j.finish(); err != nil {
		return err
	}
	return j.depmod(ctx)
}

// configure does what scripts of base-passwd, libc-bin and base-files do.
// Accounts of daemons are made at each boot by systemd-sysusers.
func (j Job) configure() error {
	root, err := os.OpenRoot(j.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for to, from := range map[string]string{"etc/passwd": "usr/share/base-passwd/passwd.master", "etc/group": "usr/share/base-passwd/group.master", //nolint:gosec // names of files
		"etc/nsswitch.conf": "usr/share/libc-bin/nsswitch.conf", "etc/profile": "usr/share/base-files/profile"} {
		b, err := root.ReadFile(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a recipe without that package
		}
		if err != nil {
			return err
		}
		if to == "etc/passwd" {
			b = []byte(strings.Replace(string(b), "root:*:", "root:x:", 1))
			if err := write(root, "etc/shadow", []byte("root:*:19000:0:99999:7:::\n"), 0o600); err != nil {
				return err
			}
		}
		if err := write(root, to, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// depmod writes down which kernel module needs which, when the recipe has taken
// away what it takes away.
func (j Job) depmod(ctx context.Context) error {
	releases, err := filepath.Glob(filepath.Join(j.Dir, "usr/lib/modules/*/kernel"))
	if err != nil {
		return err
	}
	for _, r := range releases {
		release := filepath.Base(filepath.Dir(r))
		if err := run(ctx, j.Log, nil, nil, "depmod", "-b", j.Dir, release); err != nil {
			return fmt.Errorf("list the modules of kernel %s: %w", release, err)
		}
	}
	return nil
}

// SourcesOf are the lines of sources.list for a recipe that unpacks, and its
// packages as apt shall be asked for them.
func (a Archive) SourcesOf(ctx context.Context, suite string, r recipe.Recipe) (lines, packages []string) {
	more := strings.Join(r.Components, " ")
	for _, l := range a.Sources(ctx, suite) {
		lines = append(lines, strings.TrimSpace(l+" "+more))
	}
	back := suite + "-backports"
	from := map[string]bool{}
	if len(r.Backports) > 0 && a.offers(ctx, a.mirrors[0].uri, back) {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("deb %s %s main %s", a.mirrors[0].uri, back, more)))
		for _, p := range r.Backports {
			from[p] = true
		}
	}
	for _, p := range r.Packages {
		if from[p] {
			p += "/" + back
		}
		packages = append(packages, p)
	}
	return lines, packages
}
