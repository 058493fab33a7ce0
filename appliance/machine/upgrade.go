package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"nutshell/roles/api"
)

// Where an upgrade finds and puts things.
const (
	binaryPath   = "/usr/bin/nutshell"
	newBinary    = "/usr/bin/.nutshell.new"
	oldBinary    = "/usr/bin/.nutshell.old"
	databasePath = "/var/lib/nutshell/nutshell.db"
	savedPath    = "/var/lib/nutshell/appliance/before-upgrade" // while an upgrade goes on; a unit looks for it by its name
	pendingPath  = savedPath + "/pending"                       // from the change until the new one answers; a unit looks for it by its name
	lockPath     = "/var/lib/nutshell/appliance/upgrade.lock"
	service      = "nutshell.service"
)

// Times of an upgrade.
const (
	healthTime  = 3 * time.Minute // the new director answers within this, or the old one comes back
	healthEvery = 500 * time.Millisecond
)

// database are the files that make up the database while nobody has it open.
var database = []string{"", "-wal", "-shm"}

// Upgrade puts another Nutshell in place of the running one. The database is
// saved before; when the new director does not answer in time, the old one
// comes back with the database it had, and so it does when the machine starts
// again before that. Containers go on meanwhile where they can. Where this
// process is killed, SettleUpgrade ends what it began.
func (m *Machine) Upgrade(ctx context.Context, file string) error {
	lock, err := m.lockUpgrade(syscall.LOCK_NB)
	if err != nil {
		return err
	}
	defer lock.Close()
	if m.pending() {
		// Its database must not be replaced by that of the one which did not prove itself.
		return &api.Error{Code: api.CodeConflict, Op: "upgrade", Message: "the upgrade before was broken off", Hint: "start this machine again: that takes it back"}
	}
	if err := os.MkdirAll(m.path(savedPath), 0o700); err != nil { // and from now on SettleUpgrade waits for our end
		return err
	}
	defer m.tidy()
	m.say("checking %s", file)
	// A copy of our own is checked and used: what another replaces meanwhile is not it.
	switch err := copyFile(file, m.path(newBinary), 0o755); {
	case errors.Is(err, fs.ErrNotExist):
		return &api.Error{Code: api.CodeInvalid, Op: "copy", Object: file, Message: "there is no such file on this machine", Hint: "scp it here first, and name it as it is called here"}
	case err != nil:
		return &api.Error{Code: api.CodeUnavailable, Op: "copy", Object: file, Err: err, Hint: "the disk needs room for one more binary (60 MB)"}
	}
	version, err := CheckBinary(ctx, m.path(newBinary))
	if err != nil {
		var e *api.Error
		if errors.As(err, &e) {
			e.Object = file
		}
		return err
	}
	if same(m.path(newBinary), m.path(binaryPath)) {
		return &api.Error{Code: api.CodeConflict, Op: "upgrade", Object: "to " + version, Message: "it is what runs already"}
	}
	m.say("stopping, to save the database")
	if err := m.run(ctx, "systemctl", "stop", service); err != nil {
		return err
	}
	if err := m.swap(); err != nil {
		if m.pending() {
			err = errors.Join(err, m.UndoUpgrade())
		}
		return errors.Join(err, m.run(context.WithoutCancel(ctx), "systemctl", "start", service))
	}
	m.say("starting %s", version)
	return m.prove(ctx, "to "+version)
}

// SettleUpgrade waits until no upgrade goes on, and ends one whose process was
// killed: what runs and answers stays, what does not goes back.
func (m *Machine) SettleUpgrade(ctx context.Context) error {
	lock, err := m.lockUpgrade(0)
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Stat(m.path(savedPath)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	defer m.tidy()
	if m.pending() {
		return m.prove(ctx, "that was broken off")
	}
	return m.run(ctx, "systemctl", "start", service)
}

// prove starts the new director. The mark that leads back goes when it answers;
// otherwise what was before comes back.
func (m *Machine) prove(ctx context.Context, which string) error {
	err := m.run(ctx, "systemctl", "start", service)
	if err == nil {
		err = m.healthy(ctx, healthTime)
	}
	if err == nil {
		err = m.forgetFile(pendingPath)
	}
	if err == nil {
		m.say("done")
		return nil
	}
	m.say("it does not answer, going back: %v", err)
	return &api.Error{Code: api.CodeUnavailable, Op: "upgrade", Object: which, Message: "the new director did not answer, the old one is back with the database it had",
		Err: errors.Join(err, m.back(context.WithoutCancel(ctx))), Hint: "journalctl -u nutshell, and " + filepath.Dir(databasePath) + "/log/director.log"}
}

// lockUpgrade is held while an upgrade goes on. The kernel gives it back when
// the process ends in whatever way.
func (m *Machine) lockUpgrade(flag int) (*os.File, error) {
	name := m.path(lockPath)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|flag)
	}
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, &api.Error{Code: api.CodeConflict, Op: "upgrade", Message: "an upgrade of this machine goes on already", Hint: "wait until it has ended: minutes at most"}
	}
	return nil, fmt.Errorf("lock %s: %w", name, err)
}

func (m *Machine) pending() bool {
	_, err := os.Stat(m.path(pendingPath))
	return err == nil
}

// tidy removes what an upgrade leaves, but not what leads back.
func (m *Machine) tidy() {
	_ = os.Remove(m.path(newBinary))
	if !m.pending() {
		m.forget()
	}
}

// step is a part of a change that a power cut may end, before it or behind it.
type step struct {
	name string
	do   func() error
}

// inOrder does steps up to the first that fails, whose name is in the error.
func (m *Machine) inOrder(steps ...step) error {
	for _, s := range steps {
		err := s.do()
		if err == nil && m.done != nil {
			err = m.done(s.name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// swap saves the database and changes the binary, while nothing runs. The mark
// that leads back is on the disk before anything has changed.
func (m *Machine) swap() error {
	return m.inOrder(
		step{"save the database", m.saveDatabase},
		step{"remove the binary before the last one", func() error { return removed(m.path(oldBinary)) }},
		step{"keep the old binary", func() error {
			return errors.Join(os.Link(m.path(binaryPath), m.path(oldBinary)), syncDir(filepath.Dir(m.path(oldBinary))))
		}},
		step{"mark the upgrade", func() error { return m.write(pendingPath, nil, 0o600) }},
		step{"change the binary", func() error { return os.Rename(m.path(newBinary), m.path(binaryPath)) }},
		step{"write the change", func() error { return syncDir(filepath.Dir(m.path(binaryPath))) }})
}

func (m *Machine) saveDatabase() error {
	if err := os.MkdirAll(m.path(savedPath), 0o700); err != nil {
		return err
	}
	for _, part := range database {
		saved := filepath.Join(m.path(savedPath), "nutshell.db"+part)
		err := copyFile(m.path(databasePath+part), saved, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			err = removed(saved)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// healthy waits until the director answers.
func (m *Machine) healthy(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t := time.NewTicker(healthEvery)
	defer t.Stop()
	for {
		err := m.Health(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer within %v: %w", limit, err)
		case <-t.C:
		}
	}
}

// back undoes swap while the machine runs.
func (m *Machine) back(ctx context.Context) error {
	err := m.run(ctx, "systemctl", "stop", service)
	err = errors.Join(err, m.UndoUpgrade())
	err = errors.Join(err, m.run(ctx, "systemctl", "reset-failed", service), m.run(ctx, "systemctl", "start", service))
	if err == nil {
		err = m.healthy(ctx, healthTime)
	}
	return err
}

// UndoUpgrade brings the old binary and its database back while nothing runs:
// after an upgrade that failed, or that a power cut ended. It can be cut off
// itself and done again.
func (m *Machine) UndoUpgrade() error {
	if !m.pending() {
		return &api.Error{Code: api.CodeNotFound, Op: "undo upgrade", Message: "none was broken off", Hint: "the binary before the last upgrade is " + oldBinary}
	}
	// The binary that is there may be the old one already. A rename to another name of the same file does nothing, and
	// leaves both names.
	err := m.inOrder(
		step{"remove the new binary", func() error { return removed(m.path(newBinary)) }},
		step{"take the old binary", func() error { return os.Link(m.path(oldBinary), m.path(newBinary)) }},
		step{"change the binary back", func() error { return os.Rename(m.path(newBinary), m.path(binaryPath)) }},
		step{"write that change", func() error {
			return errors.Join(removed(m.path(newBinary)), syncDir(filepath.Dir(m.path(binaryPath))))
		}},
		// The logs of the new database first: they do not belong to the old one.
		step{"remove the new database's log", func() error { return removed(m.path(databasePath + database[1])) }},
		step{"remove the new database's index", func() error { return removed(m.path(databasePath + database[2])) }},
		step{"bring the database back", m.restoreDatabase},
		step{"forget the upgrade", func() error { return m.forgetFile(pendingPath) }})
	if err != nil {
		return err
	}
	m.forget()
	return nil
}

func (m *Machine) restoreDatabase() error {
	for _, part := range database {
		saved, to := filepath.Join(m.path(savedPath), "nutshell.db"+part), m.path(databasePath+part)
		err := copyFile(saved, to+".new", 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err = errors.Join(err, os.Rename(to+".new", to)); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(m.path(databasePath)))
}

// forget removes what was kept for the way back, except the old binary.
func (m *Machine) forget() {
	if err := os.RemoveAll(m.path(savedPath)); err != nil {
		m.say("saved database not removed: %v", err)
	}
}

func removed(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// copyFile copies to a file that is on the disk when it returns.
func copyFile(from, to string, mode fs.FileMode) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := removed(to); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}
