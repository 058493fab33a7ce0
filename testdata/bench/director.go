package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// director is the Nutshell that is measured.
type director struct {
	cmd    *exec.Cmd
	client *client
	dir    string // its data
	log    string
	exited chan struct{} // closed when it has ended
}

// startDirector runs `nutshell up` with a data directory of its own.
func startDirector(ctx context.Context, binary, data string, port int) (*director, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	d := &director{dir: data, log: filepath.Join(data, "bench.log"), exited: make(chan struct{})}
	out, err := os.Create(d.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	file := filepath.Join(data, "client.yaml")
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err // of a run before; the new one shall be waited for
	}
	// It outlives ctx: it is stopped in order, when the measures have tidied up.
	d.cmd = exec.CommandContext(context.WithoutCancel(ctx), binary, "up")
	d.cmd.Env = append(os.Environ(), "NUTSHELL_DATA_DIR="+data, "NUTSHELL_LISTEN=:"+strconv.Itoa(port), "NUTSHELL_GIT_LISTEN=127.0.0.1:0")
	d.cmd.Stdout, d.cmd.Stderr = out, out
	// Ctrl-C is ours to pass on, when the measures have tidied up.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start Nutshell: %w (make build)", err)
	}
	go func() { _ = d.cmd.Wait(); close(d.exited) }() // ProcessState says how
	if err := d.ready(ctx, file); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

func (d *director) ready(ctx context.Context, file string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	last := errors.New("it has not written " + file)
	for {
		if a, err := readAccess(file); err == nil {
			d.client = newClient(a)
			if last = d.client.do(ctx, http.MethodGet, "/health", nil, nil); last == nil {
				return nil
			}
		}
		select {
		case <-d.exited:
			b, _ := os.ReadFile(d.log)
			return fmt.Errorf("nutshell up ended (%s)\n%s", d.cmd.ProcessState, lastLines(string(b), 15))
		case <-ctx.Done():
			return fmt.Errorf("nutshell up does not answer: %w; its log is %s", last, d.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends it in order, which stops its instances too.
func (d *director) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // ended already is as good
	select {
	case <-d.exited:
	case <-time.After(time.Minute):
		_ = d.cmd.Process.Kill()
		<-d.exited
	}
}

// usage is what the kernel counted for a process.
type usage struct {
	rss     int64         // bytes resident
	cpu     time.Duration // user and system
	written int64         // bytes sent to disk
}

func usageOf(pid int) (usage, error) {
	var u usage
	dir := "/proc/" + strconv.Itoa(pid)
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return u, err
	}
	kb, err := field(string(status), "VmRSS:")
	if err != nil {
		return u, err
	}
	u.rss = kb << 10
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return u, err
	}
	// The name in parentheses may hold anything; fields count from behind it.
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return u, fmt.Errorf("%s/stat: too short", dir)
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	u.cpu = time.Duration(user+system) * (time.Second / 100) // USER_HZ is 100 on all that Go runs on
	io, err3 := os.ReadFile(dir + "/io")
	if err := errors.Join(err1, err2, err3); err != nil {
		return u, err
	}
	u.written, err = field(string(io), "write_bytes:")
	return u, err
}

func field(text, name string) (int64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s", name)
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
