package mysql

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"nutshell/services"
)

// healthFile is what the health tool reads: only its own account may.
type healthFile struct {
	Listen   string   `json:"listen"`
	Socket   string   `json:"socket"`
	Password string   `json:"password"`
	Others   []string `json:"others"` // where other nodes answer such questions
}

// checkTime bounds one answer to a balancer.
const checkTime = 900 * time.Millisecond

// ensureHealth runs the daemon that tells balancers whether the node is fit. It
// is not the agent, so that an agent that dies takes no node away.
func (a *agent) ensureHealth(ctx context.Context, c config) error {
	path := filepath.Join(a.server.etc(), "health.json")
	var others []string
	for _, m := range c.Members {
		if m.Address != a.m.Address() {
			others = append(others, net.JoinHostPort(m.Address, strconv.Itoa(healthPort)))
		}
	}
	b, err := json.Marshal(healthFile{Others: others, Listen: net.JoinHostPort(a.m.Address(), strconv.Itoa(healthPort)), Socket: a.server.socket(), Password: c.Secrets[secretHealth]}) //nolint:gosec // the file is closed to others
	if err != nil {
		return err
	}
	if err := writeFile(path+".new", b, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return a.m.Supervisor().Ensure(ctx, services.Process{Name: "health", Tool: "mysql/health", Argv: []string{path}, Describe: "health checks of balancers", Revision: passwordHash(c.Secrets[secretHealth])})
}

// serveHealth is the tool. Its answer is 200 when the node is fit: synced with
// the group, which has quorum, and giving no copy to another unless nobody else
// is fit.
func serveHealth(ctx context.Context, t services.ToolHost) error {
	if len(t.Args) != 1 {
		return errors.New("health: one argument is needed: its file")
	}
	f, err := readHealth(t.Args[0])
	if err != nil {
		return err
	}
	db := connect(f.Socket, "health", f.Password)
	defer func() { _ = db.Close() }()
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", f.Listen)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	s := &http.Server{ReadHeaderTimeout: 2 * time.Second, ReadTimeout: 2 * time.Second, WriteTimeout: 3 * time.Second, IdleTimeout: 10 * time.Second, MaxHeaderBytes: 4 << 10,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			text, fit, donor := fitness(r.Context(), db)
			if donor && r.URL.Path != strictPath {
				fit = !othersFit(r.Context(), t.Args[0])
			}
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			if !fit {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			_, _ = fmt.Fprintln(w, text) // the balancer may have gone
		})}
	go func() {
		<-ctx.Done()
		_ = s.Close() // answers are short; there is nothing to wait for
	}()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// strictPath is where a node tells whether it is synced, and nothing less.
const strictPath = "/synced"

func readHealth(path string) (healthFile, error) {
	var f healthFile
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		return f, fmt.Errorf("health: %s: %w", path, err)
	}
	return f, nil
}

// othersFit asks the other nodes whether one of them is synced. A node that
// gives another its data must go on where there is nobody else who could.
func othersFit(ctx context.Context, path string) bool {
	f, err := readHealth(path) // anew: nodes come and go
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime/2)
	defer cancel()
	answers := make(chan bool, len(f.Others))
	for _, at := range f.Others {
		go func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+strictPath, nil)
			if err != nil {
				answers <- false
				return
			}
			res, err := http.DefaultClient.Do(r)
			if err == nil {
				_ = res.Body.Close()
			}
			answers <- err == nil && res.StatusCode == http.StatusOK
		}()
	}
	for range f.Others {
		if <-answers {
			return true
		}
	}
	return false
}

// fitness tells the state of the node, whether it is synced, and whether it
// gives another its data meanwhile.
func fitness(ctx context.Context, db *sql.DB) (text string, synced, donor bool) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	all, err := status(ctx, db, "Variable_name IN ('wsrep_cluster_status', 'wsrep_connected', 'wsrep_local_state', 'wsrep_local_state_comment', 'wsrep_ready', 'wsrep_cluster_size')")
	if err != nil {
		return "the database does not answer", false, false
	}
	var n nodeState
	n.read(all)
	return n.State, n.Synced, n.Donor
}
