package imagebuild

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A machine for a cluster has layers of other architectures as one file each,
// hands them out as they are, and makes root file systems of its own ones.
func TestPackedLayers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("layers keep owners, which is for root")
	}
	open := func(arch string) *Store {
		s, err := New(Config{Dir: filepath.Join(t.TempDir(), "images"), Log: slog.New(slog.DiscardHandler), Suite: "trixie", Arch: arch})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	from := open("")
	plant := func(digest, arch string) {
		t.Helper()
		root := from.rootDir(digest)
		meta, _ := json.Marshal(Layer{Digest: digest, Name: "base", Suite: "trixie", Arch: arch, Created: time.Unix(1e9, 0)})
		if err := errors.Join(os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755), os.WriteFile(from.path("layers", digest, layerMeta), meta, 0o644),
			os.WriteFile(filepath.Join(root, "usr/bin/su"), bytes.Repeat([]byte("program"), 9999), 0o755|fs.ModeSetuid)); err != nil {
			t.Fatal(err)
		}
	}
	of := func(arch string) string {
		digests, err := from.For(arch).Digests("helloworld", nil)
		if err != nil || len(digests) != 1 {
			t.Fatal(digests, err)
		}
		return digests[0]
	}
	own, foreign := of(debianArch()), of("sparc")
	plant(own, debianArch())
	plant(foreign, "sparc")

	// What an image of a machine has of them.
	machine := open("")
	var whole []byte
	for _, digest := range []string{own, foreign} {
		p, err := from.Pack(t.Context(), digest, nil)
		if err != nil || p.Bytes < 100 || p.Bytes > 9999 {
			t.Fatalf("got %+v, %v", p, err)
		}
		if whole, err = os.ReadFile(p.File); err != nil {
			t.Fatal(err)
		}
		if again, err := from.Pack(t.Context(), digest, nil); err != nil || again.File != p.File {
			t.Errorf("again: %+v, %v", again, err)
		}
		meta, _ := os.ReadFile(from.path("layers", digest, layerMeta))
		if err := errors.Join(os.MkdirAll(machine.path("layers", digest), 0o755), os.WriteFile(machine.path("layers", digest, layerMeta), meta, 0o644),
			os.MkdirAll(machine.path("packed"), 0o755), os.WriteFile(machine.packFile(digest), whole, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := machine.List(); err != nil || len(list) != 2 {
		t.Errorf("it lists %v, %v", list, err)
	}
	if _, err := machine.Find(own); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a root file system before it is unpacked: %v", err)
	}

	// A node asks for those of its architecture.
	dirs, err := machine.For("sparc").Layers(t.Context(), "helloworld", nil, nil)
	if err != nil || len(dirs) != 1 || filepath.Base(filepath.Dir(dirs[0])) != foreign {
		t.Fatalf("got %v, %v", dirs, err)
	}
	if machine.unpacked(foreign) {
		t.Error("it was unpacked where nothing can run it")
	}
	var sent bytes.Buffer
	if err := machine.Export(t.Context(), foreign, &sent); err != nil || !bytes.Equal(sent.Bytes(), whole) {
		t.Errorf("it sent %d bytes of %d, %v", sent.Len(), len(whole), err)
	}
	node := open("sparc")
	if dir, err := node.Import(t.Context(), foreign, &sent); err != nil {
		t.Error(err)
	} else if b, err := os.ReadFile(filepath.Join(dir, "usr/bin/su")); err != nil || len(b) != 7*9999 {
		t.Errorf("the node has %d bytes, %v", len(b), err)
	}

	// Containers of the machine itself.
	dirs, err = machine.Layers(t.Context(), "helloworld", nil, nil)
	if err != nil || len(dirs) != 1 {
		t.Fatalf("got %v, %v", dirs, err)
	}
	if info, err := os.Stat(filepath.Join(dirs[0], "usr/bin/su")); err != nil || info.Mode()&fs.ModeSetuid == 0 {
		t.Errorf("got %v, %v", info, err)
	}

	gone, err := machine.Remove(func(Layer) bool { return true })
	if err != nil || len(gone) != 2 {
		t.Errorf("removed %v, %v", gone, err)
	}
	if left, err := os.ReadDir(machine.path("packed")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A pack that is broken is said to be, and not taken for a layer.
func TestBrokenPack(t *testing.T) {
	s, err := New(Config{Dir: filepath.Join(t.TempDir(), "images"), Log: slog.New(slog.DiscardHandler), Suite: "trixie"})
	if err != nil {
		t.Fatal(err)
	}
	digests, err := s.Digests("helloworld", nil)
	if err != nil {
		t.Fatal(err)
	}
	meta, _ := json.Marshal(Layer{Digest: digests[0], Name: "base", Arch: debianArch()})
	if err := errors.Join(os.MkdirAll(s.path("layers", digests[0]), 0o755), os.WriteFile(s.path("layers", digests[0], layerMeta), meta, 0o644),
		os.MkdirAll(s.path("packed"), 0o755), os.WriteFile(s.packFile(digests[0]), []byte("no archive"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if dirs, err := s.Layers(t.Context(), "helloworld", nil, nil); err == nil || !strings.Contains(err.Error(), "take layer") {
		t.Errorf("got %v, %v", dirs, err)
	}
	if s.unpacked(digests[0]) {
		t.Error("something is taken for its root file system")
	}
}
