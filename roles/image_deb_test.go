package roles

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nutshell/roles/api"
)

// A binary of a plain go build needs the libraries of the machine that it was
// built on: it goes into no package and no image, and the error says which does.
func TestDynamicBinariesAreRefused(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("install golang-go")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module nutshell\n\ngo 1.24\n", "main.go": "package main\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), goTool, "build", "-buildvcs=false", "-o", "static", ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOTOOLCHAIN=local")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	static, err := os.ReadFile(filepath.Join(dir, "static"))
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	const machine, firstHeader = 18, 32 // where a file of ELF says its processor, and where its headers of segments begin
	for _, c := range []struct {
		name, arch, refused string
		how                 func(program []byte)
	}{
		{"static", "amd64", "", func(b []byte) { le.PutUint16(b[machine:], uint16(elf.EM_X86_64)) }},
		{"static-for-a-pi", "arm64", "", func(b []byte) { le.PutUint16(b[machine:], uint16(elf.EM_AARCH64)) }},
		{"dynamic", "amd64", "not statically linked", func(b []byte) {
			le.PutUint16(b[machine:], uint16(elf.EM_X86_64))
			le.PutUint32(b[le.Uint64(b[firstHeader:]):], uint32(elf.PT_INTERP))
		}},
		{"for-another-machine", "amd64", "EM_RISCV", func(b []byte) { le.PutUint16(b[machine:], uint16(elf.EM_RISCV)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(dir, c.name)
			program := bytes.Clone(static)
			c.how(program)
			if err := os.WriteFile(file, program, 0o755); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			p := &Program{Stdout: &said, Stderr: &said}
			code := p.Main(t.Context(), []string{"nutshell", "image", "deb", "--binary", file, "--out", t.TempDir()})
			if (code == 0) != (c.refused == "") || !strings.Contains(said.String(), c.refused) {
				t.Errorf("a package: ended with %d and said %s", code, &said)
			}
			if c.refused != "" && !strings.Contains(said.String(), "make build") {
				t.Errorf("a package: no remedy in %s", &said)
			}
			_, err := programFor(file, c.arch)
			if (err == nil) != (c.refused == "") || err != nil && (!strings.Contains(err.Error(), c.refused) || api.CodeOf(err) != api.CodeInvalid || !strings.Contains(api.AsError(err).Hint, "make build")) {
				t.Errorf("an image: got %v, want %q", err, c.refused)
			}
		})
	}
}
