package plan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nutshell/roles/api"
)

func TestRunStopsAtTheFirstFailure(t *testing.T) {
	broken := errors.New("no more ink")
	var did []string
	var last float64
	step := func(name string, err error) Step {
		return Step{Name: name, Share: 2, Do: func(_ context.Context, progress Progress) error {
			did = append(did, name)
			progress("", 0.5)
			return err
		}}
	}
	err := Run(t.Context(), []Step{step("draw", nil), step("print", broken), step("bind", nil)}, func(_ string, f float64) {
		if f < last {
			t.Errorf("progress went from %v to %v", last, f)
		}
		last = f
	})
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "print: ") || len(did) != 2 || last != 0.5 {
		t.Errorf("got %v after %v at %v", err, did, last)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, []Step{step("never", nil)}, nil); !errors.Is(err, context.Canceled) || len(did) != 2 {
		t.Errorf("got %v after %v, want canceled and nothing done", err, did)
	}
}

func TestWork(t *testing.T) {
	out := t.TempDir()
	dead := filepath.Join(out, ".old"+suffix)
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := Begin(out, "card")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); err == nil {
		t.Error("what a killed build left is still there")
	}
	if _, err := Begin(out, "card"); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("got %v, want a conflict with the build under way", err)
	}
	for _, n := range []string{"a.img", "a.sig"} {
		if err := os.WriteFile(w.Path(n), []byte(n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Publish("a.img", "a.sig"), w.End()); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(out)
	if len(left) != 2 {
		t.Errorf("got %v, want the two results alone", left)
	}
	if err := enough("/x", 5<<20, 4<<20); api.CodeOf(err) != api.CodeNoSpace || !strings.Contains(err.Error(), "needs 5 MB of free disk, /x has 4 MB") {
		t.Errorf("got %v, want no_space with both figures", err)
	}
	for _, err := range []error{&os.PathError{Op: "write", Path: "disk", Err: syscall.ENOSPC}, fmt.Errorf("tar: %w", syscall.EDQUOT), errors.New("mke2fs: exit status 1: No space left on device while writing")} {
		if got := w.Full(err); api.CodeOf(got) != api.CodeNoSpace || strings.Count(got.Error(), "no space left") != 1 || !strings.Contains(got.Error(), out) {
			t.Errorf("%v: got %v", err, got)
		}
	}
	refused := enough("/x", 5, 4)
	for _, err := range []error{nil, errors.New("no more ink"), refused} {
		if got := w.Full(err); got != err { //nolint:errorlint // the same one
			t.Errorf("%v: got %v", err, got)
		}
	}
}
