package director

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestOpenAPIOfTheInterface compares the document with the one that the user
// interface's types are made of.
func TestOpenAPIOfTheInterface(t *testing.T) {
	t.Parallel()
	var raw json.RawMessage
	newHouse(t).admin.must("GET", "/openapi.json", nil, &raw, 200)
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "\t"); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	golden := filepath.Join("..", "..", "embedui", "openapi.json")
	if *update {
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	old, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(old, b.Bytes()) {
		t.Error("embedui/openapi.json is not what the director says: run `go test ./roles/director -run OpenAPI -update`, then `npm run types` in embedui, and commit both")
	}
}
