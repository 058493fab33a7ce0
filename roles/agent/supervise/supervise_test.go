package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"nutshell/services"
)

func open(t *testing.T, dir string) *Supervisor {
	t.Helper()
	s, err := New(Config{RunDir: dir, LogDir: dir, UID: -1, GID: -1, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatal("in vain waited until " + what)
}

func sleeper(name string) services.Process {
	return services.Process{Name: name, Argv: []string{"/bin/sh", "-c", "echo up $PPID; exec sleep 300"}}
}

func pidOf(s *Supervisor, name string) int {
	for _, p := range s.Processes() {
		if p.Name == name {
			return p.PID
		}
	}
	return 0
}

func alive(pid int) bool { _, ok := startTime(pid); return ok }

func TestEnsureLeavesWhatIsTheSame(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close(t.Context())
	p := sleeper("a")
	if err := s.Ensure(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	first := pidOf(s, "a")
	if err := s.Ensure(t.Context(), p); err != nil || pidOf(s, "a") != first {
		t.Fatalf("restarted without need: %v", err)
	}
	p.Revision = "2"
	if err := s.Ensure(t.Context(), p); err != nil || pidOf(s, "a") == first || alive(first) {
		t.Fatalf("not restarted after a change: %v", err)
	}
}

func TestKilledProcessIsRestartedAndItsChildrenAreGone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close(t.Context())
	child := filepath.Join(dir, "child")
	p := services.Process{Name: "master", Argv: []string{"/bin/sh", "-c", "setsid sleep 300 & echo $! > " + child + "; wait"}}
	p.Ready = func(context.Context) error { _, err := os.Stat(child); return err }
	if err := s.Ensure(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	readChild := func() int { b, _ := os.ReadFile(child); n, _ := strconv.Atoi(strings.TrimSpace(string(b))); return n }
	until(t, "the child runs", func() bool { return readChild() > 0 && alive(readChild()) })
	first, firstChild := pidOf(s, "master"), readChild()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "it was restarted", func() bool { n := pidOf(s, "master"); return n > 0 && n != first })
	if alive(firstChild) {
		t.Error("a child of the dead master still runs and would hold its port")
	}
	if got := s.Processes()[0]; got.Restarts != 1 || !strings.Contains(got.Message, "killed") {
		t.Errorf("got %+v", got)
	}
}

func TestAdoption(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	if err := first.Ensure(t.Context(), sleeper("a")); err != nil {
		t.Fatal(err)
	}
	pid := pidOf(first, "a")
	until(t, "the state is stored", func() bool {
		b, _ := os.ReadFile(first.stateFile())
		return strings.Contains(string(b), strconv.Itoa(pid))
	})
	first.Detach() // as if the agent had been killed
	second := open(t, dir)
	if err := second.Ensure(t.Context(), sleeper("a")); err != nil || pidOf(second, "a") != pid {
		t.Fatalf("not adopted: pid %d, want %d, %v", pidOf(second, "a"), pid, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the adopted process was restarted", func() bool { n := pidOf(second, "a"); return n > 0 && n != pid })
	second.Close(t.Context())
	if len(second.Processes()) != 0 {
		t.Errorf("still there: %+v", second.Processes())
	}
}

// An agent that is killed between the start of a process and its note of that
// leaves none that nobody knows.
func TestKilledWhileItStarts(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	if err := first.Ensure(t.Context(), sleeper("a")); err != nil {
		t.Fatal(err)
	}
	pid := pidOf(first, "a")
	until(t, "the state is stored", func() bool {
		b, _ := os.ReadFile(first.stateFile())
		return strings.Contains(string(b), strconv.Itoa(pid))
	})
	first.Detach()
	list, err := first.load()
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	list[0].PID, list[0].Start = 0, 0 // as it is stored before the start
	b, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(first.stateFile(), b, 0o600); err != nil {
		t.Fatal(err)
	}
	second := open(t, dir)
	defer second.Close(t.Context())
	until(t, "the unknown process ends", func() bool { return !alive(pid) })
	if err := second.Ensure(t.Context(), sleeper("a")); err != nil || pidOf(second, "a") == pid {
		t.Errorf("pid %d, %v", pidOf(second, "a"), err)
	}
}

func TestNotReadyTellsItsLog(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close(t.Context())
	err := s.Ensure(t.Context(), services.Process{Name: "bad", Argv: []string{"/bin/sh", "-c", "echo no such thing; exit 3"}, Ready: func(context.Context) error { return errors.New("refused") }})
	if err == nil || !strings.Contains(err.Error(), "status 3") || !strings.Contains(fmt.Sprintf("%+v", err), "process bad") {
		t.Fatalf("got %v", err)
	}
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	s := open(t, t.TempDir())
	ready := filepath.Join(t.TempDir(), "ready")
	p := services.Process{Name: "deaf", Argv: []string{"/bin/sh", "-c", "trap '' TERM; touch " + ready + "; while :; do sleep 1; done"}, Grace: 1}
	p.Ready = func(context.Context) error { _, err := os.Stat(ready); return err }
	if err := s.Ensure(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	pid := pidOf(s, "deaf")
	s.Close(t.Context())
	if alive(pid) {
		t.Error("still alive after Close")
	}
}

func TestRun(t *testing.T) {
	s := open(t, t.TempDir())
	for _, c := range []struct {
		name, script string
		want         int
	}{{"zero", "exit 0", 0}, {"seven", "exit 7", 7}, {"signal", "kill -9 $$", -9}} {
		t.Run(c.name, func(t *testing.T) {
			got, err := s.Run(t.Context(), services.Process{Name: c.name, Argv: []string{"/bin/sh", "-c", c.script}})
			if err != nil || got != c.want {
				t.Errorf("got %d, %v, want %d", got, err, c.want)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if got, err := s.Run(ctx, services.Process{Name: "long", Argv: []string{"/bin/sleep", "300"}}); err != nil || got != -int(syscall.SIGTERM) {
		t.Errorf("got %d, %v", got, err)
	}
}

func TestLogsByNameOnly(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	s.AddLog("x.log", "x", filepath.Join(dir, "x.log"))
	for _, name := range []string{"../../etc/passwd", "/etc/passwd", "", "supervise.json"} {
		if _, err := s.LogPath(name); err == nil {
			t.Errorf("%q can be read", name)
		}
	}
	if _, err := s.LogPath("x.log"); err != nil {
		t.Error(err)
	}
}

func TestRotateFileKeepsWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	_, _ = f.WriteString("old\n")
	if err := rotateFile(path); err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString("new\n")
	got, _ := os.ReadFile(path)
	old, _ := os.ReadFile(path + ".1")
	if string(got) != "new\n" || string(old) != "old\n" {
		t.Errorf("got %q and %q", got, old)
	}
}

// TestStartsAfterALossOfPower: what that leaves of the list of processes must
// not keep an instance down for ever.
func TestStartsAfterALossOfPower(t *testing.T) {
	for name, left := range map[string]string{"empty": "", "zeroes": "\x00\x00\x00\x00", "cut": `[{"name":"a",`} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "supervise.json"), []byte(left), 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir)
			defer s.Close(context.WithoutCancel(t.Context()))
			if err := s.Ensure(t.Context(), sleeper("a")); err != nil {
				t.Error(err)
			}
		})
	}
}
