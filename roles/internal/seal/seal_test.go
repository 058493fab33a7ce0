package seal_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nutshell/roles/api"
	"nutshell/roles/internal/seal"
)

func TestSeal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.key")
	if _, err := seal.Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("opening a key that is not there: %v", err)
	}
	box, err := seal.Make(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o400 {
		t.Fatalf("the key file is %v, %v; want mode 0400", st.Mode(), err)
	}
	secret := []byte("correct horse battery staple")
	sealed := box.Seal(secret, "variable A of 1/2")
	if strings.Contains(sealed, "horse") || sealed == box.Seal(secret, "variable A of 1/2") {
		t.Fatalf("sealed text tells something: %s", sealed)
	}
	again, err := seal.Make(path) // finds the same key
	if err != nil || again.ID() != box.ID() {
		t.Fatalf("second Make: %v, key %s instead of %s", err, again.ID(), box.ID())
	}
	if got, err := again.Open(sealed, "variable A of 1/2"); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("opened: %q, %v", got, err)
	}
	if got, err := again.Open(again.Seal(nil, "x"), "x"); err != nil || len(got) != 0 {
		t.Fatalf("empty secret: %q, %v", got, err)
	}

	other, err := seal.Make(filepath.Join(t.TempDir(), "other.key"))
	if err != nil {
		t.Fatal(err)
	}
	if other.ID() == box.ID() {
		t.Fatal("two new keys have the same id")
	}
	changed := []byte(sealed)
	changed[len(changed)/2] ^= 3 // another letter or digit of the same alphabet, or none of it
	for name, open := range map[string]func() ([]byte, error){
		"moved to another place": func() ([]byte, error) { return box.Open(sealed, "variable B of 1/2") },
		"other key":              func() ([]byte, error) { return other.Open(sealed, "variable A of 1/2") },
		"changed":                func() ([]byte, error) { return box.Open(string(changed), "variable A of 1/2") },
		"cut off":                func() ([]byte, error) { return box.Open(sealed[:20], "variable A of 1/2") },
		"not sealed":             func() ([]byte, error) { return box.Open("plain", "variable A of 1/2") },
		"empty":                  func() ([]byte, error) { return box.Open("", "variable A of 1/2") },
	} {
		if got, err := open(); api.CodeOf(err) != api.CodeUnavailable || got != nil {
			t.Errorf("%s: opened %q, %v", name, got, err)
		}
	}
}

func TestDamagedKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.key")
	if err := os.WriteFile(path, []byte("short"), 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.Make(path); api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "5 bytes") {
		t.Fatalf("a damaged key must not be replaced in silence: %v", err)
	}
}
