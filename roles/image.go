package roles

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/cheggaaa/pb/v3"
	"github.com/urfave/cli/v2"

	"nutshell/imagebuild"
	"nutshell/roles/api"
)

// imageCommand builds and lists the layers that containers are made of.
func (p *Program) imageCommand() *cli.Command {
	verb := func(name, usage, args, description string, act func(*cli.Context, *imagebuild.Store) error) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, ArgsUsage: args, Description: description, Flags: settingFlags(), Action: func(x *cli.Context) error {
			c, err := loadSettings(x)
			if err != nil {
				return err
			}
			s, err := imagebuild.New(imagebuild.Config{Dir: filepath.Join(c.DataDir, "images"), Log: slog.New(slog.NewTextHandler(p.Stderr, nil)), Suite: suiteOf(c), Mirror: c.Image.Mirror})
			if err != nil {
				return err
			}
			return act(x, s)
		}}
	}
	return &cli.Command{Name: "image", Usage: "layers that containers are made of", Category: "this machine", HideHelpCommand: true, Subcommands: []*cli.Command{
		verb("build", "build the layers of service kinds before they are needed", "[KIND…]", "Builds from Debian's packages, taken from this machine's apt configuration.\n\nExample: nutshell image build php", p.buildImages),
		verb("list", "list layers", "", "", p.listImages),
		verb("clean", "remove layers that no kind of this program uses", "", "", p.cleanImages),
	}}
}

func (p *Program) buildImages(x *cli.Context, s *imagebuild.Store) error {
	names := x.Args().Slice()
	if len(names) == 0 {
		for _, k := range p.Services.Kinds() {
			names = append(names, k.Name)
		}
	}
	for _, name := range names {
		k, err := p.Services.Get(name)
		if err != nil {
			return err
		}
		bar := pb.ProgressBarTemplate(`{{string . "prefix"}} {{bar . }} {{percent . }} {{string . "step"}}`).New(1000)
		bar.SetWriter(p.Stderr).Set("prefix", name).Start()
		layers, err := s.Layers(x.Context, k.Name, k.Packages, func(step string, fraction float64) {
			bar.Set("step", step).SetCurrent(int64(1000 * fraction))
		})
		bar.Finish()
		if err != nil {
			return err
		}
		fmt.Fprintf(p.Stdout, "%s: %d layers\n", name, len(layers))
	}
	return nil
}

func (p *Program) listImages(x *cli.Context, s *imagebuild.Store) error {
	layers, err := s.List()
	if err != nil {
		return err
	}
	if handled, err := p.printData(x.String("output"), layers); handled {
		return err
	}
	fmt.Fprintf(p.Stdout, "%-14s %-10s %10s  %s\n", "layer", "suite", "MB", "built")
	for _, l := range layers {
		fmt.Fprintf(p.Stdout, "%-14s %-10s %10.1f  %s\n", l.Name, l.Suite, float64(l.Bytes)/(1<<20), l.Created.Format("2006-01-02 15:04"))
	}
	return nil
}

func (p *Program) cleanImages(x *cli.Context, s *imagebuild.Store) error {
	used := map[string]bool{"base": true}
	for _, k := range p.Services.Kinds() {
		used[k.Name] = true
	}
	gone, err := s.Remove(func(l imagebuild.Layer) bool { return !used[l.Name] })
	if err != nil {
		return &api.Error{Code: api.CodeConflict, Op: "clean", Object: "images", Err: err}
	}
	fmt.Fprintf(p.Stdout, "%d layers removed\n", len(gone))
	return nil
}
