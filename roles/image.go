package roles

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/cheggaaa/pb/v3"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"nutshell/imagebuild"
	"nutshell/imagebuild/recipe"
)

// imageStore is the store of layers with where the key lies that images are
// signed with.
type imageStore struct {
	*imagebuild.Store
	key string
}

// imageCommand makes images, and the layers that they and containers are made of.
func (p *Program) imageCommand() *cli.Command {
	for _, k := range p.Services.Kinds() {
		if slices.Contains(recipe.Names(), k.Name) {
			panic("roles: service kind " + k.Name + " has the name of a recipe") // image build takes both; a bug in main.go
		}
	}
	hidden := func(c *cli.Command) *cli.Command { c.Hidden = true; return c }
	return &cli.Command{Name: "image", Usage: "images of machines, disks, containers and cards", Category: "this machine", HideHelpCommand: true, Subcommands: []*cli.Command{
		p.imageVerb("list-recipes", "list the recipes that come with Nutshell", "", "", nil, p.listRecipes),
		p.imageVerb("show", "print a recipe with all it inherits", "RECIPE|FILE.yaml", "Example: nutshell image show ova", recipeFlags(), p.showRecipe),
		p.imageVerb("build", "make an image of a recipe, or the layers of a service kind", "RECIPE|FILE.yaml|KIND…",
			"Makes the files of an image with their sums, a manifest and a signature beside them. Only what is missing of\n"+
				"the layers is built anew, also after an interruption.\n\nExample: nutshell image build ova --kinds php,mysql --out /srv/images/", buildFlags(), p.buildImage),
		p.imageVerb("customise", "make an image with more in it: packages, files, a script", "RECIPE|FILE.yaml|IMAGE",
			"An image is made again of the recipes that its manifest holds, with one more layer.\n\n"+
				"Example: nutshell image customise lxc --package htop --file ./site:/srv/site --script setup.sh --out mine", append(buildFlags(), customFlags()...), p.customiseImage),
		p.imageVerb("check", "verify an image: signature, sums, and what is inside", "FILE", "Example: nutshell image check nutshell-ova-amd64.ova", checkFlags(), p.checkImage),
		p.imageVerb("key", "print the public key of the images made here", "", "Give it to those who check your images: nutshell image check FILE --key KEY.pem", nil, p.showImageKey),
		p.debCommand(),
		p.layersCommand(),
		hidden(p.imageVerb("list", "list layers", "", "", nil, p.listLayers)),
		hidden(p.imageVerb("clean", "remove layers that nothing is launched with any more", "", "", nil, p.cleanLayers)),
	}}
}

// imageVerb is a command that works with the store.
func (p *Program) imageVerb(name, usage, args, description string, flags []cli.Flag, act func(*cli.Context, imageStore) error) *cli.Command {
	return &cli.Command{Name: name, Usage: usage, ArgsUsage: args, Description: description, Flags: append(flags, settingFlags()...), Action: func(x *cli.Context) error {
		c, err := loadSettings(x)
		if err != nil {
			return err
		}
		s, err := imagebuild.New(imagebuild.Config{Dir: filepath.Join(c.DataDir, "images"), Log: slog.New(slog.NewTextHandler(p.Stderr, nil)), Suite: suiteOf(c), Mirror: c.Image.Mirror})
		if err != nil {
			return err
		}
		return act(x, imageStore{s, filepath.Join(c.DataDir, "image-key.pem")})
	}}
}

// bar shows progress: a bar on a terminal, one line for each step elsewhere.
func (p *Program) bar(prefix string) (progress imagebuild.Progress, finish func()) {
	if !terminal(p.Stderr) {
		last := ""
		return func(step string, _ float64) {
			if step != last {
				fmt.Fprintf(p.Stderr, "%s: %s\n", prefix, step)
				last = step
			}
		}, func() {}
	}
	bar := pb.ProgressBarTemplate(`{{string . "prefix"}} {{bar . }} {{percent . }} {{string . "step"}}`).New(1000)
	bar.SetWriter(p.Stderr).Set("prefix", prefix).Start()
	return func(step string, fraction float64) { bar.Set("step", step).SetCurrent(int64(1000 * fraction)) }, func() { bar.Finish() }
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
