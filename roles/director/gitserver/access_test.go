package gitserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestWhoMayWhat(t *testing.T) {
	r := newRig(t).start()
	r.key("ann")
	r.key("bob")
	r.work("w", map[string]string{"1/index.php": "1"})
	r.refused("there is no application", "bob", "w", "push", "origin", "main")
	r.refused("there is no application", "bob", "", "clone", r.url("ann/my%20shop"))
	r.refused("there is no application", "ann", "", "clone", r.url("ann/none"))
	r.refused("there is no application", "ann", "", "clone", r.url("../../../etc"))
	r.git("ann", "w", "push", "origin", "main")

	// The host key stays, and nobody else may read it.
	before := r.server.HostKey()
	r.start()
	if r.server.HostKey() != before {
		t.Error("the host key changed at a restart")
	}
	if st, err := os.Stat(filepath.Join(r.dir, "git/ssh_host_ed25519_key")); err != nil || st.Mode().Perm() != 0o400 {
		t.Errorf("host key: %v, %v", st, err)
	}
	r.git("ann", "w", "fetch")
}

// dial opens an SSH connection as a user.
func (r *rig) dial(user string) *ssh.Client {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, "keys", user))
	if err != nil {
		r.t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(b)
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := ssh.Dial("tcp", r.addr, &ssh.ClientConfig{User: "git", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestOnlyGit(t *testing.T) {
	r := newRig(t).start()
	r.key("ann")
	c := r.dial("ann")
	for _, command := range []string{"", "sh", "git-shell -c ls", "git-upload-pack", "git-upload-archive 'ann/my shop'", "git-upload-pack 'ann/my shop' --strict", "scp -t /", "git-upload-pack 'unclosed"} {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer // of what it says; what it sends is copied beside it, and must be nothing
		s.Stderr = &out
		if command == "" {
			if s.RequestPty("xterm", 24, 80, nil) == nil {
				t.Error("a terminal was given")
			}
			err = s.Shell()
			if err == nil {
				err = s.Wait()
			}
		} else {
			err = s.Run(command)
		}
		if err == nil && !strings.Contains(out.String(), "only git") || strings.Contains(out.String(), "root") {
			t.Errorf("%q: %v %q", command, err, out.String())
		}
		_ = s.Close()
	}
	if _, err := c.Dial("tcp", "127.0.0.1:22"); err == nil {
		t.Error("connections are passed on")
	}
	if _, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("connections are taken in")
	}
	if s, err := c.NewSession(); err != nil || s.RequestSubsystem("sftp") == nil {
		t.Errorf("there is sftp: %v", err)
	}
	_, err := ssh.Dial("tcp", r.addr, &ssh.ClientConfig{User: "ann", Auth: []ssh.AuthMethod{ssh.Password("ann")}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second})
	if err == nil {
		t.Error("a password was enough")
	}
}

// TestConnectionsAreBounded keeps doors open that nobody goes through.
func TestConnectionsAreBounded(t *testing.T) {
	r := newRig(t).start()
	r.key("ann")
	r.work("w", map[string]string{"1/a": "a"})
	open := 0
	for range maxPerAddress + 20 {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadFull(c, make([]byte, 4)); err == nil { // SSH-
			open++
		}
	}
	if open > maxPerAddress || open < maxPerAddress-5 {
		t.Errorf("%d connections of one address are open, want at most %d", open, maxPerAddress)
	}
}

// TestTwoPushesAtOnce lets eight clones push to one branch, and each to one of
// its own: one wins, the others hear so.
func TestTwoPushesAtOnce(t *testing.T) {
	r := newRig(t).start()
	r.key("ann")
	r.work("w", manyFiles(20, "begin"))
	r.git("ann", "w", "push", "origin", "main")
	const n = 8
	for i := range n {
		dir := fmt.Sprint("c", i)
		r.git("ann", "", "clone", "-q", r.url("ann/my%20shop"), dir)
		r.commit(dir, "by "+dir, manyFiles(5, dir))
	}
	var wg sync.WaitGroup
	var won, own [n]error
	var out [n]string
	for i := range n {
		wg.Go(func() {
			dir := fmt.Sprint("c", i)
			out[i], won[i] = r.try("ann", dir, "push", "origin", "main")
			_, own[i] = r.try("ann", dir, "push", "origin", "main:refs/heads/of-"+dir)
		})
	}
	wg.Wait()
	winners := 0
	for i := range n {
		if won[i] == nil {
			winners++
			continue
		}
		if own[i] != nil {
			t.Errorf("branch of clone %d: %v", i, own[i])
		}
		if !strings.Contains(out[i], "rejected") {
			t.Errorf("clone %d lost and heard: %s", i, out[i])
		}
	}
	if winners != 1 {
		t.Errorf("%d clones won, want 1", winners)
	}
	r.git("ann", "", "clone", "-q", r.url("ann/my%20shop"), "all")
	if got := strings.Count(r.git("ann", "all", "branch", "-r"), "of-c"); got != n {
		t.Errorf("%d branches, want %d", got, n)
	}
	r.fsck()
}

// cutter passes connections on and cuts them off after so many bytes.
type cutter struct {
	net.Listener
	to    string
	after atomic.Int64
}

func (c *cutter) run() {
	for {
		in, err := c.Accept()
		if err != nil {
			return
		}
		go func() {
			defer in.Close()
			out, err := net.Dial("tcp", c.to)
			if err != nil {
				return
			}
			defer out.Close()
			go func() { _, _ = io.Copy(in, out) }()
			_, _ = io.CopyN(out, in, c.after.Load())
		}()
	}
}

// TestPushCutOff cuts pushes off at many places. The repository is as before
// each time, and the next whole push goes through.
func TestPushCutOff(t *testing.T) {
	r := newRig(t).start()
	r.key("ann")
	r.work("w", manyFiles(40, "begin"))
	r.git("ann", "w", "push", "origin", "main")
	before := r.serverRef(1, "refs/heads/main")
	noise := make([]byte, 256<<10)
	_, _ = rand.Read(noise)
	r.commit("w", "more", map[string]string{"1/noise": string(noise), "1/x.php": "x"})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: l, to: r.addr}
	go c.run()
	defer l.Close()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	known, err := os.ReadFile(filepath.Join(r.dir, "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	r.write("known_hosts", string(known)+fmt.Sprintf("[%s]:%s %s\n", host, port, r.server.HostKeyLine()))
	for _, after := range []int64{3000, 4200, 6000, 20_000, 60_000, 110_000} {
		c.after.Store(after)
		if out, err := r.try("ann", "w", "push", "ssh://git@"+l.Addr().String()+"/ann/my%20shop", "main"); err == nil {
			t.Errorf("a push cut off after %d bytes went through: %s", after, out)
		}
		if got := r.serverRef(1, "refs/heads/main"); got != before {
			t.Errorf("after %d bytes the branch shows %s, want %s", after, got, before)
		}
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // sessions end a moment later
		left, _ := filepath.Glob(filepath.Join(r.dir, "git/1.git/incoming/*"))
		if len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("left: %v", left)
		}
	}
	r.fsck()
	r.git("ann", "w", "push", "origin", "main")
}

// TestCrashLeftovers starts on what a killed server leaves.
func TestCrashLeftovers(t *testing.T) {
	r := newRig(t).start()
	r.key("ann")
	r.work("w", map[string]string{"1/a": "a"})
	r.git("ann", "w", "push", "origin", "main")
	r.stop()
	r.write("git/1.git/incoming/push-1/pack", "half a pack")
	r.write("git/2.git.new/HEAD", "ref: refs/heads/main")
	r.write("git/3.git.gone/HEAD", "ref: refs/heads/main")
	r.start()
	for _, p := range []string{"git/1.git/incoming/push-1", "git/2.git.new", "git/3.git.gone"} {
		if _, err := os.Stat(filepath.Join(r.dir, p)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", p, err)
		}
	}
	if err := r.server.Remove(1); err != nil {
		t.Fatal(err)
	}
	r.refused("being deleted", "ann", "w", "fetch")
}

// TestLimits pushes what is too much: the client hears why, nothing stays.
func TestLimits(t *testing.T) {
	r := newRig(t)
	r.limits = Limits{Push: 4 << 20, File: 3 << 20, Repository: 5 << 20}
	r.start()
	r.key("ann")
	r.work("w", map[string]string{"1/a": "a"})
	r.git("ann", "w", "push", "origin", "main")
	before := r.serverRef(1, "refs/heads/main")
	noise := func(n int) string {
		b := make([]byte, n)
		_, _ = rand.Read(b)
		return string(b)
	}
	r.commit("w", "large file", map[string]string{"1/zeros": strings.Repeat("\x00", 3<<20+1)})
	r.refused("more than 3 MiB", "ann", "w", "push", "origin", "main")
	r.git("ann", "w", "reset", "-q", "--hard", "HEAD~")
	r.commit("w", "many files", map[string]string{"1/a": noise(3 << 20), "1/b": noise(2 << 20)})
	r.refused("larger than 4 MiB", "ann", "w", "push", "origin", "main")
	r.git("ann", "w", "reset", "-q", "--hard", "HEAD~")
	if got := r.serverRef(1, "refs/heads/main"); got != before {
		t.Errorf("the branch shows %s, want %s", got, before)
	}
	r.commit("w", "good", map[string]string{"1/a": noise(3 << 20)})
	r.git("ann", "w", "push", "origin", "main")
	r.commit("w", "too much for the repository", map[string]string{"1/a": noise(3 << 20)})
	r.refused("repository would be larger than 5 MiB", "ann", "w", "push", "origin", "main")
	r.fsck()
}

// TestStopDuringPush stops the server while it still tells about a push.
func TestStopDuringPush(t *testing.T) {
	r := newRig(t).start()
	r.key("ann")
	r.work("w", map[string]string{"1/a": "a"})
	telling := make(chan struct{})
	r.onPush(func(_ Push, out io.Writer) {
		close(telling)
		for {
			if _, err := fmt.Fprintln(out, "still there"); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := r.command(ctx, "ann", "w", "push", "origin", "main")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	<-telling
	r.stop()
	_ = c.Wait() // it was cut off: the references are changed all the same
	r.onPush(nil)
	r.start()
	if out := r.git("ann", "w", "push", "origin", "main"); !strings.Contains(out, "up-to-date") {
		t.Errorf("the push is lost: %s", out)
	}
}
