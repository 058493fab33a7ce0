package vault

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"nutshell/roles/api"
)

func open(t *testing.T) (*Vault, string) {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "backups.key")
	v, err := Make(filepath.Join(dir, "backups"), key)
	if err != nil {
		t.Fatal(err)
	}
	return v, key
}

func put(t *testing.T, v *Vault, name string, data []byte) int64 {
	t.Helper()
	w, err := v.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	n, err := w.Keep()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func read(v *Vault, name string) ([]byte, error) {
	r, err := v.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func TestRoundTrip(t *testing.T) {
	v, key := open(t)
	for name, size := range map[string]int{"empty": 0, "one-byte": 1, "chunk": 64 << 10, "many-chunks": 3<<20 + 17} {
		data := random(size)
		n := put(t, v, name, data)
		info, err := os.Stat(v.path(name))
		if err != nil || info.Size() != n || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: file %v %v, said %d", name, info, err, n)
		}
		got, err := read(v, name)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}
		if stored, _ := os.ReadFile(v.path(name)); size > 100 && bytes.Contains(stored, data[:64]) {
			t.Errorf("%s: lies there in clear", name)
		}
	}
	again, err := Open(v.dir, key)
	if err != nil || again.ID() != v.ID() {
		t.Fatalf("opened again: %v", err)
	}
	if names, err := again.Names(); err != nil || len(names) != 4 {
		t.Errorf("names %v, %v", names, err)
	}
	if err := errors.Join(v.Remove("empty"), v.Remove("empty")); err != nil {
		t.Error(err)
	}
	if _, err := read(v, "empty"); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("removed: %v", err)
	}
}

func TestDamageIsNoticed(t *testing.T) {
	v, _ := open(t)
	put(t, v, "good", random(300<<10))
	whole, err := os.ReadFile(v.path("good"))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"cut-off":         func(b []byte) []byte { return b[:len(b)/2] },
		"last-byte-gone":  func(b []byte) []byte { return b[:len(b)-1] },
		"cut-at-a-chunk":  func(b []byte) []byte { return b[:len(b)-(44<<10)] },
		"one-bit":         func(b []byte) []byte { b[200<<10] ^= 1; return b },
		"one-byte-more":   func(b []byte) []byte { return append(b, 0) },
		"empty":           func([]byte) []byte { return nil },
		"another-in-it":   func(b []byte) []byte { return b }, // the same bytes under another name
		"header-no-title": func(b []byte) []byte { return b[:210] },
	} {
		if err := os.WriteFile(v.path(name), change(bytes.Clone(whole)), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := read(v, name); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestNothingHalf(t *testing.T) {
	v, key := open(t)
	w, err := v.Create("half")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(random(1 << 20)); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Open("half"); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("half a file can be read: %v", err)
	}
	again, err := Open(v.dir, key) // the process was killed
	if err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(again.incoming(), "*"))
	names, _ := again.Names()
	if len(left)+len(names) != 0 {
		t.Errorf("left: %v %v", left, names)
	}
	if _, err := w.Keep(); err == nil {
		t.Error("a removed file was kept")
	}
}

func TestKey(t *testing.T) {
	v, key := open(t)
	put(t, v, "a", []byte("text"))
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("key: %v %v", info, err)
	}
	other, _ := open(t)
	other.dir = v.dir
	if _, err := read(other, "a"); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("with another key: %v", err)
	}
	if other.ID() == v.ID() {
		t.Error("two keys have one id")
	}
	if err := errors.Join(os.Remove(key), os.WriteFile(key, []byte("AGE-SECRET-KEY-1QQQ"), 0o400)); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(v.dir, key); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a damaged key is taken or replaced: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	v, _ := open(t)
	for _, name := range []string{"", "../a", "a/b", "A", ".a", "a.age"} {
		if _, err := v.Create(name); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("create %q: %v", name, err)
		}
		if _, err := v.Open(name); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("open %q: %v", name, err)
		}
	}
	if err := v.Room(1 << 60); api.CodeOf(err) != api.CodeNoSpace {
		t.Errorf("an exbibyte has room: %v", err)
	}
	if err := v.Room(1); err != nil {
		t.Errorf("one byte has no room: %v", err)
	}
}
