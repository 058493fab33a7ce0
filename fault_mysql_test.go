package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nutshell/roles/api"
)

const (
	base        = "/api/v1/applications/shop/services/mysql"
	ledgerLogin = `l"e'd\ger of tests`
)

// ledger is a client of the database that keeps account of what was committed.
type ledger struct {
	s    *stage
	stop context.CancelFunc
	wait sync.WaitGroup

	mu    sync.Mutex
	host  string
	acked []int
	last  time.Time
	gap   time.Duration
	why   error
}

// sql lets the stock client say something to the database.
func (l *ledger) sql(ctx context.Context, statement string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	l.mu.Lock()
	host := l.host
	l.mu.Unlock()
	cmd := exec.CommandContext(ctx, "mariadb", "--connect-timeout=3", "--host="+host, "--port=3306", "--user=mysqldb", "--skip-column-names", "--batch", "--execute="+statement, "app")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "MYSQL_PWD=" + ledgerLogin}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return string(out), err
}

// find looks up where the database is now.
func (l *ledger) find() {
	var v api.Service
	if l.s.call(http.MethodGet, base, nil, &v) != nil || len(v.URLs) == 0 {
		return
	}
	if u, err := url.Parse(v.URLs[0]); err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.host = u.Hostname()
	}
}

func newLedger(s *stage) *ledger {
	ctx, stop := context.WithCancel(context.Background())
	l := &ledger{s: s, stop: stop, last: time.Now()}
	s.await("the ledger is there", patient, func() error {
		l.find()
		_, err := l.sql(ctx, "CREATE TABLE IF NOT EXISTS ledger (id INT PRIMARY KEY)")
		return err
	})
	l.wait.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			_, err := l.sql(ctx, fmt.Sprintf("INSERT INTO ledger VALUES (%d)", n))
			l.mu.Lock()
			if err == nil {
				now := time.Now()
				l.acked, l.gap, l.last = append(l.acked, n), max(l.gap, now.Sub(l.last)), now
			} else if ctx.Err() == nil {
				l.why = err
			}
			l.mu.Unlock()
			if err != nil && ctx.Err() == nil {
				l.find()
			}
		}
	})
	return l
}

// more waits until n more commits are acknowledged, and starts the gap anew.
func (l *ledger) more(n int) {
	l.s.Helper()
	l.mu.Lock()
	from := len(l.acked)
	l.mu.Unlock()
	l.s.await("commits go on", 2*time.Minute, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.acked) < from+n {
			return fmt.Errorf("%d of %d: %w", len(l.acked)-from, n, l.why)
		}
		return nil
	})
}

// check looks for every acknowledged commit.
func (l *ledger) check() {
	l.s.Helper()
	var out string
	l.s.await("the ledger can be read", time.Minute, func() error {
		l.find()
		var err error
		out, err = l.sql(context.Background(), "SELECT id FROM ledger")
		return err
	})
	have := map[string]bool{}
	for _, line := range strings.Fields(out) {
		have[line] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := 0
	for _, n := range l.acked {
		if !have[fmt.Sprint(n)] {
			lost++
		}
	}
	if lost > 0 {
		l.s.Errorf("%d of %d acknowledged commits are lost", lost, len(l.acked))
	}
	l.s.Logf("%d commits acknowledged, %d lost", len(l.acked), lost)
}

// newDatabase is a stage with a database instead of a site.
func newDatabase(t *testing.T) *stage {
	t.Helper()
	for tool, of := range map[string]string{"mariadbd": "mariadb-server", "mariadb-backup": "mariadb-backup", "garbd": "galera-arbitrator-4", "haproxy": "haproxy"} {
		if found, _ := filepath.Glob("/usr/*bin/" + tool); len(found) == 0 {
			t.Skipf("%s is missing: apt-get install %s", tool, of)
		}
	}
	dir, err := os.MkdirTemp("", "nutshell-fault-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	s := &stage{T: t, scene: scene{dir: filepath.Join(dir, "data")}, versions: map[string]string{}}
	t.Cleanup(func() {
		s.end()
		if t.Failed() {
			t.Logf("kept for looking at: %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	s.up()
	s.must(http.MethodPost, "/api/v1/applications", api.CreateApplication{Name: "shop"}, nil)
	s.operate("/api/v1/applications/shop/start", api.Start{})
	s.must(http.MethodPost, "/api/v1/applications/shop/services", api.CreateService{Kind: "mysql"}, nil)
	s.operate(base+"/start", api.Start{})
	var o api.Operation
	s.must(http.MethodPut, base+"/secrets/password", api.SetSecret{Value: ledgerLogin}, &o)
	if s.ended(o).State != api.OperationDone {
		s.Fatal("the password is not set")
	}
	return s
}

// TestDatabaseFaults kills each role and the servers while nodes join and
// leave. No acknowledged commit may be lost, and writes go on by themselves.
func TestDatabaseFaults(t *testing.T) {
	if os.Getenv("NUTSHELL_CHAOS") == "" {
		t.Skip("NUTSHELL_CHAOS=1 asks for it")
	}
	s := newDatabase(t)
	l := newLedger(s)
	defer func() { l.stop(); l.wait.Wait() }()
	s.operate(base+"/scale", api.Scale{Set: map[string]int{"mysql": 1, "glb": 1}})
	l.more(3)
	kill1 := func(pattern string) func() error {
		return func() error {
			pids := s.processes(pattern)
			if len(pids) == 0 {
				return errors.New("nothing runs that matches " + pattern)
			}
			return kill([]int{pids[rand.IntN(len(pids))]}) // a victim, not a secret
		}
	}
	for _, v := range []struct {
		name string
		kill func() error
	}{
		{"manager", kill1(`--role join.*/a\d+-s0-`)},
		{"director", func() error { s.crash(); return nil }},
		{"agent", kill1(`--role join.*/a\d+-s1-`)},
		{"server", kill1(`mariadbd --defaults-file`)},
		{"all-servers", func() error { return kill(s.processes(`mariadbd --defaults-file`)) }},
		{"balancer", kill1(`^/usr/sbin/haproxy -W`)},
	} {
		for _, n := range []int{2, 1} { // a node joins, and leaves
			o := s.ask(base+"/scale", api.Scale{Set: map[string]int{"mysql": n, "glb": 1}})
			<-time.After(time.Duration(500+rand.IntN(4000)) * time.Millisecond) // a moment
			if err := v.kill(); err != nil {
				t.Error(err)
			}
			o = s.ended(o)
			t.Logf("%s killed while scaling to %d: %s %v", v.name, n, o.State, o.Error)
			l.more(3)
			s.operate(base+"/scale", api.Scale{Set: map[string]int{"mysql": n, "glb": 1}})
		}
	}
	l.more(3)
	l.stop()
	l.wait.Wait()
	l.check()
}
