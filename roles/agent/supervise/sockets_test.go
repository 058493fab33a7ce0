package supervise

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nutshell/services"
)

// Clients of a process that was killed wait in the queue of its socket, which
// is the same one before and after.
func TestSocketsOutliveTheirProcess(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close(t.Context())
	p := sleeper("a")
	p.Sockets = []services.Socket{{Path: filepath.Join(dir, "a.sock"), User: true}}
	if err := os.WriteFile(p.Sockets[0].Path, nil, 0o600); err != nil { // left by a crash
		t.Fatal(err)
	}
	if err := s.Ensure(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	inode := func() uint64 {
		st, err := os.Stat(p.Sockets[0].Path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode() != os.ModeSocket|0o600 {
			t.Errorf("mode %v, want a socket that one account may use", st.Mode())
		}
		return st.Sys().(*syscall.Stat_t).Ino
	}
	inherited := func(pid int) bool {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/3", pid))
		return err == nil && strings.HasPrefix(link, "socket:")
	}
	before, pid := inode(), pidOf(s, "a")
	if !inherited(pid) {
		t.Error("the process does not have the socket")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "it is dead", func() bool { return !alive(pid) })
	c, err := net.Dial("unix", p.Sockets[0].Path)
	if err != nil {
		t.Fatalf("a client is refused: %v", err)
	}
	_ = c.Close()
	until(t, "it runs again", func() bool { now := pidOf(s, "a"); return now != 0 && now != pid && inherited(now) })
	if inode() != before {
		t.Error("it is another socket")
	}
	if err := s.Stop(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.Sockets[0].Path); !os.IsNotExist(err) {
		t.Error("the socket is still there")
	}
	p.Sockets[0].Path = filepath.Join(dir, "none", "a.sock")
	if err := s.Ensure(t.Context(), p); err == nil {
		t.Error("a socket that cannot be opened is no error")
	}
}

func TestToolsNeedACommand(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close(t.Context())
	p := services.Process{Name: "a", Tool: "kind/tool", Argv: []string{"300"}}
	if err := s.Ensure(t.Context(), p); err == nil {
		t.Error("a tool was started without a command for tools")
	}
	s.c.Tool = []string{"/bin/sh", "-c", `test "$0" = kind/tool && exec sleep "$1"`}
	if err := s.Ensure(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if pidOf(s, "a") == 0 {
		t.Error("the tool does not run")
	}
}

// What is wanted again while it is being stopped runs again, on a socket of its
// own: neither waits for one that is gone, nor loses its socket to the one before.
func TestWantedAgainWhileItStops(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close(t.Context())
	p := services.Process{Name: "a", Argv: []string{"/bin/sh", "-c", "trap 'sleep 0.3; exit 0' TERM; while :; do sleep 0.05; done"},
		Sockets: []services.Socket{{Path: filepath.Join(dir, "a.sock")}}}
	for range 5 {
		if err := s.Ensure(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		first := s.procs["a"]
		stopped := make(chan error, 1)
		go func() { stopped <- s.Stop(t.Context(), "a") }()
		until(t, "it is being stopped", first.ends)
		if err := s.Ensure(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		if s.procs["a"] == first || pidOf(s, "a") == 0 {
			t.Fatal("it does not run again")
		}
		if _, err := os.Stat(p.Sockets[0].Path); err != nil {
			t.Fatal(err)
		}
	}
}
