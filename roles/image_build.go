package roles

import (
	"context"
	"crypto/ed25519"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/appliance"
	"nutshell/imagebuild/artefact"
	"nutshell/imagebuild/disk"
	"nutshell/imagebuild/recipe"
	"nutshell/imagebuild/tree"
	"nutshell/roles/api"
	"nutshell/roles/internal/build"
)

func buildFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.PathFlag{Name: "out", Usage: "what names of the files begin with, or a directory and a slash (default: nutshell-RECIPE-ARCH, here)"},
		&cli.StringFlag{Name: "arch", Usage: "Debian's name of the architecture: amd64, arm64 (default: the recipe's only one, or this machine's)"},
		&cli.PathFlag{Name: "binary", Usage: "the nutshell binary that goes into it (default: this one)"},
		&cli.PathFlag{Name: "settings", Usage: "the settings file of a card, in place of the explained, empty one"},
		&cli.BoolFlag{Name: "power-of-two", Usage: "a card of a size that QEMU takes"},
	}, recipeFlags()...)
}

// buildImage makes an image of a recipe. Names of service kinds are taken, too:
// for those it makes layers.
func (p *Program) buildImage(x *cli.Context, s imageStore) error {
	if _, err := p.Services.Get(x.Args().First()); err == nil || x.NArg() == 0 {
		return p.buildLayers(x, s)
	}
	l, err := p.plan(x, x.Args().First())
	if err != nil {
		return err
	}
	if !l.makes {
		return p.buildRecipeLayers(x, s, l)
	}
	return p.makeImage(x, s, l)
}

// buildRecipeLayers makes the layers of a recipe that makes nothing else.
func (p *Program) buildRecipeLayers(x *cli.Context, s imageStore, l planned) error {
	progress, finish := p.bar(l.name())
	layers, err := s.Chain(x.Context, l.chain, progress)
	finish()
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(p.Stderr, "Interrupted: layers that were finished stay. The same command goes on from there.")
	}
	if err == nil {
		fmt.Fprintf(p.Stdout, "%s: %d layers\n", l.name(), len(layers))
	}
	return err
}

func (p *Program) customiseImage(x *cli.Context, s imageStore) error {
	l, err := p.plan(x, x.Args().First())
	if err != nil {
		return err
	}
	if !l.makes {
		return &api.Error{Code: api.CodeInvalid, Op: "customise", Object: l.name(), Message: "this recipe makes layers, not an image", Hint: "nutshell image list-recipes shows which make what"}
	}
	if err := customise(x, &l, "custom-"+strings.TrimPrefix(l.name(), "custom-")); err != nil {
		return err
	}
	return p.makeImage(x, s, l)
}

func (p *Program) makeImage(x *cli.Context, s imageStore, l planned) error {
	arch := x.String("arch")
	if arch == "" {
		arch = runtime.GOARCH
		if len(l.image.Arch) == 1 {
			arch = l.image.Arch[0]
		}
	}
	program, err := programFor(x.Path("binary"), arch)
	if err != nil {
		return err
	}
	at, err := buildTime()
	if err != nil {
		return err
	}
	card := artefact.Card{PowerOfTwo: x.Bool("power-of-two")}
	if file := x.Path("settings"); file != "" {
		if card.Settings, err = os.ReadFile(file); err != nil {
			return &api.Error{Code: api.CodeInvalid, Op: "read", Object: "--settings", Err: err}
		}
	}
	key, err := artefact.OpenKey(s.key)
	if err != nil {
		return err
	}
	out, name := filepath.Split(x.Path("out"))
	if info, err := os.Stat(x.Path("out")); err == nil && info.IsDir() {
		out, name = x.Path("out"), ""
	}
	if name == "" {
		name = "nutshell-" + l.name() + "-" + arch
	}
	name, _, _ = artefact.BaseOf(name)
	if out == "" {
		out = "."
	}
	began := time.Now()
	progress, finish := p.bar(l.name())
	m, err := artefact.Build(x.Context, artefact.Job{Store: s.For(arch), Tools: s.Store, Chain: l.chain, Image: l.image, Kinds: l.kinds, Arch: arch, Program: program, Version: build.Version(),
		Install: installAppliance, Out: out, Name: name, Time: at, Key: key, Card: card, Progress: progress})
	finish()
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(p.Stderr, "Interrupted: what was begun is removed, layers that were finished stay. The same command goes on from there.")
	}
	if err != nil {
		return err
	}
	if handled, err := p.printData(x.String("output"), m); handled {
		return err
	}
	for _, f := range m.Files {
		fmt.Fprintf(p.Stdout, "%-40s %8.1f MB\n", filepath.Join(out, f.Name), float64(f.Bytes)/1e6)
	}
	fmt.Fprintf(p.Stdout, "made in %.1f s; sums, manifest and signature lie beside\n", time.Since(began).Seconds())
	return nil
}

// installAppliance puts what a machine starts into its root file system.
func installAppliance(root *tree.Tree, i recipe.Image) error {
	if i.Profile == "" {
		return nil
	}
	return appliance.Install(root, appliance.Options{Profile: appliance.Profile(i.Profile)})
}

// machineOf is the architecture as programs bear it.
func machineOf(arch string) (elf.Machine, error) {
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]
	if machine == elf.EM_NONE {
		return machine, &api.Error{Code: api.CodeInvalid, Op: "build image", Object: "for " + api.Shorten(arch), Message: "there is no such architecture", Hint: "amd64 or arm64"}
	}
	return machine, nil
}

// programFor finds the binary that goes into an image.
func programFor(given, arch string) (string, error) {
	fail := func(message, hint string, err error) (string, error) {
		return "", &api.Error{Code: api.CodeInvalid, Op: "build image", Object: "with " + given, Message: message, Hint: hint, Err: err}
	}
	machine, err := machineOf(arch)
	if err != nil {
		return "", err
	}
	hint := "give one with --binary; make build makes it, make build-arm64 that for arm64"
	file := given
	if given == "" {
		given = "this program"
		if file, err = os.Executable(); err != nil {
			return "", err
		}
	}
	f, err := elf.Open(file)
	if err != nil {
		return fail("this is no program", hint, err)
	}
	is, static := f.Machine, isStatic(f)
	if err := f.Close(); err != nil {
		return fail("this is no program", hint, err)
	}
	switch {
	case is != machine:
		return fail("it is for "+is.String()+", the image is for "+arch, hint, nil)
	case !static:
		return fail(needsLibraries, hint, nil)
	}
	return file, nil
}

// needsLibraries is said of a binary that a plain go build has made: where it
// is copied to there may be older libraries, or none, and it would not start.
const needsLibraries = "it is not statically linked: it needs libraries of the machine that it was built on"

// isStatic reports whether a program needs nothing beside the kernel.
func isStatic(f *elf.File) bool {
	return !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// buildTime is SOURCE_DATE_EPOCH, by which builders agree on a time, or zero.
func buildTime() (time.Time, error) {
	v := os.Getenv("SOURCE_DATE_EPOCH")
	if v == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, &api.Error{Code: api.CodeInvalid, Op: "read", Object: "SOURCE_DATE_EPOCH", Message: api.Shorten(v) + " is no number of seconds since 1970"}
	}
	return time.Unix(n, 0), nil
}

func checkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "key", Usage: "a public key, PEM, that is trusted beside this machine's own"},
		&cli.BoolFlag{Name: "unsigned", Usage: "look at the sums alone: this finds damage, not forgery"},
	}
}

func (p *Program) checkImage(x *cli.Context, s imageStore) error {
	c := artefact.Checks{Unsigned: x.Bool("unsigned"), Tools: func(ctx context.Context) (*disk.Tools, error) {
		return artefact.OpenTools(ctx, s.Store)
	}}
	if _, err := os.Stat(s.key); err == nil {
		own, err := artefact.OpenKey(s.key)
		if err != nil {
			return err
		}
		c.Keys = append(c.Keys, own.Public().(ed25519.PublicKey)) //nolint:forcetypeassert // of an ed25519 key
	}
	for _, file := range x.StringSlice("key") {
		key, err := artefact.ReadPublic(file)
		if err != nil {
			return err
		}
		c.Keys = append(c.Keys, key)
	}
	if x.NArg() == 0 {
		return &api.Error{Code: api.CodeInvalid, Op: "check", Message: "name a file of the image"}
	}
	var finish func()
	c.Progress, finish = p.bar("check")
	r, err := artefact.Check(x.Context, x.Args().First(), c)
	finish()
	if err != nil {
		return err
	}
	if handled, err := p.printData(x.String("output"), r); handled {
		return err
	}
	for _, f := range r.Facts {
		fmt.Fprintln(p.Stdout, f)
	}
	fmt.Fprintf(p.Stdout, "%s is good\n", r.Name)
	return nil
}

func (p *Program) showImageKey(_ *cli.Context, s imageStore) error {
	key, err := artefact.OpenKey(s.key)
	if err != nil {
		return err
	}
	text, err := artefact.PublicPEM(key)
	if err != nil {
		return err
	}
	_, err = p.Stdout.Write(text)
	return err
}
