package operation

import (
	"context"
	"errors"
	"testing"
	"time"

	"nutshell/roles/api"
)

type book struct {
	last       api.OperationReport
	cancelling bool
}

func (b *book) save(_ context.Context, r api.OperationReport) (bool, error) {
	b.last = r
	return b.cancelling, nil
}

func TestDone(t *testing.T) {
	b := &book{}
	r := New(2, b.save, time.Now)
	for _, s := range []string{"one", "one", "two"} {
		if err := r.Step(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.End(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if b.last.State != api.OperationDone || b.last.Progress != 1 || len(b.last.Steps) != 2 || b.last.Steps[1].State != api.OperationDone {
		t.Fatalf("got %+v", b.last)
	}
}

func TestFailureUndoesLastFirst(t *testing.T) {
	b := &book{}
	r := New(1, b.save, time.Now)
	var order []string
	for _, n := range []string{"first", "second"} {
		r.Undo("put back "+n, func(context.Context) error { order = append(order, n); return nil })
	}
	if err := r.Step(t.Context(), "work"); err != nil {
		t.Fatal(err)
	}
	if err := r.End(t.Context(), errors.New("broke")); err != nil {
		t.Fatal(err)
	}
	if len(order) != 2 || order[0] != "second" || b.last.State != api.OperationFailed || b.last.Undone != "put back second; put back first" {
		t.Fatalf("order %v, report %+v", order, b.last)
	}
	if b.last.Steps[0].State != api.OperationFailed || b.last.Error == nil {
		t.Fatalf("report %+v", b.last)
	}
}

func TestCancelBetweenSteps(t *testing.T) {
	b := &book{}
	r := New(2, b.save, time.Now)
	if err := r.Step(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	b.cancelling = true
	err := r.Step(t.Context(), "two")
	if !errors.Is(err, ErrCancelled) {
		t.Fatalf("got %v, want cancelled", err)
	}
	_ = r.End(t.Context(), err)
	if b.last.State != api.OperationCancelled {
		t.Fatalf("got %+v", b.last)
	}
}

func TestDeadline(t *testing.T) {
	b := &book{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(1, b.save, time.Now).Step(ctx, "one"); api.CodeOf(err) != api.CodeDeadline {
		t.Fatalf("got %v, want deadline", err)
	}
}
