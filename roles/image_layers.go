package roles

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/imagebuild"
	"nutshell/roles/api"
)

// layersCommand builds and lists the layers that containers are made of.
func (p *Program) layersCommand() *cli.Command {
	return &cli.Command{Name: "layers", Usage: "layers that containers are made of", HideHelpCommand: true, Subcommands: []*cli.Command{
		p.imageVerb("build", "build the layers of service kinds before they are needed", "[KIND…]",
			"Builds from Debian's packages, taken from this machine's apt configuration; those of all kinds where none is named.\n\n"+
				"Layers for another architecture are for nodes of a cluster. Their packages' scripts run here, by an emulator.\n\n"+
				"Example: nutshell image layers build php\nExample: nutshell image layers build --arch arm64", archFlag(), p.buildLayers),
		p.imageVerb("list", "list layers", "", "", nil, p.listLayers),
		p.imageVerb("clean", "remove layers that nothing is launched with any more", "", "", nil, p.cleanLayers),
	}}
}

func archFlag() []cli.Flag {
	return []cli.Flag{&cli.StringFlag{Name: "arch", Usage: "Debian's name of the architecture: amd64, arm64 (default: this machine's)"}}
}

func (p *Program) buildLayers(x *cli.Context, s imageStore) error {
	names := x.Args().Slice()
	if len(names) == 0 {
		for _, k := range p.Services.Kinds() {
			names = append(names, k.Name)
		}
	}
	store, prefix := s.Store, ""
	if arch := x.String("arch"); arch != "" && arch != s.Arch() {
		if _, err := machineOf(arch); err != nil {
			return err
		}
		store, prefix = s.For(arch), arch+" "
	}
	for _, name := range names {
		k, err := p.Services.Get(name)
		if err != nil {
			return err
		}
		began := time.Now()
		progress, finish := p.bar(prefix + name)
		layers, err := store.KindLayers(x.Context, k.Name, k.Packages, progress)
		finish()
		if err != nil {
			return err
		}
		var bytes int64
		for _, l := range layers {
			bytes += l.Bytes
		}
		fmt.Fprintf(p.Stdout, "%s%s: %d layers, %.1f MB, %.1f s\n", prefix, name, len(layers), float64(bytes)/(1<<20), time.Since(began).Seconds())
	}
	return nil
}

func (p *Program) listLayers(x *cli.Context, s imageStore) error {
	layers, err := s.List()
	if err != nil {
		return err
	}
	if handled, err := p.printData(x.String("output"), layers); handled {
		return err
	}
	fmt.Fprintf(p.Stdout, "%-14s %-10s %-8s %10s  %s\n", "layer", "suite", "arch", "MB", "built")
	for _, l := range layers {
		fmt.Fprintf(p.Stdout, "%-14s %-10s %-8s %10.1f  %s\n", l.Name, l.Suite, l.Arch, float64(l.Bytes)/(1<<20), l.Created.Format("2006-01-02 15:04"))
	}
	return nil
}

// cleanLayers removes the layers that nothing would be launched with now, by
// digest: an outdated layer has the name of the one that replaced it.
func (p *Program) cleanLayers(_ *cli.Context, s imageStore) error {
	fail := func(err error) error {
		return &api.Error{Code: api.CodeConflict, Op: "clean", Object: "images", Err: err}
	}
	have, err := s.List()
	if err != nil {
		return fail(err)
	}
	stores := map[string]*imagebuild.Store{s.Arch(): s.Store}
	for _, l := range have { // of other architectures are those that nodes get
		if stores[l.Arch] == nil {
			stores[l.Arch] = s.For(l.Arch)
		}
	}
	wanted := map[string]bool{}
	want := func(kind string, packages []string) error {
		for _, store := range stores {
			digests, _, err := store.Standing(kind, packages)
			if err != nil {
				return err
			}
			for _, d := range digests {
				wanted[d] = true
			}
		}
		return nil
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
