package mysql

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

const (
	daemon      = "mariadbd"
	stopSeconds = 60
)

// server is the MariaDB of an instance.
type server struct {
	m         services.Machine
	log       *slog.Logger
	templates *template.Template
	memory    int64  // of the instance in bytes, 0: not limited
	run       string // directory of its socket and of what it tells
	volume    api.Mounted
	c         config
	meter     meter
	stray     time.Time // since when the server has no group though it runs; guarded by agent.busy

	mu       sync.Mutex
	db       *sql.DB
	password string // of db
	full     bool   // stopped because the volume is full

	copying sync.Mutex
	copies  int // restores and trials under way
}

func newServer(m services.Machine, t *template.Template, memory int64) *server {
	return &server{m: m, log: m.Log(), templates: t, memory: memory, run: filepath.Join(m.Dir("sockets"), "mysql")}
}

func (s *server) socket() string  { return filepath.Join(s.run, "mysql.sock") }
func (s *server) data() string    { return filepath.Join(s.volume.Path, "mysql") }
func (s *server) tmp() string     { return filepath.Join(s.volume.Path, "tmp") }
func (s *server) etc() string     { return filepath.Join(s.m.Dir("etc"), "mysql") }
func (s *server) file() string    { return filepath.Join(s.etc(), "my.cnf") }
func (s *server) slowLog() string { return filepath.Join(s.run, "slow.log") }
func (s *server) mark(name string) string {
	return filepath.Join(s.run, name)
}

// fresh reports whether the volume has no data.
func (s *server) fresh() bool {
	_, err := os.Stat(filepath.Join(s.data(), "mysql"))
	return errors.Is(err, os.ErrNotExist)
}

// open gives the server to root, by its socket.
func (s *server) open() *sql.DB {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.c.Secrets[secretRoot]; s.db == nil || s.password != p {
		if s.db != nil {
			_ = s.db.Close()
		}
		s.db, s.password = connect(s.socket(), "root", p), p
	}
	return s.db
}

// apply makes the server what c says. It starts one that has data, or that may
// get a copy; it never begins a cluster, save where it is the only node.
func (s *server) apply(ctx context.Context, c config, volumes []api.Mounted) error {
	if err := s.find(volumes); err != nil {
		return err
	}
	if err := s.mendRestore(); err != nil {
		return err
	}
	s.mu.Lock()
	s.c = c
	s.mu.Unlock()
	if err := s.prepare(); err != nil {
		return err
	}
	if err := s.setSolo(c.Node.Solo); err != nil {
		return err
	}
	changed, revision, err := s.configure(ctx)
	if err != nil {
		return err
	}
	if s.fresh() && !c.Node.Join {
		return nil // until it is told to begin
	}
	s.mu.Lock()
	full := s.full
	s.mu.Unlock()
	if full {
		return nil
	}
	if err := os.Mkdir(s.data(), 0o700); err == nil {
		err = s.give(s.data())
		if err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := s.start(ctx, revision); err != nil {
		return err
	}
	if changed {
		s.adjust(ctx)
	}
	return nil
}

func (s *server) find(volumes []api.Mounted) error {
	for _, v := range volumes {
		if v.Part != database {
			continue
		}
		path, err := filepath.EvalSymlinks(v.Path)
		if err != nil {
			return &api.Error{Code: api.CodeUnavailable, Op: "start", Object: "volume " + v.ID, Message: err.Error(), Hint: "data is never put anywhere else; attach the volume"}
		}
		v.Path = path
		s.volume = v
		return nil
	}
	return &api.Error{Code: api.CodeUnavailable, Op: "start", Object: "instance " + s.m.Address(), Message: "it has no volume for its data", Hint: "databases need a cloud with volumes"}
}

// prepare makes what the server finds when it starts.
func (s *server) prepare() error {
	s.m.Supervisor().AddLog("slow.log", "queries that took longer than slow_seconds", s.slowLog())
	s.m.Supervisor().AddLog("donor.log", "copies of the data made for nodes that join", filepath.Join(s.data(), "mariabackup.backup.log"))
	if err := os.MkdirAll(s.etc(), 0o755); err != nil { // the server's account reads there
		return err
	}
	for _, d := range []string{s.run, s.tmp()} {
		if err := os.MkdirAll(d, 0o711); err != nil { // tools of other accounts reach the socket
			return err
		}
		if st, err := os.Lstat(d); err != nil || !st.IsDir() || !s.ours(st.Sys().(*syscall.Stat_t).Uid) {
			return fmt.Errorf("directory %s is not ours: %w", d, err)
		}
		if err := s.give(d); err != nil {
			return err
		}
	}
	if _, err := os.Stat(s.data()); err == nil {
		if err := s.giveAll(); err != nil {
			return err
		}
	}
	if err := s.certify(); err != nil {
		return err
	}
	script, err := files.ReadFile("start.sh")
	if err != nil {
		return err
	}
	return s.write(filepath.Join(s.etc(), "start.sh"), script, 0o644)
}

func (s *server) ours(owner uint32) bool {
	_, uid, _, drops := s.m.User()
	return owner == uint32(os.Geteuid()) || drops && owner == uint32(uid) //nolint:gosec // not negative
}

// give makes a file the server's account's.
func (s *server) give(path string) error {
	_, uid, gid, drops := s.m.User()
	if !drops {
		return nil
	}
	return os.Lchown(path, uid, gid)
}

// giveAll gives the data to the server's account where it was another's, which
// a volume has after a move.
func (s *server) giveAll() error {
	_, uid, _, drops := s.m.User()
	st, err := os.Stat(s.data())
	if err != nil || !drops || st.Sys().(*syscall.Stat_t).Uid == uint32(uid) { //nolint:gosec // not negative
		return err
	}
	err = filepath.WalkDir(s.data(), func(path string, _ os.DirEntry, err error) error {
		if err != nil || path == s.data() {
			return err
		}
		return s.give(path)
	})
	if err != nil {
		return err
	}
	return s.give(s.data()) // last: it says that all is done
}

// write writes a file that the server's account reads.
func (s *server) write(path string, b []byte, mode os.FileMode) error {
	if now, err := os.ReadFile(path); err == nil && bytes.Equal(now, b) {
		return nil
	}
	if err := writeFile(path+".new", b, mode); err != nil {
		return err
	}
	if err := s.give(path + ".new"); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// writeFile writes a file and brings it to the disk.
func writeFile(path string, b []byte, mode os.FileMode) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// addresses are those by which clients reach the server: its own, and those of
// balancers.
func (s *server) addresses() []string {
	return append([]string{s.m.Address()}, s.c.Node.Entries...)
}

// certify makes the node's certificate, if it has none for its addresses.
func (s *server) certify() error {
	a, err := newAuthority(s.c.Secrets[secretCA], s.c.Service)
	if err != nil {
		return err
	}
	now, err := os.ReadFile(filepath.Join(s.etc(), "cert.pem"))
	if err == nil && a.issued(now, s.addresses()) {
		return s.write(filepath.Join(s.etc(), "ca.pem"), a.pem, 0o644)
	}
	key, cert, err := a.issue(s.m.Address(), s.addresses())
	if err != nil {
		return err
	}
	return errors.Join(s.write(filepath.Join(s.etc(), "ca.pem"), a.pem, 0o644), s.write(filepath.Join(s.etc(), "key.pem"), key, 0o400), s.write(filepath.Join(s.etc(), "cert.pem"), cert, 0o644))
}

// setSolo says whether the node begins its cluster whenever it starts.
func (s *server) setSolo(solo bool) error {
	if solo {
		return s.write(s.mark("solo"), nil, 0o644)
	}
	if err := os.Remove(s.mark("solo")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// start runs the server, and returns when its process runs: it may be long
// until it has its data.
func (s *server) start(ctx context.Context, revision string) error {
	program, err := s.m.Program(daemon, "mariadb-server")
	if err != nil {
		return err
	}
	return s.m.Supervisor().Ensure(ctx, services.Process{Name: daemon, Argv: []string{"/bin/sh", filepath.Join(s.etc(), "start.sh"), program, s.file(), s.run, s.data()},
		Dir: s.volume.Path, User: true, Log: "mysql.log", Describe: "messages of the database server", Grace: stopSeconds, Revision: revision})
}

// stop ends the server in order, or after patience is over at once: what has
// been committed is on the disk.
func (s *server) stop(ctx context.Context) error {
	return s.m.Supervisor().Stop(ctx, daemon)
}

// process is the server's process as supervised.
func (s *server) process() (api.Process, bool) {
	for _, p := range s.m.Supervisor().Processes() {
		if p.Name == daemon {
			return p, true
		}
	}
	return api.Process{}, false
}

// domain is a number of GTIDs that are this node's alone.
func domain(id string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return strconv.Itoa(100 + int(h.Sum32()%1_000_000))
}

func options(pairs ...string) string { return strings.Join(pairs, ";") }
