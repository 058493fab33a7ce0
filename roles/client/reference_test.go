package client

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

// TestReference keeps the manual's page of all commands: it is made of what
// the commands say of themselves.
func TestReference(t *testing.T) {
	const path = "../../docs/guide/commands.md"
	var b strings.Builder
	b.WriteString("# Commands\n\nEvery command of `nutshell`, as `nutshell COMMAND --help` says it. All that has to do with one kind of service goes by its name, too: `nutshell php scale` is `nutshell service scale` for PHP, with a completion that knows its parts.\n" +
		"`-o json` and `-o yaml` print what programs read; underscores and dashes are the same. This page is made by a test of what the commands say (`go test ./roles/client -run Reference -update`).\n")
	for _, c := range New(Options{Getenv: func(string) string { return "" }}).Commands() {
		if !c.Hidden {
			reference(&b, "nutshell", c)
		}
	}
	got := b.String()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got; after a wanted change: go test ./roles/client -run Reference -update):\n%s", path, d)
	}
}

// reference writes a command down, with those below it.
func reference(b *strings.Builder, before string, c *cli.Command) {
	name := before + " " + c.Name
	if len(c.Subcommands) == 0 {
		if before == "nutshell" {
			fmt.Fprintf(b, "\n## %s\n", name)
		}
		fmt.Fprintf(b, "\n**`%s`** %s\n", strings.TrimSpace(name+" "+c.ArgsUsage), c.Usage)
		flags(b, c)
		if lines := strings.Fields(strings.ReplaceAll(strings.TrimPrefix(c.Description, "examples:"), " ", "\x00")); len(lines) > 0 {
			b.WriteString("\n```sh\n")
			for _, line := range lines {
				b.WriteString(strings.Trim(strings.ReplaceAll(line, "\x00", " "), " ") + "\n")
			}
			b.WriteString("```\n")
		}
		return
	}
	if before == "nutshell" {
		fmt.Fprintf(b, "\n## %s\n\n%s.\n", name, strings.ToUpper(c.Usage[:1])+c.Usage[1:])
	}
	for _, s := range c.Subcommands {
		if !s.Hidden {
			reference(b, name, s)
		}
	}
}

func flags(b *strings.Builder, c *cli.Command) {
	began := false
	for _, f := range c.Flags {
		d, ok := f.(cli.DocGenerationFlag)
		if v, hides := f.(cli.VisibleFlag); !ok || hides && !v.IsVisible() {
			continue
		}
		var names []string
		for _, n := range f.Names() {
			if len(n) == 1 {
				names = append(names, "`-"+n+"`")
			} else {
				names = append(names, "`--"+n+"`")
			}
		}
		if !began {
			b.WriteString("\n")
			began = true
		}
		fmt.Fprintf(b, "- %s: %s\n", strings.Join(names, ", "), strings.ReplaceAll(d.GetUsage(), "`", ""))
	}
}
