package shell

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nutshell/roles/api"
)

// tape keeps what a shell prints.
type tape struct {
	mu       sync.Mutex
	out, err bytes.Buffer
}

func (w *tape) send(p []byte, stderr bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if stderr {
		w.err.Write(p)
		return nil
	}
	w.out.Write(p)
	return nil
}

func (w *tape) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.String()
}

func start(t *testing.T, tty bool, argv ...string) (*Shell, *tape, chan api.TerminalExit) {
	t.Helper()
	s, err := Start(Options{Argv: argv, TTY: tty, Size: api.TerminalSize{Cols: 90, Rows: 30}, Dir: t.TempDir(), Env: append(os.Environ(), "TERM=xterm-256color")})
	if err != nil {
		t.Fatal(err)
	}
	w, ended := &tape{}, make(chan api.TerminalExit, 1)
	go func() { ended <- s.Copy(w.send) }()
	t.Cleanup(s.Hangup)
	return s, w, ended
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s did not come about in a minute", what)
}

func ends(t *testing.T, ended chan api.TerminalExit) api.TerminalExit {
	t.Helper()
	select {
	case e := <-ended:
		return e
	case <-time.After(time.Minute):
		t.Fatal("it did not end in a minute")
		return api.TerminalExit{}
	}
}

func TestTerminal(t *testing.T) {
	s, w, ended := start(t, true, "/bin/sh", "-i")
	if _, err := s.Write([]byte("stty size; echo $((6*7)) $TERM\n")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its size", func() bool {
		return strings.Contains(w.text(), "30 90") && strings.Contains(w.text(), "42 xterm-256color")
	})
	s.Resize(api.TerminalSize{Cols: 132, Rows: 43})
	_, _ = s.Write([]byte("stty size\n"))
	eventually(t, "its new size", func() bool { return strings.Contains(w.text(), "43 132") })
	s.Resize(api.TerminalSize{Cols: -1, Rows: 1 << 30})
	_, _ = s.Write([]byte("stty size; exit 7\n"))
	if e := ends(t, ended); e.Code != 7 || e.Signal != "" {
		t.Errorf("got exit %+v, want 7", e)
	}
	if !strings.Contains(w.text(), "1000 1") {
		t.Errorf("sizes are not bounded: %q", w.text())
	}
}

func TestPipes(t *testing.T) {
	s, w, ended := start(t, false, "/bin/sh", "-c", "tr a-z A-Z; echo lost >&2; exit 3")
	all := strings.Repeat("some text\n", 20000)
	go func() {
		_, _ = s.Write([]byte(all))
		s.CloseInput()
	}()
	if e := ends(t, ended); e.Code != 3 {
		t.Errorf("got exit %+v, want 3", e)
	}
	if w.text() != strings.ToUpper(all) || w.err.String() != "lost\n" {
		t.Errorf("got %d bytes (want %d) and stderr %q", len(w.text()), len(all), w.err.String())
	}
}

func TestSignalsAndMissingPrograms(t *testing.T) {
	_, _, ended := start(t, true, "/bin/sh", "-c", "kill -TERM $$")
	if e := ends(t, ended); e.Code != 128+15 || e.Signal == "" {
		t.Errorf("got exit %+v, want that of a signal", e)
	}
	for _, tty := range []bool{true, false} {
		if _, err := Start(Options{Argv: []string{"/no/such/program"}, TTY: tty, Dir: "/"}); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("got %v, want invalid", err)
		}
	}
}

// TestSessionEndsWithIt has jobs that do not care for SIGHUP.
func TestSessionEndsWithIt(t *testing.T) {
	for name, leave := range map[string]func(s *Shell){
		"exit":   func(s *Shell) { _, _ = s.Write([]byte("exit\n")) },
		"hangup": func(s *Shell) { s.Hangup() },
	} {
		t.Run(name, func(t *testing.T) {
			s, _, ended := start(t, true, "/bin/sh", "-i")
			file := filepath.Join(t.TempDir(), "pids")
			fmt.Fprintf(s, "set -m; sleep 1000 & echo $! >>%s; (trap '' HUP; sleep 1001) & echo $! >>%s; nohup sleep 1002 >/dev/null 2>&1 & echo $! >>%s; echo end >>%s\n", file, file, file, file)
			var b []byte
			eventually(t, "three jobs", func() bool {
				b, _ = os.ReadFile(file)
				return strings.HasSuffix(string(b), "end\n")
			})
			leave(s)
			ends(t, ended)
			for _, line := range strings.Fields(strings.TrimSuffix(string(b), "end\n")) {
				pid, err := strconv.Atoi(line)
				if err != nil {
					t.Fatal(err)
				}
				eventually(t, "the end of job "+line, func() bool { return syscall.Kill(pid, 0) != nil })
			}
		})
	}
}

// TestDaemonHoldsTerminal is one that left the session but has it still open.
func TestDaemonHoldsTerminal(t *testing.T) {
	for _, tty := range []bool{true, false} {
		file := filepath.Join(t.TempDir(), "pid")
		_, w, ended := start(t, tty, "/bin/sh", "-c", "setsid sh -c 'echo $$ >"+file+"; exec sleep 1000' & while ! [ -s "+file+" ]; do :; done; echo last words")
		ends(t, ended)
		if !strings.Contains(w.text(), "last words") {
			t.Errorf("tty %v: ended with %q", tty, w.text())
		}
		b, _ := os.ReadFile(file)
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || syscall.Kill(pid, syscall.SIGKILL) != nil {
			t.Errorf("what left the session is gone: %v", err)
		}
	}
}

// TestRefusedOutputEndsIt is a client that went away.
func TestRefusedOutputEndsIt(t *testing.T) {
	s, err := Start(Options{Argv: []string{"/bin/sh", "-c", "yes"}, TTY: true, Dir: "/", Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan api.TerminalExit, 1)
	go func() { ended <- s.Copy(func([]byte, bool) error { return os.ErrClosed }) }()
	ends(t, ended)
	if left := session(s.cmd.Process.Pid); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
