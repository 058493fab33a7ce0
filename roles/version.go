package roles

import (
	"encoding/json"
	"fmt"
	"io/fs"

	"github.com/urfave/cli/v2"

	"nutshell/embedui"
	"nutshell/roles/internal/build"
)

// facts are what this binary is.
func (p *Program) facts() (build.Facts, []byte, error) {
	var helper []byte
	if p.Helper != nil {
		helper, _ = p.Helper()
	}
	var pages fs.FS
	if embedui.Built() {
		pages = embedui.FS()
	}
	f, err := build.Of(helper, pages)
	return f, helper, err
}

func (p *Program) versionCommand() *cli.Command {
	return &cli.Command{Name: "version", Usage: "what this binary is: version, commit, what is inside", Category: "this machine",
		Description: "The director's own: nutshell director version. What it is made of: nutshell sbom.\n\nExample: nutshell version -o json",
		Action:      func(x *cli.Context) error { return p.printFacts(x.String("output")) }}
}

func (p *Program) printFacts(format string) error {
	f, _, err := p.facts()
	if err != nil {
		return err
	}
	if handled, err := p.printData(format, f); handled {
		return err
	}
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(p.Stdout, "%-9s %s\n", name, value)
		}
	}
	commit := f.Commit
	if f.Dirty {
		commit += ", changed since"
	}
	helper, pages := "none: built without, so containers cannot be used", "sha256:"+f.Pages
	if f.Helper != nil {
		helper = "sha256:" + f.Helper.SHA256
	}
	if f.Pages == "" {
		pages = "none: built without"
	}
	line("nutshell", f.Version)
	line("commit", commit)
	line("of", f.Time)
	line("built", f.Go+", "+f.OS+"/"+f.Arch)
	line("lxc", helper)
	line("pages", pages)
	line("file", "sha256:"+f.SHA256)
	return nil
}

func (p *Program) billCommand() *cli.Command {
	return &cli.Command{Name: "sbom", Usage: "print the bill of materials of this binary (CycloneDX JSON)", Category: "this machine",
		Description: "All Go modules in it, those of the embedded helper, and the packages that the web pages are made of.\n\nExample: nutshell sbom >nutshell.cdx.json",
		Action: func(*cli.Context) error {
			f, helper, err := p.facts()
			if err != nil {
				return err
			}
			b, err := build.Materials(f, helper, embedui.Lock())
			if err != nil {
				return err
			}
			e := json.NewEncoder(p.Stdout)
			e.SetIndent("", "  ")
			e.SetEscapeHTML(false)
			return e.Encode(b)
		}}
}
