package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"nutshell/roles/api"
)

// lockDir takes the data directory for this process. The kernel gives the
// lock back when the process dies in whatever way, so none is ever stale; the
// process id in the file is only there to be named in the error.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "nutshell.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		pid, _ := io.ReadAll(io.LimitReader(f, 20)) // what cannot be read is not named
		who := "another process"
		if n := strings.TrimSpace(string(pid)); n != "" {
			who = "process " + n
		}
		return nil, &api.Error{Code: api.CodeConflict, Op: "open", Object: "data directory " + dir, Message: who + " uses it already",
			Hint: "stop it, or give this director a data directory of its own"}
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("lock data directory: %w", err)
		}
	}
	return f, nil
}

// ownerOf names the process that holds the lock on an open lock file.
func ownerOf(f *os.File) int {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		return 0 // closing the file gives it back
	}
	text, _ := io.ReadAll(io.LimitReader(f, 20))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}
