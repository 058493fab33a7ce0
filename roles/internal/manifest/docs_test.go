package manifest

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table in docs/guide/manifests.md anew")

// TestFieldsAreInTheGuide compares the table of the guide with the types.
func TestFieldsAreInTheGuide(t *testing.T) {
	const path, begin, end = "../../../docs/guide/manifests.md", "|---|---|---|\n", "<!-- end -->"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	_, rest, ok := strings.Cut(text, "<!-- fields")
	_, rest, ok2 := strings.Cut(rest, begin)
	table, after, ok3 := strings.Cut(rest, end)
	if !ok || !ok2 || !ok3 {
		t.Fatalf("%s has no table of fields", path)
	}
	var want strings.Builder
	for _, f := range Fields() {
		fmt.Fprintf(&want, "| %s | `%s` | %s |\n", f.Level, f.Name, f.Help)
	}
	if table == want.String() {
		return
	}
	if !*update {
		t.Fatalf("the table of fields in %s is not that of the types: go test ./roles/internal/manifest -update", path)
	}
	front := text[:len(text)-len(table)-len(end)-len(after)]
	if err := os.WriteFile(path, []byte(front+want.String()+end+after), 0o644); err != nil { // a page for all to read
		t.Fatal(err)
	}
}
