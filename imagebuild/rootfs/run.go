package rootfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// watcher gets each line that a program prints.
type watcher interface{ line(string) }

// maxSilence is how long a program may say nothing. A mirror that stops is given
// up by apt long before; this is for what apt does not watch, which takes long
// where a script for another processor is emulated on a busy machine.
const maxSilence = time.Hour

var errSilent = errors.New("nothing was heard for an hour")

// run runs a program to its end. What it prints goes to log and, line by
// line, to text; what it writes to file descriptor 3 goes to status. When ctx
// ends, it says nothing for too long, or this process dies, the program and all
// it started are killed.
func run(ctx context.Context, log *os.File, text, status watcher, program string, args ...string) error {
	// The death signal follows the thread that forked, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(maxSilence, func() { cancel(errSilent) })
	defer silence.Stop()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	out, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = outW, outW
	st, stW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, outW.Close())
	}
	defer st.Close()
	cmd.ExtraFiles = []*os.File{stW}

	fmt.Fprintf(log, "+ %s\n", filepath.Base(program))
	err = cmd.Start()
	outW.Close()
	stW.Close()
	if err != nil {
		return err
	}
	var readers sync.WaitGroup
	heard := func() { silence.Reset(maxSilence) }
	readers.Go(func() { follow(io.TeeReader(out, log), text, heard) })
	readers.Go(func() { follow(st, status, heard) })
	err = cmd.Wait()
	// A child that escaped both kill and namespace could hold the pipes open.
	late := time.AfterFunc(5*time.Second, func() { out.Close(); st.Close() })
	readers.Wait()
	late.Stop()
	if errors.Is(context.Cause(ctx), errSilent) {
		return errSilent
	}
	return err
}

func follow(r io.Reader, w watcher, heard func()) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		heard()
		if w != nil {
			w.line(s.Text())
		}
	}
	_, _ = io.Copy(io.Discard, r) // a line too long: go on without counting
}

// environment is the little that package tools should see of ours.
func environment() []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy", "SOURCE_DATE_EPOCH"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}
