package mysql

import (
	"database/sql"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestChaos kills nodes of a cluster, and all of them, while a client writes
// through a balancer: no acknowledged commit may be lost. NUTSHELL_CHAOS=1
// (make chaos) asks for it; NUTSHELL_KILLS is how often one node dies, and a
// fifth of that all of them.
func TestChaos(t *testing.T) {
	if os.Getenv("NUTSHELL_CHAOS") == "" {
		t.Skip("NUTSHELL_CHAOS=1 asks for it")
	}
	kills, err := strconv.Atoi(os.Getenv("NUTSHELL_KILLS"))
	if err != nil {
		kills = 10
	}
	w := world(t)
	ctx := t.Context()
	must(t, w.Scale(ctx, map[string]int{database: 3, balancer: 1}))
	watch(t, w)
	db := open(t, w)
	l := startLedger(t, func() *sql.DB { return db })
	defer l.stop()
	must(t, l.waitMore(ctx, 10))
	var longest time.Duration
	for n := range kills {
		l.mu.Lock()
		l.gap, l.last = 0, time.Now()
		l.mu.Unlock()
		list := nodes(w, database)
		victim := list[rand.IntN(len(list))].ID
		if n%2 == 0 {
			victim = w.Manager.(*manager).chosen(w.Manager.(*manager).look(ctx, list), nil)
		}
		killDaemon(t, w, victim, daemon)
		must(t, l.waitMore(ctx, 5))
		settled(t, w, 3)
		must(t, l.waitMore(ctx, 5))
		_, _, gap := l.state()
		longest = max(longest, gap)
		t.Logf("kill %d of %s: no writes for %v", n+1, victim, gap.Round(time.Millisecond))
	}
	if longest > 10*time.Second {
		t.Errorf("no writes for %v after a node died, want 10 s at most", longest)
	}
	for n := range max(kills/5, 1) {
		l.mu.Lock()
		l.gap, l.last = 0, time.Now()
		l.mu.Unlock()
		for _, i := range nodes(w, database) {
			killDaemon(t, w, i.ID, daemon)
		}
		must(t, l.waitMore(ctx, 5))
		settled(t, w, 3)
		_, _, gap := l.state()
		t.Logf("kill %d of all: no writes for %v", n+1, gap.Round(time.Millisecond))
	}
	l.stop()
	for _, i := range nodes(w, database) {
		if err := l.check(ctx, at(t, w, i.ID)); err != nil {
			t.Errorf("node %s: %v", i.ID, err)
		}
	}
	n, fails, _ := l.state()
	t.Logf("%d commits acknowledged, %d failed, none lost unless said above; longest gap after one death %v", n, fails, longest)
}
