package nodes_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
	"nutshell/cloud/nodes"
	"nutshell/cloud/process"
	"nutshell/cloud/wire"
)

const mib = 1 << 20

func TestMain(m *testing.M) {
	if code, ok := beMachine(); ok {
		os.Exit(code)
	}
	os.Exit(cloudtest.TestMain(m))
}

// shelf is a director's view of machines, with knobs.
type shelf struct {
	mu       sync.Mutex
	machines map[string]*cloud.Machine
	url      map[string]string
	away     map[string]bool // the network to it is down
	hung     chan struct{}   // not nil: machine a takes what it is asked and answers when this is closed
	asked    map[string]int  // what machine a was asked meanwhile, and how often
	slots    map[string]int
}

func newShelf() *shelf {
	return &shelf{machines: map[string]*cloud.Machine{}, url: map[string]string{}, away: map[string]bool{}, asked: map[string]int{}, slots: map[string]int{}}
}

// add puts a machine with this cloud on the shelf.
func (s *shelf) add(t *testing.T, id string, d cloud.Driver) {
	t.Helper()
	server := httptest.NewServer(wire.Handler(d, func(_ context.Context, digest string) (string, error) { return "/layers/" + digest, nil }))
	t.Cleanup(server.Close)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machines[id] = &cloud.Machine{ID: id, Name: "shelf " + id, Up: true, CPUs: 4, Memory: 4096 * mib, Free: 3000 * mib}
	s.url[id] = server.URL
}

func (s *shelf) set(id string, turn func(m *cloud.Machine)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	turn(s.machines[id])
}

func (s *shelf) setAway(id string, away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away[id] = away
}

func (s *shelf) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.machines, id)
}

func (s *shelf) Machines(context.Context) ([]cloud.Machine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []cloud.Machine
	for _, id := range slices.Sorted(maps.Keys(s.machines)) {
		list = append(list, *s.machines[id])
	}
	return list, nil
}

func (s *shelf) Slot(_ context.Context, group string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots[group] == 0 {
		s.slots[group] = len(s.slots) + 1
	}
	return s.slots[group], nil
}

func (s *shelf) Call(ctx context.Context, machine, method, path string, in, out any) error {
	s.mu.Lock()
	url, away, hung := s.url[machine], s.away[machine], s.hung
	if machine == "a" && hung != nil {
		s.asked[method+" "+path]++
	}
	s.mu.Unlock()
	if machine == "a" && hung != nil {
		select {
		case <-hung:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if away {
		return errors.New("no route to host")
	}
	return post(ctx, http.DefaultClient, method, url+path, in, out)
}

func post(ctx context.Context, c *http.Client, method, url string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(res.Body)
		return fmt.Errorf("%s: %s", res.Status, b)
	}
	return json.NewDecoder(res.Body).Decode(out)
}

// open makes the driver of a shelf.
func (s *shelf) open(t *testing.T, dir string) cloud.Driver {
	t.Helper()
	d, err := nodes.New(cloud.Config{Name: "nodes", Installation: "test0001", Dir: dir, Binary: "/bin/true", Options: map[string]string{"layers": "no"}, Log: cloudtest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	d.(cloud.Clustered).Use(s)
	return d
}

// withoutVolumes is a driver on which the cases of volumes, which want one
// machine, are not run.
type withoutVolumes struct {
	cloud.Driver
	cloud.Stopper
	cloud.Console
}

// TestDriver runs the suite on three machines, and on one the cases of volumes.
func TestDriver(t *testing.T) {
	binary, own := cloudtest.Program(t), strings.ToLower(rand.Text())[:7] // other tests run at the same time
	kill := func(t *testing.T, i cloud.Instance) {
		pid, err := cloudtest.Ask(t.Context(), i, "/pid", nil)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(pid)
		if err == nil {
			err = syscall.Kill(n, syscall.SIGKILL)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for count, only := range map[int]string{1: "volume", 3: ""} {
		t.Run(fmt.Sprintf("machines-%d", count), func(t *testing.T) {
			shelves := map[string]*shelf{} // machines outlive their director
			open := func(inner *testing.T, dir string) cloud.Driver {
				if shelves[dir] == nil {
					shelves[dir] = newShelf()
					for n := range count {
						id := "m" + strconv.Itoa(n)
						if err := os.MkdirAll(filepath.Join(dir, id), 0o700); err != nil {
							t.Fatal(err)
						}
						far, err := process.New(cloud.Config{Name: id, Installation: own + strconv.Itoa(n), Dir: filepath.Join(dir, id), Binary: binary, Log: cloudtest.Log(inner)})
						if err != nil {
							t.Fatal(err)
						}
						shelves[dir].add(t, id, far)
					}
				}
				d := shelves[dir].open(inner, dir)
				if count == 1 {
					return d
				}
				return withoutVolumes{d, d.(cloud.Stopper), d.(cloud.Console)}
			}
			cloudtest.Run(t, open, cloudtest.Options{Kill: kill, Only: only})
		})
	}
}

// sims is a shelf of three simulated machines.
func sims(t *testing.T) (*shelf, map[string]*cloudtest.Sim, cloud.Driver, string) {
	t.Helper()
	s, far := newShelf(), map[string]*cloudtest.Sim{}
	for _, id := range []string{"a", "b", "c"} {
		far[id] = &cloudtest.Sim{Address: func(n int) string { return fmt.Sprintf("10.%d.1.%d", 'a'+len(id), n) }}
		s.add(t, id, far[id])
	}
	dir := t.TempDir()
	return s, far, s.open(t, dir), dir
}

func specs(names ...string) (list []cloud.Spec) {
	for _, n := range names {
		list = append(list, cloud.Spec{Name: n, Group: "shop", Tags: map[string]string{"service": "1"}})
	}
	return list
}

func launch(t *testing.T, d cloud.Driver, specs ...cloud.Spec) map[string]string {
	t.Helper()
	list, err := d.Launch(t.Context(), specs)
	if err != nil {
		t.Fatal(err)
	}
	return where(list)
}

func where(list []cloud.Instance) map[string]string {
	m := map[string]string{}
	for _, i := range list {
		m[i.Name] = i.Machine
	}
	return m
}

func listed(t *testing.T, d cloud.Driver) map[string]string {
	t.Helper()
	list, err := d.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return where(list)
}

// eventually polls, bounded by a deadline.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so after 10 s: %s", what)
		}
	}
}

func TestSpread(t *testing.T) {
	s, _, d, _ := sims(t)
	s.set("a", func(m *cloud.Machine) { m.Free = 2000 * mib })
	at := launch(t, d, specs("web-1", "web-2", "web-3", "web-4")...)
	if n := len(map[string]bool{at["web-1"]: true, at["web-2"]: true, at["web-3"]: true, at["web-4"]: true}); n != 3 {
		t.Errorf("four instances are on %v, want all three machines", at)
	}
	s.set("b", func(m *cloud.Machine) { m.Cordoned = true })
	s.set("c", func(m *cloud.Machine) { m.Free = 10 * mib })
	if at := launch(t, d, specs("web-5", "web-6")...); at["web-5"] != "a" || at["web-6"] != "a" {
		t.Errorf("with b cordoned and c full: %v", at)
	}
	s.set("a", func(m *cloud.Machine) { m.Free = 0 })
	list, err := d.Launch(t.Context(), specs("web-1", "web-7"))
	if len(list) != 1 || !errors.Is(err, cloud.ErrQuota) || !strings.Contains(err.Error(), "launch web-7: over quota: no machine has 128 MiB of memory free for an instance: shelf a has 0 MiB of 4096, shelf b is cordoned") {
		t.Errorf("with all full: %v, %v", list, err)
	}
}

func TestFailingMachineDoesNotFailOthers(t *testing.T) {
	s, far, d, _ := sims(t)
	s.set("a", func(m *cloud.Machine) { m.Free = 4000 * mib })
	far["a"].Set(func(s *cloudtest.Sim) { s.Broken = errors.New("the card is read-only") })
	at := launch(t, d, specs("web-1", "web-2", "web-3")...)
	for name, m := range at {
		if m == "a" {
			t.Errorf("%s is on a", name)
		}
	}
	far["a"].Set(func(s *cloudtest.Sim) { s.Broken = nil })
	for _, id := range []string{"b", "c"} {
		far[id].Set(func(s *cloudtest.Sim) { s.Broken = cloud.ErrUnavailable })
	}
	if at := launch(t, d, specs("web-9")...); at["web-9"] != "a" {
		t.Errorf("the machine that failed lately is not the last resort: %v", at)
	}
}
