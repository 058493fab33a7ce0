package imagebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"nutshell/imagebuild/deb"
	"nutshell/imagebuild/rootfs"
	"nutshell/roles/api"
)

// packageFresh is how long an archive of a package is used without asking
// whether Debian has a newer one.
const packageFresh = 24 * time.Hour

var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,99}$`)

// packaged says of an archive of a package what it was made of.
type packaged struct {
	File    string    `json:"file"`
	Version string    `json:"version"`
	Checked time.Time `json:"checked"`
}

// PackageTools says why PackageArchive cannot be used on this machine, or nil.
func (s *Store) PackageTools() error { return deb.Tools() }

// PackageArchive returns a tar.zst of the web application in a Debian package.
// layered asks for the release that layers are made of, else it is this
// machine's own. What was made once is kept; where apt does not answer, it is
// used however old it is. Progress may be nil.
func (s *Store) PackageArchive(ctx context.Context, name string, layered bool, progress Progress) (string, error) {
	if progress == nil {
		progress = func(string, float64) {}
	}
	if !packageName.MatchString(name) {
		return "", &api.Error{Code: api.CodeInvalid, Op: "fetch", Object: "Debian package " + api.Shorten(name), Message: "this is no name of a package"}
	}
	suite := "own"
	if layered {
		var err error
		if suite, _, err = s.target(ctx); err != nil {
			return "", err
		}
	}
	dir := s.path("packages", suite)
	note := filepath.Join(dir, name+".json")
	have, known := readPackaged(note)
	if known && time.Since(have.Checked) < packageFresh {
		return filepath.Join(dir, have.File), nil
	}
	err := s.builds.do(ctx, "package "+suite+" "+name, progress, func(ctx context.Context, progress Progress) error {
		return s.makePackage(ctx, suite, layered, name, progress)
	})
	if err != nil && known && ctx.Err() == nil {
		s.log.Warn("Debian package not looked for, its last archive is used", "package", name, "version", have.Version, "error", err)
		return filepath.Join(dir, have.File), nil
	}
	if err != nil {
		return "", err
	}
	have, known = readPackaged(note)
	if !known {
		return "", fmt.Errorf("archive of Debian package %s is gone", name)
	}
	return filepath.Join(dir, have.File), nil
}

func readPackaged(note string) (packaged, bool) {
	var p packaged
	b, err := os.ReadFile(note)
	if err != nil || json.Unmarshal(b, &p) != nil || filepath.Base(p.File) != p.File {
		return p, false
	}
	_, err = os.Stat(filepath.Join(filepath.Dir(note), p.File))
	return p, err == nil
}

func (s *Store) makePackage(ctx context.Context, suite string, layered bool, name string, progress Progress) error {
	if err := deb.Tools(); err != nil {
		return err
	}
	// As for layers: apt's lists take one user at a time.
	unlock, err := lock(ctx, s.path("packages.lock"), func() { progress("waiting for another package", 0) })
	if err != nil {
		return err
	}
	defer unlock()
	apt := deb.Apt{State: s.path("apt", suite)}
	if layered {
		s.mu.Lock()
		host, err := s.archive(ctx)
		s.mu.Unlock()
		if err != nil {
			return err
		}
		apt.Sources, apt.Options = host.Sources(ctx, suite), host.Options()
	} else if s.mirror != "" {
		host, err := rootfs.Host(ctx, "")
		if err != nil {
			return err
		}
		apt.Options = host.Options()
	}
	dir := s.path("packages", suite)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(apt.State, 0o755)); err != nil {
		return err
	}
	work, err := os.MkdirTemp(s.path("build"), "package-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	f, err := os.CreateTemp(work, "archive-")
	if err != nil {
		return err
	}
	version, err := deb.Write(ctx, apt, name, work, f, progress)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return keepPackage(dir, name, version, f.Name(), time.Now())
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9.+~-]`)

func keepPackage(dir, name, version, made string, now time.Time) error {
	p := packaged{File: name + "_" + notInNames.ReplaceAllString(version, "_") + ".tar.zst", Version: version, Checked: now}
	old, had := readPackaged(filepath.Join(dir, name+".json"))
	if err := os.Rename(made, filepath.Join(dir, p.File)); err != nil {
		return err
	}
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	note := filepath.Join(dir, name+".json")
	if err := os.WriteFile(note+".new", b, 0o644); err != nil {
		return err
	}
	if err := os.Rename(note+".new", note); err != nil {
		return err
	}
	if had && old.File != p.File {
		if err := os.Remove(filepath.Join(dir, old.File)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
