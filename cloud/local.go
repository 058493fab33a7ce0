package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What drivers that run instances on this machine share: processes known
// across restarts of the director, and state files that are whole or absent.

// Process identifies a process of this machine, so that another one that is
// given the same pid later is not taken for it.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // in clock ticks since boot: field 22 of /proc/PID/stat
	Boot  string `json:"boot"`  // the kernel's boot id
}

// FindProcess identifies the process that has pid now.
func FindProcess(pid int) (Process, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Process{}, err
	}
	s, err := ReadStat(pid)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, Start: s.Start, Boot: strings.TrimSpace(string(boot))}, nil
}

// Alive reports whether the process still runs. A zombie does not.
func (p Process) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	now, err := FindProcess(p.PID)
	if err != nil || now != p {
		return false
	}
	s, err := ReadStat(p.PID)
	return err == nil && s.State != 'Z' && s.State != 'X'
}

// Signal sends s to the process and to no other that got its pid. It is
// os.ErrProcessDone when the process has ended.
func (p Process) Signal(s syscall.Signal) error {
	if p.PID <= 0 {
		return os.ErrProcessDone
	}
	h, err := os.FindProcess(p.PID) // holds a pidfd: from here on the pid cannot be given away
	if err != nil {
		return os.ErrProcessDone
	}
	defer func() { _ = h.Release() }()
	if !p.Alive() {
		return os.ErrProcessDone
	}
	return h.Signal(s)
}

// Wait returns when the process has ended, or with ctx's error.
func (p Process) Wait(ctx context.Context) error {
	if p.PID <= 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return fmt.Errorf("wait for process %d: %w", p.PID, err)
	}
	defer func() { _ = unix.Close(fd) }()
	for p.Alive() {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Ends at once when the process does; the limit is for ctx only.
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100) //nolint:gosec // a descriptor fits
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", p.PID, err)
		}
	}
	return nil
}

// Stat is what we use of /proc/PID/stat.
type Stat struct {
	State   byte
	Parent  int
	Group   int
	Session int
	TTY     int
	Start   uint64
}

// ReadStat reads /proc/PID/stat.
func ReadStat(pid int) (Stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Stat{}, err
	}
	// The command's name may hold blanks and parentheses: begin after the last.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 20 {
		return Stat{}, fmt.Errorf("process %d: stat is too short", pid)
	}
	n := func(i int) int { v, _ := strconv.Atoi(f[i]); return v }
	start, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return Stat{}, fmt.Errorf("process %d: start time: %w", pid, err)
	}
	return Stat{State: f[0][0], Parent: n(1), Group: n(2), Session: n(3), TTY: n(4), Start: start}, nil
}

// SaveState writes v as JSON so that the file is the old or the new one at
// any moment, also when the machine loses power. A path has one writer at a
// time.
func SaveState(path string, v any) error { return save(path, v, true) }

// SaveRuntime is SaveState for what means nothing after a reboot, such as
// process ids. It does not wait for the disk.
func SaveRuntime(path string, v any) error { return save(path, v, false) }

// SaveFile is SaveState for content that is no JSON of ours.
func SaveFile(path string, content []byte) error { return replace(path, content, true) }

func save(path string, v any, sync bool) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return replace(path, append(b, '\n'), sync)
}

func replace(path string, b []byte, sync bool) error {
	// Always the same name: what a killed writer leaves, the next one replaces.
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already after the rename
	_, err = f.Write(b)
	if err == nil && sync {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

// LoadState reads what SaveState wrote.
func LoadState(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// Each runs do for every item at once, and returns the errors joined.
func Each[T any](items []T, do func(int, T) error) error {
	errs := make([]error, len(items))
	var wg sync.WaitGroup
	for i, it := range items {
		wg.Go(func() { errs[i] = do(i, it) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// LaunchEach runs launch for every spec at once, as Driver.Launch wants it: it
// returns what exists, in the order of specs, and a LaunchError for each other.
func LaunchEach(specs []Spec, launch func(Spec) (Instance, error)) ([]Instance, error) {
	got := make([]*Instance, len(specs))
	err := Each(specs, func(n int, s Spec) error {
		i, err := launch(s)
		if err != nil {
			return &LaunchError{Name: s.Name, Err: err}
		}
		got[n] = &i
		return nil
	})
	var have []Instance
	for _, i := range got {
		if i != nil {
			have = append(have, *i)
		}
	}
	return have, err
}

// Names is a lock per name: two orders for one instance wait for each other,
// orders for different instances do not.
type Names struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// Lock waits until name is free, or ctx ends.
func (n *Names) Lock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		n.mu.Lock()
		busy, ok := n.held[name]
		if !ok {
			if n.held == nil {
				n.held = map[string]chan struct{}{}
			}
			free := make(chan struct{})
			n.held[name] = free
			n.mu.Unlock()
			return func() {
				n.mu.Lock()
				delete(n.held, name)
				n.mu.Unlock()
				close(free)
			}, nil
		}
		n.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// MarkEnding notes in an instance's directory that its end has been ordered.
// Should the director die before the instance does, the next one must not
// take what is about to stop for an instance that runs.
func MarkEnding(dir string) error {
	err := os.WriteFile(filepath.Join(dir, endingMark), nil, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the directory is gone, and the instance with it
	}
	return err
}

// Ending reports whether an end was ordered and no start since.
func Ending(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, endingMark))
	return err == nil
}

// ClearEnding is for a start, when nothing of the instance is left running.
func ClearEnding(dir string) error {
	if err := os.Remove(filepath.Join(dir, endingMark)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

const endingMark = "ending"

// Grace is how long an instance may take to stop in order before it is killed.
const Grace = 10 * time.Second

// Records reads the instances in a driver's directory, each with load. One
// that is gone is left out, and so is, with a warning, what is not ours.
func Records[R any](dir string, load func(name string) (R, error), log *slog.Logger) ([]R, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	var list []R
	for _, e := range entries {
		if !e.IsDir() || CheckName(e.Name()) != nil {
			continue
		}
		r, err := load(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // being removed at this moment, or none of ours
		}
		if err != nil {
			log.Warn("directory is not an instance of ours", "dir", e.Name(), "error", err)
			continue
		}
		list = append(list, r)
	}
	return list, nil
}
