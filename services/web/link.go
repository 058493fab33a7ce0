package web

import (
	"errors"
	"os"
	"sync"
)

// Link is a symbolic link that is switched atomically: what nginx is told once
// and follows from request to request, without a reload.
type Link struct {
	Path string
	mu   sync.Mutex
}

// Set points the link at target.
func (l *Link) Set(target string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now, err := os.Readlink(l.Path); err == nil && now == target {
		return nil
	}
	if err := os.Remove(l.Path + ".new"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, l.Path+".new"); err != nil {
		return err
	}
	return os.Rename(l.Path+".new", l.Path)
}

// Get is the target, or empty.
func (l *Link) Get() string {
	target, err := os.Readlink(l.Path)
	if err != nil {
		return ""
	}
	return target
}
