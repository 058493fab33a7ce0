package manager

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/logs"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
)

const (
	firstPages  = 4 * time.Second // are waited for, to be merged
	crewEvery   = 2 * time.Second // new instances are looked for
	againAfter  = 2 * time.Second
	followIdle  = 40 * time.Second // of silence from an agent that says every 10 s that it lives
	newsWaiting = 1000
)

// told is news of one source: an agent, or our own logs.
type told struct {
	from string
	news api.LogNews
}

// followLogs merges what agents and our own logs tell.
func (m *Manager) followLogs(w http.ResponseWriter, r *http.Request) {
	q, err := logs.Parse(r.URL.Query())
	if err == nil {
		_, err = m.asked(q)
	}
	if err != nil {
		rpc.WriteError(w, err)
		return
	}
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	news := make(chan told, newsWaiting)
	put := func(from string, n api.LogNews) error {
		select {
		case news <- told{from, n}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	go func() {
		_ = logs.Follow(ctx, func() []logs.Log { return m.ownLogs(q) }, q, func(n api.LogNews) error { return put(api.LogManager, n) })
	}()
	following := map[string]context.CancelFunc{}
	meet := func() {
		there := map[string]bool{}
		for _, agent := range m.writers(q) {
			there[agent.i.ID] = true
			if following[agent.i.ID] == nil {
				one, end := context.WithCancel(ctx)
				following[agent.i.ID] = end
				go m.followAgent(one, agent, q, put)
			}
		}
		for id, end := range following {
			if !there[id] {
				end()
				delete(following, id)
			}
		}
	}
	meet()
	w.Header().Set("Content-Type", "application/x-ndjson")
	flush, encode := http.NewResponseController(w), json.NewEncoder(w)
	send := func(n api.LogNews) bool { return encode.Encode(n) == nil }
	page, late := m.firstPage(ctx, news, len(following)+1, q)
	if !send(api.LogNews{Page: &page}) || flush.Flush() != nil {
		return
	}
	crew := time.NewTicker(crewEvery)
	defer crew.Stop()
	for {
		var t told
		if len(late) > 0 {
			t, late = late[0], late[1:]
		} else {
			select {
			case <-ctx.Done():
				return
			case <-crew.C:
				meet()
				continue
			case t = <-news:
			}
		}
		ok := true
		if p := t.news.Page; p != nil { // of one that came later, or again
			for i := range p.Lines {
				ok = ok && send(api.LogNews{Line: &p.Lines[i]})
			}
		} else {
			ok = send(t.news)
		}
		if !ok || len(news) == 0 && flush.Flush() != nil {
			return
		}
	}
}

// firstPage merges the pages that come soon. What else comes meanwhile is for
// later.
func (m *Manager) firstPage(ctx context.Context, news <-chan told, sources int, q logs.Query) (page api.LogPage, late []told) {
	timer := time.NewTimer(firstPages)
	defer timer.Stop()
	var pages []api.LogPage
	answered := map[string]bool{}
	for len(answered) < sources {
		select {
		case <-ctx.Done():
			return logs.Merge(pages, q), late
		case <-timer.C:
			return logs.Merge(pages, q), late
		case t := <-news:
			if t.news.Page != nil && !answered[t.from] {
				pages = append(pages, *t.news.Page)
			} else {
				late = append(late, t)
			}
			if t.news.Page != nil || t.news.Silent != nil {
				answered[t.from] = true
			}
		}
	}
	return logs.Merge(pages, q), late
}

// followAgent follows one agent's logs, again when that breaks off, behind the
// last line that came. It has a connection of its own: one that is shared
// would be held up by a reader who is slow.
func (m *Manager) followAgent(ctx context.Context, a writer, q logs.Query, put func(string, api.LogNews) error) {
	client := rpc.NewClient("https://"+net.JoinHostPort(a.i.Address, strconv.Itoa(api.AgentPort)), pki.ClientTLS(m.c.Credentials, pki.AgentOf(m.c.Identity.Application, a.i.ID)))
	defer client.HTTP.CloseIdleConnections()
	silent := false
	for ctx.Err() == nil {
		err := m.followOnce(ctx, client, a, &q, func(n api.LogNews) error {
			silent = false
			return put(a.i.ID, n)
		})
		if ctx.Err() != nil {
			return
		}
		if !silent { // told once
			silent = true
			s := silentOf(a, api.AsError(err))
			if put(a.i.ID, api.LogNews{Silent: &s}) != nil {
				return
			}
		}
		pause(ctx, againAfter)
	}
}

func (m *Manager) followOnce(ctx context.Context, client *rpc.Client, a writer, q *logs.Query, put func(api.LogNews) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(followIdle, cancel)
	defer idle.Stop()
	resp, err := client.Stream(ctx, http.MethodGet, "/v1/lines/follow"+agentQuery(*q), nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	for d := json.NewDecoder(resp.Body); ; {
		var n api.LogNews
		if err := d.Decode(&n); err != nil {
			return &api.Error{Code: api.CodeUnavailable, Message: "its answer broke off"}
		}
		idle.Reset(followIdle)
		switch {
		case n.Page != nil:
			*n.Page = ofService(*n.Page, a.service)
			if n.Page.After != "" {
				q.After = n.Page.After
			}
		case n.Line != nil:
			n.Line.Service = a.service
			q.After = n.Line.ID
		case n.Silent != nil:
			n.Silent.Service = a.service
		default:
			continue // it lives; our own say so to the director
		}
		if err := put(n); err != nil {
			return err
		}
	}
}
