package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The stories in testdata/script run the real binary with real roles, daemons
// and clients. `go test -run TestScripts/laptop .` runs one.

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"nutshell": func() { os.Exit(run(os.Args)) }})
}

func TestScripts(t *testing.T) {
	for _, tool := range [][2]string{{"nginx", "nginx-light"}, {"php-fpm*", "php-fpm"}, {"curl", "curl"}, {"java", "default-jre-headless"}, {"mariadbd", "mariadb-server"}} {
		if found, _ := filepath.Glob("/usr/*bin/" + tool[0]); len(found) == 0 {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is missing: apt-get install %s", tool[0], tool[1])
			}
			t.Skipf("%s is missing: apt-get install %s", tool[0], tool[1])
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			s := &scene{dir: filepath.Join(e.WorkDir, "data")}
			e.Values[sceneKey{}] = s
			e.Setenv("NUTSHELL_DATA_DIR", s.dir)
			e.Setenv("HOME", e.WorkDir)
			e.Defer(s.end)
			// Where we are root, other accounts run the daemons and must get there.
			return errors.Join(os.Chmod(e.WorkDir, 0o711), os.Chmod(filepath.Dir(e.WorkDir), 0o711))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"up": cmdUp, "down": cmdDown, "crash": cmdCrash, "fetch": cmdFetch, "slay": cmdSlay, "left": cmdLeft, "retry": cmdRetry, "bomb": cmdBomb, "traces": cmdTraces, "visit": cmdVisit, "rack": cmdRack, "unplug": cmdUnplug,
		},
		Condition: func(name string) (bool, error) {
			if name == "containers" {
				return containers(), nil
			}
			return false, fmt.Errorf("there is no condition %s", name)
		},
		RequireExplicitExec: true,
	})
}

// patient is how long scripts wait for what must come about: forever, as far as
// a busy machine is concerned.
const patient = 3 * time.Minute

type sceneKey struct{}

// scene is one script's Nutshell.
type scene struct {
	dir    string
	listen string // the same at each start, as an operator would have it
	git    string // the git server's, too
	cmd    *exec.Cmd
	log    *os.File
	rack   *rack // machines beside this one; nil: none
}

// useImages shares layers with the other tests of this run: building them
// takes minutes.
func (s *scene) useImages(ts *testscript.TestScript) {
	shared := os.Getenv("NUTSHELL_TEST_IMAGES")
	if shared == "" {
		shared = "/var/tmp/nutshell-test-images"
	}
	ts.Check(os.MkdirAll(shared, 0o755))
	ts.Check(os.MkdirAll(s.dir, 0o711))
	if err := os.Symlink(shared, filepath.Join(s.dir, "images")); !errors.Is(err, os.ErrExist) {
		ts.Check(err)
	}
}

// freeAddress has a port below those that the kernel gives away: nobody gets it
// by chance while a director is down or not yet up.
func freeAddress() string {
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	return "127.0.0.1:0"
}

// containers says whether containers can be tried here. In CI as root they
// must.
func containers() bool {
	if os.Geteuid() != 0 {
		return false
	}
	_, helper := os.Stat("cloud/lxc/bin/helper")
	_, lxc := exec.LookPath("lxc-start")
	return os.Getenv("CI") == "true" || (helper == nil && lxc == nil)
}

func sceneOf(ts *testscript.TestScript) *scene { return ts.Value(sceneKey{}).(*scene) }

// cmdUp starts `nutshell up` with the process cloud, or with the cloud named
// first (lxc, or nodes for a rack), and waits for it. Further arguments are its own.
func cmdUp(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	var err error
	driver := "process"
	if len(args) > 0 && (args[0] == "lxc" || args[0] == "nodes") {
		driver, args = args[0], args[1:]
		s.useImages(ts)
	}
	s.log, err = os.OpenFile(filepath.Join(filepath.Dir(s.dir), "up.log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	ts.Check(err)
	config := filepath.Join(filepath.Dir(s.dir), "cloud.yaml")
	settings := "clouds:\n  - name: default\n    driver: " + driver + "\n"
	if s.rack != nil {
		settings += fmt.Sprintf("nodes:\n  subnets: 10.%d.0.0/16\n", clusterNet)
	}
	ts.Check(os.WriteFile(config, []byte(settings), 0o600))
	program := filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "nutshell") // testscript puts it first
	if s.listen == "" {
		s.listen, s.git = freeAddress(), freeAddress()
		if s.rack != nil {
			s.listen = s.rack.director() + ":5555" // where nodes look for it
		}
	}
	_ = os.Remove(filepath.Join(s.dir, "client.yaml"))
	s.cmd = exec.Command(program, append([]string{"up", "--config", config, "--data-dir", s.dir, "--listen", s.listen, "--git-listen", s.git}, args...)...)
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Dir(s.dir)}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	ts.Check(s.cmd.Start())
	for began := time.Now(); time.Since(began) < patient; {
		if _, err := os.Stat(filepath.Join(s.dir, "client.yaml")); err == nil {
			if _, err := get(s.url(ts) + "/api/v1/health"); err == nil {
				return
			}
		}
		if err := syscall.Kill(s.cmd.Process.Pid, 0); err != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(s.log.Name())
	ts.Fatalf("nutshell up does not answer: %s", text)
}

func (s *scene) url(ts *testscript.TestScript) string {
	b, err := os.ReadFile(filepath.Join(s.dir, "client.yaml"))
	if err != nil && s.cmd != nil {
		return "https://127.0.0.1:0"
	}
	ts.Check(err)
	m := regexp.MustCompile(`url: *"?(https://[^"\s]+)`).FindSubmatch(b)
	if m == nil {
		ts.Fatalf("no url in %s", b)
	}
	return string(m[1])
}

// cmdDown stops in order, as Ctrl-C does.
func cmdDown(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	ts.Check(s.cmd.Process.Signal(os.Interrupt))
	if err := s.cmd.Wait(); err != nil {
		text, _ := os.ReadFile(s.log.Name())
		ts.Fatalf("nutshell up did not end well: %v\n%s", err, text)
	}
}

// cmdCrash kills the director without warning.
func cmdCrash(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	ts.Check(s.cmd.Process.Kill())
	_ = s.cmd.Wait() // killed: that is the point
}

// end stops what a failed script left, by the marks of this scene only.
func (s *scene) end() {
	if s.cmd != nil && s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Signal(os.Interrupt)
		done := make(chan struct{})
		go func() { _ = s.cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			_ = s.cmd.Process.Kill()
		}
	}
	for _, pid := range s.processes("") {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if s.rack != nil {
		s.rack.end()
	}
}

// processes are those of this scene whose command line holds pattern.
func (s *scene) processes(pattern string) (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	re := regexp.MustCompile(pattern)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || (s.cmd != nil && pid == s.cmd.Process.Pid) {
			continue
		}
		line, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		text := strings.ReplaceAll(string(line), "\x00", " ")
		if strings.Contains(text, s.dir) && re.MatchString(text) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// cmdSlay kills with signal 9 the processes of this scene whose command line
// matches, e.g. `slay '--role join.*-s2-'` or `slay 'nginx: master'`.
func cmdSlay(ts *testscript.TestScript, neg bool, args []string) {
	pids := sceneOf(ts).processes(args[0])
	if len(pids) == 0 {
		ts.Fatalf("nothing runs that matches %q", args[0])
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) { // it may have ended by itself
			ts.Check(err)
		}
	}
}

// cmdLeft waits until processes of this scene run; with !, until none does.
func cmdLeft(ts *testscript.TestScript, neg bool, args []string) {
	for began := time.Now(); time.Since(began) < patient; {
		if (len(sceneOf(ts).processes("")) > 0) != neg {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("left: %v", sceneOf(ts).processes(""))
}

// cmdTraces fails unless this scene's containers left nothing on the machine:
// ! traces. The kernel takes its time to remove what has ended.
func cmdTraces(ts *testscript.TestScript, neg bool, args []string) {
	if !neg {
		ts.Fatalf("usage: ! traces")
	}
	var found []string
	for began := time.Now(); time.Since(began) < patient; time.Sleep(200 * time.Millisecond) {
		if found = traces(ts); len(found) == 0 {
			return
		}
	}
	ts.Fatalf("left on the machine: %q", found)
}

func traces(ts *testscript.TestScript) (found []string) {
	installation := ts.ReadFile("installation")
	tag := strings.TrimSpace(installation)
	mounts, err := os.ReadFile("/proc/mounts")
	ts.Check(err)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, tag) || strings.Contains(line, sceneOf(ts).dir+"/clouds") {
			found = append(found, "mount "+line)
		}
	}
	links, err := net.Interfaces()
	ts.Check(err)
	for _, l := range links {
		if strings.HasPrefix(l.Name, "nsh"+tag[:min(len(tag), 8)]) {
			found = append(found, "interface "+l.Name)
		}
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/*" + tag + "*")
	ts.Check(err)
	found = append(found, groups...)
	for _, pid := range sceneOf(ts).processes("") {
		found = append(found, "process "+strconv.Itoa(pid))
	}
	if out, err := exec.Command("nft", "list", "tables").Output(); err == nil && strings.Contains(string(out), tag) {
		found = append(found, string(out))
	}
	return found
}

// cmdFetch gets the pages of an application's service until one matches:
// fetch shop/php /index.php 'hello' . How soon a site must serve again is told
// and measured by the kinds' own tests, where nothing else keeps the machine busy.
func cmdFetch(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: fetch application/service path pattern")
	}
	re := regexp.MustCompile(args[2])
	var last string
	for began := time.Now(); time.Since(began) < patient; time.Sleep(100 * time.Millisecond) {
		base := serviceURL(ts, args[0])
		if base == "" {
			last = "the service has no address"
			continue
		}
		body, err := get(strings.TrimSuffix(base, "/") + args[1])
		last = body
		if err != nil {
			last = err.Error() + " " + body
		} else if re.MatchString(body) != neg {
			return
		}
	}
	ts.Fatalf("%s%s never matched %q, last: %s", args[0], args[1], args[2], last)
}

func serviceURL(ts *testscript.TestScript, name string) string {
	app, service, _ := strings.Cut(name, "/")
	if ts.Exec("nutshell", "service", "list", "--application", app, "-o", "json") != nil {
		return ""
	}
	out := ts.ReadFile("stdout")
	i := strings.Index(out, `"name": "`+service+`"`)
	if i < 0 {
		ts.Fatalf("no service %s in %s", service, out)
	}
	m := regexp.MustCompile(`"urls": \[\s*"([^"]+)"`).FindStringSubmatch(out[i:])
	if m == nil {
		return ""
	}
	return m[1]
}

var insecure = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

func get(url string) (string, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := insecure.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode >= http.StatusBadRequest {
		err = errors.Join(err, fmt.Errorf("status %d", resp.StatusCode))
	}
	return string(b), err
}

// cmdRetry runs a command until its output matches: retry 'RUNNING' nutshell service list .
func cmdRetry(ts *testscript.TestScript, neg bool, args []string) {
	re := regexp.MustCompile(args[0])
	for began := time.Now(); time.Since(began) < patient; time.Sleep(200 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && re.MatchString(ts.ReadFile("stdout")) != neg {
			return
		}
	}
	ts.Fatalf("%v never matched %q", args[1:], args[0])
}

// cmdBomb makes an archive of zeros: bomb bomb.tgz 10 is one of 10 GiB.
func cmdBomb(ts *testscript.TestScript, neg bool, args []string) {
	gib, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(writeBomb(ts.MkAbs(args[0]), int64(gib)<<30))
}

// writeBomb writes a tar.gz with one file of zeros. They are compressed once
// and repeated, because gzip members may follow each other.
func writeBomb(path string, size int64) error {
	const block = 64 << 20
	var head bytes.Buffer
	if err := tar.NewWriter(&head).WriteHeader(&tar.Header{Name: "zeros", Size: size, Mode: 0o644}); err != nil {
		return err
	}
	zeros, err := gzipped(make([]byte, block))
	if err != nil {
		return err
	}
	first, err := gzipped(head.Bytes())
	if err != nil {
		return err
	}
	end, err := gzipped(make([]byte, 1024))
	if err != nil {
		return err
	}
	return os.WriteFile(path, slices.Concat(first, bytes.Repeat(zeros, int(size/block)), end), 0o600)
}

func gzipped(b []byte) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := z.Write(b)
	err = errors.Join(err, z.Close())
	return out.Bytes(), err
}
