// Package gitserver keeps one bare git repository per application and serves
// them over SSH, with no git program: it speaks git's protocol to fetching and
// pushing clients, streams packs of any size with little memory, and lets
// nothing into a repository that git's own fsck would complain about. Who may
// do what, and what a push leads to, is its Host's business.
package gitserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"nutshell/roles/api"
)

// Host is what the server asks of whoever runs it.
type Host interface {
	// KnownKey tells whether a public key belongs to anybody.
	KnownKey(ctx context.Context, fingerprint string) (bool, error)
	// Find tells which repository a path means, and for whom it is opened. It
	// is asked at the start of each session, so that what was revoked is over.
	Find(ctx context.Context, who Caller, path string) (Access, error)
	// Pushed is told after references have changed. What it writes to out the
	// client shows; it returns when there is no more to tell.
	Pushed(ctx context.Context, p Push, out io.Writer)
}

// Caller is who opened a session.
type Caller struct {
	Fingerprint string // of the key that was proven, SHA256:…
	Login       string // the user name of the connection, mostly git
	Remote      string // address
	Write       bool   // to push
}

// Access is a repository that a caller may use.
type Access struct {
	Repository int64  // id of the application
	Name       string // for people, OWNER/APPLICATION
	User       string // whose key it is
}

// Push is a push that has changed references.
type Push struct {
	Access
	Caller
	Changes []Change
}

// Change is one changed reference. Ref is empty where a side has none.
type Change struct {
	Ref      string
	Old, New string // commit ids in hex, empty for none
}

// Limits bound what a push may bring; zero fields have defaults.
type Limits struct {
	Push       int64 // bytes of one pack
	File       int64 // bytes of one file, unpacked
	Repository int64 // bytes of a repository's packs
}

func (l Limits) withDefaults() Limits {
	def := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Push, 2<<30)
	def(&l.File, 1<<30)
	def(&l.Repository, 8<<30)
	return l
}

// Config is what New needs.
type Config struct {
	Dir    string // of the repositories and the host key
	Host   Host
	Limits Limits
	Now    func() time.Time
	Log    *slog.Logger
}

// Server holds the repositories.
type Server struct {
	c    Config
	host ssh.Signer

	mu     sync.Mutex
	states map[int64]*state // of each repository that was used
	work   sync.WaitGroup   // that goes on beside sessions
}

// state is what all sessions of one repository share.
type state struct {
	lock    sync.Mutex   // of references and of the list of packs
	tidied  atomic.Int64 // how often packs were put together
	tidying atomic.Bool
	gone    bool // the repository was removed: ids are not used twice
}

// New opens the directory, makes the host key at the first start and removes
// what pushes left that a crash cut off.
func New(c Config) (*Server, error) {
	if c.Dir == "" || c.Host == nil || c.Now == nil || c.Log == nil {
		return nil, errors.New("gitserver: Dir, Host, Now and Log are required")
	}
	c.Limits = c.Limits.withDefaults()
	s := &Server{c: c, states: map[int64]*state{}}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open git repositories: %w", err)
	}
	for _, pattern := range []string{"*.git/incoming/*", "*.new", "*.gone"} {
		left, err := filepath.Glob(filepath.Join(c.Dir, pattern))
		if err != nil {
			return nil, err
		}
		for _, p := range left {
			if err := os.RemoveAll(p); err != nil {
				return nil, fmt.Errorf("open git repositories: %w", err)
			}
		}
	}
	var err error
	s.host, err = hostKey(filepath.Join(c.Dir, "ssh_host_ed25519_key"))
	return s, err
}

// HostKey is the fingerprint that clients compare at their first connection.
func (s *Server) HostKey() string { return ssh.FingerprintSHA256(s.host.PublicKey()) }

// HostKeyLine is the host key as it stands in known_hosts behind the name.
func (s *Server) HostKeyLine() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.host.PublicKey())))
}

func (s *Server) path(id int64) string {
	return filepath.Join(s.c.Dir, strconv.FormatInt(id, 10)+".git")
}

// Stored lists the ids of the repositories that exist.
func (s *Server) Stored() ([]int64, error) {
	entries, err := os.ReadDir(s.c.Dir)
	if err != nil {
		return nil, err
	}
	var ids []int64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".git")
		if id, err := strconv.ParseInt(name, 10, 64); ok && err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Remove deletes a repository. Sessions that use it fail. None is no error.
func (s *Server) Remove(id int64) error {
	st := s.state(id)
	st.lock.Lock()
	defer st.lock.Unlock()
	st.gone = true
	gone := s.path(id) + ".gone"
	if err := os.Rename(s.path(id), gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(gone)
}

func (s *Server) state(id int64) *state {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.states[id] == nil {
		s.states[id] = &state{}
	}
	return s.states[id]
}

// missing is a repository that nobody has used yet.
func missing() error {
	return api.NotFoundf("nothing was pushed to this application yet")
}
