package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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

	"nutshell/roles/api"
)

// stage is a Nutshell with the process cloud, one application and one PHP
// site, on which fault tests kill what they like.
type stage struct {
	*testing.T
	scene
	url, token string
	versions   map[string]string // by id of a code version: what its page says
}

const site = "/api/v1/applications/shop/services/php"

// newStage makes a stage for t that stays until the end of home, t itself or a
// test around it.
func newStage(t, home *testing.T, parts map[string]int) *stage {
	t.Helper()
	needDaemons(t)
	dir, err := os.MkdirTemp("", "nutshell-fault-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // where we are root, other accounts run the daemons and must get there
		t.Fatal(err)
	}
	return newStageIn(t, home, dir, parts)
}

func newStageIn(t, home *testing.T, dir string, parts map[string]int) *stage {
	t.Helper()
	s := &stage{T: t, scene: scene{dir: filepath.Join(dir, "data")}, versions: map[string]string{}}
	home.Cleanup(func() {
		s.end()
		if home.Failed() {
			home.Logf("kept for looking at: %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	s.up()
	s.must(http.MethodPost, "/api/v1/applications", api.CreateApplication{Name: "shop"}, nil)
	s.operate("/api/v1/applications/shop/start", api.Start{})
	s.must(http.MethodPost, "/api/v1/applications/shop/services", api.CreateService{Kind: "php"}, nil)
	s.activate(s.upload("first"))
	if parts != nil {
		s.operate(site+"/scale", api.Scale{Set: parts})
	}
	s.operate(site+"/start", api.Start{})
	return s
}

func needDaemons(t *testing.T) {
	t.Helper()
	for _, tool := range [][2]string{{"nginx", "nginx-light"}, {"php-fpm*", "php-fpm"}} {
		if found, _ := filepath.Glob("/usr/*bin/" + tool[0]); len(found) == 0 {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is missing: apt-get install %s", tool[0], tool[1])
			}
			t.Skipf("%s is missing: apt-get install %s", tool[0], tool[1])
		}
	}
}

// up starts the director, as whoever looks after a machine does after a crash.
func (s *stage) up() {
	s.Helper()
	config := s.dir + ".yaml"
	if err := os.WriteFile(config, []byte("clouds:\n  - name: default\n    driver: process\n"), 0o600); err != nil {
		s.Fatal(err)
	}
	program, err := exec.LookPath("nutshell")
	if err != nil {
		s.Fatal(err)
	}
	log, err := os.OpenFile(s.dir+".log", os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	listen := freeAddress()
	if s.url != "" {
		listen = strings.TrimPrefix(s.url, "https://")
	}
	s.cmd = exec.Command(program, "up", "--config", config, "--data-dir", s.dir, "--listen", listen)
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Dir(s.dir)}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	s.await("the director answers", patient, func() error {
		b, err := os.ReadFile(filepath.Join(s.dir, "client.yaml"))
		if err != nil {
			return err
		}
		url, token := regexp.MustCompile(`url: *"?(https://[^"\s]+)`).FindSubmatch(b), regexp.MustCompile(`token: *"?([^"\s]+)`).FindSubmatch(b)
		if url == nil || token == nil {
			return fmt.Errorf("client.yaml holds %q", b)
		}
		s.url, s.token = string(url[1]), string(token[1])
		return s.call(http.MethodGet, "/api/v1/session", nil, nil)
	})
}

// crash kills the director and starts it again, because nobody else does.
func (s *stage) crash() {
	s.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.Fatal(err)
	}
	_ = s.cmd.Wait() // killed: that is the point
	s.up()
}

// await polls until f returns nil.
func (s *stage) await(what string, patience time.Duration, f func() error) {
	s.Helper()
	var err error
	for began := time.Now(); time.Since(began) < patience; time.Sleep(50 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	s.Fatalf("%s: not within %s: %v\n%s", what, patience, err, s.told())
}

// told is the end of the director's log, for failed tests.
func (s *stage) told() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "log", "director.log"))
	return string(b[max(0, len(b)-1500):])
}

func (s *stage) call(method, path string, in, out any) error {
	var body io.Reader
	if r, ok := in.(io.Reader); ok {
		body = r
	} else if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	if _, raw := in.(io.Reader); !raw {
		req.Header.Set("Content-Type", "application/json")
	}
	client := *insecure
	client.Timeout = 0
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		e := &api.Error{}
		if json.Unmarshal(b, e) != nil || e.Code == "" {
			return fmt.Errorf("status %d: %s", resp.StatusCode, b)
		}
		return e
	}
	if out == nil || len(b) == 0 {
		return nil
	}
	return json.Unmarshal(b, out)
}

func (s *stage) must(method, path string, in, out any) {
	s.Helper()
	if err := s.call(method, path, in, out); err != nil {
		s.Fatalf("%s %s: %v\n%s", method, path, err, s.told())
	}
}

// ask begins an operation.
func (s *stage) ask(path string, in any) api.Operation {
	s.Helper()
	var raw json.RawMessage
	s.must(http.MethodPost, path, in, &raw)
	var o api.Operation
	if err := json.Unmarshal(raw, &o); err != nil || o.Title == "" {
		return api.Operation{} // the change was made at once
	}
	return o
}

// ended waits for the end of an operation, over restarts of the director. One
// that did not succeed must say why and what was put back.
func (s *stage) ended(o api.Operation) api.Operation {
	s.Helper()
	if o.ID == "" { // the change was made at once
		return api.Operation{State: api.OperationDone}
	}
	s.await("operation "+o.Title+" ends", 2*time.Minute, func() error {
		if err := s.call(http.MethodGet, "/api/v1/operations/"+o.ID+"?wait=2s", nil, &o); err != nil {
			return err
		}
		if !o.State.Final() {
			return fmt.Errorf("%s is %s: %+v", o.Title, o.State, o.Steps)
		}
		return nil
	})
	if o.State != api.OperationDone && (o.Error == nil || o.Undone == "") {
		s.Errorf("operation %s is %s and does not say why or what was undone: %+v", o.Title, o.State, o)
	}
	return o
}

// operate does an operation that must succeed.
func (s *stage) operate(path string, in any) {
	s.Helper()
	if o := s.ended(s.ask(path, in)); o.State != api.OperationDone {
		s.Fatalf("operation %s: %s: %v\n%s", o.Title, o.State, o.Error, s.told())
	}
}

func (s *stage) activate(version string) {
	s.Helper()
	s.operate(site+"/activate", api.Activate{Version: version})
}

// page is an archive of a site that says who it is. Its ballast makes the
// upload long enough to be hit.
func page(says string, ballast int) []byte {
	return pageOf("<?php echo 'page "+says+"';", ballast)
}

func pageOf(code string, ballast int) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	noise := make([]byte, ballast)
	for i := range noise {
		noise[i] = byte(rand.Uint32()) // ballast
	}
	files := map[string][]byte{"index.php": []byte(code), "ballast": noise}
	for name, content := range files {
		if w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644}) != nil {
			panic("a buffer takes everything")
		}
		_, _ = w.Write(content)
	}
	if errors.Join(w.Close(), z.Close()) != nil {
		panic("a buffer takes everything")
	}
	return b.Bytes()
}

func (s *stage) send(says string, body io.Reader) (string, error) {
	var v api.CodeVersion
	err := s.call(http.MethodPost, site+"/versions?filename="+says+".tar.gz", body, &v)
	if err == nil {
		s.versions[v.ID] = "page " + says
	}
	return v.ID, err
}

func (s *stage) upload(says string) string {
	s.Helper()
	id, err := s.send(says, bytes.NewReader(page(says, 0)))
	if err != nil {
		s.Fatal(err)
	}
	return id
}

func (s *stage) service() (api.Service, error) {
	var v api.Service
	err := s.call(http.MethodGet, site, nil, &v)
	return v, err
}

// settled waits until the service is RUNNING with exactly the wanted counts
// and version, and shows it, and until nothing runs that no row knows.
func (s *stage) settled(parts map[string]int, version string) {
	s.Helper()
	s.await("the service is as wanted", patient, func() error {
		v, err := s.service()
		if err != nil {
			return err
		}
		var list []api.Instance
		if err := s.call(http.MethodGet, site+"/instances", nil, &list); err != nil {
			return err
		}
		held := map[string]int{}
		for _, i := range list {
			if i.State != api.InstanceReady {
				return fmt.Errorf("instance %s is %s: %s", i.ID, i.State, i.Reason)
			}
			for _, p := range i.Parts {
				held[p]++
			}
		}
		switch {
		case v.State != api.Running || v.Operation != "":
			return fmt.Errorf("it is %s (%s), operation %q", v.State, v.Reason, v.Operation)
		case fmt.Sprint(v.Parts) != fmt.Sprint(parts):
			return fmt.Errorf("it wants %v, not %v", v.Parts, parts)
		case fmt.Sprint(held) != fmt.Sprint(parts):
			return fmt.Errorf("its instances hold %v, not %v", held, parts)
		case len(list) != instancesFor(parts):
			return fmt.Errorf("it has %d instances, not %d", len(list), instancesFor(parts))
		case v.Version != version || v.Serving != version:
			return fmt.Errorf("version %s is wanted, %s serves, not %s", v.Version, v.Serving, version)
		case len(v.URLs) != parts["proxy"]:
			return fmt.Errorf("it has the addresses %v", v.URLs)
		}
		for _, u := range v.URLs {
			if body, err := get(u); err != nil || body != s.versions[version] {
				return fmt.Errorf("%s shows %q, not %q: %w", u, body, s.versions[version], err)
			}
		}
		return s.orphans()
	})
}

// instancesFor is the rule of docs/adr/0011.
func instancesFor(parts map[string]int) int {
	n := parts["proxy"]
	for _, p := range []string{"web", "backend"} {
		if parts[p] > 1 {
			n += parts[p]
		}
	}
	return n
}

// orphans compares what the director knows with what lies in the cloud's
// directory and with what runs.
func (s *stage) orphans() error {
	var rows []api.Instance
	if err := s.call(http.MethodGet, "/api/v1/resources", nil, &rows); err != nil {
		return err
	}
	var known []string
	for _, i := range rows {
		known = append(known, i.ID)
	}
	slices.Sort(known)
	var there []string
	for _, record := range s.records() {
		there = append(there, filepath.Base(filepath.Dir(record)))
	}
	slices.Sort(there)
	if !slices.Equal(known, there) {
		return fmt.Errorf("the director knows instances %v, the cloud has %v", known, there)
	}
	all := map[int]bool{s.cmd.Process.Pid: true}
	for _, id := range known {
		init := s.processes("--role init.*/" + id + "/")
		if len(init) != 1 {
			return fmt.Errorf("instance %s has %d first processes", id, len(init))
		}
		for _, pid := range family(init[0]) {
			all[pid] = true
		}
	}
	for _, pid := range s.processes("") {
		if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil && !all[pid] && !slices.Contains(known, instanceOf(pid)) {
			return fmt.Errorf("process %d belongs to no instance: %s", pid, cmdline(pid))
		}
	}
	return nil
}

func (s *stage) records() []string {
	var list []string
	for _, depth := range []string{"*", "*/*", "*/*/*"} {
		found, _ := filepath.Glob(filepath.Join(s.dir, depth, "instance.json"))
		list = append(list, found...)
	}
	return list
}

func cmdline(pid int) string {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return strings.ReplaceAll(string(b), "\x00", " ")
}

var inDirectory = regexp.MustCompile(`/(a\d+-[a-z0-9-]+)/`)

// instanceOf is the instance that a command line names.
func instanceOf(pid int) string {
	if m := inDirectory.FindStringSubmatch(cmdline(pid)); m != nil {
		return m[1]
	}
	return ""
}

// family is a process and all its descendants.
func family(pid int) []int {
	list := []int{pid}
	for i := 0; i < len(list); i++ {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", list[i]))
		for _, task := range tasks {
			b, _ := os.ReadFile(task)
			for _, f := range strings.Fields(string(b)) {
				if child, err := strconv.Atoi(f); err == nil {
					list = append(list, child)
				}
			}
		}
	}
	return list
}

func kill(pids []int) error {
	if len(pids) == 0 {
		return errors.New("nothing to kill")
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill %d: %w", pid, err)
		}
	}
	return nil
}
