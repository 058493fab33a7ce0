package machine

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"nutshell/roles/api"
)

// versionTime bounds how long a program may take to tell its version.
const versionTime = 30 * time.Second

// CheckBinary says whether a file is a Nutshell that runs on this machine, and
// which version.
func CheckBinary(ctx context.Context, file string) (version string, err error) {
	wrong := func(err error, hint, format string, args ...any) (string, error) {
		return "", &api.Error{Code: api.CodeInvalid, Op: "use", Object: file, Message: fmt.Sprintf(format, args...), Err: err, Hint: hint}
	}
	const build = "make one by `make build`, or take it from a release"
	f, err := elf.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong(err, "name a file on this machine", "there is no such file")
	}
	if err != nil && beginsAsProgram(file) {
		return wrong(nil, "copy it again, and compare the sums of both", "it was cut off on its way")
	}
	if err != nil {
		return wrong(nil, build, "this is not a Linux program")
	}
	machine := f.Machine
	static := f.Section(".interp") == nil
	_ = f.Close()
	want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "arm": elf.EM_ARM}[runtime.GOARCH]
	if machine != want {
		return wrong(nil, "this machine needs one for "+runtime.GOARCH, "it is for another processor (%s)", strings.ToLower(strings.TrimPrefix(machine.String(), "EM_")))
	}
	info, err := buildinfo.ReadFile(file)
	if err != nil || info.Main.Path != "nutshell" && info.Path != "nutshell" {
		return wrong(err, build, "this program is not Nutshell")
	}
	if !static {
		return wrong(nil, build, "it is not statically linked, and would not start here")
	}
	ctx, cancel := context.WithTimeout(ctx, versionTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, "--version")
	cmd.Env = []string{"HOME=/nonexistent"}
	out, err := cmd.Output()
	if err != nil {
		return wrong(err, build, "it does not start")
	}
	line, _, _ := strings.Cut(string(bytes.TrimSpace(out)), "\n")
	return line, nil
}

// beginsAsProgram tells a damaged program from another file.
func beginsAsProgram(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	b := make([]byte, len(elf.ELFMAG))
	_, err = io.ReadFull(f, b)
	return err == nil && string(b) == elf.ELFMAG
}

// same reports whether two files hold the same bytes.
func same(a, b string) bool {
	fa, errA := os.Open(a)
	if errA != nil {
		return false
	}
	defer fa.Close()
	fb, errB := os.Open(b)
	if errB != nil {
		return false
	}
	defer fb.Close()
	ba, bb := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		na, errA := io.ReadFull(fa, ba)
		nb, errB := io.ReadFull(fb, bb)
		switch {
		case na != nb || !bytes.Equal(ba[:na], bb[:nb]):
			return false
		case errA != nil || errB != nil:
			return errA != nil && errB != nil
		}
	}
}
