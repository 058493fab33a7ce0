package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// mendTime bounds one remedy; packages are fetched in it.
const mendTime = 10 * time.Minute

// Mended is what became of a remedy.
type Mended struct {
	Fix   string `json:"fix" yaml:"fix"`
	Error string `json:"error,omitempty" yaml:"error,omitempty"` // empty: done
}

// by gives a finding the one remedy that it has: something that leaves nothing
// to choose and takes nothing away. fix is the command that does the same.
func (f Finding) by(fix string, mend func(ctx context.Context) error) Finding {
	f.Fix, f.mend = fix, mend
	return f
}

// Remedies are the commands that Mend would do, each once.
func Remedies(all []Finding) (list []string) {
	for _, f := range all {
		if f.Fix != "" && !slices.Contains(list, f.Fix) {
			list = append(list, f.Fix)
		}
	}
	return list
}

// Mend does what can be done about findings, in their order.
func Mend(ctx context.Context, all []Finding) (list []Mended) {
	done := map[string]bool{}
	for _, f := range all {
		if f.Fix == "" || done[f.Fix] {
			continue
		}
		done[f.Fix] = true
		m := Mended{Fix: f.Fix}
		if err := within(ctx, f.mend); err != nil {
			m.Error = err.Error()
		}
		list = append(list, m)
	}
	return list
}

func within(ctx context.Context, mend func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, mendTime)
	defer cancel()
	return mend(ctx)
}

// closed takes a file from other accounts.
func (f Finding) closed(path string) Finding {
	return f.by("chmod go= "+path, func(context.Context) error { return chmod(path, func(m fs.FileMode) fs.FileMode { return m &^ 0o077 }) })
}

// chmod changes a file or directory itself, never what a link leads to.
func chmod(path string, to func(fs.FileMode) fs.FileMode) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() && !st.IsDir() {
		return fmt.Errorf("%s is neither a file nor a directory", path)
	}
	return os.Chmod(path, to(st.Mode().Perm()))
}

// loaded loads kernel modules that lie there.
func (p *Patient) loaded(f Finding, modules ...string) Finding {
	if p.Run == nil || slices.ContainsFunc(modules, func(m string) bool { return p.module(m) != present }) {
		return f
	}
	fix := append([]string{"modprobe", "-a"}, modules...)
	return f.by(strings.Join(fix, " "), func(ctx context.Context) error { return p.Run(ctx, fix...) })
}

// packaged installs Debian packages that bring no daemon which would start.
func (p *Patient) packaged(f Finding, names ...string) Finding {
	if p.Run == nil || !p.exists("/var/lib/dpkg/status") {
		return f
	}
	fix := append([]string{"apt-get", "install", "-y", "--no-install-recommends"}, names...)
	return f.by(strings.Join(fix, " "), func(ctx context.Context) error {
		if p.Euid != 0 {
			return errors.New("only root can: sudo nutshell doctor --fix --yes")
		}
		if err := p.Run(ctx, fix...); err == nil {
			return nil
		}
		// Lists are missing or old.
		if err := p.Run(ctx, "apt-get", "update", "-q"); err != nil {
			return err
		}
		return p.Run(ctx, fix...)
	})
}

// RunCommand runs a command and tells the end of what it said if it fails.
func RunCommand(ctx context.Context, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return fmt.Errorf("%s: %w: %s", argv[0], err, strings.Join(lines[max(0, len(lines)-3):], "; "))
}
