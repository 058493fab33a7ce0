package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"nutshell/roles/api"
	"nutshell/services/servicetest"
)

// ledger is a client that writes all the time and knows what it was told.
type ledger struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	acked []int
	last  time.Time     // of an acknowledged commit
	gap   time.Duration // longest between two
	fails int
	why   error
}

func startLedger(t *testing.T, db func() *sql.DB) *ledger {
	t.Helper()
	must(t, retry(t.Context(), 2*time.Minute, func(ctx context.Context) error {
		_, err := db().ExecContext(ctx, "CREATE TABLE IF NOT EXISTS ledger (id INT PRIMARY KEY, at TIMESTAMP(3) DEFAULT CURRENT_TIMESTAMP(3))")
		return err
	}))
	ctx, cancel := context.WithCancel(t.Context())
	l := &ledger{cancel: cancel, done: make(chan struct{}), last: time.Now()}
	go func() {
		defer close(l.done)
		for n := 1; ctx.Err() == nil; n++ {
			short, stop := context.WithTimeout(ctx, 10*time.Second)
			_, err := db().ExecContext(short, "INSERT INTO ledger (id) VALUES (?)", n)
			stop()
			l.mu.Lock()
			if err == nil {
				now := time.Now()
				l.gap, l.last = max(l.gap, now.Sub(l.last)), now
				l.acked = append(l.acked, n)
			} else if ctx.Err() == nil {
				l.fails++
				l.why = err
			}
			l.mu.Unlock()
			if err != nil {
				time.Sleep(20 * time.Millisecond)
			}
		}
	}()
	return l
}

func (l *ledger) stop() { l.cancel(); <-l.done }

func (l *ledger) state() (acked, fails int, gap time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked), l.fails, l.gap
}

// waitMore waits until n more commits are acknowledged.
func (l *ledger) waitMore(ctx context.Context, n int) error {
	from, _, _ := l.state()
	return retry(ctx, 3*time.Minute, func(context.Context) error {
		if now, _, _ := l.state(); now < from+n {
			l.mu.Lock()
			defer l.mu.Unlock()
			return fmt.Errorf("only %d commits after %d: %w", now, from, l.why)
		}
		return nil
	})
}

// check finds acknowledged commits that db does not have.
func (l *ledger) check(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "SELECT id FROM ledger")
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	have := map[int]bool{}
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			return err
		}
		have[n] = true
	}
	if err := rows.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var lost []int
	for _, n := range l.acked {
		if !have[n] {
			lost = append(lost, n)
		}
	}
	if len(lost) > 0 {
		return fmt.Errorf("%d of %d acknowledged commits are lost, the first is %d", len(lost), len(l.acked), lost[0])
	}
	return nil
}

func retry(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// watch observes all the time, as a manager does.
func watch(t *testing.T, w *servicetest.World) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_, _ = w.Manager.Observe(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// at opens one node or balancer.
func at(t *testing.T, w *servicetest.World, id string) *sql.DB {
	t.Helper()
	for _, i := range w.Instances() {
		if i.ID == id {
			return open(t, w, func(c *driver.Config) { c.Addr = i.Address + ":3306" })
		}
	}
	t.Fatalf("no instance %s", id)
	return nil
}

func nodes(w *servicetest.World, part string) []api.Instance {
	return slices.DeleteFunc(w.Instances(), func(i api.Instance) bool { return !slices.Contains(i.Parts, part) })
}

func killDaemon(t *testing.T, w *servicetest.World, id, name string) {
	t.Helper()
	for _, p := range w.Processes(id) {
		if p.Name == name && p.PID > 0 {
			must(t, syscall.Kill(p.PID, syscall.SIGKILL))
			return
		}
	}
	t.Fatalf("%s does not run on %s", name, id)
}

// settled waits until all nodes have all data.
func settled(t *testing.T, w *servicetest.World, n int) {
	t.Helper()
	m := w.Manager.(*manager)
	must(t, retry(t.Context(), 3*time.Minute, func(ctx context.Context) error { // other work may slow a copy down
		all := m.look(ctx, nodes(w, database))
		for _, s := range all {
			if !s.synced() || s.State.Size < n {
				return fmt.Errorf("node %s: %+v", s.ID, s.State)
			}
		}
		return nil
	}))
}

// TestCluster is the life of two nodes and a balancer, which votes, under a
// client that writes: a join in whose middle the manager dies, the death of the
// writer, the death of all, and a node that leaves.
func TestCluster(t *testing.T) {
	w := world(t)
	ctx := within2(t, 8*time.Minute)
	began := time.Now()
	step := func(what string) { t.Logf("%6.1f s %s", time.Since(began).Seconds(), what) }
	must(t, w.Scale(ctx, map[string]int{database: 1, balancer: 1}))
	step("one node and a balancer")
	db := open(t, w)
	l := startLedger(t, func() *sql.DB { return db })
	defer l.stop()
	must(t, l.waitMore(ctx, 20))
	short, stop := context.WithTimeout(ctx, 3*time.Second)
	t.Logf("interrupted: %v", w.Scale(short, map[string]int{database: 2, balancer: 1}))
	stop()
	w.RestartManager()
	must(t, w.Settle(ctx))
	step("two nodes")
	if n, fails, gap := l.state(); fails > 0 {
		t.Errorf("%d of %d writes failed while a node joined: %v (longest gap %v)", fails, n, l.why, gap)
	}
	watch(t, w)
	m := w.Manager.(*manager)
	settled(t, w, 3) // the arbitrator counts
	all := m.look(ctx, nodes(w, database))
	writer := m.chosen(all, nil)
	killDaemon(t, w, writer, daemon)
	step("killed the writer " + writer)
	must(t, l.waitMore(ctx, 5))
	step("writes go on")
	settled(t, w, 3)
	step("the writer is back")
	for _, i := range nodes(w, database) {
		killDaemon(t, w, i.ID, daemon)
	}
	step("killed all")
	must(t, l.waitMore(ctx, 5))
	step("writes go on")
	settled(t, w, 2)
	step("all are back")
	_, before, _ := l.state()
	must(t, w.Scale(ctx, map[string]int{database: 1, balancer: 1}))
	step("one node")
	must(t, l.waitMore(ctx, 5))
	if _, after, _ := l.state(); after > before+3 { // the connection that was on the node that left, and its first tries again
		t.Errorf("%d writes failed while a node left: %v", after-before, l.why)
	}
	l.stop()
	for _, i := range nodes(w, database) {
		if err := l.check(ctx, at(t, w, i.ID)); err != nil {
			t.Errorf("node %s: %v", i.ID, err)
		}
	}
	n, fails, gap := l.state()
	t.Logf("%d commits, %d failed, longest gap %v", n, fails, gap)
}

// world is a service whose logs are shown when the test fails.
func world(t *testing.T) *servicetest.World {
	t.Helper()
	w := servicetest.New(t, Kind())
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, i := range w.Instances() {
			for _, name := range []string{"mysql.log", "haproxy.log", "garbd.log", "donor.log"} {
				if text := w.ReadLog(i.ID, name); text != "" {
					t.Logf("%s of %s:\n%s", name, i.ID, strings.Join(lastLines(text, 60), "\n"))
				}
			}
		}
	})
	return w
}
