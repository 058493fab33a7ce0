package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// Read reads a recipe of a user's own. It inherits an embedded one; the files
// that it takes are seen from the directory it lies in.
func Read(file string) (Recipe, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Recipe{}, err
	}
	r, err := Parse(b)
	if err != nil {
		return Recipe{}, fmt.Errorf("recipe %s: %w", file, err)
	}
	if r.Inherits == "" {
		return Recipe{}, fmt.Errorf("recipe %s: inherits is missing: it names the recipe that yours begins with", file)
	}
	if _, err := Load(r.Name); err == nil {
		return Recipe{}, fmt.Errorf("recipe %s: %q is the name of a recipe that comes with Nutshell; choose another", file, r.Name)
	}
	r, err = r.take(filepath.Dir(file))
	if err != nil {
		return Recipe{}, fmt.Errorf("recipe %s: %w", file, err)
	}
	return r, nil
}

// take looks at the files of this machine that r wants: each gets an absolute
// path and a sum, a directory becomes the files in it.
func (r Recipe) take(dir string) (Recipe, error) {
	files := map[string]File{}
	for name, f := range r.Files {
		if f.From == "" {
			files[name] = f
			continue
		}
		from := f.From
		if !filepath.IsAbs(from) {
			from = filepath.Join(dir, from)
		}
		from, err := filepath.Abs(from)
		if err != nil {
			return r, err
		}
		err = filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := os.Stat(p) // what is named itself may be a link
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(from, p)
			if err != nil {
				return err
			}
			switch {
			case p != from && d.Type()&fs.ModeSymlink != 0:
				return fmt.Errorf("%s is a symbolic link; pack what it leads to, or make it with a script", p)
			case info.IsDir():
				return nil
			case !info.Mode().IsRegular():
				return fmt.Errorf("%s is not a file", p)
			}
			sum, err := sumOf(p)
			files[path.Join(name, filepath.ToSlash(rel))] = File{From: p, Sum: sum, Executable: f.Executable || info.Mode()&0o111 != 0}
			return err
		})
		if errors.Is(err, fs.ErrNotExist) {
			return r, fmt.Errorf("files: %s: there is no %s", name, from)
		}
		if err != nil {
			return r, fmt.Errorf("files: %s: %w", name, err)
		}
	}
	r.Files = files
	return r, r.check()
}

func sumOf(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// Custom is a recipe that adds to the one that below names: packages, files of
// this machine by their place in the image, and a script.
func Custom(name, below string, packages []string, files map[string]string, script string) (Recipe, error) {
	r := Recipe{Name: name, Title: "Made of " + below, Inherits: below, Packages: packages, Script: script, Files: map[string]File{}, SpaceMB: 500}
	for place, from := range files {
		r.Files[place] = File{From: from}
	}
	if err := r.check(); err != nil {
		return r, err
	}
	r, err := r.take(".")
	if err != nil {
		return r, err
	}
	if !r.Adds() {
		return r, errors.New("nothing to add: give packages, files or a script")
	}
	return r, nil
}
