package java

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"nutshell/services"
)

// over makes a client that reaches a Tomcat by one of its sockets.
func over(socket string, patience time.Duration) *http.Client {
	return &http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}}}
}

// look asks a Tomcat how it is, by a way that is open when all threads are busy.
func (t *tomcats) look(ctx context.Context, name string) (seen, error) {
	var s seen
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://tomcat/nutshell-status", nil)
	if err != nil {
		return s, err
	}
	resp, err := over(t.status(name), 2*time.Second).Do(req)
	if err != nil {
		return s, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("tomcat answers %s", resp.Status)
	}
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

// soon is how long a change waits for former Tomcats to end. Requests that
// take longer are finished all the same.
const soon = 5 * time.Second

// keep ends every Tomcat but those that serve the versions now.
func (t *tomcats) keep(ctx context.Context, versions []string, patience time.Duration) {
	t.mu.Lock()
	wanted := map[string]bool{}
	for v, s := range t.current {
		if slices.Contains(versions, v) {
			wanted[s.Name] = true
		} else {
			delete(t.current, v)
		}
	}
	t.mu.Unlock()
	var ended []<-chan struct{}
	for _, p := range t.m.Supervisor().Processes() {
		if strings.HasPrefix(p.Name, tomcatPrefix) && !wanted[p.Name] {
			ended = append(ended, t.former.Retire(p.Name, patience)) //nolint:contextcheck // whoever asked does not wait for all of it
		}
	}
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	for _, e := range ended {
		select {
		case <-e:
		case <-ctx.Done():
		}
	}
	t.forget(wanted)
}

// forget removes the directories of Tomcats that do not exist any more.
func (t *tomcats) forget(wanted map[string]bool) {
	entries, err := os.ReadDir(t.base(""))
	if err != nil {
		return
	}
	running := map[string]bool{}
	for _, p := range t.m.Supervisor().Processes() {
		running[p.Name] = true
	}
	for _, e := range entries {
		if !wanted[e.Name()] && !running[e.Name()] {
			if err := os.RemoveAll(t.base(e.Name())); err != nil {
				t.m.Log().Warn("directory of a former Tomcat not removed", "directory", e.Name(), "error", err)
			}
		}
	}
}

// busy tells whether a Tomcat has requests.
func (t *tomcats) busy(ctx context.Context, name string) (bool, error) {
	s, err := t.look(ctx, name)
	return s.Busy > 0, err
}

func (t *tomcats) end(ctx context.Context, name string) error {
	err := t.m.Supervisor().Stop(ctx, name)
	for _, path := range []string{t.socket(name), t.status(name)} {
		if e := os.Remove(path); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, os.RemoveAll(t.base(name)))
}

// stop ends every Tomcat of the instance.
func (t *tomcats) stop(ctx context.Context) error {
	t.mu.Lock()
	clear(t.current)
	t.mu.Unlock()
	var all []services.Process
	var err error
	for _, p := range t.m.Supervisor().Processes() {
		if strings.HasPrefix(p.Name, tomcatPrefix) {
			all = append(all, services.Process{Name: p.Name})
		}
	}
	errs := make(chan error, len(all))
	for _, p := range all {
		go func() { errs <- t.end(ctx, p.Name) }()
	}
	for range all {
		err = errors.Join(err, <-errs)
	}
	return err
}
