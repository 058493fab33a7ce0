package php

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"nutshell/roles/api"
)

// standardExtensions are loaded unless a service says otherwise, and
// imageExtensions when it asks for them: both come with the image.
func standardExtensions() []string {
	return []string{"bz2", "curl", "gd", "intl", "ldap", "mbstring", "mysql", "pgsql", "sqlite3", "xml", "zip"}
}

func imageExtensions() []string { return []string{"apcu", "bcmath", "gmp", "soap"} }

// extensionName is what may stand behind php- in the name of a package.
var extensionName = regexp.MustCompile(`^[a-z0-9][a-z0-9+-]{0,40}$`)

// notExtensions are Debian's php-* packages that are something else.
var notExtensions = []string{"all-dev", "cgi", "cli", "common", "defaults", "dev", "fpm", "pear", "phpdbg", "redis", "xdebug"}

func checkExtensions(list []string) error {
	known := strings.Join(append(standardExtensions(), imageExtensions()...), ", ")
	for _, e := range list {
		name := strings.TrimPrefix(e, "-")
		if !extensionName.MatchString(name) {
			return invalidSetting("extensions", "give the name of a Debian package without php- in front: "+known+", …", "%s is not the name of an extension", api.Shorten(e))
		}
		if slices.Contains(notExtensions, name) {
			return invalidSetting("extensions", "one of "+known+", or another of Debian's php-* packages", "%s is not an extension that services may choose", name)
		}
		if name != e && !slices.Contains(standardExtensions(), name) {
			return invalidSetting("extensions", "these are: "+strings.Join(standardExtensions(), ", "), "%s is not loaded unless it is chosen, so it cannot be left out", name)
		}
		if slices.Contains(list, "-"+e) {
			return invalidSetting("extensions", "", "%s is both chosen and left out", e)
		}
	}
	if len(list) > 64 {
		return invalidSetting("extensions", "", "%d extensions are more than 64", len(list))
	}
	return nil
}

// extraPackages are the Debian packages that the image does not have.
func extraPackages(s settings) []string {
	var list []string
	for _, e := range s.Extensions {
		if !strings.HasPrefix(e, "-") && !slices.Contains(standardExtensions(), e) && !slices.Contains(imageExtensions(), e) {
			list = append(list, "php-"+e)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// loadedExtensions are the files of Debian's configuration that PHP-FPM reads
// to load extensions: all that are enabled but those that are not wanted. What
// others need (igbinary, msgpack) so is there by itself.
func loadedExtensions(root string, chosen []string) ([]string, error) {
	enabled, err := filepath.Glob(filepath.Join(root, "etc/php/*/fpm/conf.d/*.ini"))
	if err != nil || len(enabled) == 0 {
		return nil, errors.Join(err, &api.Error{Code: api.CodeUnavailable, Op: "start", Object: "php-fpm", Message: "Debian's configuration of PHP is not there", Hint: "install Debian's package php-fpm"})
	}
	newest := filepath.Dir(enabled[len(enabled)-1])
	drop := map[string]bool{}
	for _, e := range imageExtensions() {
		for _, module := range modules(root, e) {
			drop[module] = !slices.Contains(chosen, e)
		}
	}
	var missing []string
	for _, e := range chosen {
		if out, ok := strings.CutPrefix(e, "-"); ok {
			for _, module := range modules(root, out) {
				drop[module] = true
			}
		} else if !installed(root, e) {
			missing = append(missing, "php-"+e)
		}
	}
	if len(missing) > 0 {
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "load", Object: "extensions", Message: "not installed: " + strings.Join(missing, ", "), Fields: []string{"extensions"},
			Hint: "apt-get install " + strings.Join(missing, " ") + " on the machine, or choose others"}
	}
	var load []string
	for _, path := range enabled {
		_, module, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".ini"), "-") // 20-curl.ini
		if filepath.Dir(path) == newest && !drop[module] {
			load = append(load, path)
		}
	}
	return load, nil
}

// modules are what a package php-NAME makes PHP load: mysqli, pdo_mysql, …
func modules(root, name string) []string {
	found, _ := filepath.Glob(filepath.Join(root, "usr/share/php[0-9]*-"+name, "*", "*.ini")) // the pattern is well formed
	list := []string{name}                                                                    // packages that hold one extension may name it nowhere else
	for _, path := range found {
		list = append(list, strings.TrimSuffix(filepath.Base(path), ".ini"))
	}
	return list
}

func installed(root, name string) bool {
	for _, pattern := range []string{"php-" + name, "php[0-9]*-" + name} {
		for _, suffix := range []string{".list", ":*.list"} {
			if found, _ := filepath.Glob(filepath.Join(root, "var/lib/dpkg/info", pattern+suffix)); len(found) > 0 { // the pattern is well formed
				return true
			}
		}
	}
	return false
}

// writeScanDir makes the directory where PHP looks for what to load.
func writeScanDir(dir string, files []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { // no secret in it
		return err
	}
	for _, path := range files {
		if err := os.Symlink(path, filepath.Join(dir, filepath.Base(path))); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}
