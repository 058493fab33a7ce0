package recipe

import (
	"strings"
	"testing"
)

// FuzzParse: a recipe of anybody's that is taken has names that are safe on
// command lines and in paths.
func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		b, err := embedded.ReadFile(name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		if strings.ContainsAny(r.Name, "/\x00\n ") || strings.HasPrefix(r.Name, ".") || strings.HasPrefix(r.Name, "-") {
			t.Fatalf("name %q", r.Name)
		}
		for _, p := range r.Packages {
			if strings.ContainsAny(p, " \n/\x00=") || strings.HasPrefix(p, "-") || strings.HasSuffix(p, "-") {
				t.Fatalf("package %q", p)
			}
		}
		for p := range r.Files {
			if !strings.HasPrefix(p, "/") || strings.Contains(p+"/", "/../") {
				t.Fatalf("file %q", p)
			}
		}
		if _, err := Chain(r); err == nil && r.Digest("", "trixie", "amd64") == "" {
			t.Fatal("no digest")
		}
	})
}
