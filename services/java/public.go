package java

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nutshell/services/web"
)

// known remembers what was found out about versions, beside a directory for
// web servers with links to exactly those files that need no Tomcat. A path
// that is not in it is Tomcat's, so no rule of nginx can show WEB-INF or go
// past a filter.
type known struct{ dir string }

const factsFile = ".facts.json" // hidden, so never served

func (k known) path(code string) string { return filepath.Join(k.dir, filepath.Base(code)) }

// of returns the facts about a version, and makes its directory for web servers.
func (k known) of(code string) (facts, string, error) {
	final := k.path(code)
	var f facts
	b, err := os.ReadFile(filepath.Join(final, factsFile))
	if err == nil && json.Unmarshal(b, &f) == nil {
		return f, final, nil
	}
	if f, err = inspect(code); err != nil {
		return f, "", err
	}
	tmp := final + ".new"
	if err := errors.Join(os.RemoveAll(tmp), os.RemoveAll(final)); err != nil {
		return f, "", err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil { // web servers have an account of their own
		return f, "", err
	}
	if f.Dynamic == "" {
		if err := f.link(code, tmp); err != nil {
			return f, "", err
		}
	}
	if b, err = json.Marshal(f); err != nil {
		return f, "", err
	}
	if err := os.WriteFile(filepath.Join(tmp, factsFile), b, 0o600); err != nil {
		return f, "", err
	}
	return f, final, os.Rename(tmp, final)
}

// link fills a directory with links to the files that web servers may serve.
func (f *facts) link(code, into string) error {
	return filepath.WalkDir(code, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil // the application changes its files while we look
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(code, name)
		if err != nil || !f.serves(filepath.ToSlash(rel)) {
			return err
		}
		to := filepath.Join(into, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.Symlink(name, to) //nolint:gosec // the directory is the agent's own
	})
}

// keep forgets all versions but those.
func (k known) keep(roots []web.Root) error {
	entries, err := os.ReadDir(k.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		named := slices.ContainsFunc(roots, func(r web.Root) bool { return filepath.Base(r.Dir) == strings.TrimSuffix(e.Name(), ".new") })
		if !named {
			err = errors.Join(err, os.RemoveAll(filepath.Join(k.dir, e.Name())))
		}
	}
	return err
}
