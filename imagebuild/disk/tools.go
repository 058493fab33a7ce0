package disk

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"nutshell/roles/api"
)

// Tools are programs of Debian in directories that nobody has mounted: layers
// of a root file system. They run on this machine, by their own loader and
// with their own libraries, so that an image is made by the same programs
// everywhere, and without root.
type Tools struct {
	dirs      []string // highest first
	loader    string
	libraries string
}

// NewTools takes the layers, lowest first.
func NewTools(layers ...string) (*Tools, error) {
	t := &Tools{dirs: slices.Clone(layers)}
	slices.Reverse(t.dirs)
	var libraries []string
	for _, d := range t.dirs {
		loaders, err := filepath.Glob(filepath.Join(d, "usr/lib/*-linux-gnu/ld-linux-*.so.*"))
		if err != nil {
			return nil, err
		}
		if len(loaders) > 0 && t.loader == "" {
			t.loader = loaders[0]
		}
		found, err := filepath.Glob(filepath.Join(d, "usr/lib/*-linux-gnu"))
		if err != nil {
			return nil, err
		}
		libraries = append(libraries, found...)
	}
	if t.loader == "" {
		return nil, fmt.Errorf("no loader in %s", strings.Join(layers, ", "))
	}
	t.libraries = strings.Join(libraries, ":")
	return t, nil
}

// Path finds a file in the highest layer that has it.
func (t *Tools) Path(name string) (string, error) {
	for _, d := range t.dirs {
		p := filepath.Join(d, name)
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", &fs.PathError{Op: "find tool", Path: "/" + name, Err: fs.ErrNotExist}
}

// Command runs a program that lies in usr/bin or usr/sbin of a layer.
func (t *Tools) Command(ctx context.Context, program string, args ...string) (*exec.Cmd, error) {
	for _, dir := range []string{"usr/bin", "usr/sbin"} {
		p, err := t.Path(filepath.Join(dir, program))
		if err != nil {
			continue
		}
		cmd := exec.CommandContext(ctx, t.loader, append([]string{"--library-path", t.libraries, p}, args...)...)
		cmd.Env = []string{"PATH=/nonexistent", "LANG=C.UTF-8"}
		return cmd, nil
	}
	return nil, &api.Error{Code: api.CodeInternal, Op: "build image", Message: "the image tools have no " + program}
}

// run runs a program to its end; what it printed is in the error.
func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Args[min(3, len(cmd.Args)-1)]), err, strings.TrimSpace(string(out)))
	}
	return nil
}
