package cloudtest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// held are the files that the guest was told to keep open.
type held struct {
	mu    sync.Mutex
	files map[string]*os.File
}

// volumeAnswers are what the suite asks of volumes. A path that begins with @
// is below the directory of the instance's volumes.
func (g Guest) volumeAnswers(answer func(path string, f func(r *http.Request) (string, error))) {
	h := &held{files: map[string]*os.File{}}
	answer("GET /list", func(r *http.Request) (string, error) {
		entries, err := os.ReadDir(g.path(r.FormValue("path")))
		if errors.Is(err, os.ErrNotExist) {
			return "", nil // nothing is there, and no directory for it
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, " "), err
	})
	answer("GET /hold", func(r *http.Request) (string, error) {
		f, err := os.OpenFile(g.path(r.FormValue("path")), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return "", err
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.files[r.FormValue("path")] = f
		return "", nil
	})
	answer("GET /release", func(r *http.Request) (string, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		f := h.files[r.FormValue("path")]
		delete(h.files, r.FormValue("path"))
		return "", f.Close()
	})
	answer("GET /fill", func(r *http.Request) (string, error) { return fill(g.path(r.FormValue("path")), r.FormValue("mb")) })
	answer("GET /sync", func(r *http.Request) (string, error) {
		f, err := os.Open(g.path(r.FormValue("path")))
		if err != nil {
			return "", err
		}
		return "", errors.Join(f.Sync(), f.Close())
	})
	answer("GET /owner", func(r *http.Request) (string, error) {
		st, err := os.Stat(g.path(r.FormValue("path")))
		if err != nil {
			return "", err
		}
		sys := st.Sys().(*syscall.Stat_t)
		return fmt.Sprint(sys.Uid, " ", sys.Gid), nil
	})
	answer("GET /seclude", func(*http.Request) (string, error) { return "", seclude() })
	answer("GET /bind", func(r *http.Request) (string, error) {
		to := g.path(r.FormValue("to"))
		return "", errors.Join(os.MkdirAll(to, 0o755), syscall.Mount(g.path(r.FormValue("path")), to, "", syscall.MS_BIND, ""))
	})
	answer("GET /umount", func(r *http.Request) (string, error) {
		return fmt.Sprint(syscall.Unmount(g.path(r.FormValue("path")), 0)), nil
	})
	answer("GET /remove", func(r *http.Request) (string, error) { return "", os.RemoveAll(g.path(r.FormValue("path"))) })
}

// seclude gives one thread of the guest mounts of its own, as services that
// protect themselves have.
func seclude() error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its mounts
		err := syscall.Unshare(syscall.CLONE_NEWNS)
		if err == nil {
			err = syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
		}
		done <- err
		if err == nil {
			select {}
		}
	}()
	return <-done
}

// fill writes a file of so many megabytes down to the disk, and says "full"
// when there is no room.
func fill(path, megabytes string) (string, error) {
	n, err := strconv.Atoi(megabytes)
	if err != nil {
		return "", err
	}
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	piece := []byte(strings.Repeat("full of data ", 1<<20/13))
	for range n {
		if _, err = f.Write(piece); err != nil {
			break
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, io.ErrShortWrite) {
		return "full", nil
	}
	return "", err
}
