// Package logfile is a log file of ours that never fills the disk: it turns
// itself over at a size and keeps one older file. Files that daemons write are
// the supervisor's to rotate.
package logfile

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// MaxBytes is the size at which a file is turned over.
const MaxBytes = 10 << 20

// File is an io.WriteCloser.
type File struct {
	path string
	max  int64

	mu   sync.Mutex
	f    *os.File
	size int64
}

// Open opens or makes the file and its directory.
func Open(path string, limit int64) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &File{path: path, max: limit}
	return l, l.open()
}

func (l *File) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.f, l.size = f, st.Size()
	return nil
}

// Write appends one record.
func (l *File) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return 0, os.ErrClosed
	}
	if l.size > 0 && l.size+int64(len(b)) > l.max {
		if err := l.turn(); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	return n, err
}

// turn makes path.1 of the file and begins another. When that fails the old
// file goes on growing: a log that is too long is better than none.
func (l *File) turn() error {
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		l.size = 0
		return nil //nolint:nilerr // tried again after another MaxBytes
	}
	old := l.f
	if err := l.open(); err != nil {
		return err
	}
	return old.Close()
}

// Close closes the file.
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}

// Logger logs to the file, and to also unless that is nil.
func (l *File) Logger(also io.Writer, level slog.Leveler) *slog.Logger {
	var w io.Writer = l
	if also != nil {
		w = io.MultiWriter(l, also)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
