// Package cloudtest is the suite that every cloud driver passes, and Sim, a
// cloud in memory with knobs. The suite runs a small program of its own in
// the instances and looks at them from outside, through HTTP.
package cloudtest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"nutshell/cloud"
)

// Open makes a driver on a directory. The suite calls it again for the same
// directory to play a director that comes back.
type Open func(t *testing.T, dir string) cloud.Driver

// Options say what a driver promises beyond the contract.
type Options struct {
	Layers   []string          // of every spec
	Tags     map[string]string // that the driver adds to those of the spec
	Isolated bool              // groups do not reach each other
	Limited  bool              // memory, processor and process limits hold
	Sized    bool              // sizes of volumes hold
	// GrowsAtRest says that a volume grows only while its instance is stopped.
	GrowsAtRest bool
	// Only runs the cases whose names begin with it.
	Only string
	// Kill ends the first process of an instance as a crash would.
	Kill func(t *testing.T, i cloud.Instance)
	// Leftovers tells what is left on this machine after the last instance
	// was terminated and the driver closed; it must be empty.
	Leftovers func(t *testing.T, dir string) []string
	// Dir makes the directory of a driver; nil: t.TempDir.
	Dir func(t *testing.T) string
}

// suite is one sub-test's driver.
type suite struct {
	t    *testing.T
	o    Options
	open Open
	dir  string
	d    cloud.Driver
}

// Run runs the suite.
func Run(t *testing.T, open Open, o Options) {
	for _, c := range []struct {
		name string
		skip bool
		run  func(s *suite)
	}{
		{"launch-gives-a-running-instance", false, (*suite).launch},
		{"launch-is-idempotent", false, (*suite).idempotent},
		{"launch-in-parallel", false, (*suite).parallel},
		{"launch-partly-fails", false, (*suite).partial},
		{"context-is-delivered", false, (*suite).context},
		{"bad-names-are-refused", false, (*suite).badNames},
		{"reopened-driver-finds-instances", false, (*suite).reopen},
		{"killed-instance-is-seen-and-relaunched", o.Kill == nil, (*suite).kill},
		{"stop-keeps-files", false, (*suite).stop},
		{"terminate-ends-all-processes", false, (*suite).descendants},
		{"terminate-again-and-unknown", false, (*suite).terminate},
		{"cancelled-order-returns", false, (*suite).cancelled},
		{"boot-log-is-kept", false, (*suite).bootLog},
		{"groups-are-apart", !o.Isolated, (*suite).isolation},
		{"limits-hold", !o.Limited, (*suite).limits},
		{"volume-outlives-its-instance", false, (*suite).volumeOutlives},
		{"volume-comes-and-goes-while-the-instance-runs", false, (*suite).volumeComesAndGoes},
		{"volume-of-a-stopped-instance", false, (*suite).volumeStopped},
		{"volume-with-open-files-stays", false, (*suite).volumeOpenFiles},
		{"volume-has-one-holder", false, (*suite).volumeOneHolder},
		{"volumes-after-a-crash-of-the-instance", o.Kill == nil, (*suite).volumeCrash},
		{"volumes-of-a-reopened-driver", false, (*suite).volumeReopen},
		{"volume-grows-while-in-use", false, (*suite).volumeGrows},
		{"full-volume-harms-nobody", !o.Sized, (*suite).volumeFull},
		{"volume-names-and-sizes", false, (*suite).volumeNames},
		{"volume-is-deleted", false, (*suite).volumeDeleted},
		{"volume-snapshots", false, (*suite).volumeSnapshots},
	} {
		if !strings.HasPrefix(c.name, o.Only) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if c.skip {
				t.Skip("the driver does not promise it")
			}
			s := &suite{t: t, o: o, open: open}
			if o.Dir != nil {
				s.dir = o.Dir(t)
			} else {
				s.dir = t.TempDir()
			}
			s.d = open(t, s.dir)
			t.Cleanup(s.clean)
			if err := s.d.Check(t.Context()); err != nil {
				t.Fatalf("Check: %v", err)
			}
			c.run(s)
		})
	}
}

// Log is a logger that writes to the test's output.
func Log(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// clean terminates all and asks for what is left.
func (s *suite) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	list, err := s.d.List(ctx)
	if err != nil {
		s.t.Errorf("List at the end: %v", err)
	}
	ids := make([]string, 0, len(list))
	for _, i := range list {
		ids = append(ids, i.ID)
		if log, ok := s.d.(cloud.Console); ok && s.t.Failed() {
			if r, err := log.BootLog(ctx, i.ID); err == nil {
				b, _ := io.ReadAll(r)
				_ = r.Close()
				s.t.Logf("%s said:\n%s", i.Name, b)
			}
		}
	}
	if err := s.d.Terminate(ctx, ids); err != nil {
		s.t.Errorf("Terminate at the end: %v", err)
	}
	if list, err := s.d.List(ctx); err != nil || len(list) > 0 {
		s.t.Errorf("List after Terminate = %v, %v", list, err)
	}
	s.cleanVolumes(ctx)
	if c, ok := s.d.(cloud.Closer); ok {
		if err := c.Close(ctx); err != nil {
			s.t.Errorf("Close: %v", err)
		}
	}
	if s.o.Leftovers != nil {
		if left := s.o.Leftovers(s.t, s.dir); len(left) > 0 {
			s.t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		}
	}
}

func (s *suite) spec(name string) cloud.Spec {
	return cloud.Spec{
		Name: name, Group: "shop", Layers: s.o.Layers, Context: []byte(`{"for":"` + name + `"}`),
		Tags: map[string]string{"application": "shop", "name": name},
	}
}

// must launches specs that have to come up, and waits until each answers.
func (s *suite) must(specs ...cloud.Spec) []cloud.Instance {
	s.t.Helper()
	list, err := s.d.Launch(s.t.Context(), specs)
	if err != nil || len(list) != len(specs) {
		s.t.Fatalf("Launch = %v, %v", list, err)
	}
	for _, i := range list {
		s.wait(i)
	}
	return list
}

// wait returns when the instance answers.
func (s *suite) wait(i cloud.Instance) {
	s.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := Ask(s.t.Context(), i, "/pid", nil)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s does not answer: %v", i.Name, err)
		}
		time.Sleep(2 * time.Millisecond) // a poll, bounded by the deadline
	}
}

// ask fails the test when the instance does not answer well.
func (s *suite) ask(i cloud.Instance, path string, pairs ...string) string {
	s.t.Helper()
	q := url.Values{}
	for k := 0; k+1 < len(pairs); k += 2 {
		q.Set(pairs[k], pairs[k+1])
	}
	got, err := Ask(s.t.Context(), i, path, q)
	if err != nil {
		s.t.Fatalf("%s%s: %v", i.Name, path, err)
	}
	return got
}

// find returns the instance as List sees it, nil if it does not.
func (s *suite) find(name string) *cloud.Instance {
	s.t.Helper()
	list, err := s.d.List(s.t.Context())
	if err != nil {
		s.t.Fatalf("List: %v", err)
	}
	for _, i := range list {
		if i.Name == name {
			return &i
		}
	}
	return nil
}

// Ask sends a question to the suite's program in an instance.
func Ask(ctx context.Context, i cloud.Instance, path string, q url.Values) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(i.Address, Port)+path+"?"+q.Encode(), nil)
	if err != nil {
		return "", err
	}
	// No connection is kept: the next instance may have this one's address.
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: 500 * time.Millisecond}).DialContext,
	}}
	res, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, b)
	}
	return string(b), err
}

// Need skips on a laptop, and fails in CI, where nothing may rot unseen.
func Need(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}
