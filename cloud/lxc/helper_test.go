package lxc

import (
	"os"
	"strings"
	"testing"
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
