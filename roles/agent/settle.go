package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Beside each version lies a note: the boot of the machine that it was
// unpacked in, and later, that it is on the disk. A file system keeps names
// before contents: after a loss of power the files of a version that was
// unpacked seconds before are there, and empty.
const (
	noteEnd = ".note"
	settled = "on disk"
)

// survived reports whether the files of a version, if there are any, are what
// was unpacked.
func (c *code) survived(dir string) bool {
	b, err := os.ReadFile(dir + noteEnd)
	if errors.Is(err, fs.ErrNotExist) {
		return true // nothing is there, or it is of an agent that made no notes
	}
	return err == nil && (string(b) == settled || c.boot != "" && string(b) == c.boot)
}

// unsettled reports whether a version waits for the disk.
func (c *code) unsettled(dir string) bool {
	b, err := os.ReadFile(dir + noteEnd)
	return err == nil && string(b) != settled
}

// settleAfter is when the kernel has long written most of a version by itself:
// asking for the disk at once would keep it from what people wait for.
const settleAfter = time.Minute

// settle brings a version to the disk, some time from now. Until then the note
// says what to do.
func (c *code) settle(dir string, after time.Duration) {
	select {
	case <-c.stopped:
		return
	case <-time.After(after):
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		select {
		case <-c.stopped:
			return fs.SkipAll
		default:
		}
		if err != nil || !e.IsDir() && !e.Type().IsRegular() {
			return err
		}
		return syncPath(path)
	})
	select {
	case <-c.stopped:
		return
	default:
	}
	if errors.Is(err, fs.ErrNotExist) {
		return // it went away meanwhile
	}
	if err == nil {
		err = syncPath(c.dir)
	}
	if err == nil {
		err = writeAtomic(dir+noteEnd, []byte(settled), 0o600)
	}
	if err != nil {
		c.log.Warn("code may have to be fetched again after a loss of power", "directory", dir, "error", err)
	}
}

// close returns when nothing is being brought to the disk any more.
func (c *code) close() {
	close(c.stopped)
	c.settling.Wait()
}

// syncPath waits until a file, or the names in a directory, are on the disk.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// bootID tells one start of this machine from another.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// writeAtomic replaces a file. Also after a loss of power it is the old one or
// the new one.
func writeAtomic(path string, b []byte, mode os.FileMode) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()) // a file that was there keeps its mode when it is opened
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return err
	}
	return syncPath(filepath.Dir(path))
}
