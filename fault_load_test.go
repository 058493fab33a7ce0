package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"nutshell/roles/api"
)

// unharmed says that no visitor missed a page.
func (v *visitor) unharmed() {
	v.s.Helper()
	v.leave()
	if v.good == 0 || len(v.failed) > 0 {
		v.s.Errorf("%d pages, %d failures under load: %.3q", v.good, len(v.failed), v.failed)
	}
}

// TestChangesUnderLoad: activating, scaling up and down, moving the backend
// off the first instance and back cost no request.
func TestChangesUnderLoad(t *testing.T) {
	s := newStage(t, t, nil)
	parts := map[string]int{"proxy": 1, "web": 1, "backend": 1}
	first := s.current()
	second := s.upload("second")
	s.settled(parts, first)
	for _, tc := range []struct {
		name    string
		set     map[string]int
		version string
	}{
		{"activate", nil, second},
		{"back", nil, first},
		{"first-backend-moves-off", map[string]int{"backend": 3}, ""},
		{"activate-on-four", nil, second},
		{"shrink", map[string]int{"backend": 2}, ""},
		{"backend-moves-back", map[string]int{"backend": 1}, ""},
		{"web-moves-off", map[string]int{"web": 2}, ""},
		{"web-moves-back", map[string]int{"web": 1}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.T = t
			v := newVisitor(s, 4)
			if tc.version != "" {
				s.activate(tc.version)
				first = tc.version
			} else {
				s.operate(site+"/scale", api.Scale{Set: tc.set})
				for p, n := range tc.set {
					parts[p] = n
				}
			}
			s.settled(parts, first)
			v.unharmed()
		})
	}
}

func (s *stage) current() string {
	s.Helper()
	v, err := s.service()
	if err != nil {
		s.Fatal(err)
	}
	return v.Version
}

// TestBrokenVersionNeverServes: a version whose page answers 500 is refused
// and nobody sees it.
func TestBrokenVersionNeverServes(t *testing.T) {
	s := newStage(t, t, nil)
	first := s.current()
	id, err := s.send("broken", bytes.NewReader(pageOf("<?php http_response_code(500); echo 'broken';", 0)))
	if err != nil {
		t.Fatal(err)
	}
	v := newVisitor(s, 4)
	o := s.ended(s.ask(site+"/activate", api.Activate{Version: id}))
	if o.State != api.OperationFailed || o.Error == nil || !strings.Contains(o.Error.Error(), "500") {
		t.Errorf("activation of a broken version: %s %v", o.State, o.Error)
	}
	s.settled(map[string]int{"proxy": 1, "web": 1, "backend": 1}, first)
	v.unharmed()
}

// TestCancelled: what is cancelled is undone, whenever that happens.
func TestCancelled(t *testing.T) {
	parts := map[string]int{"proxy": 1, "web": 1, "backend": 1}
	s := newStage(t, t, nil)
	first := s.current()
	second := s.upload("second")
	for _, tc := range []struct {
		name, path string
		ask        any
		after      func()
	}{
		{"scale", "/scale", api.Scale{Set: map[string]int{"backend": 3}}, func() { parts["backend"] = 3 }},
		{"activate", "/activate", api.Activate{Version: second}, func() { first = second }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.T = t
			v := newVisitor(s, 2)
			o := s.ask(site+tc.path, tc.ask)
			if err := s.call(http.MethodPost, "/api/v1/operations/"+o.ID+"/cancel", nil, nil); err != nil && api.CodeOf(err) != api.CodeConflict {
				t.Fatal(err)
			}
			o = s.ended(o)
			t.Logf("%s; undone: %s", o.State, o.Undone)
			switch o.State {
			case api.OperationDone: // it was faster
				tc.after()
			case api.OperationCancelled:
			default:
				t.Errorf("cancelled, it %s: %v", o.State, o.Error)
			}
			s.settled(parts, first)
			v.unharmed()
		})
	}
}

// TestTwoScalingsAtOnceInEarnest: one is done, the other is refused and names
// the first.
func TestTwoScalingsAtOnceInEarnest(t *testing.T) {
	s := newStage(t, t, nil)
	first := s.current()
	answers := make(chan error, 2)
	operations := make(chan api.Operation, 2)
	for range 2 {
		go func() {
			var o api.Operation
			answers <- s.call(http.MethodPost, site+"/scale", api.Scale{Add: map[string]int{"backend": 1}}, &o)
			operations <- o
		}()
	}
	refused := slices.DeleteFunc([]error{<-answers, <-answers}, func(err error) bool { return err == nil })
	if len(refused) != 1 || api.CodeOf(refused[0]) != api.CodeConflict {
		t.Fatalf("two scalings at once: %v", refused)
	}
	one := <-operations
	if one.ID == "" {
		one = <-operations
	}
	if got := refused[0].(*api.Error).Related; got != one.ID { //nolint:errorlint,forcetypeassert // CodeOf said so
		t.Errorf("the refusal names %q, not %q", got, one.ID)
	}
	if o := s.ended(one); o.State != api.OperationDone {
		t.Errorf("%s: %v", o.State, o.Error)
	}
	s.settled(map[string]int{"proxy": 1, "web": 1, "backend": 2}, first)
}

// TestFailedStartIsMendedAndRetried: a start that fails says why and leaves
// no instance; once its cause is mended, retry starts it.
func TestFailedStartIsMendedAndRetried(t *testing.T) {
	s := newStage(t, t, nil)
	first := s.current()
	s.operate(site+"/stop", nil)
	s.must(http.MethodPut, site+"/script", api.Script{Text: "#!/bin/sh\necho the disk is on fire\nexit 3\n"}, nil)
	o := s.ended(s.ask(site+"/start", api.Start{}))
	if o.State != api.OperationFailed || !strings.Contains(fmt.Sprint(o.Error, o.Error.LogTail), "on fire") {
		t.Fatalf("start with a failing script: %s %+v", o.State, o.Error)
	}
	s.await("the failed start leaves no instance", patient, func() error {
		v, err := s.service()
		if err == nil && (v.State != api.Failed || len(s.records()) != 1) {
			err = fmt.Errorf("%s with %v", v.State, s.records())
		}
		return err
	})
	s.must(http.MethodPut, site+"/script", api.Script{Text: "exit 0"}, nil)
	var again api.Operation
	s.must(http.MethodPost, "/api/v1/operations/"+o.ID+"/retry", nil, &again)
	if again = s.ended(again); again.State != api.OperationDone || again.RetryOf != o.ID {
		t.Errorf("retry: %s %v, of %q", again.State, again.Error, again.RetryOf)
	}
	s.settled(map[string]int{"proxy": 1, "web": 1, "backend": 1}, first)
}

// TestSecondUpIsRefused: two directors on one data directory would each undo
// what the other does. The second one names the first.
func TestSecondUpIsRefused(t *testing.T) {
	s := newStage(t, t, nil)
	out, err := exec.Command("nutshell", "up", "--config", s.dir+".yaml", "--data-dir", s.dir, "--listen", "127.0.0.1:0").CombinedOutput()
	if err == nil || !regexp.MustCompile(fmt.Sprintf(`\b%d\b`, s.cmd.Process.Pid)).Match(out) {
		t.Errorf("a second one was not refused with the pid %d of the first: %v %s", s.cmd.Process.Pid, err, out)
	}
	s.settled(map[string]int{"proxy": 1, "web": 1, "backend": 1}, s.current())
}

// TestInterruptedScaling: Ctrl-C in the middle of a scaling stops everything;
// the next start finds the site, and the scaling done or undone.
func TestInterruptedScaling(t *testing.T) {
	s := newStage(t, t, nil)
	first := s.current()
	o := s.ask(site+"/scale", api.Scale{Set: map[string]int{"backend": 3}})
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C: %v", err)
	}
	if left := s.processes(""); len(left) > 0 {
		t.Errorf("Ctrl-C left processes: %s", cmdline(left[0]))
	}
	s.up()
	o = s.ended(o)
	t.Logf("%s; undone: %s", o.State, o.Undone)
	parts := map[string]int{"proxy": 1, "web": 1, "backend": 1}
	if o.State == api.OperationDone {
		parts["backend"] = 3
	}
	s.settled(parts, first)
}

// TestFullDisk: an upload for which there is no room is refused as such, and
// what serves goes on; with room again it works.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	needDaemons(t)
	dir, err := os.MkdirTemp("", "nutshell-fault-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data := filepath.Join(dir, "data")
	if err := errors.Join(os.Chmod(dir, 0o711), os.Mkdir(data, 0o711)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size=64m,mode=711"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount a small disk: %v", err)
		}
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(data, syscall.MNT_DETACH) })
	s := newStageIn(t, t, dir, nil)
	first := s.current()
	ballast := filepath.Join(s.dir, "ballast")
	var fs syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &fs); err != nil {
		t.Fatal(err)
	}
	free := int(fs.Bavail) * int(fs.Bsize)
	if err := os.WriteFile(ballast, make([]byte, max(0, free-6<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	v := newVisitor(s, 1)
	_, err = s.send("large", bytes.NewReader(page("large", 16<<20)))
	if api.CodeOf(err) != api.CodeNoSpace {
		t.Errorf("upload to a full disk: got %v, want %s", err, api.CodeNoSpace)
	}
	s.settled(map[string]int{"proxy": 1, "web": 1, "backend": 1}, first)
	v.unharmed()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	second, err := s.send("large", bytes.NewReader(page("large", 8<<20)))
	if err != nil {
		t.Fatal(err)
	}
	s.activate(second)
	s.settled(map[string]int{"proxy": 1, "web": 1, "backend": 1}, second)
}
