package director

import (
	"context"
	"embed"
	"path"
	"slices"
	"strings"

	"nutshell/cloud"
	"nutshell/roles/api"
	"nutshell/roles/internal/manifest"
)

//go:embed templates/*.yaml
var templateFiles embed.FS

// ready are the ready-made applications; the manifest of each is the file of
// its name.
var ready = []api.Template{
	{Name: "sudoku", Title: "Sudoku", Summary: "A puzzle in PHP, made anew for each visitor; the smallest of all applications, of ConPaaS's first example."},
	{Name: "wordpress", Title: "WordPress", Summary: "A site or a blog, with its database, of Debian's package. The first visitor chooses name and password of its administrator."},
	{Name: "mediawiki", Title: "MediaWiki", Summary: "The wiki that Wikipedia runs on, with its database, of Debian's package. The first account that is made is its administrator's."},
}

func (d *Director) listTemplates(context.Context, *struct{}) ([]api.Template, error) {
	list := make([]api.Template, len(ready))
	var err error
	for i := range ready {
		if list[i], err = d.template(ready[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (d *Director) getTemplate(_ context.Context, in *struct {
	Template string `path:"template"`
}) (api.Template, error) {
	var names []string
	for _, t := range ready {
		if t.Name == in.Template {
			return d.template(t)
		}
		names = append(names, t.Name)
	}
	return api.Template{}, &api.Error{Code: api.CodeNotFound, Object: "template " + api.Shorten(in.Template), Message: "there is no such template", Hint: "one of: " + strings.Join(names, ", ")}
}

// template fills in what a template is made of and whether it can be, here.
func (d *Director) template(t api.Template) (api.Template, error) {
	text, err := templateFiles.ReadFile(path.Join("templates", t.Name+".yaml"))
	if err != nil {
		return t, err
	}
	t.Manifest, t.Kinds = string(text), []string{}
	m, err := manifest.Parse(text)
	if err != nil {
		return t, err
	}
	for _, s := range m.Services {
		if !slices.Contains(t.Kinds, s.Type) {
			t.Kinds = append(t.Kinds, s.Type)
		}
	}
	plan, notes, err := d.planManifest(&m)
	if err != nil {
		t.Problem = api.AsError(err).Error()
		return t, nil //nolint:nilerr // it is told
	}
	t.Credits = checked(m, plan, notes, nil).Credits
	return t, nil
}

// layered reports whether a cloud's instances are made of layers, and not of
// this machine's own programs.
func (d *Director) layered(name string) bool {
	p, err := d.place(name)
	if err != nil {
		return false
	}
	l, ok := p.driver.(cloud.Layered)
	return ok && l.UsesLayers()
}
