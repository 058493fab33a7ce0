// Package shell runs a login shell or a command for somebody at a terminal:
// on a pseudo-terminal or on pipes, in a session of its own that ends with it.
// It does not know who asks, nor from where.
package shell

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"nutshell/roles/api"
)

const (
	hangupTime = 3 * time.Second // from SIGHUP to SIGKILL
	drainTime  = 2 * time.Second // of silence, in which what a shell left behind may still print
)

// Options is what to run.
type Options struct {
	Argv []string // the program's path first; a login shell is named with a dash by Name
	Name string   // argv[0], if it is another than the path
	TTY  bool
	Size api.TerminalSize
	Dir  string
	Env  []string
}

// Shell is one that runs.
type Shell struct {
	cmd    *exec.Cmd
	tty    *os.File // the master of the pseudo-terminal; nil: pipes
	stdin  io.WriteCloser
	stdout io.Reader
	stderr io.Reader // nil with a pseudo-terminal
	ours   []*os.File
	exited chan struct{}
	exit   api.TerminalExit
	once   sync.Once
	ending sync.Once
}

// Start starts it.
func Start(o Options) (*Shell, error) {
	cmd := exec.Command(o.Argv[0], o.Argv[1:]...) //nolint:noctx // it ends with Hangup, as a terminal does
	if o.Name != "" {
		cmd.Args[0] = o.Name
	}
	cmd.Dir, cmd.Env = o.Dir, o.Env
	s := &Shell{cmd: cmd, exited: make(chan struct{})}
	var err error
	if o.TTY {
		err = s.startTerminal(o.Size)
	} else {
		err = s.startPiped()
	}
	if err != nil {
		return nil, &api.Error{Code: api.CodeInvalid, Op: "run", Object: api.Shorten(o.Argv[0]), Message: "it cannot be started", Err: err}
	}
	go s.wait()
	return s, nil
}

// startTerminal makes the master one whose reads can be bounded and broken off,
// which it is not as the library hands it out.
func (s *Shell) startTerminal(z api.TerminalSize) error {
	master, err := pty.StartWithSize(s.cmd, winsize(z))
	if err != nil {
		return err
	}
	defer func() { _ = master.Close() }()
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		return err
	}
	s.tty = os.NewFile(uintptr(fd), "terminal")
	s.stdin, s.stdout = s.tty, s.tty
	return nil
}

// startPiped uses pipes of our own: those of exec are closed before all was
// read.
func (s *Shell) startPiped() error {
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var theirs []*os.File
	defer func() { closeAll(theirs) }()
	for range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(s.ours)
			return err
		}
		if len(theirs) == 0 {
			r, w = w, r // stdin runs the other way
		}
		s.ours, theirs = append(s.ours, r), append(theirs, w)
	}
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = theirs[0], theirs[1], theirs[2]
	s.stdin, s.stdout, s.stderr = s.ours[0], s.ours[1], s.ours[2]
	if err := s.cmd.Start(); err != nil {
		closeAll(s.ours)
		return err
	}
	return nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

func winsize(z api.TerminalSize) *pty.Winsize {
	const most = 1000 // programs make screens of this size
	return &pty.Winsize{Cols: uint16(min(max(z.Cols, 1), most)), Rows: uint16(min(max(z.Rows, 1), most))}
}

func (s *Shell) wait() {
	err := s.cmd.Wait()
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		s.exit.Code = failed.ExitCode()
		if ws, ok := failed.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			s.exit.Code, s.exit.Signal = 128+int(ws.Signal()), ws.Signal().String()
		}
	case err != nil:
		s.exit.Code = 255
	}
	close(s.exited)
	// Jobs that the shell leaves in the background would keep the terminal open.
	s.endSession()
}

// Resize tells programs how large the terminal is.
func (s *Shell) Resize(z api.TerminalSize) {
	if s.tty == nil {
		return
	}
	raw, err := s.tty.SyscallConn() // Fd would make reads unbounded again
	if err != nil {
		return // it has ended
	}
	w := winsize(z)
	_ = raw.Control(func(fd uintptr) {
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: w.Rows, Col: w.Cols})
	})
}

// Write types.
func (s *Shell) Write(p []byte) (int, error) { return s.stdin.Write(p) }

// CloseInput says that nothing more is typed.
func (s *Shell) CloseInput() {
	if s.tty == nil {
		_ = s.stdin.Close()
		return
	}
	_, _ = s.tty.Write([]byte{4}) // what Ctrl-D sends
}

// Copy hands on all that is printed until there is no more, and then tells how
// the shell ended. An error of send ends the shell.
func (s *Shell) Copy(send func(p []byte, stderr bool) error) api.TerminalExit {
	var readers sync.WaitGroup
	read := func(r io.Reader, stderr bool) {
		p := make([]byte, 16<<10)
		for {
			n, err := r.Read(p)
			if n > 0 {
				if send(p[:n], stderr) != nil {
					s.Hangup()
					return
				}
			}
			if err != nil { // EIO: nobody has the terminal open any more
				return
			}
			s.patience(r)
		}
	}
	readers.Go(func() { read(s.stdout, false) })
	if s.stderr != nil {
		readers.Go(func() { read(s.stderr, true) })
	}
	over := make(chan struct{})
	go func() {
		select {
		case <-s.exited:
			s.patience(s.stdout)
			s.patience(s.stderr)
		case <-over:
		}
	}()
	readers.Wait()
	close(over)
	<-s.exited
	s.close()
	return s.exit
}

// patience bounds the next read once the shell has ended: a daemon that it
// started may hold the terminal open for ever.
func (s *Shell) patience(r io.Reader) {
	f, ok := r.(*os.File)
	select {
	case <-s.exited:
		if ok {
			_ = f.SetReadDeadline(time.Now().Add(drainTime))
		}
	default:
	}
}

func (s *Shell) close() {
	s.once.Do(func() {
		if s.tty != nil {
			_ = s.tty.Close()
		}
		closeAll(s.ours)
	})
}

// Hangup ends the shell and all of its session: what a lost connection does to
// a terminal, and three seconds later whatever did not care.
func (s *Shell) Hangup() {
	s.signal(syscall.SIGHUP)
	s.signal(syscall.SIGCONT)
	select {
	case <-s.exited:
	case <-time.After(hangupTime):
		s.signal(syscall.SIGKILL)
		<-s.exited
	}
	s.endSession()
	s.close()
}
