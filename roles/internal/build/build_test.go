package build

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

func TestFactsOfThisBinary(t *testing.T) {
	pages := fstest.MapFS{"index.html": {Data: []byte("a")}, "assets/x.js": {Data: []byte("b")}}
	f, err := Of(nil, pages)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.SHA256) != 64 || len(f.Pages) != 64 || f.Helper != nil || !strings.HasPrefix(f.Go, "go1.") {
		t.Errorf("got %+v", f)
	}
	pages["assets/x.js"].Data = []byte("c")
	if g, err := Of(nil, pages); err != nil || g.Pages == f.Pages {
		t.Errorf("other pages, the same sum %s, %v", g.Pages, err)
	}
}

// bill makes the bill of this test's own binary, with itself as the helper.
func bill(t *testing.T) Bill {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.ReadFile("../../../embedui/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Materials(Facts{Version: "v1.2.3+dirty", Commit: "abc", Time: "2026-01-02T03:04:05Z", OS: "linux", Arch: "arm64", Pages: sum(nil), SHA256: sum([]byte("x"))}, self, lock)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBillIsCycloneDX checks what the schema of CycloneDX 1.5 demands of what
// is in a bill: required fields, closed lists, forms of strings, unique and
// existing references.
func TestBillIsCycloneDX(t *testing.T) {
	b := bill(t)
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if doc["bomFormat"] != "CycloneDX" || doc["specVersion"] != "1.5" || doc["version"] != 1.0 {
		t.Errorf("head: %v %v %v", doc["bomFormat"], doc["specVersion"], doc["version"])
	}
	if s, _ := doc["serialNumber"].(string); !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`).MatchString(s) {
		t.Errorf("serialNumber %q", s)
	}
	known := map[string]bool{"nutshell": true}
	lengths := map[string]int{"SHA-256": 64, "SHA-512": 128}
	purl := regexp.MustCompile(`^pkg:(golang|npm)/[^@\s]+@[^@\s]+$`)
	for _, c := range append(b.Components, b.Metadata.Component) {
		switch {
		case c.Name == "" || c.Ref == "" || c.Type != "library" && c.Type != "application":
			t.Errorf("component without name, reference or type: %+v", c)
		case c.Scope != "required" && c.Scope != "excluded" && c.Ref != "nutshell":
			t.Errorf("%s: scope %q", c.Ref, c.Scope)
		case c.PURL != "" && !purl.MatchString(c.PURL):
			t.Errorf("%s: purl %q", c.Ref, c.PURL)
		case c.Ref != "nutshell" && known[c.Ref]:
			t.Errorf("%s stands there twice", c.Ref)
		}
		known[c.Ref] = true
		for _, h := range c.Hashes {
			if len(h.Content) != lengths[h.Alg] {
				t.Errorf("%s: hash %+v", c.Ref, h)
			}
		}
	}
	for _, d := range b.Dependencies {
		for _, ref := range append(d.On, d.Ref) {
			if !known[ref] {
				t.Errorf("%s depends on %s, which is no component", d.Ref, ref)
			}
		}
	}
}

func TestBillNamesWhatIsInside(t *testing.T) {
	b := bill(t)
	scopes := map[string]string{}
	for _, c := range b.Components {
		scopes[c.Name] = c.Scope
	}
	for name, want := range map[string]string{"stdlib": "required", "uplot": "required", "svelte": "required", "@xterm/xterm": "required", "vite": "excluded", "nutshell-lxc": "required", "nutshell-pages": "required"} {
		if scopes[name] != want {
			t.Errorf("%s: scope %q, want %q", name, scopes[name], want)
		}
	}
	if again := bill(t); again.Serial != b.Serial {
		t.Errorf("the same build has the numbers %s and %s", b.Serial, again.Serial)
	}
	if _, err := Materials(Facts{Pages: "x"}, nil, []byte("{")); err == nil {
		t.Error("a broken lock file was taken")
	}
}
