package deb

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// leftOut are packages of an application that are not the application.
var leftOut = []string{"-l10n", "-doc", "-dbg", "-dev", "-plugin"}

// Write makes a tar.zst of the web application that a package holds: what
// visitors see at its top, symbolic links replaced by what they lead to. The
// packages of the same name with something behind it belong to it, and of the
// others it depends on those that its links lead into. It returns the version.
func Write(ctx context.Context, apt Apt, name, work string, w io.Writer, progress func(step string, fraction float64)) (version string, err error) {
	system, debs := filepath.Join(work, "system"), filepath.Join(work, "debs")
	for _, d := range []string{system, debs} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", err
		}
	}
	progress("looking for Debian package "+name, 0)
	s, err := apt.begin(ctx, debs, name)
	if err != nil {
		return "", err
	}
	if version, err = s.version(ctx, name); err != nil {
		return "", err
	}
	depends, recommends, err := s.depends(ctx, name)
	if err != nil {
		return "", err
	}
	progress("fetching Debian package "+name+" "+version, 0.1)
	if err := s.unpack(ctx, system, own(name, depends, recommends)...); err != nil {
		return "", err
	}
	root, err := os.OpenRoot(system)
	if err != nil {
		return "", err
	}
	defer func() { _ = root.Close() }()
	dir, err := webRoot(root, name)
	if err != nil {
		return "", err
	}
	t, err := gather(root, dir)
	if err != nil {
		return "", fmt.Errorf("read Debian package %s: %w", name, err)
	}
	if needed := lentBy(depends, t.lost); len(needed) > 0 {
		progress("fetching what "+name+" needs", 0.4)
		if err := s.unpack(ctx, system, needed...); err != nil {
			return "", err
		}
		if t, err = gather(root, dir); err != nil {
			return "", fmt.Errorf("read Debian package %s: %w", name, err)
		}
	}
	progress("packing "+name, 0.6)
	return version, t.pack(ctx, w)
}

// own are the packages that belong to an application.
func own(name string, depends, recommends []string) []string {
	list := []string{name}
	for _, d := range append(slices.Clone(depends), recommends...) {
		skip := slices.ContainsFunc(leftOut, func(part string) bool { return strings.Contains(strings.TrimPrefix(d, name), part) })
		if strings.HasPrefix(d, name+"-") && !skip && !slices.Contains(list, d) {
			list = append(list, d)
		}
	}
	return list
}

// lentBy are the dependencies that may have what links lead to: libraries for
// browsers and for PHP, whose names say so.
func lentBy(depends, lost []string) []string {
	inShare := slices.ContainsFunc(lost, func(p string) bool { return strings.HasPrefix(p, "usr/share/") })
	if !inShare {
		return nil
	}
	var list []string
	for _, d := range depends {
		for _, prefix := range []string{"libjs-", "php-", "libphp-", "node-", "fonts-", "javascript-"} {
			if strings.HasPrefix(d, prefix) && !slices.Contains(list, d) {
				list = append(list, d)
			}
		}
	}
	return list
}
