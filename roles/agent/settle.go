package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
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

// settle brings a version to the disk. Nobody waits for that: a slow disk
// needs seconds, and until then the note says what to do.
func (c *code) settle(dir string) {
	err := syncAll(c.dir)
	if err == nil {
		err = writeAtomic(dir+noteEnd, []byte(settled), 0o600)
	}
	if err != nil {
		c.log.Warn("code may have to be fetched again after a loss of power", "directory", dir, "error", err)
	}
}

// syncAll waits until all that was written to the file system of dir is on the
// disk.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
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
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
