// Package operation carries out one piece of long work: steps with times,
// progress, cancelling between steps, and undo. It stores nothing itself;
// each change is handed to a save function, in the director to the store and
// in a manager to the director.
package operation

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"nutshell/roles/api"
)

// ErrCancelled ends work that a user cancelled.
var ErrCancelled = &api.Error{Code: api.CodeCancelled, Message: "cancelled"}

// undoTime bounds all undoing of one operation together.
const undoTime = time.Minute

// Save keeps a report and tells whether the user wants the operation cancelled.
type Save func(context.Context, api.OperationReport) (cancelling bool, err error)

// Run is one operation being carried out. It is safe for use by several
// goroutines.
type Run struct {
	save Save
	now  func() time.Time

	mu        sync.Mutex
	report    api.OperationReport
	planned   int // steps expected in all, for progress
	undo      []undoStep
	cancelled bool
	last      time.Time // when Detail saved
}

type undoStep struct {
	name string
	f    func(context.Context) error
}

// New begins an operation; planned is the number of steps expected.
func New(planned int, save Save, now func() time.Time) *Run {
	return &Run{save: save, now: now, planned: max(planned, 1), report: api.OperationReport{State: api.OperationRunning, Steps: []api.Step{}}}
}

// Step ends the step before it and begins another, or returns ErrCancelled
// when a user asked for that. Naming the step that already runs is no change.
func (r *Run) Step(ctx context.Context, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.report.Steps); n > 0 && r.report.Steps[n-1].Name == name && r.report.Steps[n-1].State == api.OperationRunning {
		return r.check(ctx)
	}
	r.endStep(api.OperationDone, "")
	began := r.now()
	r.report.Steps = append(r.report.Steps, api.Step{Name: name, State: api.OperationRunning, Started: &began})
	r.progress(0)
	r.send(ctx)
	return r.check(ctx)
}

// Detail tells how far the running step is. Saving is limited to five times a
// second, because images report every package.
func (r *Run) Detail(ctx context.Context, text string, fraction float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.report.Steps)
	if n == 0 {
		return
	}
	r.report.Steps[n-1].Detail = text
	r.progress(fraction)
	if now := r.now(); now.Sub(r.last) > 200*time.Millisecond {
		r.last = now
		r.send(ctx)
	}
}

// Undo remembers what puts back what was just done. Undos run last first, when
// the operation fails or is cancelled.
func (r *Run) Undo(name string, f func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.undo = append(r.undo, undoStep{name, f})
}

// End finishes the operation: done for nil, cancelled for ErrCancelled, else
// failed with the cause. It runs the undos unless err is nil, on a context of
// its own, because the caller's may be why we are here.
func (r *Run) End(ctx context.Context, err error) error {
	ctx = context.WithoutCancel(ctx)
	r.mu.Lock()
	undo := r.undo
	r.undo = nil
	r.mu.Unlock()
	state := api.OperationDone
	var undone []string
	if err != nil {
		state = api.OperationFailed
		if errors.Is(err, ErrCancelled) {
			state = api.OperationCancelled
		}
		undone = runUndo(ctx, undo)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.report.Error = api.AsError(err)
		r.endStep(state, "")
		r.report.Undone = strings.Join(undone, "; ")
	} else {
		r.endStep(api.OperationDone, "")
		r.report.Progress = 1
	}
	r.report.State = state
	_, saveErr := r.save(ctx, r.report)
	return saveErr
}

func runUndo(ctx context.Context, undo []undoStep) []string {
	ctx, cancel := context.WithTimeout(ctx, undoTime)
	defer cancel()
	var said []string
	for i := len(undo) - 1; i >= 0; i-- {
		if err := undo[i].f(ctx); err != nil {
			said = append(said, "could not "+undo[i].name+": "+err.Error())
			continue
		}
		said = append(said, undo[i].name)
	}
	return said
}

func (r *Run) endStep(state api.OperationState, detail string) {
	n := len(r.report.Steps)
	if n == 0 || r.report.Steps[n-1].Ended != nil {
		return
	}
	now := r.now()
	s := &r.report.Steps[n-1]
	s.State, s.Ended = state, &now
	if detail != "" {
		s.Detail = detail
	}
}

// progress counts whole steps and the fraction of the one that runs. It never
// goes back: people read that as a fault.
func (r *Run) progress(fraction float64) {
	n := len(r.report.Steps)
	p := (float64(n-1) + min(max(fraction, 0), 1)) / float64(max(r.planned, n))
	r.report.Progress = max(r.report.Progress, min(p, 0.99))
}

func (r *Run) send(ctx context.Context) {
	report := r.report
	report.Steps = append([]api.Step(nil), r.report.Steps...)
	if cancelling, err := r.save(ctx, report); err == nil && cancelling {
		r.cancelled = true
	}
}

func (r *Run) check(ctx context.Context) error {
	if r.cancelled {
		return ErrCancelled
	}
	if err := ctx.Err(); err != nil {
		return &api.Error{Code: api.CodeDeadline, Message: "the operation did not finish in time", Err: context.Cause(ctx)}
	}
	return nil
}
