package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nutshell/roles/api"
)

// Archive is where this machine gets its Debian packages from.
type Archive struct {
	Arch    string // of dpkg: amd64, arm64
	mirrors []mirror
	options []string
}

// mirror is one archive with its release named relative to the suite: ""
// for the suite itself, "-updates", "-security".
type mirror struct{ uri, suffix string }

// aptTime bounds what apt is asked about this machine. A minute went by on a
// busy one whose cache was stale.
const aptTime = 3 * time.Minute

// Host reads this machine's apt configuration. A mirror that is given wins
// over what apt has.
func Host(ctx context.Context, given string) (Archive, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, aptTime, fmt.Errorf("apt said nothing for %v", aptTime))
	defer cancel()
	arch, err := exec.CommandContext(ctx, "dpkg", "--print-architecture").Output()
	if err != nil {
		return Archive{}, fmt.Errorf("ask dpkg for the architecture: %w", err)
	}
	a := Archive{Arch: strings.TrimSpace(string(arch)), options: hostOptions(ctx)}
	if given != "" {
		a.mirrors = []mirror{{uri: given}}
		return a, nil
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN)|$(REPO_URI)|$(RELEASE)", "Created-By: Packages").Output()
	if err != nil {
		return Archive{}, &api.Error{Code: api.CodeUnavailable, Op: "build image", Message: "this machine's apt does not tell its mirrors", Err: errors.Join(err, context.Cause(ctx)),
			Hint: "try apt-get indextargets, or set image.mirror in the configuration"}
	}
	a.mirrors = parseTargets(string(out))
	if len(a.mirrors) == 0 || a.mirrors[0].suffix != "" {
		return Archive{}, &api.Error{Code: api.CodeUnavailable, Op: "build image", Message: "this machine's apt knows no Debian mirror",
			Hint: "run apt-get update, or set image.mirror in the configuration"}
	}
	return a, nil
}

// parseTargets picks Debian's own archives, the main one first.
func parseTargets(out string) []mirror {
	var list []mirror
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 3 || f[0] != "Debian" {
			continue
		}
		suffix := ""
		for _, s := range []string{"-security", "-updates"} {
			if strings.HasSuffix(f[2], s) {
				suffix = s
			}
		}
		if suffix == "" && strings.ContainsAny(f[2], "-/") {
			continue // backports and the like
		}
		if m := (mirror{uri: strings.TrimSuffix(f[1], "/"), suffix: suffix}); !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	slices.SortStableFunc(list, func(a, b mirror) int { return len(a.suffix) - len(b.suffix) })
	return list
}

// hostOptions are the apt settings without which packages may not be
// reachable from here.
func hostOptions(ctx context.Context) []string {
	// One that stops in the middle of a package is asked for it sixteen times before apt gives it up.
	options := []string{`Acquire::http::Timeout "15";`, `Acquire::https::Timeout "15";`, `Acquire::Retries "1";`}
	out, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return options // no apt settings, so nothing to pass on
	}
	for line := range strings.Lines(string(out)) {
		for _, key := range []string{"Acquire::http::Proxy ", "Acquire::https::Proxy ", "Acquire::http::Proxy::", "Acquire::https::Proxy::",
			"Acquire::Check-Valid-Until ", "Acquire::Check-Date ", "Acquire::Retries ", "Acquire::http::Timeout ", "Acquire::https::Timeout ", "Acquire::ForceIPv4 "} {
			if strings.HasPrefix(line, key) {
				options = append(options, strings.TrimSpace(line))
			}
		}
	}
	return options
}

// Options are apt.conf lines for whatever fetches packages on this machine.
func (a Archive) Options() []string { return a.options }

// Suite is the first of the wanted suites that the mirror offers.
func (a Archive) Suite(ctx context.Context, wanted ...string) (string, error) {
	for _, suite := range wanted {
		if a.offers(ctx, a.mirrors[0].uri, suite) {
			return suite, nil
		}
	}
	return "", &api.Error{Code: api.CodeUnavailable, Op: "build image", Message: "the Debian mirror offers none of " + strings.Join(wanted, ", ") + ", or does not answer",
		Hint: "check the network and this machine's apt configuration, or set image.mirror"}
}

// Sources are the lines of sources.list for a suite: the archive, and the
// updates of it that this machine's mirrors offer.
func (a Archive) Sources(ctx context.Context, suite string) []string {
	var lines []string
	for i, m := range a.mirrors {
		if i == 0 || a.offers(ctx, m.uri, suite+m.suffix) {
			lines = append(lines, fmt.Sprintf("deb %s %s%s main", m.uri, suite, m.suffix))
		}
	}
	return lines
}

// offers asks by apt's own means, so that proxies and file: mirrors work.
func (a Archive) offers(ctx context.Context, uri, release string) bool {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	dir, err := os.MkdirTemp("", "nutshell-release-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, "/usr/lib/apt/apt-helper", "-o", "Acquire::Retries=1", "download-file",
		uri+"/dists/"+release+"/InRelease", filepath.Join(dir, "InRelease"))
	return cmd.Run() == nil
}
