package lxc

import (
	"bytes"
	"context"
	"debug/elf"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/cloud"
	"nutshell/cloud/lxc/order"
)

//go:embed all:bin
var binFS embed.FS

var errNoHelper = errors.New("this nutshell was built without the lxc helper: install gcc and lxc-dev and run make helper build")

// inherited is more files than any child inherits: a lock, a user namespace and
// the volumes of an instance.
const inherited = 500

// helper is the embedded program, held in memory as an anonymous file: no
// path of it exists that somebody could replace.
type helper struct {
	once sync.Once
	file *os.File
	err  error
}

func (h *helper) open() (*os.File, error) {
	h.once.Do(func() {
		program, err := binFS.ReadFile("bin/helper")
		if err != nil {
			h.err = errNoHelper
			return
		}
		if h.err = sameMachine(program); h.err != nil {
			return
		}
		fd, err := unix.MemfdCreate("nutshell-lxc", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			h.err = fmt.Errorf("file in memory for the lxc helper: %w", err)
			return
		}
		// By the time a child looks at /proc/self/fd it has the files that it
		// inherits at the first numbers, and those that stood in each other's way
		// were moved behind these on the way: the program must be at neither.
		if high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 2*inherited); err == nil {
			_ = unix.Close(fd)
			fd = high
		}
		h.file = os.NewFile(uintptr(fd), "nutshell-lxc")
		if _, err := h.file.Write(program); err != nil {
			h.err = fmt.Errorf("file in memory for the lxc helper: %w", err)
			return
		}
		_, h.err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	})
	return h.file, h.err
}

// sameMachine refuses a helper that was built for another architecture, which
// a plain `go build` with GOARCH set would embed.
func sameMachine(program []byte) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return fmt.Errorf("the lxc helper in this nutshell is not a program: %w", err)
	}
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]; f.Machine != want {
		return fmt.Errorf("the lxc helper in this nutshell is for %s, not for %s: build it by make build or make build-arm64", f.Machine, runtime.GOARCH)
	}
	return nil
}

// Helper is the embedded program that drives liblxc, to tell what this binary
// is made of; none where it was built without.
func Helper() ([]byte, bool) {
	b, err := binFS.ReadFile("bin/helper")
	return b, err == nil
}

func (h *helper) command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	f, err := h.open()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), args...)
	cmd.Args[0] = "nutshell-lxc"
	cmd.WaitDelay = time.Second // should a monitor ever keep our pipe
	// No PATH: where liblxc finds newuidmap it maps ids with it, which root need
	// not, and which wants root's ranges in /etc/subuid. Ours lie far above any
	// that adduser gives.
	cmd.Env = []string{"PATH=/nonexistent", "HOME=/root", "LANG=C.UTF-8", "TERM=" + os.Getenv("TERM")}
	return cmd, nil
}

// ask gives the helper one order and returns its answer.
func (h *helper) ask(cmd *exec.Cmd, o any) (order.Answer, error) {
	in, err := json.Marshal(o)
	if err != nil {
		return order.Answer{}, err
	}
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
	runErr := cmd.Run()
	var a order.Answer
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		if strings.Contains(errs.String(), "liblxc.so") {
			return a, fmt.Errorf("%w: liblxc is missing: apt-get install lxc", cloud.ErrUnavailable)
		}
		if runErr == nil {
			runErr = fmt.Errorf("its answer is not understood: %w", err)
		}
		if said := strings.TrimSpace(errs.String()); said != "" {
			runErr = fmt.Errorf("%w: %s", runErr, said)
		}
		return a, fmt.Errorf("lxc helper: %w", runErr)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

func (h *helper) start(ctx context.Context, o order.Start, users, lock *os.File, volumes []*os.File) (order.Answer, error) {
	cmd, err := h.command(ctx, "start")
	if err != nil {
		return order.Answer{}, err
	}
	cmd.ExtraFiles = append([]*os.File{users, lock}, volumes...) // order.UsersFD, LockFD, MountFD
	// A session of its own: Ctrl-C at the director's terminal is not for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Unshareflags: syscall.CLONE_NEWNS}
	return h.ask(cmd, o)
}

func (h *helper) info(ctx context.Context, c order.Container) (order.Answer, error) {
	cmd, err := h.command(ctx, "info")
	if err != nil {
		return order.Answer{}, err
	}
	return h.ask(cmd, c)
}

func (h *helper) version(ctx context.Context) (order.Answer, error) {
	cmd, err := h.command(ctx, "version")
	if err != nil {
		return order.Answer{}, err
	}
	return h.ask(cmd, nil)
}

// Execute runs a command in a running container and returns its exit status.
func (d *driver) Execute(ctx context.Context, id string, args []string, in io.Reader, out, errs io.Writer) (int, error) {
	if err := cloud.CheckName(id); err != nil {
		return 0, err
	}
	if len(args) == 0 {
		return 0, fmt.Errorf("%w: no command", cloud.ErrInvalid)
	}
	o, err := json.Marshal(order.Attach{Container: d.container(id), Args: args})
	if err != nil {
		return 0, err
	}
	cmd, err := d.tool.command(ctx, "attach", string(o))
	if err != nil {
		return 0, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errs
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}
