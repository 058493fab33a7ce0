package web

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// deniedDirs finds the directories of a version that its .htaccess files keep
// from visitors. Of .htaccess nothing else is obeyed, but many applications
// rely on this one to hide data and configuration.
type deniedDirs struct {
	mu    sync.Mutex
	known map[string][]string // by directory of a version, which does not change
}

func (d *deniedDirs) of(root string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if list, ok := d.known[root]; ok {
		return list, nil
	}
	var list []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil // the application changes its files while we look, and may lock us out of them
		}
		if err != nil || e.Name() != ".htaccess" || !e.Type().IsRegular() || filepath.Dir(path) == root {
			return err
		}
		b, err := os.ReadFile(path) //nolint:gosec // what it leads to is only looked through for one word
		if err == nil && denies(b) {
			rel, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			list = append(list, rel)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if d.known == nil {
		d.known = map[string][]string{}
	}
	d.known[root] = list
	return list, nil
}

var denyLine = regexp.MustCompile(`(?i)^\s*(?:deny\s+from\s+all|require\s+all\s+denied)\s*$`)

// denies reports whether a .htaccess closes its whole directory, not only
// some files or methods.
func denies(htaccess []byte) bool {
	scoped := 0
	for s := bufio.NewScanner(bytes.NewReader(htaccess)); s.Scan(); {
		line := strings.ToLower(strings.TrimSpace(s.Text()))
		switch {
		case strings.HasPrefix(line, "<ifmodule"), strings.HasPrefix(line, "</ifmodule"):
		case strings.HasPrefix(line, "</"):
			scoped--
		case strings.HasPrefix(line, "<"):
			scoped++
		case scoped == 0 && denyLine.MatchString(line):
			return true
		}
	}
	return false
}
