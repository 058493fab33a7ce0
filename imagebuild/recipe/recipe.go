// Package recipe reads what goes into an image: packages, files, and what
// is left out. Recipes are YAML, embedded, and strict: an unknown key is an
// error. A recipe may inherit another; the image is then a difference to the
// other's. Nothing is built here.
package recipe

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

//go:embed *.yaml
var embedded embed.FS

// Recipe is one layer of an image. Paths are absolute within the image.
type Recipe struct {
	Name     string          `yaml:"name" json:"name"`
	Title    string          `yaml:"title" json:"title"`
	Inherits string          `yaml:"inherits" json:"inherits,omitempty"` // recipe of the layer below
	Version  int             `yaml:"version" json:"version"`             // raised when the same recipe must be built anew
	Packages []string        `yaml:"packages" json:"packages"`           // of Debian
	Exclude  []string        `yaml:"exclude" json:"exclude"`             // dpkg patterns that are never unpacked
	Include  []string        `yaml:"include" json:"include"`             // dpkg patterns that are, although excluded
	Dirs     []string        `yaml:"directories" json:"directories"`     // made empty, mode 0755
	Files    map[string]File `yaml:"files" json:"files"`                 // written after the packages are installed
	Empty    []string        `yaml:"empty" json:"empty"`                 // directories that keep their sub-directories but no file
	Remove   []string        `yaml:"remove" json:"remove"`               // patterns of what goes in the end
	Script   string          `yaml:"script" json:"script,omitempty"`     // run by sh as root within the image, behind packages and files
	SpaceMB  uint64          `yaml:"space_mb" json:"-"`                  // free disk that building it needs
	Image    *Image          `yaml:"image" json:"image,omitempty"`       // what is made of the layers; none: nothing beside them

	Unpack     bool     `yaml:"unpack" json:"unpack,omitempty"`         // packages are unpacked and no script of theirs runs: works for any architecture; lowest layer only
	Components []string `yaml:"components" json:"components,omitempty"` // of Debian's archive beside main; with unpack only
	Backports  []string `yaml:"backports" json:"backports,omitempty"`   // packages of the list that come from the suite's backports where the mirror has them; with unpack only
}

// File is one file that a recipe writes: a text, or bytes of this machine.
type File struct {
	Text       string `yaml:"text" json:"text"`
	From       string `yaml:"from" json:"-"`          // file or directory of this machine, seen from where the recipe lies
	Sum        string `yaml:"-" json:"sum,omitempty"` // SHA-256 of what From holds, hexadecimal
	Executable bool   `yaml:"executable" json:"executable,omitempty"`
}

// Load reads an embedded recipe by name.
func Load(name string) (Recipe, error) {
	b, err := embedded.ReadFile(name + ".yaml")
	if errors.Is(err, fs.ErrNotExist) {
		return Recipe{}, fmt.Errorf("no recipe %q; there are %s", name, strings.Join(Names(), ", "))
	}
	if err != nil {
		return Recipe{}, err
	}
	r, err := Parse(b)
	if err != nil {
		return Recipe{}, fmt.Errorf("recipe %s: %w", name, err)
	}
	if r.Name != name {
		return Recipe{}, fmt.Errorf("recipe %s calls itself %q", name, r.Name)
	}
	return r, nil
}

// Names lists the embedded recipes.
func Names() []string {
	entries, _ := fs.Glob(embedded, "*.yaml") // the pattern is right, so there is no error
	for i, e := range entries {
		entries[i] = strings.TrimSuffix(e, ".yaml")
	}
	return entries
}

// Parse reads one recipe and checks it.
func Parse(b []byte) (Recipe, error) {
	var r Recipe
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true) // a misspelt key must not silently leave something out of every instance
	if err := d.Decode(&r); err != nil {
		return Recipe{}, plainly(err)
	}
	if err := d.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return Recipe{}, errors.New("more than one document")
	}
	return r, r.check()
}

var unknownKey = regexp.MustCompile(`^line (\d+): field (\S+) not found in type recipe\.(\S+)$`)

// plainly says of the library's errors what people can use.
func plainly(err error) error {
	var wrong *yaml.TypeError
	if !errors.As(err, &wrong) {
		return err
	}
	var said []string
	for _, e := range wrong.Errors {
		if m := unknownKey.FindStringSubmatch(e); m != nil {
			e = fmt.Sprintf("line %s: there is no key %q of %s; there are %s", m[1], m[2], map[string]string{"Recipe": "a recipe", "Image": "an image", "File": "a file"}[m[3]], strings.Join(keysOf(m[3]), ", "))
		}
		said = append(said, e)
	}
	return errors.New(strings.Join(said, "; "))
}

// keysOf lists the keys that a recipe, or a part of it, has.
func keysOf(part string) (keys []string) {
	for _, t := range []reflect.Type{reflect.TypeFor[Recipe](), reflect.TypeFor[Image](), reflect.TypeFor[File]()} {
		for i := range t.NumField() {
			if name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ","); t.Name() == part && name != "" && name != "-" {
				keys = append(keys, name)
			}
		}
	}
	return keys
}

// ForKind is the recipe of a service kind's layer: recipe "kind" with the
// kind's packages.
func ForKind(kind string, packages []string) (Recipe, error) {
	r, err := Load("kind")
	if err != nil {
		return Recipe{}, err
	}
	r.Name, r.Title = kind, "Packages of service kind "+kind
	r.Packages = append(slices.Clone(r.Packages), packages...)
	return r, r.check()
}

// With is r with further packages. They are checked by Chain.
func (r Recipe) With(packages []string) Recipe {
	r.Packages = append(slices.Clone(r.Packages), packages...)
	return r
}

// Chain returns r and all it inherits from, lowest first. A recipe that says
// nothing of what is emptied and removed is tidied as layers of kinds are.
func Chain(r Recipe) ([]Recipe, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	chain := []Recipe{r}
	for r.Inherits != "" {
		below, err := Load(r.Inherits)
		if err != nil {
			return nil, fmt.Errorf("recipe %s: inherits: %w", r.Name, err)
		}
		if slices.ContainsFunc(chain, func(c Recipe) bool { return c.Name == below.Name }) {
			return nil, fmt.Errorf("recipe %s inherits itself through %s", chain[0].Name, r.Name)
		}
		chain = append(chain, below)
		r = below
	}
	slices.Reverse(chain)
	whole := chain[:1:1]
	for _, r := range chain[1:] {
		whole = Upon(whole, r)
	}
	return whole, nil
}

// Upon puts r on top of a chain.
func Upon(chain []Recipe, r Recipe) []Recipe {
	if kind, err := Load("kind"); err == nil && r.Empty == nil && r.Remove == nil {
		r.Empty, r.Remove = kind.Empty, kind.Remove
	}
	r.Inherits = chain[len(chain)-1].Name
	return append(chain, r)
}

// Adds reports whether r changes anything of the layer below it.
func (r Recipe) Adds() bool {
	return r.Inherits == "" || len(r.Packages)+len(r.Dirs)+len(r.Files)+len(r.Script) > 0
}

// Digest names what r makes of the layer below it (its digest, or "") for a
// suite and an architecture. It does not depend on the order of packages nor
// on what the recipe is called.
func (r Recipe) Digest(below, suite, arch string) string {
	r.Name, r.Title, r.Inherits, r.Image = "", "", "", nil
	r.Packages = slices.Compact(slices.Sorted(slices.Values(r.Packages)))
	b, err := json.Marshal(struct {
		Below, Suite, Arch string
		Recipe             Recipe
	}{below, suite, arch, r})
	if err != nil {
		panic("recipe: cannot be JSON: " + err.Error()) // strings and numbers only
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// packageName is Debian policy §5.6.1. It also keeps apt options and
// "name-" (which removes) out of apt's command line.
var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*[a-z0-9+.]$`)

// recipeName begins the names of files that are made.
var recipeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,62}$`)

var componentName = regexp.MustCompile(`^[a-z][a-z-]*$`)

// Check says what is wrong with a recipe that was put together by a program.
func (r Recipe) Check() error { return r.check() }

func (r Recipe) check() error {
	if r.Name == "" {
		return errors.New("name is missing")
	}
	if !recipeName.MatchString(r.Name) {
		return fmt.Errorf("name: %.80q is not 1 to 63 letters, digits, dots, dashes or underscores", r.Name)
	}
	if (len(r.Components) > 0 || len(r.Backports) > 0) && !r.Unpack || r.Unpack && (r.Inherits != "" || r.Script != "") {
		return errors.New("unpack: is for a lowest layer without a script, and components and backports go with it")
	}
	for _, c := range r.Components {
		if !componentName.MatchString(c) {
			return fmt.Errorf("components: %q is not one of Debian's archive", c)
		}
	}
	for _, p := range r.Backports {
		if !slices.Contains(r.Packages, p) {
			return fmt.Errorf("backports: %q is not among the packages", p)
		}
	}
	for _, p := range r.Packages {
		if !packageName.MatchString(p) || strings.HasSuffix(p, "+") && !strings.HasSuffix(p, "++") {
			return fmt.Errorf("packages: %q is not the name of a Debian package", p)
		}
	}
	for name, f := range r.Files {
		if f.Text != "" && f.From != "" {
			return fmt.Errorf("files: %s has both a text and a file to take", name)
		}
	}
	if err := r.Image.check(); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	paths := map[string][]string{"exclude": r.Exclude, "include": r.Include, "directories": r.Dirs, "empty": r.Empty, "remove": r.Remove}
	for name := range r.Files {
		paths["files"] = append(paths["files"], name)
	}
	for key, list := range paths {
		for _, p := range list {
			if !path.IsAbs(p) || path.Clean(p) != p || p == "/" {
				return fmt.Errorf("%s: %q is not a clean absolute path", key, p)
			}
		}
	}
	return nil
}
