package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"nutshell/roles/api"
)

const (
	rotateAt    = 10 << 20 // bytes; one older file of each log is kept beside it
	rotateEvery = 10 * time.Second
)

// logs are the files that people may read, and their rotation. Files are
// truncated in place after a copy, because daemons keep them open (all open
// them for appending).
type logs struct {
	dir string
	log *slog.Logger

	mu    sync.Mutex
	known map[string]logFile
}

type logFile struct{ description, path string }

func newLogs(dir string, log *slog.Logger) *logs {
	return &logs{dir: dir, log: log, known: map[string]logFile{}}
}

func (l *logs) file(name string) string { return filepath.Join(l.dir, name) }

func (l *logs) add(name, description, path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if description == "" {
		description = "output of " + strings.TrimSuffix(name, ".log")
	}
	l.known[name] = logFile{description, path}
}

func (l *logs) open(name, description string) (*os.File, error) {
	path := l.file(name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l.add(name, description, path)
	return f, nil
}

func (l *logs) list() []api.Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]api.Log, 0, len(l.known))
	for name, f := range l.known {
		var size int64
		if st, err := os.Stat(f.path); err == nil {
			size = st.Size()
		}
		list = append(list, api.Log{Name: name, Description: f.description, Bytes: size})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

// path looks the name up in the list: no name ever becomes a path.
func (l *logs) path(name string) (string, error) {
	l.mu.Lock()
	f, ok := l.known[name]
	l.mu.Unlock()
	if ok {
		return f.path, nil
	}
	var names []string
	for _, k := range l.list() {
		names = append(names, k.Name)
	}
	return "", &api.Error{Code: api.CodeNotFound, Object: "log " + api.Shorten(name), Message: "this instance has no such log", Hint: "one of: " + strings.Join(names, ", ")}
}

func (l *logs) rotate(ctx context.Context) {
	tick := time.NewTicker(rotateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, k := range l.list() {
			if k.Bytes < rotateAt {
				continue
			}
			path, err := l.path(k.Name)
			if err == nil {
				err = rotateFile(path)
			}
			if err != nil {
				l.log.Error("log not rotated", "name", k.Name, "error", err)
			}
		}
	}
}

func rotateFile(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(path+".1", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Truncate(path, 0)) // a full disk: the old lines are lost rather than the service
	}
	return os.Truncate(path, 0)
}

// LastLines are the last n lines of a file, for error messages.
func LastLines(path string, n int) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	if st, err := f.Stat(); err == nil && st.Size() > 16<<10 {
		_, _ = f.Seek(-16<<10, io.SeekEnd)
	}
	var lines []string
	for s := bufio.NewScanner(f); s.Scan(); {
		lines = append(lines, s.Text())
		if len(lines) > n {
			lines = lines[1:]
		}
	}
	return lines
}
