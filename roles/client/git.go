package client

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// gitVerbs are the verbs of the object git: the repositories of applications.
func (c *Client) gitVerbs() []*cli.Command {
	return []*cli.Command{
		c.verb("show", "an application's git repository: how to clone it, and which folder is which service's", argApp, onApplication(showRepository)),
		c.verb("url", "the URL of an application's git repository", argApp, onApplication(func(r *call, a api.Application) error {
			g, err := r.repository(a)
			if err != nil {
				return err
			}
			return r.showText(g, func(w io.Writer) { fmt.Fprintln(w, g.URL) })
		})),
	}
}

func (r *call) repository(a api.Application) (api.Repository, error) {
	var g api.Repository
	return g, r.get(applicationPath(a)+"/repository", &g)
}

func showRepository(r *call, a api.Application) error {
	g, err := r.repository(a)
	if err != nil {
		return err
	}
	return r.showText(g, func(w io.Writer) {
		fmt.Fprintln(w, g.Clone)
		fmt.Fprintln(w)
		pairs(w, "host key", g.HostKey, "branch", g.Branch, "commit", strings.TrimSpace(g.Commit[:min(len(g.Commit), 7)]+" "+printable(g.Subject)), "pushed", when(g.Pushed),
			"size", sizeOf(g.Bytes), "branches", strings.Join(g.Branches, " "))
		fmt.Fprintln(w)
		t := &table{columns: []string{"sid", "folder", "in the branch", "version"}, none: "No services that keep code."}
		for _, f := range g.Folders {
			t.add(strconv.FormatInt(f.Service, 10), strings.Join(f.Names, " or "), orDash(f.Found), orDash(f.Version))
		}
		t.write(w)
	})
}

func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format(time.DateTime)
}

func sizeOf(n int64) string {
	switch {
	case n < 1<<20:
		return fmt.Sprintf("%d KiB", (n+1023)>>10)
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// tellClone prints the line that clones an application's repository.
func (r *call) tellClone(a api.Application) error {
	g, err := r.repository(a)
	if err != nil {
		return err
	}
	r.say("%s", g.Clone)
	return nil
}
