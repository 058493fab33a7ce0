package imagebuild

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/imagebuild/recipe"
	"nutshell/roles/api"
)

// Layer is one layer in the store.
type Layer struct {
	Digest    string            `json:"digest"`
	Below     string            `json:"below,omitempty"` // digest of the layer it is a difference to
	Name      string            `json:"name"`            // of the kind it was first built for
	Suite     string            `json:"suite"`
	Arch      string            `json:"arch"`
	Packages  []string          `json:"packages"`  // asked for
	Installed map[string]string `json:"installed"` // what that brought: package to version
	Bytes     int64             `json:"bytes"`     // on disk
	Created   time.Time         `json:"created"`
	Dir       string            `json:"-"` // the root file system
}

func (s *Store) rootDir(digest string) string { return s.path("layers", digest, layerRoot) }

// read returns a finished layer. What is in layers/ is finished: it got
// there by one rename.
func (s *Store) read(digest string) (Layer, error) {
	var l Layer
	b, err := os.ReadFile(s.path("layers", digest, layerMeta))
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return l, fmt.Errorf("image layer %s: %w", digest, err)
	}
	l.Dir = s.rootDir(digest)
	return l, nil
}

// meta is what lies beside the root file system.
func (l Layer) meta() ([]byte, error) {
	b, err := json.MarshalIndent(l, "", "  ")
	return append(b, '\n'), err
}

// keep moves a built root file system to its place.
func (s *Store) keep(l *Layer, dir string) error {
	var err error
	if l.Installed, err = s.brought(l.Below, dir); err != nil {
		return fmt.Errorf("read the packages of image %s: %w", l.Name, err)
	}
	if l.Bytes, err = diskUse(dir); err != nil {
		return err
	}
	b, err := l.meta()
	if err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	if err := os.WriteFile(filepath.Join(parent, layerMeta), b, 0o644); err != nil {
		return err
	}
	if err := os.Chmod(parent, 0o755); err != nil {
		return err
	}
	// dpkg was told not to sync, so that is done once, before the name that says finished.
	if err := syncFS(s.dir); err != nil {
		return err
	}
	if err := os.Rename(parent, s.path("layers", l.Digest)); err != nil {
		return err
	}
	return syncFS(s.dir)
}

func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// brought lists the packages of dir that the layer below does not have.
func (s *Store) brought(below, dir string) (map[string]string, error) {
	have, err := installed(dir)
	if below != "" && errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil // files only: a layer is the difference
	}
	if err != nil || below == "" {
		return have, err
	}
	had, err := installed(s.rootDir(below))
	if err != nil {
		return nil, err
	}
	for name, version := range had {
		if have[name] == version {
			delete(have, name)
		}
	}
	return have, nil
}

// installed reads dpkg's status of a root file system.
func installed(dir string) (map[string]string, error) {
	b, err := os.ReadFile(filepath.Join(dir, "var/lib/dpkg/status"))
	if err != nil {
		return nil, err
	}
	packages := map[string]string{}
	for paragraph := range strings.SplitSeq(string(b), "\n\n") {
		field := map[string]string{}
		for line := range strings.Lines(paragraph) {
			if key, value, ok := strings.Cut(line, ":"); ok {
				field[key] = strings.TrimSpace(value)
			}
		}
		if state := field["Status"]; strings.HasSuffix(state, " installed") || strings.HasSuffix(state, " unpacked") {
			packages[field["Package"]] = field["Version"]
		}
	}
	return packages, nil
}

// diskUse adds up what a tree takes on disk, hard links once.
func diskUse(dir string) (int64, error) {
	var sum int64
	seen := map[uint64]bool{}
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || seen[st.Ino] {
			return nil
		}
		if st.Nlink > 1 && !d.IsDir() {
			seen[st.Ino] = true
		}
		sum += st.Blocks * 512
		return nil
	})
	return sum, err
}

// List returns the finished layers, oldest first.
func (s *Store) List() ([]Layer, error) {
	entries, err := os.ReadDir(s.path("layers"))
	if err != nil {
		return nil, fmt.Errorf("list image layers: %w", err)
	}
	list := make([]Layer, 0, len(entries))
	for _, e := range entries {
		l, err := s.read(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed while we look
		}
		if err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b Layer) int { return a.Created.Compare(b.Created) })
	return list, nil
}

// Remove deletes the layers that unused says nobody needs, and the cached
// packages that only those had, and returns what it deleted. A layer stays
// while one above it stays. It waits for no build: during one it is a conflict.
func (s *Store) Remove(unused func(Layer) bool) ([]Layer, error) {
	unlock, ok, err := tryLock(s.path("lock"))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, api.Conflictf("an image is being built; try again when it is done")
	}
	defer unlock()
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{}
	var gone, stay []Layer
	for _, l := range slices.Backward(list) { // a layer is older than those above it
		if needed[l.Digest] || !unused(l) {
			needed[l.Below] = true
			stay = append(stay, l)
			continue
		}
		gone = append(gone, l)
	}
	for _, l := range gone {
		// Out of the way first: a half deleted layer must never look finished.
		trash, err := os.MkdirTemp(s.path("build"), "removed-")
		if err != nil {
			return nil, err
		}
		if err := os.Rename(s.path("layers", l.Digest), filepath.Join(trash, "layer")); err != nil {
			return nil, err
		}
		if err := os.RemoveAll(trash); err != nil {
			return nil, err
		}
		if err := os.Remove(s.packFile(l.Digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		s.log.Info("image layer removed", "name", l.Name, "digest", l.Digest[:12])
	}
	return gone, s.pruneDebs(stay)
}

// pruneDebs removes cached packages that no layer in stay has installed.
func (s *Store) pruneDebs(stay []Layer) error {
	wanted := map[string]bool{}
	for _, l := range stay {
		for name, version := range l.Installed {
			for _, arch := range []string{l.Arch, "all"} {
				// apt escapes the colon of an epoch in file names.
				wanted[l.Suite+"/"+name+"_"+strings.ReplaceAll(version, ":", "%3a")+"_"+arch+".deb"] = true
			}
		}
	}
	debs, err := filepath.Glob(s.path("debs", "*", "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if !wanted[filepath.Base(filepath.Dir(deb))+"/"+filepath.Base(deb)] {
			if err := os.Remove(deb); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkSpace refuses to begin what would fill the disk.
func (s *Store) checkSpace(r recipe.Recipe) error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return fmt.Errorf("ask for free space in %s: %w", s.dir, err)
	}
	return spaceFor(r, s.dir, st.Bavail*uint64(st.Bsize)) //nolint:gosec // a block size is positive
}

func spaceFor(r recipe.Recipe, dir string, free uint64) error {
	const mb = 1 << 20
	if free/mb >= r.SpaceMB {
		return nil
	}
	return &api.Error{Code: api.CodeNoSpace, Op: "build image", Object: r.Name,
		Message: fmt.Sprintf("needs %d MB of free disk, %s has %d MB", r.SpaceMB, dir, free/mb),
		Hint:    "free some space, or keep images on another disk"}
}

// debianArch is Debian's name of this machine's architecture.
func debianArch() string {
	if name, ok := map[string]string{"386": "i386", "arm": "armhf", "ppc64le": "ppc64el"}[runtime.GOARCH]; ok {
		return name
	}
	return runtime.GOARCH
}
