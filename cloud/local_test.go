package cloud_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nutshell/cloud"
)

func TestProcess(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := cloud.FindProcess(cmd.Process.Pid)
	if err != nil || !p.Alive() {
		t.Fatalf("FindProcess = %+v, %v", p, err)
	}
	other := p
	other.Start++
	reboot := p
	reboot.Boot = "another"
	for _, stranger := range []cloud.Process{other, reboot, {}} {
		if stranger.Alive() {
			t.Errorf("%+v is alive, but it is not %+v", stranger, p)
		}
		if err := stranger.Signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("Signal to %+v = %v", stranger, err)
		}
		if err := stranger.Wait(t.Context()); err != nil {
			t.Errorf("Wait for %+v = %v", stranger, err)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait for a living process = %v", err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Errorf("Signal = %v", err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Errorf("Wait = %v", err)
	}
	if p.Alive() {
		t.Error("a zombie is alive")
	}
	_ = cmd.Wait()
	if p.Alive() {
		t.Error("a process that ended is alive")
	}
}

func TestState(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	for _, v := range []string{"one", strings.Repeat("two", 1000), "three"} {
		if err := cloud.SaveState(path, v); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := cloud.LoadState(path, &got); err != nil || got != v {
			t.Errorf("LoadState = %.20q, %v; want %.20q", got, err, v)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("directory has %v, %v; want the state only", list, err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := cloud.LoadState(path, &got); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("LoadState of half a file = %v; want an error that names it", err)
	}
}

func TestNames(t *testing.T) {
	var n cloud.Names
	unlock, err := n.Lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if other, err := n.Lock(t.Context(), "b"); err != nil {
		t.Errorf("another name: %v", err)
	} else {
		other()
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := n.Lock(short, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("held name: %v", err)
	}
	got := make(chan error)
	go func() {
		again, err := n.Lock(t.Context(), "a")
		if err == nil {
			again()
		}
		got <- err
	}()
	unlock()
	if err := <-got; err != nil {
		t.Errorf("after unlock: %v", err)
	}
}
