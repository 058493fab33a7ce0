package gitserver

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"nutshell/roles/api"
)

// rig is a server with its repositories, and people with keys who use the
// stock git client.
type rig struct {
	t      testing.TB
	dir    string
	server *Server
	addr   string
	stop   func()

	mu     sync.Mutex
	keys   map[string]string // user by fingerprint
	pushes []Push
	hook   func(Push, io.Writer)
	limits Limits
}

func newRig(t testing.TB) *rig {
	t.Helper()
	for _, tool := range []string{"git", "ssh"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is missing: apt-get install git openssh-client", tool)
			}
			t.Skipf("%s is missing: apt-get install git openssh-client", tool)
		}
	}
	r := &rig{t: t, dir: t.TempDir(), keys: map[string]string{}}
	t.Cleanup(func() {
		if r.stop != nil {
			r.stop()
		}
		r.fsck()
	})
	return r
}

// start starts the server, or starts it again at the same address.
func (r *rig) start() *rig {
	r.t.Helper()
	if r.stop != nil {
		r.stop()
	}
	var err error
	r.server, err = New(Config{Dir: filepath.Join(r.dir, "git"), Host: r, Limits: r.limits, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	var l net.Listener
	for range 1000 {
		address := r.addr
		if address == "" { // a port below those that the kernel gives away is still free later
			address = fmt.Sprintf("127.0.0.1:%d", 12000+mathrand.IntN(20000))
		}
		if l, err = net.Listen("tcp", address); err == nil || r.addr != "" {
			break
		}
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.server.Serve(ctx, l, time.Second) }()
	r.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
		r.server.Wait()
		r.stop = nil
	}
	host, port, _ := net.SplitHostPort(r.addr)
	r.write("known_hosts", fmt.Sprintf("[%s]:%s %s\n", host, port, r.server.HostKeyLine()))
	return r
}

// KnownKey implements Host.
func (r *rig) KnownKey(_ context.Context, fingerprint string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys[fingerprint] != "", nil
}

// Find implements Host: ann owns application 1, "ann/my shop"; bob owns 2.
func (r *rig) Find(_ context.Context, who Caller, path string) (Access, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	user := r.keys[who.Fingerprint]
	id := map[string]int64{"ann/my shop": 1, "bob/blog": 2}[path]
	if owner, _, _ := strings.Cut(path, "/"); id == 0 || user != owner {
		return Access{}, api.NotFoundf("there is no application %s", path)
	}
	return Access{Repository: id, Name: path, User: user}, nil
}

// Pushed implements Host.
func (r *rig) Pushed(_ context.Context, p Push, out io.Writer) {
	r.mu.Lock()
	r.pushes = append(r.pushes, p)
	hook := r.hook
	r.mu.Unlock()
	fmt.Fprintf(out, "took %d change(s)\n", len(p.Changes))
	if hook != nil {
		hook(p, out)
	}
}

func (r *rig) onPush(hook func(Push, io.Writer)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hook = hook
}

func (r *rig) write(name, text string) string {
	r.t.Helper()
	p := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return p
}

// key makes a key for a user.
func (r *rig) key(user string) {
	r.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, user)
	if err != nil {
		r.t.Fatal(err)
	}
	r.write("keys/"+user, string(pem.EncodeToMemory(block)))
	k, err := ssh.NewPublicKey(public)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[ssh.FingerprintSHA256(k)] = user
}

func (r *rig) url(path string) string { return "ssh://git@" + r.addr + "/" + path }

// command is the stock git as a user, in a directory below the rig's.
func (r *rig) command(ctx context.Context, user, dir string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "git", args...)
	c.Dir = filepath.Join(r.dir, dir)
	c.Env = append(gitEnv(r.dir), "GIT_SSH_COMMAND=ssh -F /dev/null -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile="+filepath.Join(r.dir, "known_hosts")+
		" -o StrictHostKeyChecking=yes -i "+filepath.Join(r.dir, "keys", user))
	return c
}

func gitEnv(home string) []string {
	return append(os.Environ(), "HOME="+home, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.org", "GIT_COMMITTER_NAME=Ann",
		"GIT_COMMITTER_EMAIL=ann@example.org", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
}

// git runs it and returns all it prints; it must succeed.
func (r *rig) git(user, dir string, args ...string) string {
	r.t.Helper()
	out, err := r.try(user, dir, args...)
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (r *rig) try(user, dir string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := r.command(ctx, user, dir, args...).CombinedOutput()
	return string(out), err
}

// refused runs git, which must fail and say so.
func (r *rig) refused(want, user, dir string, args ...string) {
	r.t.Helper()
	out, err := r.try(user, dir, args...)
	if err == nil || !strings.Contains(out, want) {
		r.t.Errorf("git %s: %v, want a failure with %q\n%s", strings.Join(args, " "), err, want, out)
	}
}

// work makes a repository of ann's with a first commit, and its remote.
func (r *rig) work(dir string, files map[string]string) {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Join(r.dir, dir), 0o700); err != nil {
		r.t.Fatal(err)
	}
	r.git("ann", dir, "init", "-q", "-b", "main")
	r.git("ann", dir, "remote", "add", "origin", r.url("ann/my%20shop"))
	r.commit(dir, "first", files)
}

func (r *rig) commit(dir, message string, files map[string]string) {
	r.t.Helper()
	for name, text := range files {
		r.write(filepath.Join(dir, name), text)
	}
	r.git("ann", dir, "add", "-A")
	r.git("ann", dir, "commit", "-q", "-m", message)
}

// fsck looks at every repository with git itself.
func (r *rig) fsck() {
	r.t.Helper()
	all, _ := filepath.Glob(filepath.Join(r.dir, "git", "*.git"))
	for _, repo := range all {
		c := exec.Command("git", "--git-dir", repo, "fsck", "--full", "--strict", "--no-dangling")
		c.Env = gitEnv(r.dir)
		if out, err := c.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 && !bytes.Contains(out, []byte("notice:")) {
			r.t.Errorf("git fsck %s: %v\n%s", filepath.Base(repo), err, out)
		}
		if left, _ := filepath.Glob(filepath.Join(repo, "incoming", "*")); len(left) > 0 {
			r.t.Errorf("left behind: %v", left)
		}
	}
}

// serverRef is what a reference shows on the server, empty for none.
func (r *rig) serverRef(id int64, name string) string {
	r.t.Helper()
	repo, err := r.server.repository(id, false)
	if err != nil {
		return ""
	}
	all, err := repo.refs()
	if err != nil {
		r.t.Fatal(err)
	}
	if at, ok := all[name]; ok {
		return at.id.String()
	}
	return ""
}
