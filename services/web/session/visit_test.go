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
	var problems []string
	for n := range 10 { // a store that a busy machine kept from answering is asked less, and told more, for a while
		eventually(t, "both answer", func() bool { return nodes[0].answering() == 1 && nodes[1].answering() == 1 })
		if problems = costOfPages(t, nodes, fmt.Sprint("s", n)); len(problems) == 0 {
			return
		}
		t.Log(problems)
	}
	t.Errorf("ten times: %v", problems)
}

func costOfPages(t *testing.T, nodes []*node, key string) (problems []string) {
	t.Helper()
	f := newFront(nodes[0].cluster)
	lock := key + "_LOCK"
	take, free := []string{"SET", lock, "t", "NX", "PX", "30000"}, []string{"EVALSHA", f.release, "1", lock, "t"}
	for _, c := range []struct {
		name  string
		asks  [][]string
		want  string
		calls int64
	}{
		{"new-session", [][]string{take, {"GET", key}, {"SETEX", key, "1440", "a"}, free}, "(nil)", 2},
		{"changed-session", [][]string{take, {"GET", key}, {"SETEX", key, "1440", "b"}, free}, "a", 2},
		{"session-as-it-was", [][]string{take, {"GET", key}, {"EXPIRE", key, "1500"}, free}, "b", 2},
		{"read-twice", [][]string{take, {"GET", key}, {"GET", key}, free}, "b", 3},
	} {
		p := dialPHP(t, nodes[0])
		before := nodes[1].calls.Load()
		for _, ask := range c.asks {
			if got := p.do(ask...); ask[0] == "GET" && got != c.want {
				t.Errorf("%s: %v: got %q, want %q", c.name, ask, got, c.want)
			}
		}
		if n := nodes[1].calls.Load() - before; n != c.calls {
			problems = append(problems, fmt.Sprintf("%s: %d calls, want %d", c.name, n, c.calls))
		}
		// The other store's PHP gets the lock at once, and sees what was written.
		q := dialPHP(t, nodes[1])
		if got := q.do("SET", lock, "u", "NX", "PX", "30000"); got != "OK" {
			problems = append(problems, fmt.Sprintf("%s: the lock is not given back: %s", c.name, got))
		}
		q.do("EVALSHA", f.release, "1", lock, "u")
	}
	return problems
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
