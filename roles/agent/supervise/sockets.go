package supervise

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"nutshell/services"
)

// listen opens the sockets of a process. Who comes while the process is being
// started again waits in their queues.
func (s *Supervisor) listen(list []services.Socket) ([]*os.File, error) {
	var files []*os.File
	for _, d := range list {
		f, err := s.listenOne(d)
		if err != nil {
			closeSockets(files)
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func (s *Supervisor) listenOne(d services.Socket) (*os.File, error) {
	if err := os.Remove(d.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	// Nobody connects before the mode is right, because it gets its name then.
	fresh := d.Path + ".new"
	_ = os.Remove(fresh) // left by a crash
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", d.Path, err)
	}
	defer func() { _ = l.Close() }() // the file is a duplicate
	l.SetUnlinkOnClose(false)
	err = os.Chmod(fresh, 0o600)
	if err == nil && d.User && s.c.UID >= 0 {
		err = os.Chown(fresh, s.c.UID, s.c.GID)
	}
	if err == nil {
		err = os.Rename(fresh, d.Path)
	}
	if err != nil {
		return nil, err
	}
	f, err := l.File()
	if err != nil {
		return nil, err
	}
	return f, syscall.SetNonblock(int(f.Fd()), false) // what others expect to inherit; descriptors are small
}

func closeSockets(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
