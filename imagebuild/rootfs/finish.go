package rootfs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"nutshell/imagebuild/recipe"
)

// finish writes what the recipe writes and takes away what it takes away.
// All of it goes through os.Root: a symbolic link in a package must not lead
// us out of the image.
func (j Job) finish() error {
	root, err := os.OpenRoot(j.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	steps := []func(*os.Root, recipe.Recipe) error{writeExcludes, removeExcluded, emptyDirs, removePatterns}
	if j.Recipe.Inherits == "" {
		steps = append(steps, writeFiles)
	}
	if j.Recipe.Inherits == "" && !j.Recipe.Unpack {
		steps = append(steps, func(r *os.Root, _ recipe.Recipe) error {
			return write(r, "etc/apt/sources.list", []byte(strings.Join(j.Sources, "\n")+"\n"), 0o644)
		})
	}
	for _, step := range steps {
		if err := step(root, j.Recipe); err != nil {
			return fmt.Errorf("finish image %s: %w", j.Recipe.Name, err)
		}
	}
	if err := stripOverlay(j.Dir); err != nil {
		return err
	}
	return os.Chmod(j.Dir, 0o755)
}

func writeFiles(root *os.Root, r recipe.Recipe) error {
	for _, dir := range r.Dirs {
		if err := root.MkdirAll(dir[1:], 0o755); err != nil {
			return err
		}
	}
	for name, f := range r.Files {
		mode := fs.FileMode(0o644)
		if f.Executable {
			mode = 0o755
		}
		text := []byte(f.Text)
		if f.From != "" {
			var err error
			if text, err = os.ReadFile(f.From); err != nil {
				return err
			}
			if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != f.Sum {
				return fmt.Errorf("%s was changed while the image was built, or since its recipe was read", f.From)
			}
		}
		if err := write(root, name[1:], text, mode); err != nil {
			return err
		}
	}
	return nil
}

func write(root *os.Root, name string, text []byte, mode fs.FileMode) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	// Remove first: the path may be a link, or a whiteout of the layer below.
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := root.WriteFile(name, text, mode); err != nil {
		return err
	}
	return root.Chmod(name, mode)
}

// writeExcludes tells dpkg what the layers above must leave out too.
func writeExcludes(root *os.Root, r recipe.Recipe) error {
	if len(r.Exclude) == 0 {
		return nil
	}
	var b strings.Builder
	for _, p := range r.Exclude {
		fmt.Fprintf(&b, "path-exclude=%s\n", p)
	}
	for _, p := range r.Include {
		fmt.Fprintf(&b, "path-include=%s\n", p)
	}
	return write(root, "etc/dpkg/dpkg.cfg.d/nutshell", []byte(b.String()), 0o644)
}

// removeExcluded does after the fact what dpkg's path-exclude does, for
// debootstrap and for files that are older than the rule.
func removeExcluded(root *os.Root, r recipe.Recipe) error {
	for _, pattern := range r.Exclude {
		dir, ok := strings.CutSuffix(pattern, "/*")
		if !ok {
			continue
		}
		err := walkFiles(root, dir[1:], func(name string) error {
			for _, keep := range r.Include {
				if ok, err := path.Match(keep, "/"+name); err != nil || ok {
					return err
				}
			}
			return root.Remove(name)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func emptyDirs(root *os.Root, r recipe.Recipe) error {
	for _, dir := range r.Empty {
		if err := walkFiles(root, dir[1:], root.Remove); err != nil {
			return err
		}
	}
	return nil
}

// walkFiles calls do for all that is no directory below dir. Whiteouts stay:
// removing one would bring back the lower layer's file.
func walkFiles(root *os.Root, dir string, do func(string) error) error {
	if info, err := root.Lstat(dir); err != nil || !info.IsDir() {
		return nil // not in this layer, or a link to what is handled by its own name
	}
	return fs.WalkDir(root.FS(), dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Type()&fs.ModeCharDevice != 0 {
			return err
		}
		return do(name)
	})
}

func removePatterns(root *os.Root, r recipe.Recipe) error {
	for _, pattern := range r.Remove {
		names, err := fs.Glob(root.FS(), pattern[1:])
		if err != nil {
			return fmt.Errorf("remove %s: %w", pattern, err)
		}
		for _, name := range names {
			if whiteout(root, name) {
				continue
			}
			if err := root.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func whiteout(root *os.Root, name string) bool {
	info, err := root.Lstat(name)
	if err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Rdev == 0
}

// stripOverlay removes the notes that overlayfs leaves on files for its own
// use on this very file system. The opaque mark stays: it is part of the
// difference.
func stripOverlay(dir string) error {
	return filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, attr := range []string{"trusted.overlay.origin", "trusted.overlay.impure", "trusted.overlay.nlink", "trusted.overlay.uuid"} {
			err := unix.Lremovexattr(name, attr)
			if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
				return fmt.Errorf("remove %s from %s: %w", attr, name, err)
			}
		}
		return nil
	})
}
