package mysql

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"nutshell/roles/api"
)

// Restored data is made beside the data of the service, on the same volume.
// When it is complete, two renames put it in its place; the old data stays
// until the service is known to serve. So after a crash at any moment there is
// either the old data or the new.

func (s *server) stagedData() string { return s.data() + ".restored" } // complete when completeFile is in it
func (s *server) beforeData() string { return s.data() + ".before" }   // what the service had before
func (s *server) trialData() string  { return s.data() + ".trial" }

// Files in restored data: it has all that it should have, or waits for changes
// that are to be repeated on it.
const (
	completeFile = "nutshell-complete"
	waitsFile    = "nutshell-waits"
)

// restArgs are those of the method "restore" of the agent half.
type restArgs struct {
	Do string `json:"do"` // state, stop, switch, aside, back, keep, clear
}

// restState tells how far a node is with a restore.
type restState struct {
	Staged   bool `json:"staged"`   // a backup waits for the changes after it
	Complete bool `json:"complete"` // what is staged can take the place of the data
	Before   bool `json:"before"`
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// mendRestore finishes what a crash left between two renames, and clears what
// nobody goes on with. It is called before the data is looked at.
func (s *server) mendRestore() error {
	if !exists(s.data()) && exists(s.beforeData()) {
		if err := os.Rename(s.beforeData(), s.data()); err != nil {
			return err
		}
	}
	s.copying.Lock()
	defer s.copying.Unlock()
	if s.copies > 0 {
		return nil
	}
	if exists(s.stagedData()) && !exists(filepath.Join(s.stagedData(), completeFile)) && !exists(filepath.Join(s.stagedData(), waitsFile)) {
		if err := os.RemoveAll(s.stagedData()); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(s.trialData()), os.RemoveAll(s.stagedData()+".log"))
}

// alone lets one restore or trial work on the volume at a time.
func (s *server) alone() (done func(), err error) {
	s.copying.Lock()
	defer s.copying.Unlock()
	if s.copies > 0 {
		return nil, &api.Error{Code: api.CodeConflict, Op: "restore", Object: "node " + s.m.Address(), Message: "a backup is being restored or tried there", Hint: "wait until that has ended"}
	}
	s.copies++
	return func() {
		s.copying.Lock()
		defer s.copying.Unlock()
		s.copies--
	}, nil
}

// stage makes data of a backup, beside the data that is there.
func (s *server) stage(ctx context.Context, args map[string]string, r io.Reader) (api.ActResult, error) {
	if then := args["then"]; then == "keep" || then == "back" {
		_, err := io.Copy(io.Discard, r) // the manager half has done it
		return api.ActResult{}, err
	}
	done, err := s.alone()
	if err != nil {
		return api.ActResult{}, err
	}
	defer done()
	dir := s.stagedData()
	if err := os.RemoveAll(dir); err != nil {
		return api.ActResult{}, err
	}
	_, err = s.unpackBackup(ctx, dir, r)
	switch {
	case err != nil:
	case args["then"] == "replay":
		err = s.write(filepath.Join(dir, waitsFile), nil, 0o400)
	default:
		err = s.tryOut(ctx, dir)
	}
	if err != nil {
		return api.ActResult{}, errors.Join(err, os.RemoveAll(dir))
	}
	return api.ActResult{}, nil
}

// unpackBackup makes a data directory of a backup's stream.
func (s *server) unpackBackup(ctx context.Context, dir string, r io.Reader) (backupHeader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	h, err := readHeader(in)
	if err != nil {
		return h, err
	}
	now, err := s.version(ctx)
	if err != nil {
		return h, err
	}
	if release(now) != release(h.Server) {
		return h, &api.Error{Code: api.CodeConflict, Op: "restore", Object: "backup", Message: "it was made by MariaDB " + h.Server + ", and this service runs " + now,
			Hint: "restore it into a service on the same Debian release, and move the data by dump and load_dump"}
	}
	if err := s.room(h.Bytes); err != nil {
		return h, err
	}
	pack, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return h, err
	}
	defer pack.Close()
	if err := errors.Join(os.Mkdir(dir, 0o700), s.give(dir)); err != nil {
		return h, err
	}
	c, err := s.command(ctx, "mariadb-backup", "mbstream", "-x", "-C", dir)
	if err != nil {
		return h, err
	}
	from := &faulty{r: pack}
	c.cmd.Stdin = from
	if err := c.run(ctx); from.err != nil || err != nil {
		if from.err != nil {
			err = from.err // mbstream only saw an end
		}
		return h, err
	}
	if c, err = s.command(ctx, "mariadb-backup", "mariadb-backup", "--no-defaults", "--prepare", "--target-dir="+dir, "--use-memory=32M"); err != nil {
		return h, err
	}
	return h, c.run(ctx)
}

// faulty remembers what broke a stream: programs take that for its end.
type faulty struct {
	r   io.Reader
	err error
}

// Read reads and remembers.
func (f *faulty) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// room refuses what would not fit beside the data.
func (s *server) room(bytes int64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.volume.Path, &st); err != nil {
		return err
	}
	free, need := int64(st.Bavail)*int64(st.Bsize), bytes+bytes/20+s.leastFree() //nolint:gosec,unconvert // file systems are smaller; of 32 bits on small machines
	if free >= need {
		return nil
	}
	return &api.Error{Code: api.CodeNoSpace, Op: "restore", Object: "volume " + s.volume.ID, Message: fmt.Sprintf("%s are needed beside the data, %s are free", mebibytes(need), mebibytes(free)),
		Hint: fmt.Sprintf("make volume_size larger by %s", mebibytes(need-free))}
}

// complete makes staged data ready to take the place of the data: with a
// history of its own, so that no node with other data can take it for its own,
// and a mark that it is whole.
func (s *server) complete(dir string) error {
	history := make([]byte, 16)
	_, _ = rand.Read(history) // it never fails, says its documentation
	h := hex.EncodeToString(history)
	state := fmt.Sprintf("# GALERA saved state\nversion: 2.1\nuuid:    %s-%s-%s-%s-%s\nseqno:   0\nsafe_to_bootstrap: 1\n", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
	left, err := filepath.Glob(filepath.Join(dir, "*backup*")) // what mariadb-backup noted
	if err != nil {
		return err
	}
	for _, path := range left {
		if strings.HasPrefix(filepath.Base(path), "xtrabackup_") || strings.HasPrefix(filepath.Base(path), "mariadb_backup_") || filepath.Base(path) == "backup-my.cnf" {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	if err := s.write(filepath.Join(dir, "grastate.dat"), []byte(state), 0o660); err != nil {
		return err
	}
	return syncAll(dir, func() error { return s.write(filepath.Join(dir, completeFile), []byte("complete\n"), 0o400) })
}

// syncAll brings all of a file system to the disk, then does what says so.
func syncAll(dir string, then func() error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := then(); err != nil {
		return err
	}
	return d.Sync()
}

// rest does the node's part in putting restored data in place.
func (s *server) rest(ctx context.Context, a restArgs) (any, error) {
	switch a.Do {
	case "state":
		return restState{Staged: exists(filepath.Join(s.stagedData(), waitsFile)), Complete: exists(filepath.Join(s.stagedData(), completeFile)), Before: exists(s.beforeData())}, nil
	case "stop":
		if err := s.setSolo(false); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, stopSeconds*time.Second)
		defer cancel()
		return nil, s.stop(ctx)
	case "switch":
		return nil, s.switchData()
	case "aside":
		return nil, s.setAside()
	case "back":
		return nil, s.takeBack(ctx)
	case "keep":
		return nil, os.RemoveAll(s.beforeData())
	case "clear":
		return nil, os.RemoveAll(s.stagedData())
	}
	return nil, api.Invalidf("restore: there is no way to do %s", api.Shorten(a.Do))
}

// switchData puts complete restored data in the place of the data. The server
// does not run.
func (s *server) switchData() error {
	if !exists(filepath.Join(s.stagedData(), completeFile)) {
		return &api.Error{Code: api.CodeConflict, Op: "restore", Object: "volume " + s.volume.ID, Message: "there is no complete restored data", Hint: "restore again"}
	}
	if err := s.setAside(); err != nil {
		return err
	}
	return errors.Join(os.Rename(s.stagedData(), s.data()), s.syncVolume())
}

// setAside takes the data away and keeps it.
func (s *server) setAside() error {
	if !exists(s.data()) {
		return nil
	}
	if err := os.RemoveAll(s.beforeData()); err != nil {
		return err
	}
	return errors.Join(os.Rename(s.data(), s.beforeData()), s.syncVolume())
}

// takeBack puts the data of before in its place again, if there is such.
func (s *server) takeBack(ctx context.Context) error {
	if exists(s.beforeData()) {
		stop, cancel := context.WithTimeout(ctx, stopSeconds*time.Second)
		err := errors.Join(s.setSolo(false), s.stop(stop))
		cancel()
		if err != nil {
			return err
		}
		if err := errors.Join(os.RemoveAll(s.data()), os.Rename(s.beforeData(), s.data()), s.syncVolume()); err != nil {
			return err
		}
	}
	return os.RemoveAll(s.stagedData())
}

func (s *server) syncVolume() error {
	d, err := os.Open(s.volume.Path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
