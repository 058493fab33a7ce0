package roles

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"

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
		verb("clean", "remove layers that nothing is launched with any more", "", "", p.cleanImages),
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

// cleanImages removes the layers that nothing would be launched with now, by
// digest: an outdated layer has the name of the one that replaced it.
func (p *Program) cleanImages(_ *cli.Context, s *imagebuild.Store) error {
	fail := func(err error) error {
		return &api.Error{Code: api.CodeConflict, Op: "clean", Object: "images", Err: err}
	}
	wanted := map[string]bool{}
	want := func(kind string, packages []string) error {
		digests, err := s.Digests(kind, packages)
		for _, d := range digests {
			wanted[d] = true
		}
		return err
	}
	if err := want("manager", nil); err != nil { // as the director asks for it
		return fail(err)
	}
	for _, k := range p.Services.Kinds() {
		if err := want(k.Name, k.Packages); err != nil {
			return fail(err)
		}
	}
	used, err := mountedLayers("/proc")
	if err != nil {
		return fail(err)
	}
	kept := 0
	gone, err := s.Remove(func(l imagebuild.Layer) bool {
		if !wanted[l.Digest] && used[l.Digest] {
			kept++
		}
		return len(wanted) > 0 && !wanted[l.Digest] && !used[l.Digest]
	})
	if err != nil {
		return fail(err)
	}
	fmt.Fprintf(p.Stdout, "%d layers removed\n", len(gone))
	if kept > 0 {
		fmt.Fprintf(p.Stdout, "%d outdated layers stay because running instances use them; restart those services, then clean again\n", kept)
	}
	return nil
}

var layerPath = regexp.MustCompile(`/layers/([0-9a-f]{64})/rootfs`)

// mountedLayers are the digests of the layers that some instance's root is made
// of. Containers mount in name spaces of their own, so each process is asked.
func mountedLayers(proc string) (map[string]bool, error) {
	tables, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "mountinfo"))
	if err != nil {
		return nil, err
	}
	used, seen := map[string]bool{}, map[string]bool{}
	for _, table := range tables {
		space, err := os.Readlink(filepath.Join(filepath.Dir(table), "ns", "mnt"))
		if err == nil && seen[space] {
			continue
		}
		b, err := os.ReadFile(table)
		if err != nil {
			continue // it has ended, or is not ours to look at
		}
		seen[space] = space != ""
		for _, m := range layerPath.FindAllSubmatch(b, -1) {
			used[string(m[1])] = true
		}
	}
	return used, nil
}
