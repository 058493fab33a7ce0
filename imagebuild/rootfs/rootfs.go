// Package rootfs makes root file systems in directories: a first one from
// nothing (Bootstrap), and differences on top of others (Install), both from
// Debian packages by the machine's own apt configuration. It needs root and
// runs mmdebstrap or debootstrap, unshare and apt-get. It keeps nothing: where
// results go is the caller's business.
package rootfs

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"nutshell/imagebuild/recipe"
	"nutshell/roles/api"
)

//go:embed install.sh
var scripts embed.FS

// Progress is told which step runs and how much of the whole is done, 0 to 1.
type Progress func(step string, fraction float64)

// Job is one root file system to make.
type Job struct {
	Recipe  recipe.Recipe
	Suite   string   // trixie, bookworm
	Arch    string   // Debian's name: amd64, arm64
	Sources []string // lines of sources.list, the main archive first
	Options []string // apt.conf lines for this machine, not kept in the image
	Dir     string   // exists and is empty; the result, owned and written by this package
	Work    string   // exists and is empty, same file system; scratch
	Debs    string   // cache of .deb files
	Lists   string   // cache of apt's package lists
	Log     *os.File // what the programs print
}

// Tools says which programs are missing on this machine, or nil.
func Tools() error {
	if os.Geteuid() != 0 {
		return &api.Error{Code: api.CodeUnavailable, Op: "build image", Message: "only root can build images",
			Hint: "start Nutshell as root, or use the process cloud, which needs no image"}
	}
	for _, t := range []struct{ program, pkg string }{{"apt-get", "apt"}, {"unshare", "util-linux"}, {"mount", "mount"}, {"chroot", "coreutils"}} {
		if _, err := exec.LookPath(t.program); err != nil {
			return missing(t.program, t.pkg)
		}
	}
	if bootstrapper() == "" {
		return missing("mmdebstrap", "mmdebstrap")
	}
	return nil
}

func missing(program, pkg string) error {
	return &api.Error{Code: api.CodeUnavailable, Op: "build image", Message: program + " is not installed",
		Hint: "apt-get install " + pkg}
}

// scriptFailed is what install.sh says when a recipe's script fails.
const scriptFailed = "nutshell: the script of the recipe failed"

// stage puts the recipe's files and script to where install.sh takes them from:
// it unpacks them within the image, where links of Debian's mean what they say.
func (j Job) stage() error {
	files := filepath.Join(j.Work, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(files)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := writeFiles(root, j.Recipe); err != nil {
		return err
	}
	if j.Recipe.Script == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(j.Work, "script"), []byte(j.Recipe.Script), 0o600)
}

// bootstrapper is mmdebstrap where there is one: it takes a third of the time.
func bootstrapper() string {
	for _, p := range []string{"mmdebstrap", "debootstrap"} {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}
	return ""
}

// Bootstrap makes a root file system from nothing in j.Dir.
func Bootstrap(ctx context.Context, j Job, progress Progress) error {
	if err := Tools(); err != nil {
		return err
	}
	program := bootstrapper()
	var args []string
	var watch watcher
	if filepath.Base(program) == "mmdebstrap" {
		args, watch = j.mmdebstrap("apt"), &aptText{report: progress}
	} else {
		args, watch = j.debootstrap(), &debootstrapText{report: progress}
	}
	progress("fetching package lists", 0)
	// The process namespace ends whatever a maintainer script leaves running,
	// the mount namespace drops all mounts, also when we are killed.
	args = append([]string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", program}, args...)
	if err := j.run(ctx, watch, nil, args); err != nil {
		return j.failed(ctx, err)
	}
	progress("tidying up", 0.98)
	if filepath.Base(program) == "mmdebstrap" { // debootstrap's lists lack the updates
		if err := j.keepLists(); err != nil {
			return err
		}
	}
	return j.finish()
}

// Install adds packages to the layers in lowers (lowest first) and leaves
// the difference in j.Dir.
func Install(ctx context.Context, j Job, lowers []string, progress Progress) error {
	if err := Tools(); err != nil {
		return err
	}
	for _, dir := range []string{"root", "work"} {
		if err := os.Mkdir(filepath.Join(j.Work, dir), 0o755); err != nil {
			return err
		}
	}
	conf := filepath.Join(j.Work, "apt.conf")
	if err := os.WriteFile(conf, []byte(strings.Join(j.Options, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	if err := j.stage(); err != nil {
		return fmt.Errorf("files of image %s: %w", j.Recipe.Name, err)
	}
	script, err := scripts.ReadFile("install.sh")
	if err != nil {
		return err
	}
	order := make([]string, len(lowers)) // the kernel wants the highest first
	for i, l := range lowers {
		order[len(lowers)-1-i] = l
	}
	if len(j.Recipe.Packages) > 0 || j.Recipe.Script != "" {
		progress("fetching package lists", 0)
	}
	args := []string{"--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "--", "sh", "-c", string(script), "install",
		strings.Join(order, ":"), j.Dir, filepath.Join(j.Work, "work"), filepath.Join(j.Work, "root"), j.Debs, j.Lists, j.Work}
	status := &aptStatus{report: progress}
	if err := j.run(ctx, nil, status, append(args, j.Recipe.Packages...)); err != nil {
		return j.failed(ctx, err)
	}
	progress("tidying up", 0.98)
	return j.finish()
}

func (j Job) mmdebstrap(variant string) []string {
	args := []string{"--verbose", "--mode=root", "--variant=" + variant, "--format=directory", "--architectures=" + j.Arch, "--include=" + strings.Join(j.Recipe.Packages, ","),
		"--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Languages \"none\"", "--dpkgopt=force-unsafe-io",
		"--skip=essential/unlink", "--skip=cleanup/apt/lists", "--skip=check/qemu", // whether programs run is asked by Runs
		"--setup-hook=mkdir -p \"$1\"/var/cache/apt/archives && find " + quote(j.Debs) + " -name '*.deb' -exec ln -t \"$1\"/var/cache/apt/archives {} +",
		"--customize-hook=find \"$1\"/var/cache/apt/archives -name '*.deb' -exec ln -f -t " + quote(j.Debs) + " {} +"}
	for _, o := range j.Options {
		args = append(args, "--aptopt="+strings.TrimSuffix(o, ";"))
	}
	for _, p := range j.Recipe.Exclude {
		args = append(args, "--dpkgopt=path-exclude="+p)
	}
	for _, p := range j.Recipe.Include {
		args = append(args, "--dpkgopt=path-include="+p)
	}
	return append(append(args, j.Suite, j.Dir), j.Sources...)
}

// debootstrap cannot leave files out while it unpacks; finish removes them.
func (j Job) debootstrap() []string {
	mirror := ""
	for _, field := range strings.Fields(j.Sources[0]) {
		if strings.Contains(field, "://") || strings.HasPrefix(field, "file:") {
			mirror = field
		}
	}
	return []string{"--variant=minbase", "--arch=" + j.Arch, "--cache-dir=" + j.Debs, "--include=" + strings.Join(j.Recipe.Packages, ","), j.Suite, j.Dir, mirror}
}

// keepLists moves apt's lists to the cache, so that the next layer does not
// fetch them again.
func (j Job) keepLists() error {
	from := filepath.Join(j.Dir, "var/lib/apt/lists")
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || e.Name() == "lock" {
			continue
		}
		if err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(j.Lists, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// failed turns the death of a program into what a user can act upon: apt's
// own words.
func (j Job) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	tail := tailOf(j.Log, 64<<10)
	e := &api.Error{Code: api.CodeUnavailable, Op: "build image", Object: j.Recipe.Name, Err: err, LogTail: lastLines(tail, 15)}
	if errors.Is(err, errSilent) {
		e.Message, e.Hint = err.Error(), "the mirror, or a package's script, has stopped; the whole log is in "+j.Log.Name()
		return e
	}
	var said []string
	for line := range strings.Lines(tail) {
		if after, ok := strings.CutPrefix(strings.TrimSpace(line), "E: "); ok && !strings.HasPrefix(after, "apt-get ") {
			said = append(said, after)
		}
	}
	e.Message = "installing Debian packages failed"
	if len(said) > 0 {
		e.Message = strings.Join(said, "; ")
	}
	switch {
	case strings.Contains(tail, scriptFailed):
		e.Code, e.Message, e.Hint = api.CodeInvalid, "its script failed", "the script's last words are below; the whole log is in "+j.Log.Name()
	case strings.Contains(tail, "No space left on device"), strings.Contains(tail, "enough free space"):
		e.Code, e.Hint = api.CodeNoSpace, "free some disk space and try again"
	case strings.Contains(tail, "Unable to locate package"), strings.Contains(tail, "has no installation candidate"):
		e.Code, e.Hint = api.CodeInvalid, "check the names of packages: they are those of Debian "+j.Suite
	case strings.Contains(tail, "Could not resolve"), strings.Contains(tail, "Failed to fetch"), strings.Contains(tail, "Unable to fetch"):
		e.Hint = "check the network and this machine's apt configuration, then try again"
	default:
		e.Hint = "the whole log is in " + j.Log.Name()
	}
	return e
}

func lastLines(s string, n int) []string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[max(0, len(lines)-n):]
}

func tailOf(f *os.File, n int64) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	from := max(0, info.Size()-n)
	b := make([]byte, info.Size()-from)
	read, _ := f.ReadAt(b, from)
	return string(bytes.ToValidUTF8(b[:read], nil))
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// CheckPath refuses directories that cannot be named in overlay's options.
func CheckPath(dir string) error {
	if strings.ContainsAny(dir, ",:\\\"\n ") {
		return fmt.Errorf("the path %q has a character that overlayfs or apt cannot take; use another directory", dir)
	}
	return nil
}
