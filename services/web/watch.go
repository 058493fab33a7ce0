package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

const (
	watchEvery  = time.Second
	reachTime   = 20 * time.Second // for a new node's first answer: small computers and busy ones take their time
	watchAnswer = 2 * time.Second  // a node that takes longer twice is taken for dead
)

// node is a node behind a proxy.
type node struct {
	key  string // webs:INSTANCE or backends:INSTANCE
	peer Peer
}

func (s State) nodes() []node { return nodes(s.Webs, s.Backends) }

func nodes(webs, backends []Peer) []node {
	var all []node
	for _, p := range webs {
		all = append(all, node{"webs:" + p.Instance, p})
	}
	for _, p := range backends {
		all = append(all, node{"backends:" + p.Instance, p})
	}
	return all
}

// watch asks the nodes behind this instance's proxy every second, so that a
// dead one gets no request and one that is back does again.
type watch struct {
	m       services.Machine
	mu      sync.Mutex
	version string
	proxy   *Nginx
	nodes   []node
	stop    context.CancelFunc
	stopped chan struct{}
}

// set changes what is watched; no nodes ends it.
func (w *watch) set(version string, proxy *Nginx, list []node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil && version == w.version && slices.Equal(list, w.nodes) {
		return
	}
	if w.stop != nil {
		w.stop()
		<-w.stopped
		w.stop = nil
	}
	w.version, w.proxy, w.nodes = version, proxy, list
	if len(list) == 0 {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop, w.stopped = stop, make(chan struct{})
	go w.run(ctx, w.stopped, version, proxy, list)
}

func (w *watch) run(ctx context.Context, stopped chan struct{}, version string, proxy *Nginx, list []node) {
	defer close(stopped)
	failed := make([]int, len(list))
	told := "?" // nothing yet; what a former watch said is taken back
	c := w.client()
	defer c.CloseIdleConnections()
	for {
		var wg sync.WaitGroup
		for i, n := range list {
			wg.Go(func() {
				var slow net.Error
				switch err := alive(ctx, c, n.peer, version); {
				case err == nil:
					failed[i] = 0
				case errors.As(err, &slow) && slow.Timeout():
					failed[i]++
				default:
					failed[i] += 2
				}
			})
		}
		wg.Wait()
		var down []string
		for i, n := range list {
			if failed[i] > 1 {
				down = append(down, n.key)
			}
		}
		// While there are any it is said again, because a new nginx does not know.
		if now := strings.Join(down, " "); ctx.Err() == nil && (now != told || now != "") {
			if _, err := proxy.see(ctx, http.MethodPost, "/down", now); err == nil && now != told {
				if now != "" || told != "?" {
					w.m.Log().Info("nodes that do not answer the proxy", "nodes", now)
				}
				told = now
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchEvery):
		}
	}
}

// client asks from the address that nodes trust.
func (w *watch) client() *http.Client {
	dial := net.Dialer{Timeout: watchAnswer, LocalAddr: &net.TCPAddr{IP: net.ParseIP(w.m.Address())}}
	return &http.Client{Timeout: watchAnswer, Transport: &http.Transport{DialContext: dial.DialContext, MaxIdleConnsPerHost: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// alive asks a node whether it answers this proxy for a version.
func alive(ctx context.Context, c *http.Client, p Peer, version string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(p.Address, strconv.Itoa(p.Port))+"/.nutshell/alive", nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-Nutshell-Version", version)
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)); err != nil {
		return err
	}
	if resp.StatusCode >= 500 || resp.StatusCode == http.StatusForbidden {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}

// Reach is the question whether nodes answer a proxy and know a version.
type Reach struct {
	Version  string `json:"version"`
	Webs     []Peer `json:"webs"`
	Backends []Peer `json:"backends"`
}

// reach asks all nodes, each a few times because it may just be starting.
func (w *watch) reach(ctx context.Context, r Reach) error {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	c := w.client()
	defer c.CloseIdleConnections()
	list := nodes(r.Webs, r.Backends)
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, n := range list {
		wg.Go(func() {
			for {
				err := alive(ctx, c, n.peer, r.Version)
				if err == nil {
					errs[i] = nil
					return
				}
				if ctx.Err() == nil || errs[i] == nil {
					errs[i] = &api.Error{Code: api.CodeUnavailable, Op: "reach", Object: "node " + strings.Replace(n.key, ":", " ", 1),
						Message: "it does not answer this proxy for version " + r.Version, Hint: "see the logs of that instance", Err: err}
				}
				select {
				case <-ctx.Done():
					return
				case <-time.After(100 * time.Millisecond):
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
