package cloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
)

// Closer is implemented by drivers that keep something on this machine while
// the director runs, such as bridges. Close removes it when no instance needs
// it any longer, and is no error otherwise.
type Closer interface {
	Close(ctx context.Context) error
}

// The name becomes a directory, a host name and part of a control group's
// path, so it must be harmless in each.
var goodName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// CheckName refuses what cannot be an instance's or a group's name.
func CheckName(name string) error {
	if !goodName.MatchString(name) {
		if len(name) > 40 {
			name = name[:40] + "…"
		}
		return fmt.Errorf("%w: name %q: use 1 to 32 of a-z, 0-9 and -, not - first or last", ErrInvalid, name)
	}
	return nil
}

// Check refuses a spec that no driver would accept.
func (s Spec) Check() error {
	if err := CheckName(s.Name); err != nil {
		return err
	}
	if s.Group != "" {
		if err := CheckName(s.Group); err != nil {
			return fmt.Errorf("group: %w", err)
		}
	}
	if s.Limits.MemoryBytes < 0 || s.Limits.CPUPercent < 0 || s.Limits.Processes < 0 {
		return fmt.Errorf("%w: negative limit", ErrInvalid)
	}
	for _, l := range slices.Concat(slices.Collect(maps.Values(s.Foreign))...) {
		if !filepath.IsAbs(l) {
			return fmt.Errorf("%w: layer %q is not an absolute directory", ErrInvalid, l)
		}
	}
	for _, l := range s.Layers {
		if !filepath.IsAbs(l) {
			return fmt.Errorf("%w: layer %q is not an absolute directory", ErrInvalid, l)
		}
	}
	for _, p := range s.Public {
		if p < 1 || p > 65535 {
			return fmt.Errorf("%w: public port %d", ErrInvalid, p)
		}
	}
	names, volumes := map[string]bool{}, map[string]bool{}
	for _, m := range s.Volumes {
		if err := errors.Join(CheckName(m.Volume), CheckMountName(m.Name)); err != nil {
			return fmt.Errorf("volume %q: %w", m.Volume, err)
		}
		if names[m.Name] || volumes[m.Volume] {
			return fmt.Errorf("%w: volume %s at %s: each volume and each name once", ErrInvalid, m.Volume, m.Name)
		}
		names[m.Name], volumes[m.Volume] = true, true
	}
	return nil
}

// The name becomes a directory in an instance.
var goodMount = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// CheckMountName refuses what cannot be a volume's name in an instance, or a
// snapshot's.
func CheckMountName(name string) error {
	if !goodMount.MatchString(name) {
		if len(name) > 40 {
			name = name[:40] + "…"
		}
		return fmt.Errorf("%w: name %q: use 1 to 32 of A-Z, a-z, 0-9, _ and -", ErrInvalid, name)
	}
	return nil
}

// Sizes of volumes, in bytes. Below the least there is no room for a file
// system's own books; above the greatest the file system has other rules.
const (
	MinVolume = 16 << 20
	MaxVolume = 16 << 40
)

// CheckVolumeSize refuses sizes that no driver would accept.
func CheckVolumeSize(bytes int64) error {
	if bytes < MinVolume || bytes > MaxVolume {
		return fmt.Errorf("%w: %d bytes: a volume has from 16 MiB to 16 TiB", ErrInvalid, bytes)
	}
	return nil
}

// Check refuses a volume that no driver would accept.
func (v VolumeSpec) Check() error {
	if err := CheckName(v.Name); err != nil {
		return err
	}
	if v.Group != "" {
		if err := CheckName(v.Group); err != nil {
			return fmt.Errorf("group: %w", err)
		}
	}
	return CheckVolumeSize(v.Bytes)
}

// Check refuses a configuration that lacks what every local driver needs, or
// has options that the driver does not know.
func (c Config) Check(options ...string) error {
	switch {
	case !goodName.MatchString(c.Installation) || len(c.Installation) > 8:
		return fmt.Errorf("%w: installation %q is not up to 8 of a-z and 0-9", ErrInvalid, c.Installation)
	case !filepath.IsAbs(c.Dir):
		return fmt.Errorf("%w: directory %q is not absolute", ErrInvalid, c.Dir)
	case !filepath.IsAbs(c.Binary):
		return fmt.Errorf("%w: binary %q is not an absolute path", ErrInvalid, c.Binary)
	case c.Log == nil:
		return errors.New("cloud: Log is required")
	}
	unknown := []string{}
	for k := range c.Options {
		if !slices.Contains(options, k) {
			unknown = append(unknown, k)
		}
	}
	if len(unknown) > 0 {
		sort.Strings(unknown)
		return fmt.Errorf("%w: unknown options %q of cloud %s; there are %q", ErrInvalid, unknown, c.Name, options)
	}
	return nil
}
