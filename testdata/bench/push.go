package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"nutshell/roles/api"
)

const pushFiles = 1000

// push: from `git push` of a commit that changes a thousand files to the
// version that is listed, against a push of the same commit to OpenSSH and
// git, both on loopback, with the same client. The service is not started, so
// that nothing is activated meanwhile: the peer activates nothing either.
func (b *bench) push(ctx context.Context) ([]row, error) {
	dir := filepath.Join(b.dir, "push")
	g := gitClient{dir: filepath.Join(dir, "work"), home: dir}
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return nil, err
	}
	key := filepath.Join(dir, "key")
	if err := command(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key); err != nil {
		return nil, err
	}
	peer, stop, err := startSSHD(ctx, dir, key+".pub")
	if err != nil {
		return nil, err
	}
	defer stop()
	text, err := os.ReadFile(key + ".pub")
	if err != nil {
		return nil, err
	}
	if err := b.api.do(ctx, http.MethodPost, "/keys", api.AddKey{Text: string(text)}, nil); err != nil {
		return nil, err
	}
	const app = "bench-push"
	var s api.Service
	var r api.Repository
	if err := errors.Join(b.api.do(ctx, http.MethodPost, "/applications", api.CreateApplication{Name: app}, nil),
		b.api.do(ctx, http.MethodPost, appPath(app)+"/services", api.CreateService{Kind: "php"}, &s),
		b.api.do(ctx, http.MethodGet, appPath(app)+"/repository", nil, &r)); err != nil {
		return nil, err
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"config", "gc.auto", "0"}, {"remote", "add", "ours", r.URL}, {"remote", "add", "peer", peer}} {
		if err := g.run(ctx, args...); err != nil {
			return nil, err
		}
	}
	took := map[string][]float64{}
	const rounds = 8 // the first sends everything and is not counted
	for i := range rounds {
		id, err := g.change(ctx, i)
		if err != nil {
			return nil, err
		}
		order := []string{"ours", "peer"}
		if i%2 == 1 {
			order = []string{"peer", "ours"}
		}
		for _, remote := range order {
			began := time.Now()
			if err := g.run(ctx, "push", "-q", remote, "main"); err != nil {
				return nil, err
			}
			if remote == "ours" {
				var v api.CodeVersion
				if err := b.api.do(ctx, http.MethodGet, servicePath(s)+"/versions/git-"+id[:7], nil, &v); err != nil {
					return nil, fmt.Errorf("the version is not listed: %w", err)
				}
			}
			took[remote] = append(took[remote], time.Since(began).Seconds()*1000)
		}
	}
	return []row{{what: fmt.Sprintf("push of %d changed files, to the version listed", pushFiles), ours: median(took["ours"][1:]), peer: median(took["peer"][1:]), unit: "ms", note: "OpenSSH and git", limit: 1.5}}, nil
}

// gitClient is the stock git with settings of its own.
type gitClient struct{ dir, home string }

func (g gitClient) run(ctx context.Context, args ...string) error {
	_, err := g.output(ctx, args...)
	return err
}

func (g gitClient) output(ctx context.Context, args ...string) (string, error) {
	c := exec.CommandContext(ctx, "git", args...)
	c.Dir = g.dir
	c.Env = append(os.Environ(), "HOME="+g.home, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Bench", "GIT_AUTHOR_EMAIL=bench@example.org", "GIT_COMMITTER_NAME=Bench", "GIT_COMMITTER_EMAIL=bench@example.org",
		"GIT_SSH_COMMAND=ssh -F /dev/null -o BatchMode=yes -o IdentitiesOnly=yes -o LogLevel=ERROR -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i "+filepath.Join(g.home, "key"))
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("git %s: %w: %s", args[0], err, out)
	}
	return strings.TrimSpace(string(out)), err
}

// change makes a commit that changes all files: a few lines in each, as people do.
func (g gitClient) change(ctx context.Context, round int) (id string, err error) {
	r := rand.New(rand.NewPCG(1, uint64(round))) //nolint:gosec // the same files in each run
	for i := range pushFiles {
		name := filepath.Join(g.dir, "1", "dir"+strconv.Itoa(i%25), "file"+strconv.Itoa(i)+".php")
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return "", err
		}
		same := rand.New(rand.NewPCG(2, uint64(i))) //nolint:gosec // likewise
		var text strings.Builder
		for line := range 60 {
			from := same
			if line%20 == 7 {
				from = r
			}
			fmt.Fprintf(&text, "$value%d = compute(%d, 'item %x');\n", line, i, from.Uint64())
		}
		if err := os.WriteFile(name, []byte(text.String()), 0o644); err != nil {
			return "", err
		}
	}
	if err := errors.Join(g.run(ctx, "add", "-A"), g.run(ctx, "commit", "-q", "-m", "round "+strconv.Itoa(round))); err != nil {
		return "", err
	}
	return g.output(ctx, "rev-parse", "HEAD")
}

// startSSHD is the peer: OpenSSH with one key and one bare repository.
func startSSHD(ctx context.Context, dir, authorized string) (url string, stop func(), err error) {
	who, err := user.Current()
	if err != nil {
		return "", nil, err
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return "", nil, err
		}
	}
	bare := filepath.Join(dir, "bare.git")
	if err := errors.Join(command(ctx, "git", "init", "-q", "--bare", bare), command(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "host"))); err != nil {
		return "", nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address := l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(address)
	config := filepath.Join(dir, "sshd_config")
	lines := []string{"ListenAddress 127.0.0.1:" + port, "HostKey " + filepath.Join(dir, "host"), "AuthorizedKeysFile " + authorized, "PidFile none", "UsePAM no", "StrictModes no", "PermitRootLogin yes",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "PrintMotd no", "UseDNS no"}
	if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return "", nil, err
	}
	sshd := exec.CommandContext(ctx, "/usr/sbin/sshd", "-D", "-e", "-f", config)
	if err := sshd.Start(); err != nil {
		return "", nil, fmt.Errorf("start OpenSSH: %w (apt-get install openssh-server)", err)
	}
	stop = func() {
		_ = sshd.Process.Kill() // ended already is as good
		_ = sshd.Wait()
	}
	for range 100 {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = c.Close()
			return "ssh://" + who.Username + "@" + address + bare, stop, nil
		}
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			break
		}
	}
	stop()
	return "", nil, errors.New("OpenSSH does not answer")
}
