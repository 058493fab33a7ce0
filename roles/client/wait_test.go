package client

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
)

// held makes an application whose start does not end before hold is closed.
func held(t *testing.T) *world {
	w := newWorld(t)
	w.run(t.Context(), "nutshell application create shop")
	w.hold = make(chan struct{})
	return w
}

// until waits for a condition of the director.
func (f *fake) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		f.mu.Lock()
		yes := ok()
		f.mu.Unlock()
		if yes {
			return
		}
	}
	t.Fatalf("never came true: %s", what)
}

func TestInterruptLeavesTheOperationRunning(t *testing.T) {
	w := held(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		w.until(t, "the operation is waited for", func() bool { return w.waits > 0 })
		cancel()
	}()
	_, stderr, exit := w.run(ctx, "nutshell application start shop")
	if exit != exitInterrupted {
		t.Errorf("exit %d, want %d", exit, exitInterrupted)
	}
	for _, want := range []string{"operation op1 goes on", "nutshell operation wait op1", "nutshell operation cancel op1"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("want %q in:\n%s", want, stderr)
		}
	}
	close(w.hold)
	if stdout, _, exit := w.run(t.Context(), "nutshell operation wait op1"); exit != 0 || !strings.HasSuffix(stdout, "done.\n") {
		t.Errorf("wait afterwards: exit %d: %s", exit, stdout)
	}
}

func TestInterruptBeforeTheAnswer(t *testing.T) {
	w := newWorld(t)
	w.run(t.Context(), "nutshell application create shop")
	ctx, cancel := context.WithCancel(t.Context())
	w.asking = func(r *http.Request) {
		cancel()
		<-r.Context().Done() // the client has hung up
	}
	_, stderr, exit := w.run(ctx, "nutshell application delete shop --yes")
	if exit != exitInterrupted || !strings.Contains(stderr, "nutshell operation list --active") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
}

func TestWaitOutlivesTheDirector(t *testing.T) {
	w := held(t)
	go func() {
		w.until(t, "the start was asked for", func() bool { return len(w.ops) == 1 })
		w.mu.Lock()
		w.down = true
		w.mu.Unlock()
		time.Sleep(300 * time.Millisecond) // time enough to be found gone
		close(w.hold)
		w.mu.Lock()
		w.down = false
		w.mu.Unlock()
	}()
	stdout, stderr, exit := w.run(t.Context(), "nutshell application start shop")
	if exit != 0 || stdout != "Application 'shop' with id 1 is starting... done.\n" {
		t.Errorf("exit %d: %s%s", exit, stdout, stderr)
	}
}

func TestTimeout(t *testing.T) {
	w := held(t)
	defer close(w.hold)
	_, stderr, exit := w.run(t.Context(), "nutshell application start shop --timeout 60ms")
	if exit != api.CodeDeadline.Exit() || !strings.Contains(stderr, "not finished after 60ms") || !strings.Contains(stderr, "nutshell operation wait op1") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
}

func TestCancel(t *testing.T) {
	w := held(t)
	defer close(w.hold)
	w.run(t.Context(), "nutshell application start shop --no-wait")
	stdout, stderr, exit := w.run(t.Context(), "nutshell operation cancel op1")
	if want := "Operation op1 was cancelled.\nundone: nothing had been changed\n"; exit != 0 || stdout != want {
		t.Errorf("exit %d, got %q, want %q; %s", exit, stdout, want, stderr)
	}
	if _, stderr, exit = w.run(t.Context(), "nutshell operation wait op1"); exit != api.CodeCancelled.Exit() {
		t.Errorf("waiting for what was cancelled: exit %d, want %d: %s", exit, api.CodeCancelled.Exit(), stderr)
	}
}

func TestFollowEvents(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		// The fake ends the stream after one event; the second time it is
		// asked to go on behind that one.
		w.until(t, "the stream was taken up again", func() bool {
			return len(w.headers) > 0 && w.headers[len(w.headers)-1].Get("Last-Event-ID") == "7"
		})
		cancel()
	}()
	stdout, stderr, _ := w.run(ctx, "nutshell event follow")
	if !strings.Contains(stdout, "service") || !strings.Contains(stdout, "php RUNNING as asked") {
		t.Errorf("got:\n%s%s", stdout, stderr)
	}
}

func TestDebugMasksSecrets(t *testing.T) {
	w := newWorld(t)
	_, stderr, exit := w.run(t.Context(), `nutshell -d user create bob --email bob@example.org --password "one two three"`)
	if exit != 0 || !strings.Contains(stderr, "> POST "+w.URL+"/api/v1/users") || !strings.Contains(stderr, `"password":"***"`) {
		t.Errorf("exit %d:\n%s", exit, stderr)
	}
	for _, secret := range []string{"one two three", fakePassword, "Authorization"} {
		if strings.Contains(stderr, secret) {
			t.Errorf("%q in the trace:\n%s", secret, stderr)
		}
	}
}

func TestEachPostHasItsOwnIdempotencyKey(t *testing.T) {
	w := newWorld(t)
	w.run(t.Context(), "nutshell application create shop")
	w.run(t.Context(), "nutshell application start shop")
	seen := map[string]bool{}
	for _, h := range w.headers {
		if k := h.Get("Idempotency-Key"); k != "" {
			seen[k] = true
		}
	}
	if len(seen) != 2 {
		t.Errorf("%d different keys for 2 requests: %v", len(seen), seen)
	}
}
