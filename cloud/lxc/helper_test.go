package lxc

import (
	"errors"
	"os"
	"strings"
	"testing"

	"nutshell/cloud/cloudtest"
)

func TestHelperOfAnotherArchitectureIsRefused(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := sameMachine(program); err != nil {
		t.Errorf("this machine's: %v", err)
	}
	program[18], program[19] = 22, 0 // e_machine: S390
	if err := sameMachine(program); err == nil || !strings.Contains(err.Error(), "make build-arm64") {
		t.Errorf("another machine's: %v", err)
	}
	if err := sameMachine([]byte("#!/bin/sh")); err == nil {
		t.Error("a script was taken for a program")
	}
}

// TestHelperBesideManyFiles: whatever number the program has among the files
// of this process, and however many a child inherits, the child runs it.
func TestHelperBesideManyFiles(t *testing.T) {
	var before, h helper
	if f, err := before.open(); err == nil { // has the first of the high numbers, as a former test's may
		defer func() { _ = f.Close() }()
	}
	f, err := h.open()
	if errors.Is(err, errNoHelper) {
		cloudtest.Need(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	cmd, err := h.command(t.Context(), "version")
	if err != nil {
		t.Fatal(err)
	}
	if n := int(f.Fd()); n < 2*inherited {
		t.Fatalf("the program is file %d", n)
	}
	for range inherited - 3 { // behind stdin, stdout and stderr
		cmd.ExtraFiles = append(cmd.ExtraFiles, null)
	}
	if a, err := h.ask(cmd, nil); err != nil || a.Version == "" {
		t.Errorf("got %+v, %v", a, err)
	}
}
