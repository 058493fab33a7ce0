package services

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// The kernel takes 107 bytes for the path of a socket. Names of sockets have
// socketsName of them, and the directory what is left.
const (
	socketsName = 50
	socketsDir  = 107 - socketsName - len("/")
)

// ShortDir gives a directory for sockets a name that is short enough. Where its
// own is too long, that is a link to it in a directory of its own, at, which
// whoever made the instance removes with it; with at empty one in the directory
// for temporary files. The directory is locked until hold is closed: systemd
// does not tidy away what somebody holds a lock on.
func ShortDir(dir, at string) (path string, hold io.Closer, err error) {
	if len(dir) <= socketsDir {
		return dir, io.NopCloser(nil), nil
	}
	if at == "" {
		sum := sha256.Sum256([]byte(dir))
		at = filepath.Join(os.TempDir(), "nutshell-"+hex.EncodeToString(sum[:6]))
	}
	path = filepath.Join(at, "r")
	if len(path) > socketsDir {
		return "", nil, fmt.Errorf("directory for sockets: %s is longer than %d bytes, too", path, socketsDir)
	}
	if err := os.Mkdir(at, 0o711); err != nil && !errors.Is(err, fs.ErrExist) { // daemons of other accounts pass through it
		return "", nil, fmt.Errorf("directory for sockets: %w", err)
	}
	// Others can make directories there, too.
	if st, err := os.Lstat(at); err != nil {
		return "", nil, fmt.Errorf("directory for sockets: %w", err)
	} else if s, ok := st.Sys().(*syscall.Stat_t); !ok || !st.IsDir() || int(s.Uid) != os.Geteuid() {
		return "", nil, fmt.Errorf("directory for sockets: %s is not ours", at)
	}
	if to, err := os.Readlink(path); err != nil || to != dir {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", nil, fmt.Errorf("directory for sockets: %w", err)
		}
		if err := os.Symlink(dir, path); err != nil {
			return "", nil, fmt.Errorf("directory for sockets: %w", err)
		}
	}
	f, err := os.Open(at)
	if err != nil {
		return "", nil, fmt.Errorf("directory for sockets: %w", err)
	}
	// A lock that somebody has already does as well.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
		_ = f.Close()
		return "", nil, fmt.Errorf("directory for sockets: lock %s: %w", at, err)
	}
	return path, f, nil
}
