package build

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
)

// Bill is a bill of materials in CycloneDX's form, version 1.5.
type Bill struct {
	Format       string       `json:"bomFormat"`
	Spec         string       `json:"specVersion"`
	Serial       string       `json:"serialNumber"` // follows from what is in it: the same build has the same
	Version      int          `json:"version"`
	Metadata     Metadata     `json:"metadata"`
	Components   []Component  `json:"components"`
	Dependencies []Dependency `json:"dependencies"`
}

// Metadata says what the bill is of.
type Metadata struct {
	Time      string    `json:"timestamp,omitempty"` // of the commit
	Component Component `json:"component"`
}

// Component is one library, program or the binary itself.
type Component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version,omitempty"`
	Scope      string     `json:"scope,omitempty"` // required: is in the binary; excluded: only built it
	PURL       string     `json:"purl,omitempty"`
	Hashes     []Hash     `json:"hashes,omitempty"`
	Licenses   []Licence  `json:"licenses,omitempty"`
	Properties []Property `json:"properties,omitempty"`
}

// Licence is what a package says of itself, as an SPDX expression.
type Licence struct {
	Expression string `json:"expression"`
}

// Hash is a sum of a component's file.
type Hash struct {
	Alg     string `json:"alg"`
	Content string `json:"content"`
}

// Property is a fact that the form has no field for.
type Property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Dependency says what a component is made of.
type Dependency struct {
	Ref string   `json:"ref"`
	On  []string `json:"dependsOn"`
}

// inPages are packages that stand among those that only build the pages, while
// code of theirs is in what is built.
var inPages = []string{"svelte", "clsx"}

// Materials makes the bill of this binary: the Go modules that the linker
// recorded, those of the helper, and the packages that the pages were built
// of and with, from their lock file. helper may be nil.
func Materials(f Facts, helper, lock []byte) (Bill, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Bill{}, errors.New("this binary was built without build information")
	}
	self := Component{Type: "application", Ref: "nutshell", Name: "nutshell", Version: f.Version, PURL: goPURL(info.Main.Path, f.Version)}
	if f.Commit != "" {
		self.Properties = append(self.Properties, Property{"vcs.revision", f.Commit}, Property{"vcs.modified", fmt.Sprint(f.Dirty)})
	}
	self.Properties = append(self.Properties, Property{"go.target", f.OS + "/" + f.Arch})
	if f.SHA256 != "" {
		self.Hashes = []Hash{{"SHA-256", f.SHA256}}
	}
	b := Bill{Format: "CycloneDX", Spec: "1.5", Version: 1, Metadata: Metadata{Time: f.Time, Component: self}}
	own := b.modules(info)
	if helper != nil {
		inner, err := buildinfo.Read(bytes.NewReader(helper))
		if err != nil {
			return Bill{}, fmt.Errorf("read what the lxc helper is made of: %w", err)
		}
		b.add(Component{Type: "application", Ref: "nutshell-lxc", Name: "nutshell-lxc", Scope: "required", Hashes: []Hash{{"SHA-256", sum(helper)}},
			Properties: []Property{{"links", "liblxc.so.1 of the machine it runs on"}}})
		b.Dependencies = append(b.Dependencies, Dependency{Ref: "nutshell-lxc", On: b.modules(inner)})
		own = append(own, "nutshell-lxc")
	}
	if f.Pages != "" {
		pages, err := b.packages(lock)
		if err != nil {
			return Bill{}, err
		}
		b.add(Component{Type: "application", Ref: "nutshell-pages", Name: "nutshell-pages", Scope: "required", Properties: []Property{{"sha256.tree", f.Pages}}})
		b.Dependencies = append(b.Dependencies, Dependency{Ref: "nutshell-pages", On: pages})
		own = append(own, "nutshell-pages")
	}
	b.Dependencies = append(b.Dependencies, Dependency{Ref: self.Ref, On: own})
	slices.SortFunc(b.Components, func(a, c Component) int { return cmp.Compare(a.Ref, c.Ref) })
	slices.SortFunc(b.Dependencies, func(a, c Dependency) int { return cmp.Compare(a.Ref, c.Ref) })
	return b, b.number()
}

// number makes the serial number from everything else.
func (b *Bill) number() error {
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	h := sha256.Sum256(text)
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80 // a UUID of version 8, free in its content
	s := hex.EncodeToString(h[:16])
	b.Serial = "urn:uuid:" + strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
	return nil
}

// add takes a component in, once.
func (b *Bill) add(c Component) string {
	if !slices.ContainsFunc(b.Components, func(o Component) bool { return o.Ref == c.Ref }) {
		b.Components = append(b.Components, c)
	}
	return c.Ref
}

func goPURL(path, version string) string {
	return "pkg:golang/" + strings.ToLower(path) + "@" + strings.ReplaceAll(version, "+", "%2B")
}

func (b *Bill) modules(info *debug.BuildInfo) (refs []string) {
	std := strings.TrimPrefix(strings.Fields(info.GoVersion + " ")[0], "go")
	refs = append(refs, b.add(Component{Type: "library", Ref: goPURL("stdlib", std), Name: "stdlib", Version: std, Scope: "required", PURL: goPURL("stdlib", std)}))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := Component{Type: "library", Ref: goPURL(m.Path, m.Version), Name: m.Path, Version: m.Version, Scope: "required", PURL: goPURL(m.Path, m.Version)}
		if m.Sum != "" {
			c.Properties = []Property{{"go.sum", m.Sum}} // over the files of the module, not over its archive
		}
		refs = append(refs, b.add(c))
	}
	slices.Sort(refs)
	return slices.Compact(refs)
}

// packages reads npm's lock file, version 3.
func (b *Bill) packages(lock []byte) (refs []string, err error) {
	var l struct {
		Packages map[string]struct {
			Version   string `json:"version"`
			Integrity string `json:"integrity"`
			License   string `json:"license"`
			Dev       bool   `json:"dev"`
		} `json:"packages"`
	}
	if err := json.Unmarshal(lock, &l); err != nil {
		return nil, fmt.Errorf("read the pages' lock file: %w", err)
	}
	for path, p := range l.Packages {
		_, name, ok := cutLast(path, "node_modules/")
		if !ok || p.Version == "" {
			continue // the pages themselves
		}
		purl := "pkg:npm/" + strings.Replace(name, "@", "%40", 1) + "@" + p.Version
		c := Component{Type: "library", Ref: purl, Name: name, Version: p.Version, Scope: "required", PURL: purl}
		if p.Dev && !slices.Contains(inPages, name) {
			c.Scope = "excluded"
		}
		if algorithm, text, ok := strings.Cut(p.Integrity, "-"); ok && algorithm == "sha512" {
			if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
				c.Hashes = []Hash{{"SHA-512", hex.EncodeToString(raw)}}
			}
		}
		if p.License != "" {
			c.Licenses = []Licence{{p.License}}
		}
		refs = append(refs, b.add(c))
	}
	slices.Sort(refs)
	return slices.Compact(refs), nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
