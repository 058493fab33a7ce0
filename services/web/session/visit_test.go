package session

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"
)

// A page costs another store two calls: the lock, which tells what it has, and
// the write, which gives the lock back.
func TestPageCostsTwoCalls(t *testing.T) {
	nodes := startNodes(t, 2)
	f := newFront(nodes[0].cluster)
	time.Sleep(2 * passAgain) // the passes of the start are over
	for _, c := range []struct {
		name  string
		asks  [][]string
		want  string
		calls int64
	}{
		{"new-session", [][]string{{"SET", "s_LOCK", "t", "NX", "PX", "30000"}, {"GET", "s"}, {"SETEX", "s", "1440", "a"}, {"EVALSHA", f.release, "1", "s_LOCK", "t"}}, "(nil)", 2},
		{"changed-session", [][]string{{"SET", "s_LOCK", "t", "NX", "PX", "30000"}, {"GET", "s"}, {"SETEX", "s", "1440", "b"}, {"EVALSHA", f.release, "1", "s_LOCK", "t"}}, "a", 2},
		{"session-as-it-was", [][]string{{"SET", "s_LOCK", "t", "NX", "PX", "30000"}, {"GET", "s"}, {"EXPIRE", "s", "1500"}, {"EVALSHA", f.release, "1", "s_LOCK", "t"}}, "b", 2},
		{"read-twice", [][]string{{"SET", "s_LOCK", "t", "NX", "PX", "30000"}, {"GET", "s"}, {"GET", "s"}, {"EVALSHA", f.release, "1", "s_LOCK", "t"}}, "b", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := dialPHP(t, nodes[0])
			before := nodes[1].calls.Load()
			for _, ask := range c.asks {
				if got := p.do(ask...); ask[0] == "GET" && got != c.want {
					t.Errorf("%v: got %q, want %q", ask, got, c.want)
				}
			}
			if n := nodes[1].calls.Load() - before; n != c.calls {
				t.Errorf("%d calls, want %d", n, c.calls)
			}
			// The other store's PHP gets the lock at once, and sees what was written.
			q := dialPHP(t, nodes[1])
			if got := q.do("SET", "s_LOCK", "u", "NX", "PX", "30000"); got != "OK" {
				t.Errorf("the lock is not given back: %s", got)
			}
			q.do("EVALSHA", f.release, "1", "s_LOCK", "u")
		})
	}
}

// Whoever has the lock sees what the one before has written, on whichever
// store each of them is.
func TestNobodyWritesOverAnother(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			nodes := startNodes(t, n)
			f := newFront(nodes[0].cluster)
			const visitors, turns = 6, 20
			var wg sync.WaitGroup
			for v := range visitors {
				p := dialPHP(t, nodes[v%n])
				wg.Go(func() {
					for range turns {
						for end := time.Now().Add(30 * time.Second); p.do("SET", "s_LOCK", fmt.Sprint("t", v), "NX", "PX", "30000") != "OK"; {
							if time.Now().After(end) {
								t.Error("no lock in 30 s")
								return
							}
						}
						count, _ := strconv.Atoi(p.do("GET", "s")) // none: 0
						p.do("SETEX", "s", "1440", strconv.Itoa(count+1))
						p.do("EVALSHA", f.release, "1", "s_LOCK", fmt.Sprint("t", v))
					}
				})
			}
			wg.Wait()
			if got := dialPHP(t, nodes[0]).do("GET", "s"); got != strconv.Itoa(visitors*turns) {
				t.Errorf("counted %s of %d", got, visitors*turns)
			}
		})
	}
}
