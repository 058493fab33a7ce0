package roles

import (
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/appliance/deb"
	"nutshell/roles/api"
	"nutshell/roles/internal/build"
)

// debCommand makes a Debian package of a binary, this one if none is named.
func (p *Program) debCommand() *cli.Command {
	return &cli.Command{Name: "deb", Usage: "make a Debian package of this binary, or of one for another architecture", HideHelpCommand: true,
		Description: "The package has the binary, ConPaaS's command names, units and a configuration file. Making it needs no\nroot and no tools; the same binary gives the same bytes.\n\nExample: nutshell image deb --binary nutshell-arm64 --out /srv/packages",
		Flags:       []cli.Flag{&cli.PathFlag{Name: "binary", Usage: "the nutshell to pack"}, &cli.PathFlag{Name: "out", Value: ".", Usage: "directory to write it in"}},
		Action: func(x *cli.Context) error {
			binary := x.Path("binary")
			if binary == "" {
				var err error
				if binary, err = os.Executable(); err != nil {
					return err
				}
			}
			o, err := p.debOptions(binary)
			if err != nil {
				return err
			}
			return p.writeDeb(x, o)
		}}
}

// debOptions reads what a binary is.
func (p *Program) debOptions(binary string) (deb.Options, error) {
	wrong := func(why string, err error) (deb.Options, error) {
		return deb.Options{}, &api.Error{Code: api.CodeInvalid, Op: "pack", Object: binary, Message: why, Err: err, Hint: "name a nutshell made by make build or make build-arm64"}
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return wrong("this is not a Go program", err)
	}
	if info.Path != "nutshell" {
		return wrong("this is another program: "+info.Path, nil)
	}
	f, err := elf.Open(binary)
	if err != nil {
		return wrong("this is not a program for Linux", err)
	}
	arch := map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}[f.Machine]
	static := isStatic(f)
	if err := f.Close(); err != nil || arch == "" {
		return wrong("Debian packages are made for amd64 and arm64, this is for "+f.Machine.String(), err)
	}
	if !static {
		return wrong(needsLibraries, nil)
	}
	facts := build.Read(info)
	o := deb.Options{Binary: binary, Version: facts.Version, Arch: arch, At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	if at, err := time.Parse(time.RFC3339, facts.Time); err == nil {
		o.At = at
	}
	for _, object := range []string{"tools", "user", "cloud", "application", "service", "director"} {
		o.Links = append(o.Links, "cps-"+object)
	}
	for _, k := range p.Services.Kinds() {
		o.Links = append(o.Links, "cps-"+k.Name)
	}
	return o, nil
}

// writeDeb writes the package beside its place and moves it there when it is
// whole.
func (p *Program) writeDeb(x *cli.Context, o deb.Options) error {
	path := filepath.Join(x.Path("out"), deb.Name(o))
	fail := func(err error) error {
		return &api.Error{Code: api.CodeUnavailable, Op: "write", Object: path, Err: err, Hint: "choose another directory by --out"}
	}
	f, err := os.CreateTemp(x.Path("out"), ".deb-*")
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone when all went well
	err = deb.Write(x.Context, f, o)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return fail(err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fail(err)
	}
	fmt.Fprintln(p.Stdout, path)
	return nil
}
