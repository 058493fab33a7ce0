// Package dokuwiki makes an archive that Nutshell can deploy of DokuWiki, a
// wiki that needs no database, as Debian packages it. Nothing is installed:
// the packages are fetched with apt, unpacked, and put together as one plain
// tree with index.php at the top. It needs no root.
//
// The wiki is open: whoever reaches it reads and writes, without a password
// that somebody could know. It is a demonstration, not an installation.
package dokuwiki

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// packages are DokuWiki and those of its dependencies that hold its own code.
var packages = []string{"dokuwiki", "libjs-jquery", "libjs-jquery-ui", "libjs-jquery-cookie", "php-geshi", "php-phpseclib", "libphp-simplepie"}

// parts says where in the archive what lies where on a Debian system. Later
// ones lie within earlier ones.
var parts = []struct{ from, to string }{
	{"usr/share/dokuwiki", ""},
	{"var/lib/dokuwiki/lib/plugins", "lib/plugins"},
	{"var/lib/dokuwiki/lib/tpl", "lib/tpl"},
	{"var/lib/dokuwiki/data", "data"},
	{"etc/dokuwiki", "conf"},
	{"usr/share/php", libraries + "php"},
	{"usr/share/php-geshi", libraries + "php-geshi"},
	{"usr/share/javascript", libraries + "javascript"},
}

// libraries is the folder of what other Debian packages have in /usr/share.
const libraries = "vendor/debian/"

// dropped is what makes sense on a Debian system only.
var dropped = []string{
	"inc/preload.php", // sends DokuWiki to /etc/dokuwiki
	"install.php",     // would let a visitor take the wiki over
	".htaccess", "conf/acl.auth.php", "conf/users.auth.php", "conf/dokuwiki.php.dist",
}

// empty are directories that DokuWiki writes to and Debian ships empty.
var empty = []string{"attic", "cache", "index", "locks", "log", "media_attic", "media_meta", "meta", "tmp"}

const (
	local = `<?php
// Settings of the demonstration.
$conf['title'] = 'DokuWiki on Nutshell';
$conf['useacl'] = 0;
$conf['updatecheck'] = 0; // asks a server outside
$conf['userewrite'] = 0;
$conf['start'] = 'start';
`
	start = `====== It runs ======

This is DokuWiki from Debian's own package, deployed by Nutshell. Press //Edit this page// and change it: every page is a text file in the instance.

  * [[wiki:syntax|How to write pages]]
  * [[playground:playground|A page to play with]]
`
)

// Save writes the archive to path, whole or not at all.
func Save(ctx context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".dokuwiki-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(Write(ctx, f), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Write makes a tar.gz. The same packages make the same bytes.
func Write(ctx context.Context, w io.Writer) error {
	tmp, err := os.MkdirTemp("", "nutshell-dokuwiki-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	debs, err := fetch(ctx, filepath.Join(tmp, "debs"))
	if err != nil {
		return fmt.Errorf("fetch DokuWiki's Debian packages: %w", err)
	}
	system := filepath.Join(tmp, "system")
	for _, deb := range debs {
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, system).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w: %s", filepath.Base(deb), err, out)
		}
	}
	tree, err := gather(system)
	if err != nil {
		return fmt.Errorf("put DokuWiki together: %w", err)
	}
	if err := adapt(tree); err != nil {
		return fmt.Errorf("adapt DokuWiki: %w", err)
	}
	return pack(w, tree)
}

// fetch downloads the packages. Where apt has no lists yet, as on a fresh
// machine, it fetches lists of its own, which needs no root either.
func fetch(ctx context.Context, dir string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	state := filepath.Join(dir, "state")
	for _, d := range []string{dir, filepath.Join(state, "lists", "partial"), filepath.Join(state, "cache", "archives", "partial")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	apt := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "LANG=C.UTF-8")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", args[len(args)-1], err, out)
		}
		return nil
	}
	download := append([]string{"download"}, packages...)
	if err := apt(download...); err != nil {
		own := []string{"-o", "Dir::State::Lists=" + filepath.Join(state, "lists"), "-o", "Dir::Cache=" + filepath.Join(state, "cache"),
			"-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User="}
		if err := errors.Join(apt(append(slices.Clone(own), "update")...), apt(append(own, download...)...)); err != nil {
			return nil, err
		}
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err == nil && len(debs) != len(packages) {
		err = fmt.Errorf("got %d packages, want %d", len(debs), len(packages))
	}
	return debs, err
}

// file is one file of the archive.
type file struct {
	text  []byte
	mtime time.Time
}

// gather reads the tree as the archive has it. Symbolic links become what
// they point to, seen from within system.
func gather(system string) (map[string]file, error) {
	root, err := os.OpenRoot(system)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	tree := map[string]file{}
	for _, part := range parts {
		err := fs.WalkDir(root.FS(), part.from, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			source := name
			if d.Type()&fs.ModeSymlink != 0 {
				target, err := root.Readlink(name)
				if err != nil {
					return err
				}
				if !strings.HasPrefix(target, "/") {
					target = filepath.Join("/", filepath.Dir(name), target)
				}
				source = target[1:]
			}
			info, err := root.Stat(source)
			if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() {
				return nil // points out of what we have, or to a folder that is a part itself
			}
			if err != nil {
				return err
			}
			text, err := root.ReadFile(source)
			tree[filepath.Join(part.to, strings.TrimPrefix(name, part.from+"/"))] = file{text, info.ModTime()}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return tree, nil
}

// adapt makes the tree independent of where Debian has things.
func adapt(tree map[string]file) error {
	for _, name := range dropped {
		delete(tree, name)
	}
	newest := time.Time{}
	for name, f := range tree {
		if f.mtime.After(newest) {
			newest = f.mtime
		}
		if strings.HasSuffix(name, ".php") {
			text := string(f.text)
			// Composer's own variable stands before some of Debian's absolute paths.
			text = strings.ReplaceAll(text, "$vendorDir . '/usr/share/", "'/usr/share/")
			text = strings.ReplaceAll(text, "'/usr/share/", "DOKU_INC.'"+libraries)
			f.text = []byte(text)
			tree[name] = f
		}
	}
	conf, ok := tree["conf/dokuwiki.php"]
	if !ok || !strings.Contains(string(conf.text), "'/var/lib/dokuwiki/data'") {
		return errors.New("conf/dokuwiki.php does not say where the data is; has the package changed?")
	}
	conf.text = []byte(strings.ReplaceAll(string(conf.text), "'/var/lib/dokuwiki/data'", "'./data'"))
	tree["conf/dokuwiki.php"] = conf
	tree["conf/local.php"] = file{[]byte(local), newest}
	tree["data/pages/start.txt"] = file{[]byte(start), newest}
	for _, dir := range empty {
		tree["data/"+dir+"/_dummy"] = file{[]byte("This folder is here because archives of code have files.\n"), newest}
	}
	for _, name := range []string{"index.php", "doku.php", "inc/init.php", libraries + "javascript/jquery/jquery.min.js", libraries + "php-geshi/geshi.php"} {
		if len(tree[name].text) == 0 {
			return fmt.Errorf("%s is missing; has the package changed?", name)
		}
	}
	return nil
}

func pack(w io.Writer, tree map[string]file) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	names := make([]string, 0, len(tree))
	for name := range tree {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f := tree[name]
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(f.text)), ModTime: f.mtime.Truncate(time.Second), Format: tar.FormatPAX}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(f.text); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}
