package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"nutshell/roles/api"
)

const (
	pollLong   = 25 * time.Second       // the director answers earlier when the operation is final
	pollShort  = 500 * time.Millisecond // while a person watches the steps
	patience   = 2 * time.Minute        // for a director that went away meanwhile
	pause      = 200 * time.Millisecond // before asking again, when the director answered at once
	redrawTime = 120 * time.Millisecond
)

// interrupted is a wait that the user gave up; the work goes on.
type interrupted struct{ op string }

func (e *interrupted) Error() string {
	if e.op == "" {
		return "Interrupted before the director answered; what was asked for may go on.\n  look for it: nutshell operation list --active"
	}
	return fmt.Sprintf("Not waiting any longer; operation %s goes on.\n  follow it: nutshell operation wait %s\n  cancel it: nutshell operation cancel %s", e.op, e.op, e.op)
}

// failedOperation is an operation that did not do what was asked.
type failedOperation struct{ op api.Operation }

func (e *failedOperation) Error() string { return e.cause().Error() }

func (e *failedOperation) cause() *api.Error {
	switch {
	case e.op.Error != nil:
		return e.op.Error
	case e.op.State == api.OperationCancelled:
		return &api.Error{Code: api.CodeCancelled, Object: e.op.Title, Message: "cancelled"}
	}
	return &api.Error{Code: api.CodeInternal, Object: e.op.Title, Message: "failed without saying why"}
}

// lines tells what else is worth knowing.
func (e *failedOperation) lines() []string {
	var lines []string
	for _, s := range e.op.Steps {
		if s.State == api.OperationFailed {
			lines = append(lines, strings.TrimSpace("failed step: "+s.Name+" "+s.Detail))
		}
	}
	if e.op.Undone != "" {
		lines = append(lines, "undone: "+e.op.Undone)
	}
	return append(lines, "see it: nutshell operation show "+e.op.ID+", try again: nutshell operation retry "+e.op.ID)
}

// finish waits for an operation and tells about it in ConPaaS's words: doing
// ("Service 1 is starting... ") and then "done." or "FAILED!". A nil
// operation is work that was done at once.
func (r *call) finish(op *api.Operation, doing string) error {
	talk := r.g.output == "table" && !r.g.quiet
	if op == nil {
		if talk {
			fmt.Fprintln(r.o.Stdout, printable(doing)+"done.")
		}
		return nil
	}
	if r.g.noWait {
		if talk {
			fmt.Fprintf(r.o.Stdout, "%s\noperation %s (follow it: nutshell operation wait %s)\n", strings.TrimSpace(printable(doing)), op.ID, op.ID)
			return nil
		}
		return r.made(op, op.ID, "")
	}
	last, err := r.await(*op, doing, talk)
	if err != nil {
		return err
	}
	if !talk && !r.g.quiet {
		if err := r.made(last, last.ID, ""); err != nil {
			return err
		}
	}
	if last.State != api.OperationDone {
		return &failedOperation{last}
	}
	return nil
}

// finishSaying is finish for commands that ConPaaS answers with one sentence
// when all is done: the sentence that waits is for people at a terminal.
func (r *call) finishSaying(op *api.Operation, doing, done string) error {
	if op != nil && (r.g.noWait || r.g.output != "table") {
		return r.finish(op, doing)
	}
	if op != nil {
		last, err := r.await(*op, doing, !r.g.quiet && isTerminal(r.o.Stdout))
		if err != nil {
			return err
		}
		if last.State != api.OperationDone {
			return &failedOperation{last}
		}
	}
	r.say("%s", done)
	return nil
}

// await waits for the end of an operation, showing it if talk is set.
func (r *call) await(op api.Operation, doing string, talk bool) (api.Operation, error) {
	ctx := r.ctx()
	if r.g.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.g.timeout)
		defer cancel()
	}
	show := r.newLine(doing, talk)
	updates := make(chan api.Operation)
	problem := make(chan error, 1)
	watch, stop := context.WithCancel(ctx)
	defer stop()
	go func() { problem <- r.watch(watch, op, show.live, updates) }()
	tick := time.NewTicker(redrawTime)
	defer tick.Stop()
	for {
		select {
		case op = <-updates:
			show.update(op)
			if op.State.Final() {
				show.end(op)
				return op, nil
			}
		case <-tick.C:
			show.draw()
		case err := <-problem:
			show.broken()
			if err != nil && r.ctx().Err() == nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return op, err
			}
			if r.ctx().Err() == nil {
				return op, &api.Error{Code: api.CodeDeadline, Object: op.Title, Message: "not finished after " + r.g.timeout.String() + "; it goes on",
					Hint: "follow it with: nutshell operation wait " + op.ID}
			}
			return op, &interrupted{op.ID}
		}
	}
}

// watch asks for the operation again and again until it is final. A director
// that goes away and comes back is waited for: the operation outlives it.
func (r *call) watch(ctx context.Context, op api.Operation, live bool, updates chan<- api.Operation) error {
	poll := pollLong
	if live {
		poll = pollShort
	}
	var gone time.Time
	for {
		select {
		case updates <- op:
		case <-ctx.Done():
			return ctx.Err()
		}
		if op.State.Final() {
			return nil
		}
		began := time.Now()
		next, err := r.askOperation(ctx, op.ID, poll)
		switch {
		case err == nil:
			gone, op = time.Time{}, next
			if !op.State.Final() && time.Since(began) < pause {
				sleep(ctx, pause) // it is about to stop, and will not hold a poll
			}
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case api.CodeOf(err) != api.CodeUnavailable && api.CodeOf(err) != api.CodeDeadline:
			return err
		case gone.IsZero():
			gone = began
		case time.Since(gone) > patience:
			return err
		}
		sleep(ctx, time.Second)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (r *call) askOperation(ctx context.Context, id string, poll time.Duration) (api.Operation, error) {
	ctx, cancel := context.WithTimeout(ctx, poll+callTime)
	defer cancel()
	var op api.Operation
	err := r.explain(r.caller().Do(ctx, "GET", fmt.Sprintf("/api/v1/operations/%s?wait=%s", escape(id), poll), nil, &op)) //nolint:contextcheck // what it asks to explain is asked at the end, too
	return op, err
}

// line is the one line on which an operation is shown. On a terminal it
// moves; elsewhere it is the sentence and its end, and with -d the steps.
type line struct {
	c     *Client
	doing string
	talk  bool
	live  bool
	turn  int
	op    api.Operation
	began time.Time
	steps map[string]api.OperationState
}

func (r *call) newLine(doing string, talk bool) *line {
	l := &line{c: r.Client, doing: printable(doing), talk: talk, live: talk && isTerminal(r.o.Stdout) && r.o.Getenv("TERM") != "dumb", began: time.Now(), steps: map[string]api.OperationState{}}
	if talk {
		fmt.Fprint(r.o.Stdout, l.doing)
	}
	return l
}

func (l *line) update(op api.Operation) {
	l.op = op
	for _, s := range op.Steps {
		if l.c.g.debug && l.steps[s.Name] != s.State {
			fmt.Fprintf(l.c.o.Stderr, "  %5.1fs %s: %s %s\n", time.Since(l.began).Seconds(), s.Name, s.State, printable(s.Detail))
		}
		l.steps[s.Name] = s.State
	}
	l.draw()
}

func (l *line) draw() {
	if !l.live {
		return
	}
	l.turn++
	text := l.doing + string([]rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")[l.turn%10])
	done := 0
	for _, s := range l.op.Steps {
		if s.State.Final() {
			done++
		}
	}
	for i := len(l.op.Steps) - 1; i >= 0; i-- {
		if s := l.op.Steps[i]; s.State == api.OperationRunning {
			text += fmt.Sprintf(" [%d/%d] %s", min(done+1, len(l.op.Steps)), len(l.op.Steps), strings.TrimSpace(s.Name+" "+s.Detail))
			break
		}
	}
	text += fmt.Sprintf(" (%d s)", int(time.Since(l.began).Seconds()))
	width := 80
	if f, ok := l.c.o.Stdout.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 10 {
			width = w
		}
	}
	text = printable(text)
	if utf8.RuneCountInString(text) > width-1 {
		text = string([]rune(text)[:width-2]) + "…"
	}
	fmt.Fprint(l.c.o.Stdout, "\r\x1b[K"+text)
}

func (l *line) end(op api.Operation) {
	if !l.talk {
		return
	}
	if l.live {
		fmt.Fprint(l.c.o.Stdout, "\r\x1b[K"+l.doing)
	}
	if op.State == api.OperationDone {
		fmt.Fprintln(l.c.o.Stdout, "done.")
		return
	}
	fmt.Fprintln(l.c.o.Stdout, "FAILED!")
}

func (l *line) broken() {
	if l.talk {
		fmt.Fprintln(l.c.o.Stdout)
	}
}
