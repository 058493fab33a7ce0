package roles

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"gopkg.in/yaml.v3"

	"nutshell/appliance"
	"nutshell/imagebuild/artefact"
	"nutshell/imagebuild/recipe"
	"nutshell/roles/api"
)

func recipeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "kinds", Usage: "service kinds that are inside, or all, or none, in place of the recipe's"},
		&cli.StringSliceFlag{Name: "services-arch", Usage: "architectures whose layers of services are inside, in place of the recipe's: amd64, arm64"},
		&cli.StringSliceFlag{Name: "format", Usage: "formats to make, in place of the recipe's: ova, qcow2, raw, lxc, unified, sdcard"},
		&cli.IntFlag{Name: "disk-gb", Usage: "size of the root file system, in place of the recipe's"},
	}
}

// planned is a recipe with all it inherits, and what the flags change of it.
type planned struct {
	chain []recipe.Recipe
	image recipe.Image
	makes bool // files, not layers alone
	kinds []artefact.Kind
}

func (l planned) name() string { return l.chain[len(l.chain)-1].Name }

// plan finds a recipe: an embedded one by its name, a user's by its file, or
// that of an image.
func (p *Program) plan(x *cli.Context, what string) (planned, error) {
	fail := func(err error) (planned, error) {
		return planned{}, &api.Error{Code: api.CodeInvalid, Op: "read", Object: "recipe " + api.Shorten(what), Err: err, Hint: "nutshell image list-recipes lists those that come with Nutshell"}
	}
	if what == "" {
		return fail(fmt.Errorf("name a recipe or a file"))
	}
	var l planned
	_, end, isImage := artefact.BaseOf(what)
	switch {
	case strings.HasSuffix(what, ".yaml") || strings.HasSuffix(what, ".yml"):
		r, err := recipe.Read(what)
		if err != nil {
			return fail(err)
		}
		if l.chain, err = recipe.Chain(r); err != nil {
			return fail(err)
		}
	case isImage:
		m, err := artefact.ReadManifest(strings.TrimSuffix(what, end) + ".json")
		if err != nil {
			return fail(err)
		}
		l.chain = m.Recipes
	default:
		r, err := recipe.Load(what)
		if err != nil {
			return fail(err)
		}
		if l.chain, err = recipe.Chain(r); err != nil {
			return fail(err)
		}
	}
	err := p.settle(x, &l)
	if err != nil {
		return fail(err)
	}
	return l, nil
}

// settle resolves what the recipes and the flags say of the image.
func (p *Program) settle(x *cli.Context, l *planned) error {
	over := recipe.Recipe{Name: "flags", Image: &recipe.Image{DiskGB: x.Int("disk-gb")}}
	if kinds := x.StringSlice("kinds"); len(kinds) > 0 {
		over.Image.Services = kinds
	}
	if arch := x.StringSlice("services-arch"); len(arch) > 0 {
		over.Image.ServicesArch = arch
	}
	for _, f := range x.StringSlice("format") {
		over.Image.Formats = append(over.Image.Formats, recipe.Format(f))
	}
	if err := over.Check(); err != nil {
		return err
	}
	l.image, l.makes = recipe.Resolve(append(slices.Clone(l.chain), over))
	if l.image.Profile != "" && !slices.Contains(appliance.Profiles(), appliance.Profile(l.image.Profile)) {
		return fmt.Errorf("profile: there is no %q; there are %v", l.image.Profile, appliance.Profiles())
	}
	for _, arch := range l.image.ServicesArch {
		if _, err := machineOf(arch); err != nil {
			return err
		}
	}
	var known []string
	for _, k := range p.Services.Kinds() {
		known = append(known, k.Name)
	}
	wanted, err := l.image.Kinds(known)
	if err != nil {
		return err
	}
	for _, name := range wanted {
		k, err := p.Services.Get(name)
		if err != nil {
			return err
		}
		l.kinds = append(l.kinds, artefact.Kind{Name: k.Name, Packages: k.Packages})
	}
	return nil
}

// recipeRow is a recipe in a list.
type recipeRow struct {
	Name     string          `json:"name" yaml:"name"`
	Title    string          `json:"title" yaml:"title"`
	Inherits string          `json:"inherits,omitempty" yaml:"inherits,omitempty"`
	Formats  []recipe.Format `json:"formats" yaml:"formats"` // none: it makes layers
	Profile  string          `json:"profile,omitempty" yaml:"profile,omitempty"`
	Services []string        `json:"services,omitempty" yaml:"services,omitempty"`
}

func (p *Program) listRecipes(x *cli.Context, _ imageStore) error {
	var rows []recipeRow
	for _, name := range recipe.Names() {
		r, err := recipe.Load(name)
		if err != nil {
			return err
		}
		chain, err := recipe.Chain(r)
		if err != nil {
			return err
		}
		image, _ := recipe.Resolve(chain)
		rows = append(rows, recipeRow{name, r.Title, r.Inherits, append([]recipe.Format{}, image.Formats...), image.Profile, image.Services})
	}
	slices.SortStableFunc(rows, func(a, b recipeRow) int { return min(len(b.Formats), 1) - min(len(a.Formats), 1) })
	if handled, err := p.printData(x.String("output"), rows); handled {
		return err
	}
	fmt.Fprintf(p.Stdout, "%-14s %-14s %-16s %s\n", "recipe", "inherits", "makes", "title")
	for _, r := range rows {
		makes := strings.Trim(fmt.Sprint(r.Formats), "[]")
		if makes == "" {
			makes = "(layer)"
		}
		fmt.Fprintf(p.Stdout, "%-14s %-14s %-16s %s\n", r.Name, r.Inherits, makes, r.Title)
	}
	return nil
}

// shown is a resolved recipe as it is printed.
type shown struct {
	Name     string          `json:"name" yaml:"name"`
	Title    string          `json:"title" yaml:"title"`
	Image    *recipe.Image   `json:"image,omitempty" yaml:"image,omitempty"`
	Services []string        `json:"services,omitempty" yaml:"services,omitempty"`
	Layers   []recipe.Recipe `json:"layers" yaml:"layers"`
}

func (p *Program) showRecipe(x *cli.Context, _ imageStore) error {
	l, err := p.plan(x, x.Args().First())
	if err != nil {
		return err
	}
	s := shown{Name: l.name(), Title: l.chain[len(l.chain)-1].Title}
	if l.makes {
		s.Image = &l.image
	}
	for _, k := range l.kinds {
		s.Services = append(s.Services, k.Name)
	}
	for _, r := range l.chain {
		r.Image = nil // resolved above
		if r.Adds() {
			s.Layers = append(s.Layers, r)
		}
	}
	if handled, err := p.printData(x.String("output"), s); handled {
		return err
	}
	return yaml.NewEncoder(p.Stdout).Encode(s)
}

func customFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "package", Usage: "a package of Debian to install"},
		&cli.StringSliceFlag{Name: "file", Usage: "a file or directory of this machine and its place in the image: `FROM:/TO`"},
		&cli.PathFlag{Name: "script", Usage: "a shell script, run as root within the image behind packages and files"},
	}
}

// customise puts what the flags give on top of a recipe.
func customise(x *cli.Context, l *planned, name string) error {
	files := map[string]string{}
	for _, f := range x.StringSlice("file") {
		from, to, ok := cutLast(f, ":")
		if !ok || !filepath.IsAbs(to) || from == "" {
			return &api.Error{Code: api.CodeInvalid, Op: "customise", Object: "--file " + f, Message: "this is not FROM:/TO", Hint: "as in --file ./site:/srv/site"}
		}
		files[filepath.Clean(to)] = from
	}
	script := ""
	if file := x.Path("script"); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return &api.Error{Code: api.CodeInvalid, Op: "customise", Object: "--script", Err: err}
		}
		script = string(b)
	}
	r, err := recipe.Custom(name, l.name(), x.StringSlice("package"), files, script)
	if err != nil {
		return &api.Error{Code: api.CodeInvalid, Op: "customise", Object: l.name(), Err: err}
	}
	l.chain = recipe.Upon(l.chain, r)
	return nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
