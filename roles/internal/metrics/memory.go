package metrics

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// shared is a file system in memory that every Linux has.
const shared = "/dev/shm"

// useMemory puts the directory chunks_head into memory. The database writes
// there what it has in its head, to save memory, and panics when it cannot:
// so a full disk would end the director. Its log has all of it, too, so that
// nothing is lost, and a card is written to less.
func (l *level) useMemory() {
	link := filepath.Join(l.dir, "chunks_head")
	l.leaveMemory()
	if left, err := filepath.Glob(shared + "/nutshell-history-*"); err == nil {
		for _, old := range left {
			if ofDead(old) {
				_ = os.RemoveAll(old) // what is another account's stays
			}
		}
	}
	dir, err := os.MkdirTemp(shared, fmt.Sprintf("nutshell-history-%d-", os.Getpid()))
	if err == nil {
		err = os.MkdirAll(l.dir, 0o750)
	}
	if err == nil {
		_ = os.RemoveAll(link)
		err = os.Symlink(dir, link)
	}
	if err != nil {
		l.log.Warn("history works without memory, and a full disk may end the director", "directory", l.dir, "error", err)
		if dir != "" {
			_ = os.RemoveAll(dir)
		}
		return
	}
	l.memory = dir
}

// room refuses to open the database on a full disk: mending a log that the
// full disk has cut, it would lose the rest of it.
func (l *level) room() error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(l.dir, &fs); err != nil {
		return fmt.Errorf("look for room in %s: %w", l.dir, err)
	}
	need := int64(1 << 20)
	for _, log := range []string{"wal", "wbl"} {
		pieces, err := os.ReadDir(filepath.Join(l.dir, log))
		if err != nil {
			continue // not there yet, or told by opening it
		}
		for _, p := range pieces {
			if info, err := p.Info(); err == nil {
				need += info.Size()
			}
		}
	}
	if free := int64(fs.Bavail) * int64(fs.Bsize); free < need { //nolint:gosec,unconvert // of 32 bits on small machines; file systems are smaller
		return fmt.Errorf("open %s: %d MB are needed: %w", l.dir, need>>20, syscall.ENOSPC)
	}
	return nil
}

func (l *level) leaveMemory() {
	if l.memory != "" {
		_ = os.RemoveAll(l.memory)
	}
	l.memory = ""
}

// ofDead reports whether a directory in memory belongs to a process that is no
// more: other directors may run on this machine.
func ofDead(dir string) bool {
	var pid int
	name, ok := strings.CutPrefix(dir, shared+"/nutshell-history-")
	if n, err := fmt.Sscanf(name, "%d-", &pid); !ok || err != nil || n != 1 || strings.Contains(name, "/") {
		return false
	}
	return syscall.Kill(pid, 0) == syscall.ESRCH
}
