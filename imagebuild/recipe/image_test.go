package recipe

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestResolveTakesTheHighestWord(t *testing.T) {
	r, err := Load("ova-backend")
	if err != nil {
		t.Fatal(err)
	}
	chain, err := Chain(r)
	if err != nil {
		t.Fatal(err)
	}
	i, makes := Resolve(chain)
	if !makes || i.Profile != "backend" || i.MemoryMB != 2048 || i.CPUs != 2 || i.DiskGB != 20 || !slices.Equal(i.Networks, []string{"NAT", "Bridged"}) || !slices.Equal(i.Formats, []Format{OVA}) ||
		!slices.Equal(i.ServicesArch, Words{"arm64"}) {
		t.Errorf("got %+v", i)
	}
	if _, makes := Resolve(chain[:1]); makes {
		t.Error("base makes something beside a layer")
	}
	for _, c := range []struct {
		name     string
		services Words
		want     int
		err      string
	}{
		{"all", Words{"all"}, 2, ""},
		{"none", Words{"none"}, 0, ""},
		{"said-nothing", nil, 0, ""},
		{"one", Words{"php"}, 1, ""},
		{"unknown", Words{"php", "cobol"}, 0, `no service kind "cobol"; there are java, php`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Image{Services: c.services}.Kinds([]string{"java", "php"})
			if len(got) != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestImageRefuses(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"unknown-key", "image: {disk: 3}", `no key "disk" of an image; there are formats`},
		{"format", "image: {formats: [floppy]}", `no format "floppy"`},
		{"services", "image: {services: [all, php]}", "stand alone"},
		{"service-name", "image: {services: ['../x']}", "is not a name"},
		{"service-arch", "image: {services_arch: [ARM]}", "is not a name"},
		{"place", "image: {services_in: cellar}", "neither root nor layers"},
		{"disk", "image: {disk_gb: -1}", "disk_gb"},
		{"memory", "image: {memory_mb: 3}", "memory_mb"},
		{"cpus", "image: {cpus: 1000}", "cpus"},
		{"network", "image: {networks: [Token]}", "none of NAT"},
		{"two-sources", "files: {/a: {text: x, from: y}}", "both a text and a file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte("name: a\n" + c.yaml + "\n"))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if r, err := Parse([]byte("name: a\nimage: {services: php}\n")); err != nil || !slices.Equal(r.Image.Services, Words{"php"}) {
		t.Errorf("one word: %v, %v", r.Image, err)
	}
}

func TestOwnRecipe(t *testing.T) {
	dir := t.TempDir()
	site := filepath.Join(dir, "site", "in")
	for _, err := range []error{os.MkdirAll(site, 0o755), os.WriteFile(filepath.Join(site, "a.html"), []byte("hello"), 0o644), os.WriteFile(filepath.Join(dir, "site", "run"), []byte("#!/bin/sh\n"), 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(text string) string {
		p := filepath.Join(dir, "mine.yaml")
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	r, err := Read(write("name: mine\ninherits: lxc\nfiles: {/srv/site: {from: site}}\nscript: echo hi\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Files) != 2 || r.Files["/srv/site/in/a.html"].Sum == "" || !r.Files["/srv/site/run"].Executable || r.Files["/srv/site/in/a.html"].Executable {
		t.Errorf("got %+v", r.Files)
	}
	chain, err := Chain(r)
	if err != nil || len(chain) != 4 || chain[3].Remove == nil || !chain[3].Adds() || chain[2].Adds() {
		t.Errorf("got %v, %v", chain, err)
	}
	before := r.Digest("", "trixie", "amd64")
	if err := os.WriteFile(filepath.Join(site, "a.html"), []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r, err = Read(filepath.Join(dir, "mine.yaml")); err != nil || r.Digest("", "trixie", "amd64") == before {
		t.Errorf("a changed file makes the same layer: %v", err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"no-parent", "name: mine\n", "inherits is missing"},
		{"name-of-ours", "name: ova\ninherits: lxc\n", "comes with Nutshell"},
		{"no-file", "name: mine\ninherits: lxc\nfiles: {/a: {from: nowhere}}\n", "there is no "},
		{"misspelt", "name: mine\ninherit: lxc\n", `no key "inherit" of a recipe`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Read(write(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(site, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(write("name: mine\ninherits: lxc\nfiles: {/srv/site: {from: site}}\n")); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("got %v, want the link refused", err)
	}
	if _, err := Custom("more", "lxc", nil, nil, ""); err == nil {
		t.Error("nothing to add was taken")
	}
}
